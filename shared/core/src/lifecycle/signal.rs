//! SIGTERM and SIGINT as messages.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Every signal from now on, by name. Two are told apart (an orderly stop, then a hard one); more say nothing new, so
/// the channel is small and what does not fit is dropped. The listener ends with the receiver.
pub(super) fn listen() -> io::Result<mpsc::Receiver<&'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                received = terminate.recv() => received.map(|()| "SIGTERM"),
                received = interrupt.recv() => received.map(|()| "SIGINT"),
                () = sender.closed() => None,
            };
            let Some(name) = name else { return };
            let _ = sender.try_send(name);
        }
    });
    Ok(receiver)
}
