//! The header lines of a head, whoever parsed it.
//!
//! The rules of this folder change heads through this trait only, so that every way of forwarding can use them. Nothing here
//! fails: a head that can hold no further line keeps those it has.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

/// A head whose lines can be changed.
pub trait Lines {
    /// All of them.
    fn lines(&self) -> &HeaderMap;
    /// Leaves exactly this line of the name.
    fn put(&mut self, name: HeaderName, value: HeaderValue);
    /// Adds a line.
    fn add(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes every line of the name.
    fn strike(&mut self, name: &HeaderName);
}

impl Lines for HeaderMap {
    fn lines(&self) -> &HeaderMap {
        self
    }

    fn put(&mut self, name: HeaderName, value: HeaderValue) {
        // Fails only beyond 32,768 names; a head that long is refused long before.
        let _ = self.try_insert(name, value);
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.try_append(name, value);
    }

    fn strike(&mut self, name: &HeaderName) {
        self.remove(name);
    }
}

/// The forwarding library keeps the spelling of names beside the map, and changes both.
macro_rules! lines_of {
    ($($head:ty),*) => {$(
        impl Lines for $head {
            fn lines(&self) -> &HeaderMap {
                &self.headers
            }

            fn put(&mut self, name: HeaderName, value: HeaderValue) {
                let _ = self.insert_header(name, value);
            }

            fn add(&mut self, name: HeaderName, value: HeaderValue) {
                let _ = self.append_header(name, value);
            }

            fn strike(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
        }
    )*};
}

lines_of!(RequestHeader, ResponseHeader);
