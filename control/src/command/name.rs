//! Names and slugs: what people may call things.

/// The longest name, in characters.
const NAME_MAX: usize = 200;
/// The longest slug: a DNS label.
const SLUG_MAX: usize = 63;

/// The name without blanks around it, or what is expected. Any text is data; only what no screen can show is refused.
pub fn name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    let characters = name.chars().count();
    if !(1..=NAME_MAX).contains(&characters) || name.chars().any(char::is_control) {
        return Err("must be from 1 to 200 characters long, without control characters");
    }
    Ok(name.to_owned())
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
        for bad in ["", "   ", "a\0b", "a\nb", &"x".repeat(201)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert!(name(&"日".repeat(200)).is_ok());
    }
}
