use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const RULES: PaceRules = PaceRules {
    grace: Duration::from_secs(10),
    rate: 100,
    deadline: Duration::from_mins(1),
};

/// A connection on which a request with this body is being served.
fn serving(body: Length) -> (ClientStream, DuplexStream, Arc<Accepted>) {
    let accepted = Arc::new(Accepted::default());
    let (ours, theirs) = duplex(64 * 1024);
    let mut client = ClientStream::new(Box::new(ours), Arc::clone(&accepted), RULES);
    client.begin(0, body);
    accepted.exchange.head_accepted();
    (client, theirs, accepted)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_ends_with_its_allowance() {
    let (mut stream, mut client, accepted) = serving(Length::Bytes(1_000_000));
    let began = Instant::now();
    tokio::spawn(async move {
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(accepted.exchange.body_fault(), Some(BodyFault::Slow));
    assert!(
        began.elapsed() <= RULES.grace + Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_instance_is_not_the_clients_fault() {
    let (mut stream, mut client, accepted) = serving(Length::Bytes(4));
    for _ in 0..4 {
        client.write_all(b"x").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        // Nobody reads meanwhile.
        tokio::time::sleep(RULES.deadline).await;
    }
    assert_eq!(accepted.exchange.body_fault(), None);
}

#[tokio::test(start_paused = true)]
async fn the_next_request_waits_until_its_turn() {
    let (mut stream, mut client, _) = serving(Length::Bytes(5));
    client.write_all(b"helloGET / HTTP/1.1\r\n").await.unwrap();
    let mut body = [0; 5];
    stream.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"hello");
    let more = tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await;
    assert!(more.is_err(), "it must not be read as part of this request");
    client.write_all(b"\r\n").await.unwrap();
    let more = tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await;
    assert!(more.is_err());
    assert!(stream.is_between_requests());
    assert_eq!(&stream.buffer[..], b"GET / HTTP/1.1\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_while_it_waits_for_its_answer() {
    let (mut stream, client, _) = serving(Length::Bytes(0));
    drop(client);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn malformed_chunks_fail_the_read() {
    let (mut stream, mut client, accepted) = serving(Length::Chunked);
    client.write_all(b"5\r\nhello\r\n5\nhello\n0\n\n").await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(accepted.exchange.body_fault(), Some(BodyFault::Malformed));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_passes_everything_for_as_long_as_it_lasts() {
    let (mut stream, mut client, accepted) = serving(Length::Bytes(0));
    client.write_all(b"early").await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await;
    assert!(early.is_err());
    accepted.exchange.becomes_tunnel();
    let mut seen = [0; 5];
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"early");
    tokio::spawn(async move {
        tokio::time::sleep(10 * RULES.deadline).await;
        client.write_all(b"later").await.unwrap();
    });
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"later");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_or_written_before_the_edge_has_the_head() {
    let (mut stream, mut client, accepted) = serving(Length::Bytes(5));
    client.write_all(b"hello").await.unwrap();
    stream.begin(0, Length::Bytes(5));
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::InvalidData);
    stream
        .write_all(b"HTTP/1.1 400 Bad Request\r\nServer: other\r\n\r\n")
        .await
        .unwrap();
    assert!(accepted.exchange.was_substituted());
    drop(stream);
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"", "of a connection without a door");
}

/// What the client has received, without waiting for more.
async fn received(client: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 64 * 1024];
    let read = tokio::time::timeout(Duration::from_millis(1), client.read(&mut bytes)).await;
    let length = read.map_or(0, |read| read.unwrap());
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_head_leaves_with_the_beginning_of_its_body_and_nothing_else_waits() {
    let (mut stream, mut client, _) = serving(Length::Bytes(0));
    stream.hold_head();
    stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.unwrap();
    assert_eq!(received(&mut client).await, "HTTP/1.1 103 Early Hints\r\n\r\n");
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    assert_eq!(received(&mut client).await, "");
    stream.write_all(b"he").await.unwrap();
    assert_eq!(received(&mut client).await, "HTTP/1.1 200 OK\r\n\r\nhe");
    stream.write_all(b"llo").await.unwrap();
    assert_eq!(received(&mut client).await, "llo");
}

#[tokio::test(start_paused = true)]
async fn a_head_alone_leaves_when_it_is_flushed_or_the_connection_ends() {
    let (mut stream, mut client, _) = serving(Length::Bytes(0));
    stream.hold_head();
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(received(&mut client).await, "HTTP/1.1 204 No Content\r\n\r\n");
    stream.hold_head();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    AsyncWriteExt::shutdown(&mut stream).await.unwrap();
    assert_eq!(received(&mut client).await, "HTTP/1.1 200 OK\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_behind_a_head_follows_it() {
    let (mut stream, mut client, _) = serving(Length::Bytes(0));
    stream.hold_head();
    let body = "x".repeat(HeldHead::MOST);
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut whole = received(&mut client).await;
    whole += &received(&mut client).await;
    assert_eq!(whole, format!("HTTP/1.1 200 OK\r\n\r\n{body}"));
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_in_a_tunnel() {
    let (mut stream, mut client, accepted) = serving(Length::Bytes(0));
    stream.hold_head();
    accepted.exchange.becomes_tunnel();
    stream.write_all(b"frame").await.unwrap();
    assert_eq!(received(&mut client).await, "frame");
}

#[tokio::test(start_paused = true)]
async fn a_head_leaves_when_its_body_is_waited_for() {
    let (mut stream, mut client, _) = serving(Length::Bytes(5));
    stream.hold_head();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(1), stream.read_u8()).await;
    assert!(waiting.is_err());
    assert_eq!(received(&mut client).await, "HTTP/1.1 200 OK\r\n\r\n");
}
