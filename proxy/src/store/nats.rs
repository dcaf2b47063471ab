//! The one NATS client of the edge. It returns before any server is there and reconnects for ever.

use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use authsome_core::secret::SecretUrl;

const ATTEMPT: Duration = Duration::from_secs(2);

/// Connects in the background. User and password in the address are those of every server in it; the library itself would
/// ignore them.
pub(super) async fn connect(
    address: &SecretUrl,
) -> Result<async_nats::Client, Box<dyn std::error::Error + Send + Sync>> {
    let servers = address
        .expose()
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<ServerAddr>, _>>()?;
    let mut options = ConnectOptions::new();
    if let Some((user, password)) = servers
        .iter()
        .find_map(|server| Some((server.username()?, server.password()?)))
    {
        options = options.user_and_password(percent_decoded(user), percent_decoded(password));
    }
    let client = options
        .name("authsome-proxy")
        .retry_on_initial_connect()
        .connection_timeout(ATTEMPT)
        .request_timeout(Some(ATTEMPT))
        .ping_interval(Duration::from_secs(5))
        // 50 ms at first, 2 s at last.
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(50).saturating_mul(u32::try_from(attempts.min(40)).unwrap_or(40))
        })
        .connect(servers)
        .await?;
    Ok(client)
}

/// `%40` becomes `@`. What is not an escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        if let (b'%', Some(byte)) = (first, escape.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
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
    fn escapes_in_a_password_are_decoded_and_nothing_else_is() {
        assert_eq!(percent_decoded("p%40ss%2Fw%c3%b6rd"), "p@ss/wörd");
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz1"), "%zz1");
    }
}
