//! The smallest HTTP GET: is there a server, and what status does it answer? For health paths only.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks `http://{address}{path}` for its status, within 2 seconds.
///
/// # Errors
/// What was seen instead of an answer, for people.
pub async fn status(address: &str, path: &str) -> Result<u16, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address)
            .await
            .map_err(|e| format!("cannot connect to {address}: {e}"))?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|e| format!("cannot ask {address}: {e}"))?;
        let mut head = [0_u8; 12];
        stream
            .read_exact(&mut head)
            .await
            .map_err(|e| format!("{address} did not answer: {e}"))?;
        let text = String::from_utf8_lossy(&head);
        text.get(9..12)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| format!("{address} answered something that is not HTTP: {text:?}"))
    };
    tokio::time::timeout(Duration::from_secs(2), exchange)
        .await
        .unwrap_or_else(|_| Err(format!("{address} did not answer {path} within 2 s")))
}

/// Succeeds when `path` answers 200.
///
/// # Errors
/// What was seen instead, for people.
pub async fn ok(address: &str, path: &str) -> Result<(), String> {
    match status(address, path).await? {
        200 => Ok(()),
        other => Err(format!("{address}{path} answers {other}")),
    }
}
