//! Accepting connections, plain and TLS, until the edge stops.
//!
//! The sockets are made before the process begins to serve and are kept apart from the forwarding library, so that they can be
//! handed to a successor. TLS is agreed on in the connection's own task: a slow handshake delays nobody else. Without file
//! descriptors accepting pauses, and connections wait in the kernel's queue.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use pingora::apps::ServerApp;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::metrics::ListenerMetrics;
use crate::drain::{Drain, Stage};
use crate::limit::Callers;
use crate::tls::Tls;

/// Between two tries to accept when the process has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that were complete when the port was closed and are still served.
const LAST: usize = 4096;
/// In which a request that was sent before the port was closed is read from its connection; then idle ones are closed.
const SETTLING: Duration = Duration::from_millis(30);

/// A listening socket, and what is spoken behind it.
#[derive(Debug)]
pub struct Port {
    /// Non-blocking.
    pub socket: TcpListener,
    /// Without it, the connection is plain.
    pub tls: Option<Arc<Tls>>,
}

/// Accepts connections for an application. It starts once.
pub struct Listening<A> {
    name: &'static str,
    ports: Vec<Port>,
    app: Arc<A>,
    threads: Option<usize>,
    drain: Drain,
    metrics: ListenerMetrics,
    callers: Option<Arc<Callers>>,
}

impl<A> Listening<A> {
    /// On these ports. `threads`: of its own; `None` for as many as the server has by default.
    pub fn new(
        name: &'static str,
        ports: Vec<Port>,
        app: A,
        threads: Option<usize>,
        drain: Drain,
        metrics: ListenerMetrics,
    ) -> Self {
        Self {
            name,
            ports,
            app: Arc::new(app),
            threads,
            drain,
            metrics,
            callers: None,
        }
    }

    /// With a bound on what each address has open. One that is too many is closed without a word, before anything is
    /// agreed on.
    #[must_use]
    pub fn bounded_by(self, callers: Callers) -> Self {
        Self {
            callers: Some(Arc::new(callers)),
            ..self
        }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> Service for Listening<A> {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let (close, shutdown) = watch::channel(false);
        let loops = self.ports.drain(..).map(|port| {
            let entry = Entry {
                tls: port.tls,
                app: Arc::clone(&self.app),
                shutdown: shutdown.clone(),
                callers: self.callers.clone(),
            };
            accept(port.socket, entry, self.drain.clone(), self.metrics.clone())
        });
        for ended in futures::future::join_all(loops).await {
            if let Err(error) = ended {
                tracing::error!(%error, service = self.name, "cannot accept connections");
            }
        }
        self.drain.closing().await;
        tokio::time::sleep(SETTLING).await;
        close.send_replace(true);
        self.app.cleanup().await;
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }
}

/// Accepts until the edge stops; an error only if that cannot even begin.
async fn accept<A: ServerApp + Send + Sync + 'static>(
    socket: TcpListener,
    entry: Entry<A>,
    drain: Drain,
    metrics: ListenerMetrics,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(socket)?;
    drain.serving().await;
    if drain.stage() > Stage::Serving {
        // What waits in the queue is the predecessor's.
        return Ok(());
    }
    loop {
        tokio::select! {
            biased;
            () = drain.shut() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => entry.admit(stream, peer),
                Err(error) => {
                    metrics.accept_failed();
                    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                        continue;
                    }
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    // A successor that has the socket too accepts what waits in it; otherwise the kernel would reset it.
    if drain.stage() == Stage::Closing {
        for _ in 0..LAST {
            let Some(Ok((stream, peer))) = listener.accept().now_or_never() else {
                break;
            };
            entry.admit(stream, peer);
        }
    }
    Ok(())
}

/// What a connection needs to be served.
struct Entry<A> {
    tls: Option<Arc<Tls>>,
    app: Arc<A>,
    shutdown: ShutdownWatch,
    callers: Option<Arc<Callers>>,
}

impl<A: ServerApp + Send + Sync + 'static> Entry<A> {
    fn admit(&self, stream: TcpStream, peer: std::net::SocketAddr) {
        let open = self.callers.as_ref().map(|callers| callers.open(peer.ip())).transpose();
        let Ok(open) = open else { return };
        let (tls, app, shutdown) = (self.tls.clone(), Arc::clone(&self.app), self.shutdown.clone());
        pingora_runtime::current_handle().spawn(async move {
            // Counted until the task ends, and the connection with it.
            let _open = open;
            let socket = socket(stream, peer);
            let stream: Stream = match tls {
                None => Box::new(socket),
                Some(tls) => match tls.accept(socket).await {
                    Some(stream) => Box::new(stream),
                    None => return,
                },
            };
            app.process_new(stream, &shutdown).await;
        });
    }
}

fn socket(stream: TcpStream, peer: std::net::SocketAddr) -> Socket {
    // Only a socket that is gone already refuses; reading it says so.
    let _ = stream.set_nodelay(true);
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Newly made, it is empty.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut socket = Socket::from(stream);
    socket.set_socket_digest(digest);
    socket
}
