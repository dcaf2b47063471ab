//! The proxy does what each mode says, to live and to new connections.

use std::time::{Duration, Instant};

use authsome_testkit::{ChaosProxy, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn echoes(stream: &mut TcpStream) -> bool {
    let mut reply = [0; 4];
    let exchange = async {
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut reply).await
    };
    matches!(
        tokio::time::timeout(Duration::from_millis(300), exchange).await,
        Ok(Ok(_))
    )
}

#[tokio::test]
async fn every_mode_applies_to_live_and_new_connections() {
    let proxy = ChaosProxy::start(echo_server().await).await.unwrap();
    let mut live = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(echoes(&mut live).await);

    proxy.set(Mode::Blackhole).await;
    assert!(!echoes(&mut live).await, "a black hole must not answer");
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(!echoes(&mut new).await, "a black hole accepts and is silent");
    proxy.set(Mode::Pass).await;
    let mut held = [0; 4];
    live.read_exact(&mut held).await.unwrap();
    assert_eq!(&held, b"ping", "what was held flows again");

    proxy.set(Mode::Latency(Duration::from_millis(60))).await;
    let start = Instant::now();
    assert!(echoes(&mut live).await);
    assert!(start.elapsed() >= Duration::from_millis(120), "60 ms each way");

    proxy.set(Mode::Pass).await;
    proxy.cut();
    assert_eq!(live.read(&mut held).await.unwrap_or(0), 0, "a cut connection ends");
    assert!(
        echoes(&mut TcpStream::connect(proxy.address()).await.unwrap()).await,
        "and a new one works"
    );

    proxy.set(Mode::Refuse).await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.set(Mode::Pass).await;
    assert!(echoes(&mut TcpStream::connect(proxy.address()).await.unwrap()).await);
    assert_eq!(proxy.accepted(), 4);
}

#[tokio::test]
async fn a_url_keeps_everything_but_its_address() {
    let proxy = ChaosProxy::start("127.0.0.1:1").await.unwrap();
    let through = proxy.in_place_of("postgres://user:p%40ss@db:5432/control?sslmode=disable");
    assert_eq!(
        through,
        format!("postgres://user:p%40ss@{}/control?sslmode=disable", proxy.address())
    );
}
