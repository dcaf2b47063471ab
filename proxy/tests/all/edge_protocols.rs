//! What goes through the edge beside plain requests: WebSockets, event streams, bodies of any length, and clients that ask
//! before they send.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{accept_async, client_async};

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::http2::{self, Client};
use crate::instance::{Instance, Reply};
use crate::tls::Secure;
use crate::wire::{Bytes as Io, PATIENCE, Wire};

/// An instance for which each connection is one conversation.
struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    async fn start<F: Future<Output = ()> + Send + 'static>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream));
            }
        });
        Self { address, accepting }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An edge with both listeners, in front of this address.
async fn edge(endpoint: String, settings: &[(&str, &str)]) -> (Secure, Edge, App, Tenants) {
    let (secure, tenants) = (Secure::new(), Tenants::new().await);
    let contract = NewApp {
        limits: Some("{\"bodyBytes\":1073741824}"),
        ..NewApp::at(&[endpoint])
    };
    let app = tenants.app(contract).await;
    let all: Vec<(&str, &str)> = secure.settings().into_iter().chain(settings.iter().copied()).collect();
    let edge = Edge::start(&tenants, &all).await;
    (secure, edge, app, tenants)
}

/// How clients of HTTP/1.1 connect.
const BOTH: [&str; 2] = ["plain", "tls"];

/// A connection of HTTP/1.1, in the clear or through TLS. Made when it is needed: one that says nothing is closed.
async fn over(what: &str, edge: &Edge, secure: &Secure) -> Box<dyn Io> {
    match what {
        "plain" => Box::new(TcpStream::connect(&edge.address).await.unwrap()),
        _ => Box::new(secure.connect(&["http/1.1"]).await),
    }
}

#[tokio::test]
async fn websockets_carry_messages_of_any_size_both_ways_and_close_in_order() {
    let server = Server::start(|stream| async move {
        let mut socket = accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    let (secure, edge, app, _tenants) = edge(server.address.to_string(), &[]).await;
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut asked = format!("ws://api.authsome.test/v1/{}/v1/me/events", app.id)
            .into_client_request()
            .unwrap();
        asked
            .headers_mut()
            .insert("x-publishable-key", app.public.expose().parse().unwrap());
        let (mut socket, answer) = client_async(asked, stream).await.unwrap();
        assert_eq!(answer.status(), 101, "{what}");
        for message in [
            Message::text("hello"),
            Message::binary(vec![7; 3 * 1024 * 1024]),
            Message::text(""),
        ] {
            socket.send(message.clone()).await.unwrap();
            let back = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
            assert!(back.unwrap().unwrap() == message, "{what}");
        }
        socket.send(Message::Ping("are you there".into())).await.unwrap();
        let pong = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        assert_eq!(pong.unwrap().unwrap(), Message::Pong("are you there".into()), "{what}");
        let farewell = CloseFrame {
            code: CloseCode::Normal,
            reason: "bye".into(),
        };
        socket.close(Some(farewell.clone())).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        assert_eq!(closed.unwrap().unwrap(), Message::Close(Some(farewell)), "{what}");
    }
}

/// Accepts a tunnel before it has read a byte of the request, and sends back what it hears.
async fn hasty(mut stream: TcpStream) {
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let (mut from, mut to) = stream.split();
    // However it ends, the client has judged it.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

#[tokio::test]
async fn a_tunnel_stays_open_however_early_the_instance_accepts_it() {
    let server = Server::start(hasty).await;
    let (secure, edge, app, _tenants) = edge(server.address.to_string(), &[("AUTHSOME_SERVER_THREADS", "4")]).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(&app.public));
    let asked = request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, "");
    for round in 0..150 {
        for what in BOTH {
            let stream = over(what, &edge, &secure).await;
            let mut wire = Wire::new(stream);
            wire.send(&asked).await;
            assert_eq!(wire.receive_head().await.unwrap().status(), 101, "{what}, {round}");
            wire.send("ping").await;
            assert_eq!(wire.exactly(4).await, b"ping", "{what}, {round}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_a_plain_request_and_its_body_arrives() {
    let instance = Instance::start(|_| Reply::ok("", "done")).await;
    let (_secure, edge, app, _tenants) = edge(instance.endpoint(), &[]).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(&app.public));
    let answer = edge.request("GET", app.id, "/v1/me/events", &head, "hello").await;
    assert_eq!(answer.status(), 200);
    let seen = instance.only();
    assert_eq!((seen.header("upgrade"), seen.header("connection")), (None, None));
    assert_eq!(seen.text(), "hello");
}

#[tokio::test]
async fn the_first_event_arrives_while_the_instance_keeps_the_stream_open() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let instance = Instance::connected(move |_, mut wire| {
        let mut wait = wait.clone();
        async move {
            wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            wire.send("d\r\ndata: first\n\n\r\n").await;
            wait.wait_for(|go| *go).await.unwrap();
            wire.send("e\r\ndata: second\n\n\r\n0\r\n\r\n").await;
            Some(wire)
        }
    })
    .await;
    let (secure, edge, app, _tenants) = edge(instance.endpoint(), &[]).await;
    let target = format!("/v1/{}/v1/me/events", app.id);
    let mut wires = Vec::new();
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut wire = Wire::new(stream);
        let head = format!("{}accept: text/event-stream\r\n", key(&app.public));
        wire.send(request("GET", &target, &head, "")).await;
        assert_eq!(wire.receive_head().await.unwrap().status(), 200, "{what}");
        assert_eq!(wire.chunk().await.unwrap(), b"data: first\n\n", "{what}");
        wires.push(wire);
    }
    let mut streams = Vec::new();
    for mut client in [
        Client::plain(&edge.address).await,
        Client::over(secure.connect(&["h2"]).await).await,
    ] {
        let asked = http2::request(Method::GET, &target, &[("x-publishable-key", app.public.expose())]);
        let (response, _) = client.send(asked, true).await.unwrap();
        let mut stream = response.await.unwrap().into_body();
        let first = tokio::time::timeout(PATIENCE, stream.data()).await.unwrap();
        assert_eq!(first.unwrap().unwrap(), "data: first\n\n");
        streams.push((stream, client));
    }
    go.send_replace(true);
    for mut wire in wires {
        assert_eq!(wire.chunk().await.unwrap(), b"data: second\n\n");
        assert_eq!(wire.chunk().await, None);
    }
    for (mut stream, _client) in streams {
        assert_eq!(stream.data().await.unwrap().unwrap(), "data: second\n\n");
        while let Some(part) = stream.data().await {
            assert!(part.unwrap().is_empty(), "nothing follows but the end");
        }
    }
}

