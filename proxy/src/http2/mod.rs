//! Requests of HTTP/2 as the forwarding library is given them.
//!
//! Owns what makes a head of HTTP/2 unfit to be forwarded ([`head`]) and the stream that carries one request and its answer
//! ([`Session`]). The library has a session of its own for HTTP/2, which shows no trailers of a request, has no place for those
//! of an answer from an instance that speaks HTTP/1.1, and waits for a body without end; ours takes its place through the
//! interface that the library has for protocols it does not know. The connection and its streams' order are the
//! [listener's](crate::listener).

mod head;
mod session;

pub(crate) use session::Session;
