//! What stands behind every contender: a server that costs as little as a server can, so that it is never what is measured.
//!
//! It looks at the last segment of the path alone: `users` is a small answer, `client-config` the same with leave to keep
//! it, `bytes-N` is N bytes, `echo` a WebSocket that sends back what it gets. A body is read and forgotten.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What an instance answers: as long as a user.
const BODY: &str = r#"{"id":"usr_01jd3v8q5zf8w9x7k2m4n6p8r0","email":"ada@example.com","name":"Ada Lovelace","emailVerified":true,"createdAt":"2026-01-01T00:00:00Z","updatedAt":"2026-06-01T00:00:00Z","lastSignInAt":"2026-11-01T00:00:00Z","organizations":["org_1"]}"#;
const BUFFER: usize = 64 * 1024;
const BACKLOG: u32 = 4096;

/// Serves until the process is killed.
pub fn serve(address: SocketAddr, threads: usize) -> ExitCode {
    let answers = Arc::new(Answers::new());
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || worker(address, &answers))
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    ExitCode::FAILURE
}

struct Answers {
    small: Vec<u8>,
    shared: Vec<u8>,
    zeros: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let small = |more: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{BODY}",
                BODY.len()
            )
            .into_bytes()
        };
        Self {
            small: small(""),
            shared: small("Cache-Control: public, max-age=86400\r\n"),
            zeros: vec![b'0'; BUFFER],
        }
    }
}

/// Each thread listens by itself, so that no connection changes threads.
fn worker(address: SocketAddr, answers: &Arc<Answers>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = listen(address);
        loop {
            // Out of files: the next one may find some.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            };
            let answers = Arc::clone(answers);
            // Whoever goes away in the middle of something is not missed.
            tokio::task::spawn_local(async move { converse(stream, &answers).await.is_some() });
        }
    });
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(BACKLOG).unwrap()
}

enum Wanted {
    Small,
    Shared,
    Bytes(usize),
    Echo(String),
}

struct Asked {
    wanted: Wanted,
    head: usize,
    body: Body,
}

enum Body {
    Length(usize),
    Chunked,
}

async fn converse(mut stream: TcpStream, answers: &Answers) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let asked = loop {
            match parse(&buffer[..filled])? {
                Some(asked) => break asked,
                None => filled += received(stream.read(buffer.get_mut(filled..)?).await)?,
            }
        };
        filled = match asked.body {
            Body::Length(0) => {
                buffer.copy_within(asked.head..filled, 0);
                filled - asked.head
            }
            Body::Length(length) => {
                let mut left = (asked.head + length).saturating_sub(filled);
                while left > 0 {
                    left = left.saturating_sub(received(stream.read(&mut buffer).await)?);
                }
                0
            }
            // Only the end is looked for: whoever sends chunks here sends nothing behind them.
            Body::Chunked => {
                let mut tail = buffer[asked.head..filled].to_vec();
                while !tail.ends_with(b"0\r\n\r\n") {
                    let n = received(stream.read(&mut buffer).await)?;
                    tail.drain(..tail.len().saturating_sub(4));
                    tail.extend_from_slice(&buffer[..n]);
                }
                0
            }
        };
        match asked.wanted {
            Wanted::Small => stream.write_all(&answers.small).await.ok()?,
            Wanted::Shared => stream.write_all(&answers.shared).await.ok()?,
            Wanted::Bytes(length) => bytes(&mut stream, length, &answers.zeros).await?,
            Wanted::Echo(key) => return echo(stream, &key).await,
        }
    }
}

fn received(read: std::io::Result<usize>) -> Option<usize> {
    read.ok().filter(|n| *n > 0)
}

/// Nothing ends the conversation; an inner nothing means that the head is not there yet.
#[expect(clippy::option_option, reason = "the two are told apart where they are read")]
fn parse(buffer: &[u8]) -> Option<Option<Asked>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(buffer).ok()? else {
        return Some(None);
    };
    let header = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let body = if header("transfer-encoding").is_some() {
        Body::Chunked
    } else {
        Body::Length(header("content-length").map_or(Some(0), |text| text.parse().ok())?)
    };
    let last = request.path?.rsplit('/').next()?;
    let wanted = match last {
        "echo" => Wanted::Echo(header("sec-websocket-key")?.to_owned()),
        "client-config" => Wanted::Shared,
        _ => match last.strip_prefix("bytes-") {
            Some(length) => Wanted::Bytes(length.parse().ok()?),
            None => Wanted::Small,
        },
    };
    Some(Some(Asked { wanted, head, body }))
}

async fn bytes(stream: &mut TcpStream, length: usize, zeros: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n");
    // With the beginning of the body, as one write.
    let mut first = head.into_bytes();
    let beginning = length.min(zeros.len() - first.len());
    first.extend_from_slice(&zeros[..beginning]);
    stream.write_all(&first).await.ok()?;
    let mut left = length - beginning;
    while left > 0 {
        let part = left.min(zeros.len());
        stream.write_all(&zeros[..part]).await.ok()?;
        left -= part;
    }
    Some(())
}

async fn echo(mut stream: TcpStream, key: &str) -> Option<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            break;
        }
        if message.is_binary() || message.is_text() {
            socket.send(message).await.ok()?;
        }
    }
    Some(())
}
