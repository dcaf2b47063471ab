//! The space that one request is worked on in; used again by the next one.
//!
//! A connection that is idle has none, so that ten thousand of them cost what their sockets cost.

use bytes::BytesMut;

use super::lines::HeadLines;

/// What is read at once from an instance, at first; a body that fills it gets more.
pub(super) const FIRST_READ: usize = 16 * 1024;
/// What is read at once from an instance, at most. Reading less costs a long body twice the processor.
pub(super) const LARGEST_READ: usize = 64 * 1024;
/// Space that is kept.
const KEPT: usize = 2 * LARGEST_READ;

/// The space.
#[derive(Default)]
pub(super) struct Desk {
    /// The client's head.
    pub(super) request: HeadLines,
    /// The instance's head.
    pub(super) reply: HeadLines,
    /// What is sent to the instance: the head and the body, for as long as they may have to be sent again.
    pub(super) out: Vec<u8>,
    /// What was read from the instance.
    pub(super) input: BytesMut,
    /// What is sent to the client.
    pub(super) answer: Vec<u8>,
}

impl Desk {
    /// Removes what was left of a request. False if it takes more space than is worth keeping.
    pub(super) fn tidy(&mut self) -> bool {
        self.out.clear();
        self.input.clear();
        self.answer.clear();
        let sizes = [
            self.request.capacity(),
            self.reply.capacity(),
            self.out.capacity(),
            self.input.capacity(),
            self.answer.capacity(),
        ];
        sizes.into_iter().all(|size| size <= KEPT)
    }
}
