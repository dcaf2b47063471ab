//! Our edge, as it ships: keys, limits, routing, metering and metrics are on, and the table comes from the relay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use authsome_testkit::{http_probe, wait_for};

use super::{Contender, Running, Surroundings, Wrapper, free, wrapped};
use crate::cores::Cores;
use crate::role::{Role, VARIABLE};

/// A binary to measure instead of this executable's own edge.
const BINARY: &str = "AUTHSOME_BENCH_EDGE";

/// How it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Simple requests over the lane; no access log, as nobody else here has one.
    Lane,
    /// Every request over Pingora's `HttpProxy`.
    HttpProxy,
    /// With a line for each request.
    Logged,
}

impl Way {
    const fn contender(self) -> Contender {
        match self {
            Self::Lane => Contender::Edge,
            Self::HttpProxy => Contender::EdgeProxy,
            Self::Logged => Contender::EdgeLogged,
        }
    }
}

/// What the report says about the binary.
pub(crate) fn binary() -> Option<PathBuf> {
    std::env::var_os(BINARY).map(PathBuf::from)
}

/// With this platform behind it.
pub(super) async fn start(around: &Surroundings<'_>, way: Way, wrapper: Option<&Wrapper>) -> Running {
    let directory = around
        .directory
        .join(format!("{}-{}", way.contender().name(), wrapper.is_some()));
    std::fs::create_dir_all(&directory).unwrap();
    launch(around.cores, &directory, way, &around.platform.variables(), wrapper).await
}

/// With these sources, until its whole table is there.
pub(super) async fn launch(
    cores: &Cores,
    directory: &Path,
    way: Way,
    variables: &[(&'static str, String)],
    wrapper: Option<&Wrapper>,
) -> Running {
    let (address, admin) = (free(), free());
    let program = binary().unwrap_or_else(|| std::env::current_exe().unwrap());
    let mut command = wrapped(cores, program, directory.join("log"), wrapper)
        .env(VARIABLE, Role::Edge.name())
        .env("AUTHSOME_DATA_DIRECTORY", directory.join("data").display().to_string())
        .env("AUTHSOME_LISTEN_ADDRESS", address.to_string())
        .env("AUTHSOME_LISTEN_ADMIN", admin.to_string())
        .env("AUTHSOME_LOG_ACCESS", (way == Way::Logged).to_string())
        .env("AUTHSOME_LANE_ENABLED", (way != Way::HttpProxy).to_string())
        .env("AUTHSOME_SERVER_THREADS", cores.contender.len().to_string())
        .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
        // As deployed: the shared host has a name, and need not be looked up.
        .env("AUTHSOME_PUBLIC_EDGE", "http://api.authsome.test")
        // Everything comes from one address here, and the answers that are measured are those of the refusal itself.
        .env("AUTHSOME_LIMITS_REFUSALS_PER_ADDRESS", "100000")
        .env("AUTHSOME_LIMITS_CONNECTIONS_PER_ADDRESS", "100000")
        .env("AUTHSOME_LIMITS_IN_FLIGHT", "100000")
        .env("AUTHSOME_UPSTREAM_IN_FLIGHT_ENTERPRISE", "100000");
    for (variable, value) in variables {
        command = command.env(*variable, value);
    }
    let mut child = command.spawn().await.unwrap();
    let at = admin.to_string();
    let ready = wait_for("an edge with its table", Duration::from_mins(3), async || {
        http_probe::ok(&at, "/readyz").await
    })
    .await;
    if let Err(error) = ready {
        let log = child.log_tail(30);
        let _ = child.stop().await;
        panic!("{error}\n{log}");
    }
    Running::new(way.contender(), address, child)
}
