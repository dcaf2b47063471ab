//! The connection to NATS.
//!
//! Owns how it is made and how its loss is told: the library connects again by itself for as long as the process lives, and
//! whoever follows a consumer is woken each time it has. Commands fail within [`ANSWER`] while it is away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
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
    let servers = address
        .expose()
        .split(',')
        .map(str::parse)
        .collect::<io::Result<Vec<ServerAddr>>>()?;
    let mut options = ConnectOptions::new();
    // The library ignores user and password in an address, so those of the first server that has any count for all.
    if let Some((user, password)) = servers
        .iter()
        .find_map(|server| Some((server.username()?, server.password()?)))
    {
        options = options.user_and_password(percent_decoded(user), percent_decoded(password));
    }
    let options = options
        .name("authsome-provisioner")
        .connection_timeout(ANSWER)
        .request_timeout(Some(ANSWER))
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(50).saturating_mul(u32::try_from(attempts.min(40)).unwrap_or(40))
        })
        .event_callback(move |event| {
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

/// `%40` becomes `@`. What is not an escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| str::from_utf8(digits).ok());
        if let Some(byte) = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_any_character() {
        for (written, meant) in [
            ("p%40ss%2Fw%C3%B6rd", "p@ss/wörd"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("a+b%zz", "a+b%zz"),
        ] {
            assert_eq!(percent_decoded(written), meant);
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_without_being_repeated() {
        let address = SecretUrl::parse("nats://u:hunter2@:x").unwrap();
        let error = connect(&address, Arc::default()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address(_)) && !error.to_string().contains("hunter2"));
    }
}
