//! A new process takes the place of a running one without a connection lost.
//!
//! The running edge listens on a Unix socket that only its own user may use. A successor (`--upgrade`) connects to it, is
//! handed the listening sockets themselves, loads the routing table, and only then says that it is ready. From that moment the
//! predecessor accepts nothing, tells the successor so, and drains as at any stop. The kernel's queues belong to the sockets,
//! so no connection is refused or reset in between. If the successor ends before it is ready, the predecessor goes on as if
//! nothing had happened; if the predecessor cannot be asked, the successor says so and ends.

mod channel;
mod predecessor;
mod successor;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

pub use predecessor::Predecessor;
pub use successor::{Handover, Waiting};

/// First line of a successor. The number is that of the conversation's form.
const HELLO: &str = "authsome-proxy upgrade 1";
/// The successor can serve.
const READY: &str = "ready";
/// The predecessor accepts no more.
const YOURS: &str = "yours";
/// For each step that does not wait for a routing table.
const PATIENCE: Duration = Duration::from_secs(10);

/// A listening socket and the setting that it is for.
#[derive(Debug)]
pub struct Listener {
    /// The setting.
    pub key: &'static str,
    /// The socket.
    pub socket: TcpListener,
}

/// Why an upgrade did not begin.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The predecessor is there and cannot be talked to.
    #[error("cannot take over from the process that listens on {path}")]
    Io {
        /// Its socket.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// It says something that is not understood: another program, or another release.
    #[error("the process that listens on {0} does not hand its listeners over")]
    Refused(PathBuf),
}

/// Listening sockets that were handed over and are not used yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, TcpListener)>);

impl Inherited {
    /// The socket of this setting, if it listens at this address. What is left is closed with `self`.
    pub fn take(&mut self, key: &str, address: SocketAddr) -> Option<TcpListener> {
        let at =
            |(of, socket): &(String, TcpListener)| of == key && socket.local_addr().is_ok_and(|local| local == address);
        let index = self.0.iter().position(at)?;
        Some(self.0.swap_remove(index).1)
    }
}