const LARGE: usize = 220 * 1024 * 1024;
/// What the edge may need more than before, whatever goes through: far below the length of a body, far above its buffers.
const ROOM: usize = 48 * 1024 * 1024;

/// Reads a body of `LARGE` bytes and answers with its length, or answers with as many bytes.
async fn bulk(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let mut block = vec![0; 256 * 1024];
    if head.starts_with(b"POST") {
        let mut read = 0;
        let is_chunked = String::from_utf8_lossy(&head).contains("chunked");
        // The framing of chunks is longer than the body, and ends with an empty chunk.
        let mut last = Vec::new();
        while !(if is_chunked {
            last.ends_with(b"\r\n0\r\n\r\n")
        } else {
            read == LARGE
        }) {
            let length = stream.read(&mut block).await.unwrap();
            assert!(length > 0, "ended after {read}");
            read += length;
            last = [&last[last.len().saturating_sub(8)..], &block[..length]].concat();
        }
        assert!(read >= LARGE);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nread")
            .await
            .unwrap();
    } else {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut left = LARGE;
        while left > 0 {
            let length = left.min(block.len());
            stream.write_all(&block[..length]).await.unwrap();
            left -= length;
        }
    }
}

/// The most memory that a process has had so far.
fn peak(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn bodies_longer_than_memory_may_be_pass_both_ways() {
    let server = Server::start(bulk).await;
    let (secure, edge, app, _tenants) =
        edge(server.address.to_string(), &[("AUTHSOME_LIMITS_BODY_BYTES", "1GiB")]).await;
    let target = format!("/v1/{}/users", app.id);
    let before = peak(edge.program.child().pid());
    let block = vec![b'x'; 256 * 1024];
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut wire = Wire::new(stream);
        let head = format!("{}content-length: {LARGE}\r\n", key(&app.secret));
        wire.send(request("POST", &target, &head, "")).await;
        let mut left = LARGE;
        while left > 0 {
            let length = left.min(block.len());
            wire.send(&block[..length]).await;
            left -= length;
        }
        let answer = wire.receive().await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "read"), "{what}");
    }
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut wire = Wire::new(stream);
        wire.send(request("GET", &target, &key(&app.secret), "")).await;
        assert_eq!(wire.receive_head().await.unwrap().status(), 200, "{what}");
        let mut read = 0;
        while read < LARGE {
            read += wire.heard().await.expect("the whole body").len();
        }
        assert_eq!(read, LARGE, "{what}");
    }
    let by_key = [("x-api-key", app.secret.expose())];
    let mut client = Client::over(secure.connect(&["h2"]).await).await;
    let (response, mut body) = client
        .send(http2::request(Method::POST, &target, &by_key), false)
        .await
        .unwrap();
    let mut left = LARGE;
    while left > 0 {
        body.reserve_capacity(left.min(block.len()));
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx))
            .await
            .unwrap()
            .unwrap();
        let length = left.min(room).min(block.len());
        left -= length;
        body.send_data(Bytes::copy_from_slice(&block[..length]), left == 0)
            .unwrap();
    }
    assert_eq!(http2::read(response.await.unwrap()).await.unwrap().text(), "read");
    let (response, _) = client
        .send(http2::request(Method::GET, &target, &by_key), true)
        .await
        .unwrap();
    let mut stream = response.await.unwrap().into_body();
    let mut read = 0;
    while let Some(part) = stream.data().await {
        let part = part.unwrap();
        read += part.len();
        stream.flow_control().release_capacity(part.len()).unwrap();
    }
    assert_eq!(read, LARGE);
    let grown = peak(edge.program.child().pid()) - before;
    assert!(grown < ROOM, "the edge has grown by {grown} bytes");
}

