//! Accepts connections and serves a router on them, HTTP/1.1.
//!
//! Bounds what a client can hold: the number of connections, and the time until the head of a request is complete (also
//! between requests on the same connection). At the soft stop it accepts nothing new and lets requests finish; the hard
//! stop drops them. Where the operating system refuses a connection (no file descriptors), it waits and goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::lifecycle::Shutdown;
use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::Layer;

/// Connections at once; more wait in the backlog.
const CONNECTIONS: usize = 4096;

/// From the first byte awaited to the end of the request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({purpose}): {source}")]
pub struct BindError {
    purpose: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens. `purpose` says what for, in the error.
pub async fn bind(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError {
        purpose,
        address,
        source,
    })
}

/// Serves until the soft stop, then until the last request is answered.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shutdown.soft().cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let watcher = graceful.watcher();
                let connection = connection(stream, peer, router.clone(), watcher);
                let hard = shutdown.hard().clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = hard.run_until_cancelled_owned(connection).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = shutdown.hard().cancelled() => {}
    }
    Ok(())
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = TowerToHyperService::new(Extension(ConnectInfo(peer)).layer(router));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(serving).await {
        // Clients that go away, or never send a whole request: nothing to do about them.
        tracing::debug!(%error, "connection ended early");
    }
}
