//! The connections of one worker to servers, which end all at once, as those of a killed process do: with the answer to the
//! n-th thing that it says, which it does not get any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What of the things that it says to a server are counted.
#[derive(Debug, Clone, Copy)]
pub enum Counted {
    Everything,
    /// Requests over HTTP that change something. Watches talk whenever they like.
    Changes,
}

impl Counted {
    fn counts(self, said: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::Changes => ["PATCH ", "POST ", "PUT ", "DELETE "]
                .iter()
                .any(|method| said.starts_with(method.as_bytes())),
        }
    }
}

struct Inner {
    /// How many more things it will say.
    left: AtomicUsize,
    dead: CancellationToken,
}

/// Dropping it is the end as well.
pub struct Lifeline(Arc<Inner>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.dead.cancel();
    }
}

impl Lifeline {
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            left: AtomicUsize::new(usize::MAX),
            dead: CancellationToken::new(),
        }))
    }

    /// The end comes with the answer to the `last` thing that is said from now on.
    pub fn ends_with(&self, last: usize) {
        self.0.left.store(last, Ordering::SeqCst);
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        self.0.dead.cancelled().await;
    }

    /// An address in the place of `host:port`.
    pub async fn to(&self, server: String, counted: Counted) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::clone(&self.0);
        let dead = inner.dead.clone();
        let listening = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                let dead = inner.dead.clone();
                tokio::spawn(dead.run_until_cancelled_owned(talk(Arc::clone(&inner), counted, client, server)));
            }
        };
        tokio::spawn(dead.run_until_cancelled_owned(listening));
        address
    }
}

/// One connection. What is read after the last thing that is said ends every other one too.
async fn talk(inner: Arc<Inner>, counted: Counted, mut client: TcpStream, mut server: TcpStream) {
    let (mut said, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut dying = false;
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    loop {
        tokio::select! {
            read = client.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                if counted.counts(&said[..length]) {
                    dying |= inner.left.fetch_sub(1, Ordering::SeqCst) == 1;
                }
                if server.write_all(&said[..length]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                if dying {
                    inner.dead.cancel();
                }
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
