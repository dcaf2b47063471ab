//! How every program connects to NATS. Opens nothing by itself: the caller connects in its own runtime.
//!
//! The client reconnects for as long as the process lives, 50 ms apart at first and 2 s at last; while the server is away a
//! request fails within its bound.

use std::io;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use crate::secret::SecretUrl;

/// Servers and options for an address, which may be several separated by commas. `program` shows in the server's list of
/// connections; `answer` bounds connecting and each request.
///
/// User and password of the first server that has any count for all: the library ignores them in an address.
///
/// # Errors
/// An address that is not one of NATS. The error does not repeat it.
pub fn options(address: &SecretUrl, program: &str, answer: Duration) -> io::Result<(Vec<ServerAddr>, ConnectOptions)> {
    let servers = address
        .expose()
        .split(',')
        .map(str::parse)
        .collect::<io::Result<Vec<ServerAddr>>>()?;
    let mut options = ConnectOptions::new();
    if let Some((user, password)) = servers
        .iter()
        .find_map(|server| Some((server.username()?, server.password()?)))
    {
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        options = options.user_and_password(decoded(user), decoded(password));
    }
    let options = options
        .name(program)
        .connection_timeout(answer)
        .request_timeout(Some(answer))
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(50).saturating_mul(u32::try_from(attempts.min(40)).unwrap_or(40))
        });
    Ok((servers, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> io::Result<Vec<ServerAddr>> {
        let address = SecretUrl::parse(address).unwrap();
        options(&address, "test", Duration::from_secs(1)).map(|(servers, _)| servers)
    }

    #[test]
    fn an_address_may_name_several_servers() {
        assert_eq!(of("nats://u:p%40ss@a:4222,nats://b:4223").unwrap().len(), 2);
    }

    #[test]
    fn an_address_that_is_none_is_refused_without_being_repeated() {
        let error = of("nats://u:hunter2@:x").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
