//! Which protocol a client speaks on a connection without TLS.

use std::io::Result;

use bytes::BytesMut;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Socket;
use tokio::io::AsyncReadExt;

/// What a client of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes are.
pub(super) enum First {
    /// The preface of HTTP/2, still to be read.
    Preface(Stream),
    /// Something else, and what was read of it.
    Other(Stream, BytesMut),
}

/// Looks at the first bytes; no further than the first one that does not belong to the preface, so that a request that is
/// shorter is not waited on.
pub(super) async fn look(mut stream: Stream) -> Result<First> {
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    while PREFACE.starts_with(&seen) && seen.len() < PREFACE.len() {
        let room = PREFACE.len() - seen.len();
        if (&mut stream).take(room as u64).read_buf(&mut seen).await? == 0 {
            break;
        }
    }
    if seen != PREFACE {
        return Ok(First::Other(stream, seen));
    }
    // A stream without TLS is a socket; what is not cannot give back what was read, and says so when it is served.
    match stream.into_any().downcast::<Socket>() {
        Ok(mut socket) => {
            socket.rewind(&seen);
            Ok(First::Preface(socket))
        }
        Err(_) => Err(std::io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        (Box::new(Socket::from(ours)), client)
    }

    #[tokio::test]
    async fn a_preface_is_recognised_in_pieces_and_still_read_afterwards() {
        let (stream, mut client) = pair().await;
        let writing = tokio::spawn(async move {
            for piece in [&PREFACE[..3], &PREFACE[3..14], &PREFACE[14..], b"rest"] {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let First::Preface(mut stream) = look(stream).await.unwrap() else {
            panic!("the preface is not recognised");
        };
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [PREFACE, b"rest"].concat());
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn what_differs_is_not_waited_on_and_nothing_of_it_is_lost() {
        for sent in [&b"GET /"[..], b"PUT /", b"PRO", b"PRI * HTTP/1"] {
            let (stream, mut client) = pair().await;
            client.write_all(sent).await.unwrap();
            let looked = tokio::time::timeout(Duration::from_secs(5), look(stream)).await;
            let First::Other(mut stream, seen) = looked.expect("more is waited for").unwrap() else {
                panic!("{sent:?} is no preface");
            };
            drop(client);
            let mut all = seen.to_vec();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, sent);
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_without_a_word_speaks_no_protocol() {
        let (stream, client) = pair().await;
        drop(client);
        assert!(matches!(look(stream).await, Ok(First::Other(_, seen)) if seen.is_empty()));
    }
}
