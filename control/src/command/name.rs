//! Names and slugs: what people may call things.

/// The longest name, in characters.
const NAME_MAX: usize = 200;
/// The longest slug: a DNS label.
const SLUG_MAX: usize = 63;

/// The name without blanks around it, or what is expected. Any text is data; only what no screen can show is refused, and what
/// makes a screen show something else than there is.
pub fn name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    let characters = name.chars().count();
    if !(1..=NAME_MAX).contains(&characters) || name.chars().any(is_unseen) {
        return Err("must be from 1 to 200 characters long, without control characters");
    }
    Ok(name.to_owned())
}

/// As [`name`], for names that stand in letters to people who do not know who chose them: of people and workspaces. They hold no
/// web address.
pub fn title(text: &str) -> Result<String, &'static str> {
    let name = name(text)?;
    if holds_address(&name) {
        return Err("must not hold a web address");
    }
    Ok(name)
}

/// Control characters, line and paragraph separators, marks that turn the direction of writing around, and blanks of no width.
/// Joiners are letters' own: emoji and several scripts need them.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// `scheme://`, `www.`, or a domain that is followed by a path.
fn holds_address(name: &str) -> bool {
    let name = name.to_lowercase();
    let www = |(at, _): (usize, &str)| !name[..at].ends_with(char::is_alphanumeric);
    name.contains("://")
        || name.match_indices("www.").any(www)
        || name.match_indices('/').any(|(at, _)| ends_in_domain(&name[..at]))
}

/// `example.com`, or that and a port.
fn ends_in_domain(text: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | ':');
    let start = text
        .rfind(|c| !part(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8));
    let host = text[start..].split(':').next().unwrap_or_default();
    host.rsplit_once('.').is_some_and(|(before, last)| {
        before.ends_with(char::is_alphanumeric) && last.chars().count() >= 2 && !last.chars().any(char::is_numeric)
    })
}

/// The e-mail address without blanks around it, or what is expected. Written as mail servers take it; whether anybody reads
/// it is found out by writing there.
pub fn email(text: &str) -> Result<String, &'static str> {
    let email = text.trim();
    let shown = email.len() <= 254 && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    if shown && email.parse::<lettre::Address>().is_ok() {
        Ok(email.to_owned())
    } else {
        Err("must be an e-mail address")
    }
}

/// Slugs that addresses of the platform's own may need, or that would be taken for the platform.
const RESERVED: [&str; 20] = [
    "admin",
    "api",
    "app",
    "assets",
    "auth",
    "authsome",
    "billing",
    "blog",
    "control",
    "dashboard",
    "docs",
    "edge",
    "help",
    "login",
    "mail",
    "static",
    "status",
    "support",
    "system",
    "www",
];

/// Whether no workspace may have the slug.
pub fn is_reserved(slug: &str) -> bool {
    RESERVED.contains(&slug)
}

/// What a workspace's slug is made of where none is given; a name without ASCII letters and digits has none of its own.
pub fn stem(name: &str) -> String {
    derive(name).unwrap_or_else(|| "workspace".to_owned())
}

/// The stem and `suffix`, still a slug.
pub fn suffixed(stem: &str, suffix: &str) -> String {
    let room = SLUG_MAX.saturating_sub(suffix.len() + 1);
    let stem = &stem[..stem.floor_char_boundary(room)];
    format!("{}-{suffix}", stem.trim_end_matches('-'))
}

/// The given slug, or one made of the name.
pub fn slug(given: Option<&str>, name: &str) -> Result<String, &'static str> {
    match given {
        Some(slug) if is_slug(slug) => Ok(slug.to_owned()),
        Some(_) => Err("must be 1 to 63 lower-case letters, digits and inner hyphens"),
        None => {
            derive(name).ok_or("cannot be made of the name; give one of lower-case letters, digits and inner hyphens")
        }
    }
}

