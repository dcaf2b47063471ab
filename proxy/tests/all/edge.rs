//! The real edge as a child process.

use std::time::Duration;

use authsome_core::id::ApplicationId;
use authsome_testkit::{Program, ProgramCommand, port, wait_for};
use tempfile::TempDir;

use crate::db::Tenants;
use crate::instance::nobody;
use crate::wire::{Message, PATIENCE, exchange};

pub(crate) struct Edge {
    pub(crate) program: Program,
    pub(crate) address: String,
    pub(crate) admin: String,
    /// Holds its log and its counters.
    _directory: TempDir,
}

/// Is the lane on? Everywhere but in the tests below `over_library`, which are the same ones once more.
pub(crate) fn lane() -> &'static str {
    let test = std::thread::current();
    let over_library = test.name().is_some_and(|name| name.starts_with("over_library::"));
    if over_library { "false" } else { "true" }
}

/// Is there a cache? Not where the lane is to show what it does: a path that was never seen may be kept, and is then the
/// library's.
fn cache() -> &'static str {
    let test = std::thread::current();
    let name = test.name().unwrap_or_default();
    let with_cache = lane() == "false" || name.starts_with("edge_cache::");
    if with_cache { "64MiB" } else { "0B" }
}

/// The command for an edge, with nothing but its own addresses and directory set.
pub(crate) fn command(directory: &TempDir) -> (ProgramCommand, String, String) {
    let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
    let command = ProgramCommand::new("authsome-proxy", directory.path().join("log"))
        .unwrap()
        .env("AUTHSOME_LISTEN_ADDRESS", &address)
        .env("AUTHSOME_LISTEN_ADMIN", &admin)
        .env(
            "AUTHSOME_DATA_DIRECTORY",
            directory.path().join("data").display().to_string(),
        )
        .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
        .env("AUTHSOME_SERVER_THREADS", "2")
        .env("AUTHSOME_LANE_ENABLED", lane())
        .env("AUTHSOME_CACHE_BYTES", cache())
        // A test that waits for a refusal asks again and again.
        .env("AUTHSOME_LIMITS_REFUSALS_PER_ADDRESS", "100000")
        .env("DATABASE_URL", "")
        .env("REDIS_URL", "")
        .env("NATS_URL", "");
    (command, address, admin)
}

/// The same as variables, for an edge on this database that is not started by the testkit.
pub(crate) fn settings(directory: &TempDir, tenants: &Tenants) -> (Vec<(&'static str, String)>, String, String) {
    let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
    let variables = vec![
        ("AUTHSOME_LISTEN_ADDRESS", address.clone()),
        ("AUTHSOME_LISTEN_ADMIN", admin.clone()),
        (
            "AUTHSOME_DATA_DIRECTORY",
            directory.path().join("data").display().to_string(),
        ),
        ("AUTHSOME_SHUTDOWN_LINGER", "0s".to_owned()),
        ("AUTHSOME_SERVER_THREADS", "2".to_owned()),
        ("AUTHSOME_LANE_ENABLED", lane().to_owned()),
        ("DATABASE_URL", tenants.database.url.clone()),
        ("REDIS_URL", format!("redis://{}", nobody())),
        ("NATS_URL", format!("nats://{}", nobody())),
    ];
    (variables, address, admin)
}

impl Edge {
    /// An edge on this database, without Redis and NATS.
    pub(crate) async fn start(tenants: &Tenants, settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (mut command, address, admin) = command(&directory);
        command = command
            .env("DATABASE_URL", &tenants.database.url)
            .env("REDIS_URL", format!("redis://{}", nobody()))
            .env("NATS_URL", format!("nats://{}", nobody()));
        for (name, value) in settings {
            command = command.env(*name, *value);
        }
        let program = command
            .ready_at(&admin, "/readyz")
            .deadline(Duration::from_mins(1))
            .start()
            .await
            .unwrap();
        Self {
            program,
            address,
            admin,
            _directory: directory,
        }
    }

    /// A GET of `/v1/{app}{tail}` with these header lines (each with its line end).
    pub(crate) async fn get(&self, app: ApplicationId, tail: &str, headers: &str) -> Message {
        self.request("GET", app, tail, headers, "").await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        app: ApplicationId,
        tail: &str,
        headers: &str,
        body: &str,
    ) -> Message {
        exchange(
            &self.address,
            request(method, &format!("/v1/{app}{tail}"), headers, body),
        )
        .await
    }

    /// Waits until a series has counted this often, and no oftener. What is counted happens before or after what a client
    /// sees of it, in a task of its own.
    pub(crate) async fn counted(&self, series: &str, times: u64) {
        let reached = wait_for(series, PATIENCE, async || {
            let value = self.metric(series).await;
            (value >= times).then_some(value)
        });
        assert_eq!(reached.await.unwrap(), times, "{series}");
    }

    /// Waits until a gauge shows this.
    pub(crate) async fn settled(&self, gauge: &str, value: u64) {
        wait_for(gauge, PATIENCE, async || {
            (self.metric(gauge).await == value).then_some(())
        })
        .await
        .unwrap();
    }

    /// The value of a series on `/metrics`, as `name{label="value"}`.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        let text = exchange(
            &self.admin,
            "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await
        .text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .trim()
            .parse()
            .unwrap()
    }
}

/// A request as bytes; the connection stays open after it.
pub(crate) fn request(method: &str, target: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    format!("{method} {target} HTTP/1.1\r\nhost: api.authsome.test\r\n{headers}{length}\r\n{body}")
}

/// The header line of a key.
pub(crate) fn key(key: &authsome_core::key::ApiKey) -> String {
    format!("x-api-key: {}\r\n", key.expose())
}
