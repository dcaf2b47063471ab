//! A real Redis server on the loopback interface, with its users in an ACL file so that they survive a restart once
//! `ACL SAVE` was called.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::Error;
use crate::guard::GuardedCommand;
use crate::scratch::Place;
use crate::server::{Kind, Server};
use crate::{installed, private_file, secret};

/// How to start a server. The default is right for tests.
#[derive(Clone, Default)]
pub struct RedisOptions {
    /// Where its files stay. `None`: a scratch directory.
    pub directory: Option<PathBuf>,
    /// The log file; by default `log` in its directory.
    pub log: Option<PathBuf>,
    /// The port; `None` picks a free one.
    pub port: Option<u16>,
    /// The default user's password; `None` generates one. Must be the original one for a directory that has an ACL file.
    pub password: Option<String>,
    /// Whether data survives a restart (append-only file, synced every second).
    pub append_only: bool,
}

/// Redis.
pub enum Redis {}

/// A running server. Dropping it stops it; scratch data is removed.
pub type RedisServer = Server<Redis>;

impl RedisServer {
    /// Starts a server and waits until it answers PING.
    ///
    /// # Errors
    /// See [`Error`]: a missing program, a taken port, an early end with the last lines of the log.
    pub async fn start(options: RedisOptions) -> Result<Self, Error> {
        let program = installed::find("redis-server")?;
        let password = options.password.clone().map_or_else(secret::random_password, Ok)?;
        let place = Place::prepare(options.directory.as_deref(), "redis", None)?;
        let log = options.log.clone().unwrap_or_else(|| place.path.join("log"));
        let users = place.path.join("users.acl");
        if !users.exists() {
            private_file::write(&users, &format!("user default on >{password} ~* &* +@all\n"))?;
        }
        let directory = place.path.clone();
        Self::start_in(place, options.port, password, |port| {
            let config = directory.join("redis.conf");
            private_file::write(&config, &configuration(port, &directory, &users, options.append_only))?;
            Ok(GuardedCommand::new(&program, &log)
                .arg(config.display().to_string())
                .stops_by(Signal::SIGTERM, Duration::from_secs(10)))
        })
        .await
    }

    /// The default (all-powerful) user's URL. Holds the password: not for logs.
    pub fn url(&self) -> String {
        self.url_as("default", self.password())
    }

    /// The URL for another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port())
    }
}

impl Kind for Redis {
    async fn answers(port: u16, password: &str) -> Result<(), String> {
        ping(port, password).await
    }
}

/// AUTH and PING over the plain protocol.
async fn ping(port: u16, password: &str) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(format!("AUTH default {password}\r\nPING\r\n").as_bytes())
            .await?;
        let (mut reply, mut chunk) = (String::new(), [0_u8; 256]);
        while reply.matches("\r\n").count() < 2 {
            let read = stream.read(&mut chunk).await?;
            if read == 0 {
                break;
            }
            reply.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
        Ok::<_, std::io::Error>(reply)
    };
    let reply = exchange.await.map_err(|error| error.to_string())?;
    if reply == "+OK\r\n+PONG\r\n" {
        Ok(())
    } else {
        Err(format!("AUTH and PING were answered {reply:?}"))
    }
}

fn configuration(port: u16, directory: &Path, users: &Path, append_only: bool) -> String {
    // Paths are quoted: they may hold spaces.
    format!(
        "bind 127.0.0.1\nport {port}\ndir \"{}\"\naclfile \"{}\"\nappendonly {}\nappendfsync everysec\nsave \"\"\n\
         daemonize no\nmaxclients 4000\n",
        directory.display(),
        users.display(),
        if append_only { "yes" } else { "no" },
    )
}
