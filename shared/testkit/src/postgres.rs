//! A real Postgres server on the loopback interface.
//!
//! TCP with SCRAM passwords only; no Unix socket, whose path would have to fit into 107 bytes. As root it runs as another
//! user with its data where that user can reach it. Started for a test it trades durability for speed and its files
//! go with it; started with a directory it keeps them, and a crash is recovered from at the next start.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::account::Account;
use crate::error::Error;
use crate::guard::GuardedCommand;
use crate::scratch::Place;
use crate::server::{Kind, READY, Server};
use crate::{db, installed, secret};

/// The superuser of every cluster started here.
pub const SUPERUSER: &str = "authsome";

/// How to start a server. The default is right for tests.
#[derive(Clone)]
pub struct PostgresOptions {
    /// Where its data stays. `None`: a scratch directory. A cluster is created only when there is none yet.
    pub directory: Option<PathBuf>,
    /// The log file; by default `log` in its directory.
    pub log: Option<PathBuf>,
    /// The port; `None` picks a free one.
    pub port: Option<u16>,
    /// The superuser's password; `None` generates one. Must be the original one for a directory that has a cluster.
    pub password: Option<String>,
    /// Whether commits reach the disk. Off, a machine crash (not a process crash) may lose the cluster.
    pub durable: bool,
    /// The server's connection limit.
    pub max_connections: u16,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            directory: None,
            log: None,
            port: None,
            password: None,
            durable: false,
            max_connections: 200,
        }
    }
}

/// Postgres.
pub enum Postgres {}

/// A running server. Dropping it stops it; scratch data is removed.
pub type PostgresServer = Server<Postgres>;

impl PostgresServer {
    /// Starts a server and waits until it answers queries.
    ///
    /// # Errors
    /// See [`Error`]: a missing program, a taken port, an early end with the last lines of the log.
    pub async fn start(options: PostgresOptions) -> Result<Self, Error> {
        let postgres = installed::find("postgres")?;
        let account = Account::for_postgres()?;
        let password = options.password.clone().map_or_else(secret::random_password, Ok)?;
        let place = Place::prepare(options.directory.as_deref(), "postgres", account)?;
        let data = place.path.join("data");
        let log = options.log.clone().unwrap_or_else(|| place.path.join("log"));
        if !data.join("PG_VERSION").exists() {
            create_cluster(&place.path, &data, &log, &password, account).await?;
        }
        Self::start_in(place, options.port, password, |port| {
            Ok(GuardedCommand::new(&postgres, &log)
                .args(["-D".to_owned(), data.display().to_string(), "-p".to_owned(), port.to_string()])
                .args(settings(&options))
                .account(account)
                // SIGINT: end sessions and shut down cleanly. (SIGTERM would wait for clients to leave.)
                .stops_by(Signal::SIGINT, Duration::from_secs(20)))
        })
        .await
    }

    /// A superuser's URL of a database. Holds the password: not for logs.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}",
            self.password(),
            self.port()
        )
    }

    /// A superuser's URL of the maintenance database `postgres`.
    pub fn admin_url(&self) -> String {
        self.url("postgres")
    }

    /// The URL of a database for another role.
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// Connection options of the superuser for a database.
    pub fn options(&self, database: &str) -> PgConnectOptions {
        connect_options(self.port(), self.password(), database)
    }

    /// Creates an empty database; one that exists is fine.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        let action = Error::postgres(format!("create the database {name}"));
        db::create_database(&self.options("postgres"), name)
            .await
            .map_err(action)
    }

    /// Creates a database as a copy of another one, which must have no connections; one that exists is fine.
    ///
    /// # Errors
    /// [`Error::Postgres`].
    pub async fn create_database_from_template(&self, name: &str, template: &str) -> Result<(), Error> {
        let action = Error::postgres(format!("create the database {name} from {template}"));
        db::copy_database(&self.options("postgres"), name, template)
            .await
            .map_err(action)
    }
}

impl Kind for Postgres {
    async fn answers(port: u16, password: &str) -> Result<(), String> {
        let options = connect_options(port, password, "postgres");
        db::ping(&options).await.map_err(|error| error.to_string())
    }
}

fn connect_options(port: u16, password: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username(SUPERUSER)
        .password(password)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

fn settings(options: &PostgresOptions) -> Vec<String> {
    let mut settings = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("max_connections={}", options.max_connections),
        "logging_collector=off".to_owned(),
        "log_min_messages=warning".to_owned(),
    ];
    if !options.durable {
        // `synchronous_commit` stays on: without it a killed server forgets what it acknowledged up to 0.6 s before, and a test
        // that kills it would find a key gone that was created. What it hands to the operating system outlives the process.
        settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
    }
    settings
        .into_iter()
        .flat_map(|setting| ["-c".to_owned(), setting])
        .collect()
}

/// `initdb` into a neighbouring directory and a rename, so that an interrupted one leaves nothing half made behind.
async fn create_cluster(
    home: &Path,
    data: &Path,
    log: &Path,
    password: &str,
    account: Option<Account>,
) -> Result<(), Error> {
    let (unfinished, password_file) = (home.join("data.new"), home.join("password.new"));
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(Error::io(format!("remove {}", unfinished.display())))?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&password_file)
        .and_then(|mut file| file.write_all(password.as_bytes()))
        .map_err(Error::io(format!("write {}", password_file.display())))?;
    if let Some(account) = account {
        account.give(&password_file)?;
    }
    let command = GuardedCommand::new(installed::find("initdb")?, log)
        .arg(format!("--pgdata={}", unfinished.display()))
        .arg(format!("--username={SUPERUSER}"))
        .arg(format!("--pwfile={}", password_file.display()))
        .args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"])
        .current_dir(home)
        .account(account);
    let child = command.spawn().await?;
    let exit = tokio::time::timeout(READY, child.exited())
        .await
        .map_err(|_| Error::NotReady {
            program: "initdb".to_owned(),
            waited: READY,
            last: "still at work".to_owned(),
            log_tail: child.log_tail(30),
        })?;
    std::fs::remove_file(&password_file).map_err(Error::io(format!("remove {}", password_file.display())))?;
    if !exit.success() {
        return Err(Error::ExitedEarly {
            program: "initdb".to_owned(),
            exit,
            log_tail: child.log_tail(30),
        });
    }
    std::fs::rename(&unfinished, data).map_err(Error::io(format!("rename {}", unfinished.display())))
}
