//! The upstream without anybody in front of it: what remains of every other row when the contender costs nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use authsome_testkit::GuardedChild;

use super::{Contender, Running, answers, on_cores};
use crate::cores::Cores;
use crate::role::{LISTEN, Role, THREADS, VARIABLE};

/// The upstream itself, and its row.
pub(super) async fn start(cores: &Cores, listen: SocketAddr, directory: &Path) -> (GuardedChild, Running) {
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port()));
    let command = on_cores(
        cores,
        &cores.upstream,
        std::env::current_exe().unwrap(),
        directory.join("upstream.log"),
    )
    .env(VARIABLE, Role::Upstream.name())
    .env(LISTEN, all.to_string())
    .env(THREADS, cores.upstream.len().to_string());
    let child = answers(command, listen).await.unwrap();
    let row = Running {
        contender: Contender::Direct,
        address: listen,
        pid: child.pid(),
        child: None,
    };
    (child, row)
}
