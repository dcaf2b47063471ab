//! Keeps what was started running: a server or program that ends by itself is started again, sooner at first and later
//! if it keeps ending. Everything here is made to be killed at any moment, so starting again is all there is to do.

use std::path::Path;
use std::time::{Duration, Instant};

use authsome_testkit::{Error, Exit, GuardedChild, NatsServer, PostgresServer, Program, RedisServer};
use tokio::sync::watch;

use crate::console;

/// The first pause before a restart, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Running this long counts as being well again.
const WELL: Duration = Duration::from_mins(1);

/// How far stopping has come. Programs stop before the servers that they use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is to run.
    Run,
    /// Programs are to stop.
    StopPrograms,
    /// Servers as well.
    StopServers,
}

/// Something that runs and can be started again.
pub(crate) trait Service {
    /// The process, unless the last start failed.
    fn child(&self) -> Option<&GuardedChild>;
    /// Starts it again with the same port and data.
    async fn restart(&mut self) -> Result<(), Error>;
    /// Stops it in good order.
    async fn stop(&mut self) -> Result<(), Error>;
}

impl Service for Program {
    fn child(&self) -> Option<&GuardedChild> {
        Some(Self::child(self))
    }

    async fn restart(&mut self) -> Result<(), Error> {
        Self::restart(self).await
    }

    async fn stop(&mut self) -> Result<(), Error> {
        Self::stop(self).await.map(|_: Exit| ())
    }
}

macro_rules! servers {
    ($($server:ty),*) => {$(
        impl Service for $server {
            fn child(&self) -> Option<&GuardedChild> {
                Self::child(self)
            }

            async fn restart(&mut self) -> Result<(), Error> {
                Self::restart(self).await
            }

            async fn stop(&mut self) -> Result<(), Error> {
                Self::stop(self).await.map(|_| ())
            }
        }
    )*};
}

servers!(PostgresServer, RedisServer, NatsServer);

/// Keeps `service` running until stopping has come as far as `until`, then stops it.
pub(crate) async fn keep_running(
    name: &str,
    log: &Path,
    service: &mut impl Service,
    mut phase: watch::Receiver<Phase>,
    until: Phase,
) {
    let (mut pause, longest) = PAUSES;
    let mut since = Instant::now();
    loop {
        let ended = async {
            match service.child() {
                Some(child) => format!("ended with {}", child.exited().await),
                None => "does not run".to_owned(),
            }
        };
        let what = tokio::select! {
            () = reached(&mut phase, until) => break,
            what = ended => what,
        };
        if since.elapsed() > WELL {
            pause = PAUSES.0;
        }
        console::complain(&format!(
            "{name} {what}; starting it again in {pause:?} (its log: {})",
            log.display()
        ));
        let again = async {
            tokio::time::sleep(pause).await;
            service.restart().await
        };
        tokio::select! {
            () = reached(&mut phase, until) => break,
            restarted = again => match restarted {
                Ok(()) => console::complain(&format!("{name} runs again")),
                Err(error) => console::complain(&console::chain(&error)),
            },
        }
        since = Instant::now();
        pause = (pause * 2).min(longest);
    }
    if let Err(error) = service.stop().await {
        console::complain(&console::chain(&error));
    }
}

async fn reached(phase: &mut watch::Receiver<Phase>, until: Phase) {
    // A sender that is gone is the end as well.
    let _ = phase.wait_for(|phase| *phase >= until).await;
}
