//! The side of the process that takes over.

use std::io::ErrorKind;
use std::path::Path;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::channel::{hear, say, take_over};
use super::{HELLO, Inherited, PATIENCE, READY, UpgradeError, YOURS};

/// A predecessor that has handed its sockets over and waits to hear that this process is ready. Dropped, it goes on.
#[derive(Debug)]
pub struct Waiting(UnixStream);

/// What came of asking for a predecessor.
#[derive(Debug)]
pub enum Handover {
    /// Nobody is there: this process starts like any.
    Nobody,
    /// It waits.
    Begun(Inherited, Waiting),
}

impl Handover {
    /// Asks whoever listens at `path` for its sockets.
    ///
    /// # Errors
    /// [`UpgradeError`] if somebody is there and does not hand them over.
    pub async fn ask(path: &Path) -> Result<Self, UpgradeError> {
        let failed = |source: std::io::Error| UpgradeError::Io {
            path: path.to_owned(),
            source,
        };
        let mut stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                tracing::info!(path = %path.display(), "there is no process to take over from");
                return Ok(Self::Nobody);
            }
            Err(error) => return Err(failed(error)),
        };
        let talk = async {
            say(&mut stream, HELLO).await?;
            take_over(&mut stream).await
        };
        match timeout(PATIENCE, talk).await {
            Ok(Ok(sockets)) => Ok(Self::Begun(Inherited(sockets), Waiting(stream))),
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Err(UpgradeError::Refused(path.to_owned()))
            }
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(ErrorKind::TimedOut.into())),
        }
    }
}

impl Waiting {
    /// This process serves: the predecessor may stop. Returns once it accepts nothing any more, or is gone.
    pub async fn ready(mut self) {
        let told = async {
            say(&mut self.0, READY).await?;
            hear(&mut self.0).await
        };
        match timeout(PATIENCE, told).await {
            Ok(Ok(answer)) if answer == YOURS => tracing::info!("the predecessor accepts no more and stops"),
            Ok(Ok(_) | Err(_)) | Err(_) => tracing::warn!("the predecessor ended, or does not say that it stops"),
        }
    }
}
