//! An application's instance: answers by a function of the request, and remembers what reached it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::wire::{Message, Wire};

pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    accepting: JoinHandle<()>,
}

/// What the instance does with a request.
pub(crate) enum Reply {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these bytes and closes.
    Last(Vec<u8>),
    /// Says nothing, for ever.
    Silence,
}

impl Reply {
    pub(crate) fn ok(headers: &str, body: &str) -> Self {
        Self::Bytes(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            )
            .into_bytes(),
        )
    }
}

impl Instance {
    pub(crate) async fn start(answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::connected(move |message, mut wire| {
            let reply = answer(&message);
            async move {
                match reply {
                    Reply::Bytes(bytes) => wire.send(bytes).await,
                    Reply::Last(bytes) => {
                        wire.send(bytes).await;
                        return None;
                    }
                    Reply::Silence => std::future::pending().await,
                }
                Some(wire)
            }
        })
        .await
    }

    /// Hands over the connection with each request; it is closed unless given back.
    pub(crate) async fn connected<F: Future<Output = Option<Wire>> + Send>(
        answer: impl Fn(Message, Wire) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    /// At a place of the test's choice.
    pub(crate) fn listening<F: Future<Output = Option<Wire>> + Send>(
        listener: TcpListener,
        answer: impl Fn(Message, Wire) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::speaking(listener, None, answer)
    }

    /// Over TLS, if there is an acceptor.
    pub(crate) fn speaking<F: Future<Output = Option<Wire>> + Send>(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Message, Wire) -> F + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, remembered) = (Arc::new(answer), Arc::clone(&seen));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, remembered, tls) = (Arc::clone(&answer), Arc::clone(&remembered), tls.clone());
                tokio::spawn(async move {
                    let mut wire = match tls {
                        None => Wire::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Wire::new(stream),
                            Err(_) => return,
                        },
                    };
                    while let Some(request) = wire.receive().await {
                        remembered.lock().unwrap().push(request.clone());
                        match answer(request, wire).await {
                            Some(given_back) => wire = given_back,
                            None => return,
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    /// Answers everything with 200 and its own name.
    pub(crate) async fn echo() -> Self {
        Self::start(|_| Reply::ok("content-type: application/json\r\n", "{\"ok\":true}")).await
    }

    /// As [`Self::echo`], at this address.
    pub(crate) async fn echo_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self::listening(listener, async |_, mut wire: Wire| {
            let Reply::Bytes(answer) = Reply::ok("", "ok") else {
                return None;
            };
            wire.send(answer).await;
            Some(wire)
        })
    }

    /// Closes the connection upon every request, without an answer.
    pub(crate) async fn breaking() -> Self {
        Self::connected(async |_, _| None).await
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// What reached it so far.
    pub(crate) fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn only(&self) -> Message {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen[0].clone()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// An address at which nothing listens.
pub(crate) fn nobody() -> String {
    format!("127.0.0.1:{}", authsome_testkit::port::free().unwrap())
}
