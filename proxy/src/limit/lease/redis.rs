//! The platform's Redis as the place where edges divide rates among themselves.
//!
//! Owns the connection and the two scripts. Every command names one key, so that a cluster can hold them. Each has a
//! deadline; whoever calls treats any error as "Redis is away".

use std::fmt::Write;
use std::time::Duration;

use authsome_contract::wire::names;
use authsome_core::secret::SecretUrl;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::config::{Config, ReconnectPolicy};
use fred::types::{Builder, FromValue};
use futures::future::try_join_all;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::task::JoinHandle;

use super::super::cell::Subject;
use super::super::share::Edges;

/// Longer than any healthy answer, shorter than a lease.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(250);
const EDGES_SCRIPT: &str = include_str!("edges.lua");
const SHARE_SCRIPT: &str = include_str!("share.lua");

/// The address cannot be used. Says nothing of its user or password.
#[derive(Debug, thiserror::Error)]
#[error("Redis address {address}: {detail}")]
pub struct LeaseAddressError {
    address: String,
    detail: String,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Away {
    #[error("not connected")]
    NotConnected,
    #[error("no answer in time")]
    Late,
    #[error("{0}")]
    Refused(#[from] Error),
}

/// What one edge wants of one subject's rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) subject: Subject,
    /// In 4096ths of the rate.
    pub(super) parts: u64,
    /// Number of the last answer that came.
    pub(super) seen: u64,
}

/// A script, and the name by which a server knows it that has seen it before.
struct Script {
    text: &'static str,
    name: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut name = String::with_capacity(40);
        for byte in digest.as_ref() {
            // Writing to a `String` cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        Self { text, name }
    }

    /// Runs it by its name, and by its text where it is not known: on a server that was started anew, or another node of a
    /// cluster.
    async fn run<R: FromValue>(&self, client: &Client, key: &str, arguments: &[String]) -> Result<R, Error> {
        match client.evalsha(&*self.name, key, arguments.to_vec()).await {
            Err(error) if error.details().starts_with("NOSCRIPT") => {
                client.eval(self.text, key, arguments.to_vec()).await
            }
            answer => answer,
        }
    }
}

pub(super) struct Ledger {
    client: Client,
    connection: JoinHandle<Result<(), Error>>,
    edge: String,
    edges: Script,
    share: Script,
}

impl Ledger {
    /// Starts connecting and returns at once; reconnects for ever. Must be called in the runtime that will use it.
    pub(super) fn connect(address: &SecretUrl, edge: String) -> Result<Self, LeaseAddressError> {
        let wrong = |error: Error| LeaseAddressError {
            address: address.to_string(),
            detail: error.to_string(),
        };
        let mut config = Config::from_url(address.expose()).map_err(wrong)?;
        config.fail_fast = false;
        let client = Builder::from_config(config)
            .with_performance_config(|performance| performance.default_command_timeout = COMMAND_TIMEOUT)
            .with_connection_config(|connection| {
                connection.connection_timeout = Duration::from_secs(2);
                connection.internal_command_timeout = Duration::from_secs(2);
                // A share that was asked for long ago is not wanted any more.
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = 10_000;
                connection.unresponsive.max_timeout = Some(Duration::from_secs(1));
                connection.unresponsive.interval = Duration::from_millis(500);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 100, 2_000, 2))
            .build()
            .map_err(wrong)?;
        let connection = client.connect();
        Ok(Self {
            client,
            connection,
            edge,
            edges: Script::new(EDGES_SCRIPT),
            share: Script::new(SHARE_SCRIPT),
        })
    }

    /// Says that this edge is there for the next `stay`, or with zero that it leaves; and asks how many there are.
    pub(super) async fn edges(&self, stay: Duration) -> Result<u32, Away> {
        let arguments = [self.edge.clone(), stay.as_millis().to_string()];
        self.in_time(self.edges.run(&self.client, names::LIMIT_EDGES, &arguments))
            .await
    }

    /// Asks for shares, all at once on one connection; for each the number of the answer and the part, in the order of
    /// `wants`.
    pub(super) async fn shares(&self, wants: &[Want], lease: Duration) -> Result<Vec<(u64, u64)>, Away> {
        let (lease, pool) = (lease.as_millis().to_string(), Edges::pool().to_string());
        let calls = wants.iter().map(|want| {
            let name = match want.subject {
                Subject::Key(id) => names::limit_key(&id),
                Subject::Application(id) => names::limit_app(&id),
            };
            let arguments = [
                self.edge.clone(),
                want.parts.to_string(),
                want.seen.to_string(),
                lease.clone(),
                pool.clone(),
            ];
            async move { self.share.run(&self.client, &name, &arguments).await }
        });
        self.in_time(try_join_all(calls)).await
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Away> {
        if !self.client.is_connected() {
            return Err(Away::NotConnected);
        }
        match tokio::time::timeout(COMMAND_TIMEOUT, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Away::Late),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
