//! What is measured: each contender is a process (or a few) that listens on loopback and forwards to the upstream.

pub(crate) mod bare;
mod direct;
mod edge;
mod haproxy;
mod nginx;
mod nginx_lua;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use authsome_testkit::{GuardedChild, GuardedCommand, RedisServer, http_probe, installed, port, wait_for};

use crate::cores::Cores;
use crate::fleet::Fleet;
use crate::platform::Platform;

pub(crate) use edge::Way;

/// A binary of the edge that is measured instead of the one in this executable.
pub(crate) use edge::binary as edge_binary;

/// Everything a contender may need to start.
pub(crate) struct Surroundings<'s> {
    pub(crate) cores: &'s Cores,
    pub(crate) fleet: &'s Fleet,
    pub(crate) platform: &'s Platform,
    /// Where the upstream listens.
    pub(crate) upstream: SocketAddr,
    /// For configurations and logs.
    pub(crate) directory: &'s Path,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The upstream itself: what the generator and the kernel cost.
    Direct,
    /// Pingora as a proxy that does nothing else.
    Bare,
    /// Our edge, over the lane where a request is simple.
    Edge,
    /// Our edge with the lane switched off: every request over Pingora's `HttpProxy`.
    EdgeProxy,
    /// Our edge with its access log on.
    EdgeLogged,
    /// nginx with the keys in a static map, and a limit.
    Nginx,
    /// nginx with Lua: the architecture of Kong and APISIX.
    NginxLua,
    /// HAProxy with the keys' digests in a map file, and a limit.
    HaProxy,
}

impl Contender {
    /// In the order of the report.
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Bare,
        Self::Edge,
        Self::EdgeProxy,
        Self::EdgeLogged,
        Self::Nginx,
        Self::NginxLua,
        Self::HaProxy,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bare => "bare-pingora",
            Self::Edge => "edge",
            Self::EdgeProxy => "edge-httpproxy",
            Self::EdgeLogged => "edge-access-log",
            Self::Nginx => "nginx-map",
            Self::NginxLua => "nginx-lua",
            Self::HaProxy => "haproxy-map",
        }
    }

    /// What it does with a request, for the report.
    pub(crate) const fn does(self) -> &'static str {
        match self {
            Self::Direct => "the upstream, asked directly",
            Self::Bare => "Pingora 0.9 as a pass-through: no key, no limit, no header of its own",
            Self::Edge => "key, limits, routing, metering, metrics, tracing headers",
            Self::EdgeProxy => "the same with lane.enabled = false",
            Self::EdgeLogged => "the same as edge, with a JSON line for each request",
            Self::Nginx => "clear-text keys in a static map, limit_req by key; no digest, no metering",
            Self::NginxLua => "SHA-256, shared dict before Redis, a limit and a count for each key",
            Self::HaProxy => "SHA-256, digests in a static map, rate and count for each key",
        }
    }

    /// Starts it, or says why it does not take part: it is not installed, or does not start.
    pub(crate) async fn start(self, around: &Surroundings<'_>) -> Result<Running, String> {
        match self {
            Self::Direct => Err("it is the upstream, which runs already".to_owned()),
            Self::Bare => Ok(bare::start(around, None).await),
            Self::Edge => Ok(edge::start(around, Way::Lane, None).await),
            Self::EdgeProxy => Ok(edge::start(around, Way::HttpProxy, None).await),
            Self::EdgeLogged => Ok(edge::start(around, Way::Logged, None).await),
            Self::Nginx => nginx::start(around).await,
            Self::NginxLua => nginx_lua::start(around).await,
            Self::HaProxy => haproxy::start(around).await,
        }
    }
}

/// A contender that listens.
pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) address: SocketAddr,
    /// Of its first process; the others are below it.
    pub(crate) pid: u32,
    /// Nothing of the upstream, which is not the contender's own.
    child: Option<GuardedChild>,
}

impl Running {
    pub(crate) fn new(contender: Contender, address: SocketAddr, child: GuardedChild) -> Self {
        Self {
            contender,
            address,
            pid: child.pid(),
            child: Some(child),
        }
    }

    /// As an operator does it, so that it writes what it writes at its end (a profile, say).
    pub(crate) async fn stop(self) {
        if let Some(mut child) = self.child {
            child.stop().await.unwrap();
        }
    }

    /// At once: nobody waits for it to drain.
    pub(crate) async fn kill(self) {
        if let Some(child) = self.child {
            child.kill().await.unwrap();
        }
    }
}

/// The upstream, and the way to ask it without anybody between.
pub(crate) async fn start_upstream(cores: &Cores, listen: SocketAddr, directory: &Path) -> (GuardedChild, Running) {
    direct::start(cores, listen, directory).await
}

/// An edge with other sources than the platform's.
pub(crate) async fn start_edge(cores: &Cores, directory: &Path, variables: &[(&'static str, String)]) -> Running {
    edge::launch(cores, directory, Way::Lane, variables, None).await
}

/// A program under which a contender runs, with that program's own arguments.
pub(crate) struct Wrapper {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
}

/// A bare Pingora, or an edge that works in this way, under another program.
pub(crate) async fn start_under(wrapper: &Wrapper, around: &Surroundings<'_>, way: Option<Way>) -> Running {
    match way {
        None => bare::start(around, Some(wrapper)).await,
        Some(way) => edge::start(around, way, Some(wrapper)).await,
    }
}

/// An address of loopback that nobody has.
pub(crate) fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()))
}

/// A server that this machine may have; one that it lacks does not take part.
fn find(program: &str) -> Result<PathBuf, String> {
    installed::find(program).map_err(|_| format!("{program} is not installed"))
}

/// A command on these cores.
fn on_cores(cores: &Cores, which: &[usize], program: PathBuf, log: PathBuf) -> GuardedCommand {
    let (program, arguments) = cores.command(which, program);
    arguments
        .into_iter()
        .fold(GuardedCommand::new(program, log), GuardedCommand::arg)
}

/// The same on the contender's cores, and under the wrapper if there is one.
fn wrapped(cores: &Cores, program: PathBuf, log: PathBuf, wrapper: Option<&Wrapper>) -> GuardedCommand {
    match wrapper {
        None => on_cores(cores, &cores.contender, program, log),
        Some(wrapper) => on_cores(cores, &cores.contender, wrapper.program.clone(), log)
            .args(wrapper.arguments.clone())
            .arg(program.display().to_string()),
    }
}

/// Starts a command and waits until its address answers anything in HTTP.
async fn answers(command: GuardedCommand, address: SocketAddr) -> Result<GuardedChild, String> {
    let child = command.spawn().await.unwrap();
    let name = child.name().to_owned();
    let at = address.to_string();
    let seen = wait_for(format!("{name} at {at}"), Duration::from_mins(2), async || {
        http_probe::status(&at, "/v1/health").await
    })
    .await;
    match seen {
        Ok(_) => Ok(child),
        Err(error) => Err(format!("{error}; its log ends with:\n{}", child.log_tail(20))),
    }
}

/// Gives Redis two commands that it answers with OK.
async fn tell(redis: &RedisServer, commands: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", redis.port()))
        .await
        .unwrap();
    stream.write_all(commands).await.unwrap();
    let mut answers = [0; 10];
    stream.read_exact(&mut answers).await.unwrap();
    assert_eq!(&answers, b"+OK\r\n+OK\r\n", "Redis does not take what it is given");
}
