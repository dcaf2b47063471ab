//! A server in a process of its own, whatever it serves: started, frozen, killed and started again on the port that it had.
//!
//! What one kind of server asks to know that it answers is its [`Kind`]. A server that does not come up is an error with
//! the end of its log; one that has ended stays ended until it is restarted.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use crate::error::Error;
use crate::guard::{Exit, GuardedChild, GuardedCommand};
use crate::ready;
use crate::scratch::Place;

/// Recovering after a crash, or loading much data, may take a while; an empty server is ready in under a second.
pub(crate) const READY: Duration = Duration::from_mins(1);

/// What is particular to one kind of server.
pub trait Kind: 'static {
    /// Whether the server on this port of the loopback interface really serves the holder of this password.
    ///
    /// # Errors
    /// What was seen instead.
    fn answers(port: u16, password: &str) -> impl Future<Output = Result<(), String>> + Send;
}

/// A running server. Dropping it stops it; scratch data is removed.
pub struct Server<K> {
    child: Option<GuardedChild>,
    command: GuardedCommand,
    port: u16,
    password: String,
    kind: PhantomData<K>,
}

impl<K: Kind> Server<K> {
    /// Starts what `command` makes of a port, in `place`, on the wanted port or on a free one, and waits until it answers.
    pub(crate) async fn start_in(
        place: Place,
        wanted: Option<u16>,
        password: String,
        command: impl Fn(u16) -> Result<GuardedCommand, Error>,
    ) -> Result<Self, Error> {
        // Boxed: whoever starts several servers would hold all these states in one future.
        let (child, command, port) = Box::pin(ready::on_a_port(wanted, async |port| {
            let command = command(port)?.current_dir(&place.path).scratch(place.scratch());
            let child = started::<K>(&command, port, &password).await?;
            Ok((child, command, port))
        }))
        .await?;
        place.now_guarded();
        Ok(Self {
            child: Some(child),
            command,
            port,
            password,
            kind: PhantomData,
        })
    }

    /// Stops it if it runs and starts it again with the same port, password and files.
    ///
    /// # Errors
    /// See [`Error`]: a taken port, an early end with the last lines of the log.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        if let Some(child) = self.child.take() {
            child.leave();
        }
        self.child = Some(started::<K>(&self.command, self.port, &self.password).await?);
        Ok(())
    }
}

impl<K> Server<K> {
    /// The address `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of its all-powerful user.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The process behind it: its id, log, signals, end.
    pub fn child(&self) -> Option<&GuardedChild> {
        self.child.as_ref()
    }

    /// Freezes the server and all its children (SIGSTOP).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pause(&self) -> Result<(), Error> {
        self.child.as_ref().map_or(Ok(()), GuardedChild::pause)
    }

    /// Thaws a paused server.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(&self) -> Result<(), Error> {
        self.child.as_ref().map_or(Ok(()), GuardedChild::resume)
    }

    /// SIGKILL. Its files stay for [`Self::restart`].
    ///
    /// # Errors
    /// [`Error::DidNotEnd`].
    pub async fn kill(&mut self) -> Result<(), Error> {
        match &self.child {
            Some(child) => child.kill().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Stops it cleanly. Its files stay for [`Self::restart`] until this handle is dropped.
    ///
    /// # Errors
    /// [`Error::DidNotEnd`].
    pub async fn stop(&mut self) -> Result<Option<Exit>, Error> {
        match &mut self.child {
            Some(child) => child.stop().await.map(Some),
            None => Ok(None),
        }
    }
}

async fn started<K: Kind>(command: &GuardedCommand, port: u16, password: &str) -> Result<GuardedChild, Error> {
    ready::start(command, port, READY, async || K::answers(port, password).await).await
}
