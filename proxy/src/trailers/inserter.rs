//! Writes a message of HTTP/1.1 with trailers that its writer does not know of.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::Follower;

/// Writes a message with trailers behind its last chunk.
#[derive(Debug)]
pub struct Inserter {
    follower: Follower,
    /// What is put in, and how much of it was written.
    inserting: Option<(Vec<u8>, usize)>,
}

impl Inserter {
    /// Into this message.
    pub fn new(follower: Follower) -> Self {
        Self {
            follower,
            inserting: None,
        }
    }

    /// As [`AsyncWrite::poll_write`].
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        mut inner: Pin<&mut W>,
        cx: &mut Context<'_>,
        bytes: &[u8],
        trailers: impl Fn() -> Vec<u8>,
    ) -> Poll<std::io::Result<usize>> {
        loop {
            if let Some((lines, written)) = &mut self.inserting {
                while let Some(rest) = lines.get(*written..).filter(|rest| !rest.is_empty()) {
                    let here = ready!(inner.as_mut().poll_write(cx, rest))?;
                    if here == 0 {
                        return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                    }
                    *written += here;
                }
                self.inserting = None;
                self.follower.is_over();
            }
            if self.follower.is_at_trailers() {
                self.inserting = Some((trailers(), 0));
                continue;
            }
            let here = self.follower.reach(bytes);
            let written = ready!(inner.poll_write(cx, &bytes[..here]))?;
            self.follower.went(&bytes[..written], &mut Vec::new());
            return Poll::Ready(Ok(written));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::http1::body::Length;

    struct Through {
        inner: DuplexStream,
        inserter: Inserter,
        lines: &'static str,
    }

    impl AsyncWrite for Through {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
            let Self { inner, inserter, lines } = &mut *self;
            inserter.poll_write(Pin::new(inner), cx, buf, || lines.as_bytes().to_vec())
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(cx)
        }
    }

    /// What arrives when `text` is written in parts of these lengths.
    async fn written(follower: Follower, text: &str, parts: &[usize]) -> String {
        // Smaller than a line: partial writes everywhere.
        let (inner, mut other) = duplex(7);
        let mut through = Through {
            inner,
            inserter: Inserter::new(follower),
            lines: "X-A: 1\r\n",
        };
        let (mut rest, mut parts) = (text.as_bytes(), parts.iter().copied().cycle());
        let mut arrived = String::new();
        let writing = async {
            while !rest.is_empty() {
                let here = parts.next().unwrap_or(rest.len()).clamp(1, rest.len());
                through.write_all(&rest[..here]).await.unwrap();
                rest = &rest[here..];
            }
            drop(through);
        };
        let reading = other.read_to_string(&mut arrived);
        tokio::join!(writing, reading).1.unwrap();
        arrived
    }

    const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn trailers_are_put_behind_the_last_chunk_and_nowhere_else() {
        let body = "5\r\n0\r\n\r\n\r\n0\r\n";
        for parts in [&[1][..], &[1000], &[3, 50], &[63, 1]] {
            let hints = format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{HEAD}{body}");
            for (follower, before) in [
                (Follower::answer(), format!("{HEAD}{body}")),
                (Follower::answer(), hints),
                (
                    Follower::request(Length::Chunked),
                    format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}"),
                ),
            ] {
                let got = written(follower, &format!("{before}\r\n"), parts).await;
                assert_eq!(got, format!("{before}X-A: 1\r\n\r\n"));
            }
            for (follower, unchanged) in [
                (
                    Follower::answer(),
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
                ),
                (Follower::answer(), "HTTP/1.1 204 No Content\r\n\r\n"),
                (Follower::answer(), "HTTP/1.1 101 Switching Protocols\r\n\r\n0\r\n\r\n"),
                (Follower::answer(), "noise\r\n\r\n0\r\n\r\n"),
                (
                    Follower::request(Length::Bytes(5)),
                    "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
                ),
            ] {
                assert_eq!(written(follower, unchanged, parts).await, unchanged);
            }
        }
    }
}
