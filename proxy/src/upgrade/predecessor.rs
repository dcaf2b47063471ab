//! The side of the running process.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use authsome_core::lifecycle::Shutdown;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::channel::{hand_over, hear, say};
use super::{HELLO, Listener, PATIENCE, READY, YOURS};
use crate::drain::{Drain, Stage};

/// Hands the listening sockets to a successor that asks for them.
#[derive(Debug)]
pub struct Predecessor {
    path: PathBuf,
    listeners: Vec<Listener>,
    drain: Drain,
    shutdown: Shutdown,
}

impl Predecessor {
    /// Will hand over these sockets, through a socket at `path`.
    pub fn new(path: PathBuf, listeners: Vec<Listener>, drain: Drain, shutdown: Shutdown) -> Self {
        Self {
            path,
            listeners,
            drain,
            shutdown,
        }
    }

    /// Serves successors until the edge stops, of itself or because one has taken over.
    pub async fn run(self) {
        let draining = self.shutdown.draining().clone();
        let socket = match listen(&self.path) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no successor can take over from this process");
                return;
            }
        };
        // The sockets that are held here end with this task, or what is no longer accepted would seem to be.
        let _ = draining.run_until_cancelled(self.serve(socket)).await;
    }

    async fn serve(&self, socket: UnixListener) {
        loop {
            let mut stream = match socket.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a successor cannot be accepted");
                    tokio::time::sleep(PATIENCE / 10).await;
                    continue;
                }
            };
            match self.talk(&mut stream).await {
                Ok(()) => return,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    tracing::warn!("the successor ended before it was ready; this process goes on");
                }
                Err(error) => tracing::warn!(%error, "the successor is not understood; this process goes on"),
            }
        }
    }

    async fn talk(&self, stream: &mut UnixStream) -> io::Result<()> {
        let user = stream.peer_cred()?.uid();
        if user != 0 && user != nix::unistd::geteuid().as_raw() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if timeout(PATIENCE, hear(stream)).await?? != HELLO {
            return Err(ErrorKind::InvalidData.into());
        }
        let sockets: Vec<_> = self.listeners.iter().map(|each| (each.key, &each.socket)).collect();
        timeout(PATIENCE, hand_over(stream, &sockets)).await??;
        tracing::info!("a successor has the listening sockets");
        // It may take its time; it is gone when the socket is.
        if hear(stream).await? != READY {
            return Err(ErrorKind::InvalidData.into());
        }
        tracing::info!("the successor is ready; this process stops");
        self.drain.go(Stage::Shut);
        // The successor has everything that it needs, whether it hears this or not.
        let _ = timeout(PATIENCE, say(stream, YOURS)).await;
        // Ends this task too.
        self.shutdown.begin();
        Ok(())
    }
}

/// Listens at `path`, in the place of whatever was there.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut unborn = path.as_os_str().to_owned();
    unborn.push(format!(".{}", std::process::id()));
    let unborn = PathBuf::from(unborn);
    let _ = fs::remove_file(&unborn);
    let made = UnixListener::bind(&unborn).and_then(|socket| {
        fs::set_permissions(&unborn, Permissions::from_mode(0o600))?;
        // A successor that connects at this moment finds the old socket or the new one.
        fs::rename(&unborn, path)?;
        Ok(socket)
    });
    if made.is_err() {
        let _ = fs::remove_file(&unborn);
    }
    made
}
