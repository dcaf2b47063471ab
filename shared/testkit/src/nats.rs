//! A real NATS server with JetStream on the loopback interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::Error;
use crate::guard::GuardedCommand;
use crate::scratch::Place;
use crate::server::{Kind, Server};
use crate::{installed, private_file, secret};

/// The only user of every server started here.
pub const USER: &str = "authsome";

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

/// NATS with JetStream.
pub enum Nats {}

/// A running server. Dropping it stops it; scratch data is removed.
pub type NatsServer = Server<Nats>;

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
        let (directory, secret) = (place.path.clone(), password.clone());
        Self::start_in(place, options.port, password, |port| {
            let config = directory.join("nats.conf");
            private_file::write(&config, &configuration(port, &directory, &secret))?;
            Ok(GuardedCommand::new(&program, &log)
                .args(["-c".to_owned(), config.display().to_string()])
                .stops_by(Signal::SIGTERM, Duration::from_secs(10)))
        })
        .await
    }

    /// The user's URL. Holds the password: not for logs. `async_nats::connect` does not read the user and password from a
    /// URL; take them out and pass them as options, as [`Self::connect`] does.
    pub fn url(&self) -> String {
        format!("nats://{USER}:{}@127.0.0.1:{}", self.password(), self.port())
    }

    /// A client of it.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn connect(&self) -> Result<async_nats::Client, async_nats::ConnectError> {
        credentials(self.password()).connect(self.address()).await
    }
}

impl Kind for Nats {
    async fn answers(port: u16, password: &str) -> Result<(), String> {
        jetstream_answers(port, password).await
    }
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
