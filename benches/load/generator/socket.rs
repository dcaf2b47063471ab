//! Messages to and fro on a WebSocket: one under way at a time on each connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::Counts;

/// Until told to stop. Returns what went wrong.
pub(super) async fn to_and_fro(
    address: SocketAddr,
    target: &str,
    key: &str,
    bytes: usize,
    counts: &Counts,
    stop: &AtomicBool,
) -> Option<String> {
    let ended = converse(address, target, key, bytes, counts, stop).await;
    ended.err().map(|error| {
        counts.wrong.fetch_add(1, Ordering::Relaxed);
        error.to_string()
    })
}

async fn converse(
    address: SocketAddr,
    target: &str,
    key: &str,
    bytes: usize,
    counts: &Counts,
    stop: &AtomicBool,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut request = format!("ws://api.authsome.test{target}").into_client_request()?;
    request.headers_mut().insert("x-api-key", key.parse()?);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = client_async(request, stream).await?;
    counts.connected.fetch_add(1, Ordering::Relaxed);
    let message = Message::binary(vec![b'm'; bytes]);
    while !stop.load(Ordering::Relaxed) {
        socket.send(message.clone()).await?;
        let answer = socket.next().await.ok_or("the connection was closed")??;
        if answer != message {
            return Err(format!("an answer of {} bytes", answer.len()).into());
        }
        counts.done.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(2 * bytes as u64, Ordering::Relaxed);
    }
    socket.close(None).await?;
    Ok(())
}
