//! A fixed set of header names, asked of every line of a head.
//!
//! Most names are told apart by their length and their first letter, before any is compared. Pure.

/// The set.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    all: &'static [&'static str],
    /// A bit for each length.
    lengths: u64,
    /// A bit for each first letter.
    letters: u32,
}

impl Names {
    /// Of these names: in lower case, each beginning with a letter, none longer than 63.
    pub const fn new(names: &'static [&'static str]) -> Self {
        let (mut lengths, mut letters, mut at) = (0, 0, 0);
        while at < names.len() {
            let name = names[at].as_bytes();
            lengths |= 1 << name.len();
            letters |= 1 << (name[0] - b'a');
            at += 1;
        }
        Self {
            all: names,
            lengths,
            letters,
        }
    }

    /// Is this, in any case, one of them?
    pub fn hold(&self, name: &[u8]) -> bool {
        let Some(first) = name.first() else { return false };
        let letter = (first | 0x20).wrapping_sub(b'a');
        letter < 26
            && self.letters >> letter & 1 != 0
            && name.len() < 64
            && self.lengths >> name.len() & 1 != 0
            && self.all.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.all.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: Names = Names::new(&["alt-svc", "server", "x-api-key", "zz"]);

    #[test]
    fn every_name_is_held_in_any_case() {
        for name in NAMES.iter() {
            assert!(NAMES.hold(name.as_bytes()), "{name}");
            assert!(NAMES.hold(name.to_uppercase().as_bytes()), "{name}");
        }
        assert!(!NAMES.hold(b""));
        assert!(!NAMES.hold("s".repeat(70).as_bytes()));
    }

    proptest! {
        #[test]
        fn nothing_else_is(name in "[!-~]{0,9}") {
            let lower = name.to_ascii_lowercase();
            prop_assert_eq!(NAMES.hold(name.as_bytes()), NAMES.iter().any(|ours| ours == lower));
        }
    }
}
