//! Names in letters. They are text of people whom the reader may not know, in a letter that the reader trusts.

/// A blank of no width: the name looks as it was given, and no mail program finds an address in it.
const APART: char = '\u{200b}';

/// The name, so that nothing in it becomes a link. Addresses are refused where names are given; a bare domain is a name that
/// teams have, and older names were not looked at.
pub(super) fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut after_blank = true;
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        let before_blank = characters.peek().is_none_or(|c| c.is_whitespace());
        if matches!(c, '.' | ':' | '/' | '\\' | '@' | '\u{3002}' | '\u{ff0e}' | '\u{ff0f}') && !before_blank {
            if !after_blank {
                text.push(APART);
            }
            text.extend([c, APART]);
        } else {
            text.push(c);
        }
        after_blank = c.is_whitespace();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_looks_the_same_and_holds_no_address() {
        for name in [
            "https://evil.example/x",
            "Booking.com",
            "a@b.io",
            "evil.example。com",
            "//x.y",
        ] {
            let shown = quoted(name);
            assert_eq!(shown.replace(APART, ""), name);
            let pieces: Vec<&str> = shown.split(APART).collect();
            let whole = |piece: &&str| piece.chars().count() > 1 && piece.contains(['.', ':', '/', '@']);
            assert!(!pieces.iter().any(whole), "{pieces:?}");
        }
        for plain in ["Ada", "Acme, Inc.", "O'Brien & Søn", "Dr. Who", "24 / 7", ""] {
            assert_eq!(quoted(plain), plain);
        }
    }
}