#[tokio::test]
async fn a_client_that_does_not_read_makes_the_instance_wait_and_not_the_edge_grow() {
    let server = Server::start(bulk).await;
    let (_secure, edge, app, _tenants) = edge(server.address.to_string(), &[]).await;
    let target = format!("/v1/{}/users", app.id);
    let before = peak(edge.program.child().pid());
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::connect(&edge.address).await;
        wire.send(request("GET", &target, &key(&app.secret), "")).await;
        assert_eq!(wire.receive_head().await.unwrap().status(), 200);
        stalled.push(wire);
        let mut client = Client::plain(&edge.address).await;
        let asked = http2::request(Method::GET, &target, &[("x-api-key", app.secret.expose())]);
        let (response, _) = client.send(asked, true).await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        // Its window is never opened.
        std::mem::forget((response, client));
    }
    // Long enough for 16 bodies to be read from an instance on this machine, if they were.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = peak(edge.program.child().pid()) - before;
    assert!(grown < ROOM, "the edge has grown by {grown} bytes");
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_told_to_go_on_or_refused_without_its_body() {
    let instance = Instance::connected(|_, mut wire| async move {
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nread").await;
        Some(wire)
    })
    .await;
    // The instance of these tests reads the body before it answers; one that answers 100 by itself:
    let server = Server::start(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(text.contains("expect: 100-continue"), "{text}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"hello");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nread")
            .await
            .unwrap();
    })
    .await;
    let (secure, edge, app, tenants) = edge(server.address.to_string(), &[]).await;
    let target = format!("/v1/{}/users", app.id);
    let ask = |by: &str, length: usize| {
        let head = format!("{by}expect: 100-continue\r\ncontent-length: {length}\r\n");
        request("POST", &target, &head, "")
    };
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut wire = Wire::new(stream);
        wire.send(ask(&key(&app.secret), 5)).await;
        let told = wire.receive_head().await.unwrap();
        assert_eq!(told.status(), 100, "{what}: {told:?}");
        wire.send("hello").await;
        let answer = wire.receive().await.unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "read"), "{what}");
    }
    let mut client = Client::plain(&edge.address).await;
    let headers = [
        ("x-api-key", app.secret.expose()),
        ("expect", "100-continue"),
        ("content-length", "5"),
    ];
    let asked = http2::request(Method::POST, &target, &headers);
    let (mut response, mut body) = client.send(asked, false).await.unwrap();
    let told = std::future::poll_fn(|cx| response.poll_informational(cx));
    let told = tokio::time::timeout(PATIENCE, told).await.expect("it is not told");
    assert_eq!(told.unwrap().unwrap().status(), 100);
    body.send_data("hello".into(), true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    let answer = http2::read(answer).await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "read"));
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut wire = Wire::new(stream);
        wire.send(ask("", 5)).await;
        assert_eq!(wire.receive().await.unwrap().status(), 401, "{what}");
    }
    for what in BOTH {
        let stream = over(what, &edge, &secure).await;
        let mut wire = Wire::new(stream);
        wire.send(ask(&key(&app.secret), 1 << 30)).await;
        assert_eq!(wire.receive().await.unwrap().status(), 413, "{what}");
    }
    // An instance that never says 100 gets the body of a client that does not wait for it.
    let silent = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}expect: 100-continue\r\n", key(&silent.secret));
    wire.send(request("POST", &format!("/v1/{}/users", silent.id), &head, "hello"))
        .await;
    assert_eq!(wire.receive().await.unwrap().status(), 200);
    assert_eq!(instance.only().text(), "hello");
}
