//! A header name that the edge asks heads for.
//!
//! What tells most names apart without a comparison is worked out of each once, by the compiler. Pure.

use http::HeaderName;

/// A name.
#[derive(Debug)]
pub struct Name {
    /// In lower case.
    text: &'static str,
    /// What comes before the value of such a line, from the end of the line before it.
    before: &'static str,
    header: HeaderName,
    mark: Mark,
}

/// The [`Name`] of a literal in lower case.
macro_rules! name {
    ($text:literal) => {
        $crate::filter::name::Name::new($text, concat!("\r\n", $text, ": "))
    };
}
pub(crate) use name;

/// Differs for most names that differ, and never for the same name in another case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u32);

impl Name {
    /// Of this text, which is in lower case. Made by `name!`.
    ///
    /// # Panics
    /// While compiling, if the two do not belong together.
    pub const fn new(text: &'static str, before: &'static str) -> Self {
        assert!(
            before.len() == text.len() + 4,
            "a line end, the name, a colon and a blank"
        );
        Self {
            text,
            before,
            header: HeaderName::from_static(text),
            mark: Mark::of(text.as_bytes()),
        }
    }

    /// In lower case.
    pub const fn as_bytes(&self) -> &'static [u8] {
        self.text.as_bytes()
    }

    /// `\r\n`, the name, `: `.
    pub const fn before_value(&self) -> &'static [u8] {
        self.before.as_bytes()
    }

    /// As maps have it.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What tells it from most others.
    pub const fn mark(&self) -> Mark {
        self.mark
    }

    /// Is this, in any case, the name? Its mark is the same.
    pub fn is(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.as_bytes())
    }
}

impl Mark {
    /// Made of the length and three letters.
    pub const fn of(name: &[u8]) -> Self {
        if name.is_empty() {
            return Self(0);
        }
        // Names are shorter than a head, and only equality counts.
        #[expect(clippy::cast_possible_truncation, reason = "part of a mark that need not be unique")]
        let length = name.len() as u8;
        let (first, middle, last) = (name[0], name[name.len() / 2], name[name.len() - 1]);
        Self(u32::from_le_bytes([first | 0x20, middle | 0x20, last | 0x20, length]))
    }

    /// One of 64.
    pub const fn bit(self) -> u64 {
        1 << (self.mixed() >> 26)
    }

    /// One of so many places, which are a power of two.
    pub const fn place(self, places: usize) -> usize {
        (self.mixed() >> 16) as usize & (places - 1)
    }

    const fn mixed(self) -> u32 {
        self.0.wrapping_mul(0x9e37_79b9)
    }
}

/// Names that are asked for in more than one place.
macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => {$(
        #[doc = concat!("`", $text, "`")]
        pub static $name: Name = name!($text);
    )*};
}

names! {
    ACCEPT = "accept",
    ACCEPT_RANGES = "accept-ranges",
    ACCESS_CONTROL_ALLOW_CREDENTIALS = "access-control-allow-credentials",
    ACCESS_CONTROL_ALLOW_HEADERS = "access-control-allow-headers",
    ACCESS_CONTROL_ALLOW_METHODS = "access-control-allow-methods",
    ACCESS_CONTROL_ALLOW_ORIGIN = "access-control-allow-origin",
    ACCESS_CONTROL_EXPOSE_HEADERS = "access-control-expose-headers",
    ACCESS_CONTROL_MAX_AGE = "access-control-max-age",
    ACCESS_CONTROL_REQUEST_HEADERS = "access-control-request-headers",
    ACCESS_CONTROL_REQUEST_METHOD = "access-control-request-method",
    AGE = "age",
    AUTHORIZATION = "authorization",
    CACHE_CONTROL = "cache-control",
    CACHE_STATUS = "cache-status",
    CONNECTION = "connection",
    CONTENT_LENGTH = "content-length",
    CONTENT_LOCATION = "content-location",
    CONTENT_SECURITY_POLICY = "content-security-policy",
    CONTENT_TYPE = "content-type",
    COOKIE = "cookie",
    DATE = "date",
    FORWARDED = "forwarded",
    HOST = "host",
    LOCATION = "location",
    ORIGIN = "origin",
    REFERER = "referer",
    REFRESH = "refresh",
    RETRY_AFTER = "retry-after",
    SEC_WEBSOCKET_PROTOCOL = "sec-websocket-protocol",
    SET_COOKIE = "set-cookie",
    TE = "te",
    TRAILER = "trailer",
    TRANSFER_ENCODING = "transfer-encoding",
    UPGRADE = "upgrade",
    VARY = "vary",
    WWW_AUTHENTICATE = "www-authenticate",
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_has_one_mark_in_every_case(name in "[!-~]{0,40}") {
            let upper = name.to_ascii_uppercase();
            prop_assert_eq!(Mark::of(name.to_ascii_lowercase().as_bytes()), Mark::of(upper.as_bytes()));
        }
    }
}
