//! How connections end when the program stops.

use std::sync::Arc;
use std::time::Duration;

use authsome_control::server::listener;
use authsome_core::lifecycle::Shutdown;
use authsome_testkit::wait_for;
use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

struct Site {
    address: String,
    shutdown: Shutdown,
    begun: Arc<Semaphore>,
    release: Arc<Semaphore>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// A server with one path, whose answer waits to be released.
async fn site() -> Site {
    let (begun, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (announce, awaited) = (Arc::clone(&begun), Arc::clone(&release));
    let slow = get(async move || {
        announce.add_permits(1);
        awaited.acquire().await.unwrap().forget();
        "done"
    });
    let listener = listener::bind("test", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(listener::serve(
        listener,
        Router::new().route("/slow", slow),
        shutdown.clone(),
    ));
    Site {
        address,
        shutdown,
        begun,
        release,
        serving,
    }
}

#[tokio::test]
async fn a_soft_stop_finishes_what_has_begun_and_takes_nothing_new() {
    let site = site().await;
    let request = tokio::spawn(reqwest::get(format!("http://{}/slow", site.address)));
    site.begun.acquire().await.unwrap().forget();
    site.shutdown.stop_softly();
    wait_for("the port to be closed", Duration::from_secs(10), async || {
        tokio::net::TcpStream::connect(&site.address).await.err()
    })
    .await
    .unwrap();
    assert!(!site.serving.is_finished());
    site.release.add_permits(1);
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(10), site.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_hard_stop_drops_what_has_begun() {
    let site = site().await;
    let request = tokio::spawn(reqwest::get(format!("http://{}/slow", site.address)));
    site.begun.acquire().await.unwrap().forget();
    site.shutdown.stop_hard();
    tokio::time::timeout(Duration::from_secs(10), site.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(request.await.unwrap().is_err());
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_stop() {
    let site = site().await;
    let idle = tokio::net::TcpStream::connect(&site.address).await.unwrap();
    site.release.add_permits(1);
    reqwest::get(format!("http://{}/slow", site.address)).await.unwrap();
    site.shutdown.stop_softly();
    tokio::time::timeout(Duration::from_secs(10), site.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    drop(idle);
}

/// Everything that the server says until it closes.
async fn said(address: &str, pieces: &[&str]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut said = Vec::new();
    for piece in pieces {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut said))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn a_body_that_nobody_read_is_not_in_the_way_of_the_next_request() {
    let service = crate::service::Service::new().await;
    let listener = listener::bind("test", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = authsome_control::router::router(service.app.clone(), Router::new());
    let serving = tokio::spawn(listener::serve(listener, router, Shutdown::new()));
    let refused = "POST /api/v1/workspaces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let last = "GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    // Without credentials nobody looks at the body, which comes after the head.
    let short = format!("{refused}content-length: 2\r\n\r\n");
    let answers = said(&address, &[&short, "{}", last]).await;
    assert!(answers.starts_with("HTTP/1.1 401 "), "{answers}");
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK").count(),
        1,
        "the second request is answered"
    );

    // Too long to be read for nothing, or kept back by the client: the answer says that the connection ends.
    for head in [
        format!("{refused}content-length: 900000\r\n\r\n"),
        format!("{refused}content-length: 2\r\nexpect: 100-continue\r\n\r\n"),
    ] {
        let answers = said(&address, &[&head]).await;
        assert!(answers.starts_with("HTTP/1.1 401 "), "{answers}");
        assert!(
            answers.to_ascii_lowercase().contains("\r\nconnection: close\r\n"),
            "{answers}"
        );
        assert!(!answers.contains("100 Continue"), "{answers}");
    }
    serving.abort();
}
