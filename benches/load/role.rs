//! What this executable can be besides the suite: the processes that it starts of itself.

use std::net::SocketAddr;
use std::process::ExitCode;

use authsome_benches::upstream;

use crate::contenders::bare;

/// Says which role a process has; the edge reads its command line itself.
pub(crate) const VARIABLE: &str = "AUTHSOME_BENCH_ROLE";
/// Where the upstream and the bare Pingora listen.
pub(crate) const LISTEN: &str = "AUTHSOME_BENCH_LISTEN";
/// Where the bare Pingora forwards to.
pub(crate) const UPSTREAM: &str = "AUTHSOME_BENCH_UPSTREAM";
/// Threads of either.
pub(crate) const THREADS: &str = "AUTHSOME_BENCH_THREADS";

/// A process of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Upstream,
    Bare,
    Edge,
}

/// What the environment asks of this process; nothing of one that is the suite.
pub(crate) fn asked() -> Option<Role> {
    let name = std::env::var(VARIABLE).ok()?;
    [Role::Upstream, Role::Bare, Role::Edge]
        .into_iter()
        .find(|role| role.name() == name)
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Bare => "bare",
            Self::Edge => "edge",
        }
    }

    /// Until the process is told to end.
    pub(crate) fn play(self) -> ExitCode {
        match self {
            Self::Upstream => upstream::serve(address(LISTEN), threads()),
            Self::Bare => bare::serve(address(LISTEN), address(UPSTREAM), threads()),
            Self::Edge => authsome_proxy::process::run(),
        }
    }
}

fn address(variable: &str) -> SocketAddr {
    std::env::var(variable).unwrap().parse().unwrap()
}

fn threads() -> usize {
    std::env::var(THREADS).unwrap().parse().unwrap()
}
