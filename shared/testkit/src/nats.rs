//! A real NATS server with JetStream on the loopback interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::Error;
use crate::guard::{Exit, GuardedChild, GuardedCommand};
use crate::scratch::Place;
use crate::{installed, private_file, ready, secret};

/// The only user of every server started here.
pub const USER: &str = "authsome";

/// Recovering large streams may take a while; an empty server is ready in 50 ms.
const READY: Duration = Duration::from_mins(1);

/// How to start a server. The default is right for tests.
#[derive(Clone, Default)]
pub struct NatsOptions {
    /// Where its streams stay. `None`: a scratch directory.
    pub directory: Option<PathBuf>,
    /// The log file; by default `log` in its directory.
    pub log: Option<PathBuf>,
    /// The port; `None` picks a free one.
    pub port: Option<u16>,
    /// The user's password; `None` generates one.
    pub password: Option<String>,
}

/// A running server. Dropping it stops it; scratch data is removed.
pub struct NatsServer {
    child: Option<GuardedChild>,
    command: GuardedCommand,
    port: u16,
    password: String,
}

impl NatsServer {
    /// Starts a server and waits until JetStream answers.
    ///
    /// # Errors
    /// See [`Error`]: a missing program, a taken port, an early end with the last lines of the log.
    pub async fn start(options: NatsOptions) -> Result<Self, Error> {
        let program = installed::find("nats-server")?;
        let password = options.password.clone().map_or_else(secret::random_password, Ok)?;
        let place = Place::prepare(options.directory.as_deref(), "nats", None)?;
        let log = options.log.clone().unwrap_or_else(|| place.path.join("log"));
        let server = ready::on_a_port(options.port, async |port| {
            let config = place.path.join("nats.conf");
            private_file::write(&config, &configuration(port, &place.path, &password))?;
            let command = GuardedCommand::new(&program, &log)
                .args(["-c".to_owned(), config.display().to_string()])
                .current_dir(&place.path)
                .stops_by(Signal::SIGTERM, Duration::from_secs(10))
                .scratch(place.scratch());
            let child = started(&command, port, &password).await?;
            Ok(Self {
                child: Some(child),
                command,
                port,
                password: password.clone(),
            })
        })
        .await?;
        place.now_guarded();
        Ok(server)
    }

    /// The address `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The user's URL. Holds the password: not for logs. `async_nats::connect` does not read the user and password from a
    /// URL; take them out and pass them as options, as [`Self::connect`] does.
    pub fn url(&self) -> String {
        format!("nats://{USER}:{}@127.0.0.1:{}", self.password, self.port)
    }

    /// A client of it.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn connect(&self) -> Result<async_nats::Client, async_nats::ConnectError> {
        credentials(&self.password).connect(self.address()).await
    }

    /// The process behind it: its id, log, signals, end.
    pub fn child(&self) -> Option<&GuardedChild> {
        self.child.as_ref()
    }

    /// Freezes the server (SIGSTOP).
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

    /// Stops it if it runs and starts it again with the same port, password and files.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        if let Some(child) = self.child.take() {
            child.leave();
        }
        self.child = Some(started(&self.command, self.port, &self.password).await?);
        Ok(())
    }
}

async fn started(command: &GuardedCommand, port: u16, password: &str) -> Result<GuardedChild, Error> {
    ready::start(command, port, READY, async || jetstream_answers(port, password).await).await
}

/// Connects and asks for the account's JetStream limits: a server that recovers its streams does not answer yet.
async fn jetstream_answers(port: u16, password: &str) -> Result<(), String> {
    let client = credentials(password)
        .connection_timeout(Duration::from_secs(1))
        .request_timeout(Some(Duration::from_secs(1)))
        .connect(format!("127.0.0.1:{port}"))
        .await
        .map_err(|error| error.to_string())?;
    // Not `Context::query_account`: it wants fields that servers before 2.10 do not send.
    let reply = client
        .request("$JS.API.INFO", "".into())
        .await
        .map_err(|error| error.to_string())?;
    let reply = String::from_utf8_lossy(&reply.payload);
    if reply.contains("\"error\"") {
        Err(format!("JetStream answers {reply}"))
    } else {
        Ok(())
    }
}

fn credentials(password: &str) -> async_nats::ConnectOptions {
    async_nats::ConnectOptions::with_user_and_password(USER.to_owned(), password.to_owned())
}

fn configuration(port: u16, directory: &Path, password: &str) -> String {
    format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n\
         authorization {{ user: \"{USER}\", password: \"{password}\" }}\n",
        directory.display(),
    )
}
