//! Listening sockets.

use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::TcpSocket;

/// How often a port is tried that a predecessor may still hold.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);
/// Connections that the kernel keeps until they are accepted; it lowers this to its own limit.
const BACKLOG: u32 = 65_535;

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key})")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The setting that it is from.
    pub key: &'static str,
    /// Why not.
    pub source: Error,
}

/// Listens on `address`, which is the setting `key`. A port that is in use is tried for five seconds: a predecessor that is
/// stopping gives it back soon.
///
/// # Errors
/// [`BindError`].
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    let mut tried = 0;
    loop {
        match listen(address) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse && tried < TRIES => {
                if tried == 0 {
                    tracing::warn!(%address, key, "the port is in use; waiting for it");
                }
                tried += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(source) => return Err(BindError { address, key, source }),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of the predecessor that linger in the kernel do not keep its port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
