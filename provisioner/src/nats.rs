//! The connection to NATS.
//!
//! Owns how it is made and how its loss is told: the library connects again by itself for as long as the process lives, and
//! whoever follows a consumer is woken each time it has. Commands fail within [`ANSWER`] while it is away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Event};
use authsome_core::nats;
use authsome_core::secret::SecretUrl;
use tokio::sync::Notify;

/// How long the server may take to answer.
pub const ANSWER: Duration = Duration::from_secs(5);

/// Why there is no connection. Does not repeat the address, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one.
    #[error("the address is not one of NATS: {0}")]
    Address(#[from] io::Error),
    /// No server could be reached, or it refused.
    #[error(transparent)]
    Connect(#[from] async_nats::ConnectError),
}

/// Connects to the servers of an address, several separated by commas. `connected` is notified at every connection, the
/// first one included.
pub async fn connect(address: &SecretUrl, connected: Arc<Notify>) -> Result<Client, ConnectError> {
    let (servers, options) = nats::options(address, "authsome-provisioner", ANSWER)?;
    let options = options.event_callback(move |event| {
        let connected = Arc::clone(&connected);
        async move {
            match event {
                Event::Connected => connected.notify_one(),
                event => tracing::warn!(%event, "NATS connection"),
            }
        }
    });
    Ok(options.connect(servers).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_without_being_repeated() {
        let address = SecretUrl::parse("nats://u:hunter2@:x").unwrap();
        let error = connect(&address, Arc::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address(_)) && !error.to_string().contains("hunter2"));
    }
}
