//! Starting a guarded command and waiting until it really serves, or saying why not with the end of its log.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::guard::{GuardedChild, GuardedCommand};

/// How many log lines an error carries.
const TAIL: usize = 30;
/// One probe may not hang longer than this; the next one may be luckier.
const PROBE: Duration = Duration::from_secs(3);

/// What the servers here write when another process has their port.
const BIND_FAILURES: &[&str] = &[
    "address already in use",
    "could not bind",
    "could not create server tcp listening",
];

/// Spawns `command` and probes it every 20 ms until `probe` succeeds.
///
/// # Errors
/// [`Error::PortTaken`], [`Error::ExitedEarly`] or [`Error::NotReady`]; the process is gone or going then.
pub(crate) async fn start(
    command: &GuardedCommand,
    port: u16,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<(), String>,
) -> Result<GuardedChild, Error> {
    let child = command.spawn().await?;
    let end = Instant::now() + deadline;
    loop {
        let look = async {
            tokio::time::timeout(PROBE, probe())
                .await
                .unwrap_or_else(|_| Err("no answer within 3 s".to_owned()))
        };
        let last = tokio::select! {
            biased;
            exit = child.exited() => {
                let program = command.name();
                let log_tail = child.log_tail(TAIL);
                // The successor, on another port, goes on in the same directory.
                child.leave();
                let lower = log_tail.to_lowercase();
                return Err(if BIND_FAILURES.iter().any(|failure| lower.contains(failure)) {
                    Error::PortTaken { program, port }
                } else {
                    Error::ExitedEarly { program, exit, log_tail }
                });
            }
            seen = look => match seen {
                Ok(()) => return Ok(child),
                Err(description) => description,
            },
        };
        if Instant::now() >= end {
            let log_tail = child.log_tail(TAIL);
            return Err(Error::NotReady {
                program: command.name(),
                waited: deadline,
                last,
                log_tail,
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Tries `start` with the wanted port, or with up to five free ones when none is wanted.
///
/// # Errors
/// The last attempt's.
pub(crate) async fn on_a_port<T>(
    wanted: Option<u16>,
    mut start: impl AsyncFnMut(u16) -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(port) = wanted {
        return start(port).await;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match start(crate::port::free()?).await {
            Err(Error::PortTaken { .. }) if tries < 5 => {}
            result => return result,
        }
    }
}
