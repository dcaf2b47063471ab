//! The platform's Redis as the place where edges divide rates among themselves.
//!
//! Owns the two scripts. Every command names one key, so that a cluster can hold them. Each has a
//! deadline; whoever calls treats any error as "Redis is away".

use std::fmt::Write;
use std::time::Duration;

use authsome_contract::wire::names;
use authsome_core::secret::SecretUrl;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::LuaInterface;
use fred::types::FromValue;
use futures::future::try_join_all;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::super::cell::Subject;
use super::super::share::Edges;
use crate::redis::{COMMAND_TIMEOUT, Connection, RedisAddressError};

const EDGES_SCRIPT: &str = include_str!("edges.lua");
const SHARE_SCRIPT: &str = include_str!("share.lua");

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
    connection: Connection,
    edge: String,
    edges: Script,
    share: Script,
}

impl Ledger {
    /// Starts connecting and returns at once; reconnects for ever. Must be called in the runtime that will use it.
    pub(super) fn connect(address: &SecretUrl, edge: String) -> Result<Self, RedisAddressError> {
        Ok(Self {
            connection: Connection::start(address)?,
            edge,
            edges: Script::new(EDGES_SCRIPT),
            share: Script::new(SHARE_SCRIPT),
        })
    }

    /// Says that this edge is there for the next `stay`, or with zero that it leaves; and asks how many there are.
    pub(super) async fn edges(&self, stay: Duration) -> Result<u32, Away> {
        let client = self.connection.client().ok_or(Away::NotConnected)?;
        let arguments = [self.edge.clone(), stay.as_millis().to_string()];
        in_time(self.edges.run(client, names::LIMIT_EDGES, &arguments)).await
    }

    /// Asks for shares, all at once on one connection; for each the number of the answer and the part, in the order of
    /// `wants`.
    pub(super) async fn shares(&self, wants: &[Want], lease: Duration) -> Result<Vec<(u64, u64)>, Away> {
        let client = self.connection.client().ok_or(Away::NotConnected)?;
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
            async move { self.share.run(client, &name, &arguments).await }
        });
        in_time(try_join_all(calls)).await
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Away> {
    match tokio::time::timeout(COMMAND_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Away::Late),
    }
}
