//! The header lines of a head, whoever parsed it.
//!
//! The rules of this folder read heads through [`Fields`] and change them through [`Lines`] only, so that every way of
//! forwarding can use them. Nothing here fails: a head that can hold no further line keeps those it has.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};

use super::name::Name;
use super::sets::Sets;

/// A head whose lines can be read.
pub trait Fields {
    /// The values of the lines of this name, in their order.
    fn all(&self, name: &Name) -> impl DoubleEndedIterator<Item = &[u8]>;

    /// As [`Self::all`], of a name that is known only now, in lower case.
    fn all_named(&self, name: &str) -> impl Iterator<Item = &[u8]>;

    /// The value of the first line of this name.
    fn first(&self, name: &Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Is there a line of this name?
    fn has(&self, name: &Name) -> bool {
        self.first(name).is_some()
    }

    /// Is there a line whose name is in any of these sets?
    fn has_any(&self, sets: Sets) -> bool;

    /// The value of the first line of this name, if it is text: visible ASCII, blanks and tabs.
    fn text(&self, name: &Name) -> Option<&str> {
        text(self.first(name)?)
    }

    /// Bytes of all lines as they are written in HTTP/1.1.
    fn wire_bytes(&self) -> usize;
}

/// A value as text, if it is visible ASCII, blanks and tabs.
pub fn text(value: &[u8]) -> Option<&str> {
    let is_text = value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e));
    is_text.then(|| str::from_utf8(value).ok()).flatten()
}

/// A head whose lines can be changed.
pub trait Lines: Fields {
    /// Leaves exactly this line of the name.
    fn put(&mut self, name: &Name, value: HeaderValue);
    /// As [`Self::put`], of a value that is kept elsewhere.
    fn put_ref(&mut self, name: &Name, value: &HeaderValue);
    /// As [`Self::put`], of a value that is not kept anywhere. One that no header can have leaves the line out.
    fn put_text(&mut self, name: &Name, value: &str);
    /// As [`Self::put_text`], of visible ASCII that was made here.
    fn put_made(&mut self, name: &Name, value: &[u8]);
    /// As [`Self::put`], with the value of the first line of another name; without one, no line is left.
    fn put_copy(&mut self, name: &Name, from: &Name);
    /// Adds a line.
    fn add(&mut self, name: &Name, value: HeaderValue);

    /// Adds a line that the edge says itself: of visible ASCII that was made here, and of a name that every other line was struck
    /// of or may stand beside. Nobody asks for it again. On heads without a map it costs a third of [`Self::put_made`].
    fn say(&mut self, name: &Name, value: &[u8]);

    /// As [`Self::say`], of a value that is kept elsewhere.
    fn say_ref(&mut self, name: &Name, value: &HeaderValue);
    /// Removes every line of the name.
    fn strike(&mut self, name: &Name);
    /// Removes every line whose name is in any of these sets.
    fn strike_sets(&mut self, sets: Sets);
}

impl Fields for HeaderMap {
    fn all(&self, name: &Name) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.get_all(name.header()).iter().map(HeaderValue::as_bytes)
    }

    fn all_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn first(&self, name: &Name) -> Option<&[u8]> {
        self.get(name.header()).map(HeaderValue::as_bytes)
    }

    fn has_any(&self, sets: Sets) -> bool {
        self.keys().any(|name| is_in(name, sets))
    }

    fn wire_bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
            .sum()
    }
}

impl Lines for HeaderMap {
    fn put(&mut self, name: &Name, value: HeaderValue) {
        // Fails only beyond 32,768 names; a head that long is refused long before.
        let _ = self.try_insert(name.header(), value);
    }

    fn put_ref(&mut self, name: &Name, value: &HeaderValue) {
        self.put(name, value.clone());
    }

    fn put_text(&mut self, name: &Name, value: &str) {
        match HeaderValue::from_str(value) {
            Ok(value) => self.put(name, value),
            Err(_) => self.strike(name),
        }
    }

    fn put_made(&mut self, name: &Name, value: &[u8]) {
        match HeaderValue::from_bytes(value) {
            Ok(value) => self.put(name, value),
            Err(_) => self.strike(name),
        }
    }

    fn put_copy(&mut self, name: &Name, from: &Name) {
        match self.get(from.header()).cloned() {
            Some(value) => self.put(name, value),
            None => self.strike(name),
        }
    }

    fn add(&mut self, name: &Name, value: HeaderValue) {
        let _ = self.try_append(name.header(), value);
    }

    fn say(&mut self, name: &Name, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.add(name, value);
        }
    }

    fn say_ref(&mut self, name: &Name, value: &HeaderValue) {
        self.add(name, value.clone());
    }

    fn strike(&mut self, name: &Name) {
        self.remove(name.header());
    }

    fn strike_sets(&mut self, sets: Sets) {
        for name in of_sets(self, sets) {
            self.remove(name);
        }
    }
}

fn is_in(name: &HeaderName, sets: Sets) -> bool {
    Sets::of_name(name.as_str().as_bytes()).meet(sets)
}

/// Allocates only if there are any.
fn of_sets(headers: &HeaderMap, sets: Sets) -> Vec<HeaderName> {
    headers.keys().filter(|name| is_in(name, sets)).cloned().collect()
}

/// The forwarding library keeps the spelling of names beside the map, and changes both.
macro_rules! lines_of {
    ($($head:ty),*) => {$(
        impl Fields for $head {
            fn all(&self, name: &Name) -> impl DoubleEndedIterator<Item = &[u8]> {
                self.headers.all(name)
            }

            fn all_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
                self.headers.all_named(name)
            }

            fn first(&self, name: &Name) -> Option<&[u8]> {
                self.headers.first(name)
            }

            fn has_any(&self, sets: Sets) -> bool {
                self.headers.has_any(sets)
            }

            fn wire_bytes(&self) -> usize {
                self.headers.wire_bytes()
            }
        }

        impl Lines for $head {
            fn put(&mut self, name: &Name, value: HeaderValue) {
                let _ = self.insert_header(name.header().clone(), value);
            }

            fn put_ref(&mut self, name: &Name, value: &HeaderValue) {
                self.put(name, value.clone());
            }

            fn put_text(&mut self, name: &Name, value: &str) {
                match HeaderValue::from_str(value) {
                    Ok(value) => self.put(name, value),
                    Err(_) => self.strike(name),
                }
            }

            fn put_made(&mut self, name: &Name, value: &[u8]) {
                match HeaderValue::from_bytes(value) {
                    Ok(value) => self.put(name, value),
                    Err(_) => self.strike(name),
                }
            }

            fn put_copy(&mut self, name: &Name, from: &Name) {
                match self.headers.get(from.header()).cloned() {
                    Some(value) => self.put(name, value),
                    None => self.strike(name),
                }
            }

            fn add(&mut self, name: &Name, value: HeaderValue) {
                let _ = self.append_header(name.header().clone(), value);
            }

            fn say(&mut self, name: &Name, value: &[u8]) {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    self.add(name, value);
                }
            }

            fn say_ref(&mut self, name: &Name, value: &HeaderValue) {
                self.add(name, value.clone());
            }

            fn strike(&mut self, name: &Name) {
                self.remove_header(name.header());
            }

            fn strike_sets(&mut self, sets: Sets) {
                for name in of_sets(&self.headers, sets) {
                    self.remove_header(&name);
                }
            }
        }
    )*};
}

lines_of!(RequestHeader, ResponseHeader);
