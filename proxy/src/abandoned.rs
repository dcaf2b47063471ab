//! Requests that end without passing their last phase, because the stream that carries them was taken away: a revoked key's
//! stream of HTTP/2, or a connection whose instance takes no bytes.
//!
//! They are counted and logged like any other, when what is known of them is dropped.

use std::sync::Arc;
use std::time::Instant;

use crate::books::{Books, Closing};
use crate::ctx::Ctx;
use crate::metrics::By;

/// What would be lost of a request with its stream.
pub(crate) struct Unsettled {
    /// Where it is counted.
    pub(crate) books: Arc<Books>,
    /// Its method.
    pub(crate) method: String,
    /// `1.1`, `2`.
    pub(crate) protocol: &'static str,
    /// The status of the answer, once there is one.
    pub(crate) status: Option<u16>,
    /// Of the body of the answer, so far.
    pub(crate) bytes_out: u64,
    /// Who forwards it.
    pub(crate) by: By,
}

impl std::fmt::Debug for Unsettled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsettled")
            .field("method", &self.method)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Unsettled {
    /// Counts and logs the request.
    fn settle(self, ctx: &Ctx) {
        let body = ctx.forward.as_ref().map_or(0, |forward| forward.body_bytes);
        let ended = ctx
            .accepted
            .as_ref()
            .is_some_and(|accepted| accepted.switch.is_thrown());
        let closing = Closing {
            method: &self.method,
            protocol: self.protocol,
            status: self.status,
            bytes_in: ctx.head_bytes as u64 + body,
            bytes_out: self.bytes_out,
            failure: Some(if ended { "NoLongerAllowed" } else { "Abandoned" }),
        };
        self.books.close(ctx, &closing, self.by, Instant::now());
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        if let Some(unsettled) = self.unsettled.take() {
            unsettled.settle(self);
        }
    }
}
