//! A TCP proxy between a program and a server, which misbehaves on request: the way to partition, slow down or hang a
//! dependency without touching the server itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::Error;
use crate::port;

/// What the proxy does with traffic from now on. Live connections follow as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards.
    Pass,
    /// Forwards, each chunk late by this much in each direction.
    Latency(Duration),
    /// Accepts connections and forwards nothing in either direction; what is held flows again after the mode changes.
    Blackhole,
    /// Nothing listens; live connections are cut.
    Refuse,
}

#[derive(Clone, Copy)]
struct Orders {
    mode: Mode,
    /// Connections opened under an older number are closed.
    generation: u64,
}

/// A running proxy on a port of its own. Dropping it closes the port and every connection.
pub struct ChaosProxy {
    port: u16,
    orders: watch::Sender<Orders>,
    accepted: Arc<AtomicU64>,
    listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl ChaosProxy {
    /// Starts a proxy to `target` (`host:port`) in mode [`Mode::Pass`]. It lives on the current runtime.
    ///
    /// # Errors
    /// [`Error::NoFreePort`], [`Error::Io`].
    pub async fn start(target: impl Into<String>) -> Result<Self, Error> {
        let (listener, port) = loop {
            let port = port::free()?;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
                Ok(listener) => break (listener, port),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(Error::io("listen for the chaos proxy")(error)),
            }
        };
        let (orders, received) = watch::channel(Orders {
            mode: Mode::Pass,
            generation: 0,
        });
        let (listening_sender, listening) = watch::channel(true);
        let accepted = Arc::new(AtomicU64::new(0));
        let proxy = Listening {
            port,
            target: target.into(),
            orders: received,
            accepted: Arc::clone(&accepted),
        };
        let task = tokio::spawn(proxy.serve(listener, listening_sender));
        Ok(Self {
            port,
            orders,
            accepted,
            listening,
            task,
        })
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A URL with the host and port of its authority replaced by this proxy's; user, password and path stay.
    pub fn in_place_of(&self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else {
            return self.address();
        };
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let user = authority
            .rsplit_once('@')
            .map_or(String::new(), |(user, _)| format!("{user}@"));
        format!("{scheme}://{user}{}{path}", self.address())
    }

    /// Changes the behaviour. Returns once the port is really open or closed as the mode says.
    pub async fn set(&self, mode: Mode) {
        self.orders.send_modify(|orders| {
            orders.mode = mode;
            if mode == Mode::Refuse {
                orders.generation += 1;
            }
        });
        let mut listening = self.listening.clone();
        // The serving task ends only with this handle.
        let _ = listening.wait_for(|open| *open == (mode != Mode::Refuse)).await;
    }

    /// Cuts every live connection; new ones are treated as the mode says.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.generation += 1);
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Listening {
    port: u16,
    target: String,
    orders: watch::Receiver<Orders>,
    accepted: Arc<AtomicU64>,
}

impl Listening {
    async fn serve(mut self, listener: TcpListener, listening: watch::Sender<bool>) {
        let mut listener = Some(listener);
        let mut connections = JoinSet::new();
        loop {
            let refuse = self.orders.borrow_and_update().mode == Mode::Refuse;
            match (&listener, refuse) {
                (Some(_), true) => listener = None,
                (None, false) => {
                    if let Ok(again) = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await {
                        listener = Some(again);
                    } else {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                }
                _ => {}
            }
            listening.send_replace(listener.is_some());
            tokio::select! {
                accepted = accept(listener.as_ref()) => {
                    if let Ok((stream, _)) = accepted {
                        self.accepted.fetch_add(1, Ordering::Relaxed);
                        connections.spawn(connect(stream, self.target.clone(), self.orders.clone()));
                    }
                }
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn connect(client: TcpStream, target: String, mut orders: watch::Receiver<Orders>) {
    let generation = orders.borrow().generation;
    let mut ended = orders.clone();
    let exchange = async {
        // In a black hole not even the connection to the target is made.
        if orders.wait_for(|orders| orders.mode != Mode::Blackhole).await.is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect(&target).await else {
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (client_in, client_out) = client.into_split();
        let (server_in, server_out) = server.into_split();
        tokio::join!(
            pump(client_in, server_out, orders.clone()),
            pump(server_in, client_out, orders.clone())
        );
    };
    tokio::select! {
        () = exchange => {}
        _ = ended.wait_for(|orders| orders.generation != generation) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut orders: watch::Receiver<Orders>) {
    let mut chunk = vec![0_u8; 16 * 1024];
    while let Ok(read) = from.read(&mut chunk).await {
        let Ok(now) = orders
            .wait_for(|orders| orders.mode != Mode::Blackhole)
            .await
            .map(|orders| *orders)
        else {
            return;
        };
        if let Mode::Latency(delay) = now.mode {
            tokio::time::sleep(delay).await;
        }
        if read == 0 {
            break;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