fn is_slug(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=SLUG_MAX).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Runs of anything but ASCII letters and digits become one hyphen.
fn derive(name: &str) -> Option<String> {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(SLUG_MAX);
    let slug = slug.trim_end_matches('-');
    (!slug.is_empty()).then(|| slug.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_a_dns_label() {
        for good in ["a", "acme", "a-b", "0", "a1-2b", &"x".repeat(63)] {
            assert_eq!(slug(Some(good), "").as_deref(), Ok(good));
        }
        for bad in [
            "",
            "-",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "ä",
            "a b",
            "a\0",
            &"x".repeat(64),
            "'; DROP TABLE users; --",
        ] {
            assert!(slug(Some(bad), "acme").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_is_one_that_mail_can_be_sent_to() {
        for good in [
            "ada@example.com",
            " ada@example.com ",
            "o'brien+tag@mail.example.co.uk",
            "a@x.io",
        ] {
            assert_eq!(email(good).as_deref(), Ok(good.trim()));
        }
        for bad in [
            "",
            "ada",
            "ada@",
            "@example.com",
            "a b@example.com",
            "a@b@c.io",
            "a@x.io\nBcc: b@x.io",
            "a@x.io\0",
            "Ada <ada@example.com>",
            "a@x.io,b@x.io",
            &format!("{}@example.com", "x".repeat(250)),
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_slug_made_of_a_name_is_always_valid() {
        let long = "word ".repeat(50);
        for name in [
            "Acme",
            "Acme, Inc.",
            "  --Robert'); DROP TABLE--  ",
            "Zoë & Søn 2",
            &long,
            "a\u{301}b",
        ] {
            let made = slug(None, name).unwrap();
            assert!(is_slug(&made), "{name:?} became {made:?}");
        }
        assert_eq!(slug(None, "Acme, Inc.").as_deref(), Ok("acme-inc"));
        assert!(slug(None, "日本").is_err());
    }

    #[test]
    fn names_are_any_text_that_can_be_shown() {
        assert_eq!(
            name("  O'Brien \"; DROP TABLE x; -- 日本 ").as_deref(),
            Ok("O'Brien \"; DROP TABLE x; -- 日本")
        );
        for bad in [
            "",
            "   ",
            "a\0b",
            "a\nb",
            "a\u{202e}b",
            "\u{2066}a",
            "a\u{200b}b",
            "a\u{2028}b",
            &"x".repeat(201),
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert!(
            name("\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}").is_ok(),
            "a family is one sign"
        );
        assert!(name(&"日".repeat(200)).is_ok());
    }

    #[test]
    fn titles_hold_no_web_address() {
        for bad in [
            "You won 1000 EUR! Claim now at https://evil.example/claim",
            "hxxp://x",
            "www.evil.example",
            "Go to WWW.evil.example",
            "evil.example/claim",
            "see evil.example:8080/x now",
            "(müller.de/)",
        ] {
            assert_eq!(title(bad), Err("must not hold a web address"), "{bad:?}");
        }
        for good in [
            "Booking.com",
            "Acme, Inc.",
            "Awww. Cute",
            "R&D / Ops",
            "24/7",
            "v1.2/3",
            "A/B",
            "St. Mary/North",
            "日本 🦀",
        ] {
            assert_eq!(title(good).as_deref(), Ok(good));
        }
        assert!(title("a\u{202e}b").is_err());
    }

    #[test]
    fn every_name_has_a_stem_and_with_a_suffix_it_is_a_slug() {
        for name in ["🦀", "日本", "Acme", &"x".repeat(200), &format!("{} y", "x".repeat(55))] {
            let stem = stem(name);
            assert!(
                is_slug(&stem) && is_slug(&suffixed(&stem, "k3v9qd")),
                "{name:?} became {stem:?}"
            );
        }
        assert_eq!(suffixed(&stem("🦀"), "a1"), "workspace-a1");
        assert!(RESERVED.into_iter().all(is_slug) && RESERVED.is_sorted());
    }
}
