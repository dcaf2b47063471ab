//! What a client sends and no handler reads: the body of a request that is refused before it.
//!
//! Left where it is, it would be in the way of the next request, and the connection would end without a word. A short one is read and
//! thrown away; a long or slow one, or one that the client keeps back until it is asked for, ends the connection, and the answer says
//! so.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};

/// Bytes that are read for nothing.
const LONGEST: u64 = 64 * 1024;
/// For how long that may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A layer: the answer comes when nothing of the request is left, or says that the connection ends.
pub async fn settle(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let kept_back = request.headers().contains_key(EXPECT);
    let (parts, body) = request.into_parts();
    let shared = Shared(Arc::new(Mutex::new(body)));
    let mut response = next.run(Request::from_parts(parts, Body::new(shared.clone()))).await;
    if !shared.is_end_stream() && (kept_back || !shared.drained().await) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that a handler reads, and what is left of it afterwards.
#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Body) -> T) -> T {
        // A reader that panicked leaves a body that can still be read, or fails.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the rest. False: there is too much of it.
    async fn drained(&self) -> bool {
        if self.with(|body| body.size_hint().lower()) > LONGEST {
            return false;
        }
        let reading = async {
            let mut read = 0;
            while let Some(frame) = std::future::poll_fn(|context| self.poll(context)).await {
                let Ok(frame) = frame else { return false };
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
                if read > LONGEST {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or(false)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(context))
    }
}

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.poll(context)
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}
