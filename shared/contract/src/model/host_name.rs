//! Host names, in the one form in which they are kept and compared.

/// Is this a host name as it is kept everywhere (RFC 1123): lower case, at most 253 bytes, labels of letters, digits and inner
/// hyphens of at most 63 bytes, no dot at the end, no port?
pub fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            let bytes = label.as_bytes();
            (1..=63).contains(&bytes.len())
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
                && bytes.first() != Some(&b'-')
                && bytes.last() != Some(&b'-')
        })
}

/// Can this name be someone's own in the public DNS: a host name of two labels or more whose last is not a number, so that
/// it is no address?
pub fn is_domain(text: &str) -> bool {
    is_host_name(text)
        && text
            .rsplit_once('.')
            .is_some_and(|(_, last)| !last.bytes().all(|b| b.is_ascii_digit()) && !last.starts_with("0x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        let long_label = "a".repeat(64);
        let long = ["abcdefg"; 32].join(".");
        for name in ["a", "login.shop.example", "a-b.c", "1.2", "xn--bcher-kva.example"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "A.b",
            "-a.b",
            "a-.b",
            "a_b",
            "a b",
            "é.b",
            "a:80",
            &long_label,
            &long,
        ] {
            assert!(!is_host_name(name), "{name}");
        }
    }

    #[test]
    fn an_address_is_nobodys_domain() {
        assert!(is_domain("shop.example"));
        for name in ["localhost", "127.0.0.1", "1.2", "0x7f.0x1", "[::1]", "shop.example."] {
            assert!(!is_domain(name), "{name}");
        }
    }
}
