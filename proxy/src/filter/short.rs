//! Short texts that are made for one line and kept nowhere: without the heap, and without the machinery of formatting, which
//! costs a header of three numbers a thousand instructions.

use std::net::IpAddr;

/// A text of at most `N` bytes. What does not fit any more is left out.
#[derive(Debug, Clone, Copy)]
pub struct Short<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> Short<N> {
    /// Adds a text.
    #[must_use]
    pub fn with(mut self, text: &str) -> Self {
        self.push(text);
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn with_number(mut self, number: u64) -> Self {
        self.push(itoa::Buffer::new().format(number));
        self
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, text: &str) {
        if let Some(space) = self.bytes.get_mut(self.length..self.length + text.len()) {
            space.copy_from_slice(text.as_bytes());
            self.length += text.len();
        }
    }
}

impl<const N: usize> std::ops::Deref for Short<N> {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl<const N: usize> std::fmt::Write for Short<N> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`
const LONGEST_ADDRESS: usize = 46;

/// The text of an address, an IPv4 one never in its IPv6 form.
pub fn of_address(address: IpAddr) -> Short<LONGEST_ADDRESS> {
    match address.to_canonical() {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets().map(u64::from);
            let text = Short::default().with_number(a).with(".").with_number(b);
            text.with(".").with_number(c).with(".").with_number(d)
        }
        IpAddr::V6(six) => {
            let mut text = Short::default();
            // Writing to it cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{six}"));
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out() {
        let text = Short::<8>::default().with("abc").with("defghi").with_number(12345);
        assert_eq!(&*text, "abc12345");
    }

    #[test]
    fn the_longest_address_fits() {
        for text in ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "255.255.255.255", "::1"] {
            assert_eq!(&*of_address(text.parse().unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn addresses_read_as_everywhere(address in any::<IpAddr>()) {
            prop_assert_eq!(&*of_address(address), address.to_canonical().to_string());
        }
    }
}
