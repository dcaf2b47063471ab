//! A client of HTTP/2.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::task::JoinHandle;

use crate::wire::PATIENCE;

pub(crate) struct Client {
    pub(crate) sender: SendRequest<Bytes>,
    /// Ends with the connection, with its error if it had one.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<http::HeaderMap>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Begins without asking whether the server speaks it.
    pub(crate) async fn over(stream: impl crate::wire::Bytes + 'static) -> Self {
        let (sender, connection) = h2::client::handshake(Box::new(stream) as Box<dyn crate::wire::Bytes>)
            .await
            .unwrap();
        Self {
            sender,
            connection: tokio::spawn(connection),
        }
    }

    pub(crate) async fn plain(address: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream).await
    }

    /// Sends a head; the body follows unless `end`.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        self.sender.send_request(request, end)
    }

    /// Sends a request without a body and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (response, _) = self.send(request, true).await?;
        let read = async { read(response.await?).await };
        tokio::time::timeout(PATIENCE, read).await.expect("the edge is silent")
    }
}

pub(crate) async fn read(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { head, body, trailers })
}

/// A request for `https://api.authsome.test{path}` with these headers.
pub(crate) fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://api.authsome.test{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}
