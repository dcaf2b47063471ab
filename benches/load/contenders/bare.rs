//! Pingora as a proxy that does nothing but forward: the floor of everything that is built on its `HttpProxy`.

use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

use super::{Contender, Running, Surroundings, Wrapper, answers, free, wrapped};
use crate::role::{LISTEN, Role, THREADS, UPSTREAM, VARIABLE};

/// Idle connections to the upstream that a thread keeps: as many as the edge.
const POOL: usize = 256;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Until the process is killed.
pub(crate) fn serve(listen: SocketAddr, upstream: SocketAddr, threads: usize) -> ExitCode {
    let conf = ServerConf {
        threads,
        upstream_keepalive_pool_size: POOL,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream });
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run_forever()
}

pub(super) async fn start(around: &Surroundings<'_>, wrapper: Option<&Wrapper>) -> Running {
    let address = free();
    let program = std::env::current_exe().unwrap();
    let log = around.directory.join(format!("bare-{}.log", wrapper.is_some()));
    let command = wrapped(around.cores, program, log, wrapper)
        .env(VARIABLE, Role::Bare.name())
        .env(LISTEN, address.to_string())
        .env(UPSTREAM, around.upstream.to_string())
        .env(THREADS, around.cores.contender.len().to_string());
    Running::new(Contender::Bare, address, answers(command, address).await.unwrap())
}
