//! Taking secrets out of what instances say. Pure.
//!
//! An instance may write to its log what it was given, and whoever reads the log need not know it. What is taken out is each
//! known secret as it is, as JSON writes it, and line by line where it has several; and whatever has the form of an API key of the
//! platform.

use authsome_core::secret::{ExposeSecret, SecretString, SecretUrl, Zeroizing};
use url::Url;

use crate::runtime::Workload;

/// Shorter texts are in too many words to be taken out of them.
const SHORTEST: usize = 4;
/// A line of a longer secret, such as of a private key, that is by itself as good as secret.
const SHORTEST_LINE: usize = 16;
/// What stands in the place of a secret.
const MARK: &str = "***";
/// Lines of an excerpt, and characters of each.
const LINES: usize = 8;
const WIDTH: usize = 200;

/// The texts that must not be repeated.
#[derive(Default)]
pub struct Redaction(Vec<Zeroizing<String>>);

impl Redaction {
    /// Of nothing but API keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// And of this secret.
    #[must_use]
    pub fn and(mut self, secret: &SecretString) -> Self {
        self.add(secret.expose_secret());
        self
    }

    /// And of these.
    #[must_use]
    pub fn and_all<'a>(self, secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        secrets.into_iter().fold(self, Self::and)
    }

    /// And of all that an instance is given.
    #[must_use]
    pub fn and_workload(self, workload: &Workload) -> Self {
        self.and_url(&workload.database_url)
            .and_url(&workload.redis_url)
            .and_all(workload.secrets.iter().map(|(_, value)| value))
    }

    /// And of this address and the password in it.
    #[must_use]
    pub fn and_url(mut self, url: &SecretUrl) -> Self {
        self.add(url.expose());
        if let Some(password) = Url::parse(url.expose())
            .ok()
            .and_then(|url| url.password().map(str::to_owned))
        {
            self.add(&password);
        }
        self
    }

    fn add(&mut self, text: &str) {
        let quoted = serde_json::Value::from(text).to_string();
        let escaped = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        let mut known = vec![text, escaped, text.trim()];
        if text.contains('\n') {
            known.extend(text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE));
        }
        for text in known {
            if text.len() >= SHORTEST && !self.0.iter().any(|old| **old == *text) {
                self.0.push(Zeroizing::new(text.to_owned()));
            }
        }
        // A secret that is part of another must not take its middle out.
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }

    /// The text without them.
    pub fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MARK);
            }
        }
        without_keys(text)
    }
}

/// The last lines of a log for a person to read, without secrets: at most `LINES`, each cut after `WIDTH` characters, and
/// nothing that would steer a terminal.
pub fn excerpt(text: &str, redaction: &Redaction) -> String {
    // Before, since a secret may have such characters in it; and after, since taking them out may put one together.
    let plain = redaction.apply(&without_controls(&redaction.apply(text)));
    let lines: Vec<&str> = plain
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    let cut = |line: &&str| match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => (*line).to_owned(),
    };
    last.map(cut).collect::<Vec<_>>().join("\n")
}

/// Without control characters but line ends and tabs, and without what a terminal reads behind an escape.
fn without_controls(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            while rest.next_if(|c| !c.is_ascii_alphabetic() && !c.is_control()).is_some() {}
            rest.next_if(char::is_ascii_alphabetic);
        } else if !c.is_control() || c == '\n' || c == '\t' {
            plain.push(c);
        }
    }
    plain
}

/// `sk_live_…` and `sk_test_…` with at least 8 characters behind, cut short after the first four of them.
fn without_keys(text: String) -> String {
    const SHOWN: usize = 4;
    const LEAST: usize = 8;
    let mut from = 0;
    let mut out = String::new();
    while let Some(found) = ["sk_live_", "sk_test_"]
        .iter()
        .filter_map(|prefix| text[from..].find(prefix).map(|at| from + at + prefix.len()))
        .min()
    {
        let rest = &text[found..];
        let length = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            .count();
        if length >= LEAST {
            out.push_str(&text[from..found + SHOWN]);
            out.push_str(MARK);
        } else {
            out.push_str(&text[from..found + length]);
        }
        from = found + length;
    }
    if from == 0 {
        return text;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_secret_is_taken_out_however_a_log_writes_it() {
        let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n";
        let url = SecretUrl::parse("postgres://app:hunter22@db/x").unwrap();
        let redaction = Redaction::new().and_url(&url).and_all([
            &secret("say \"friend\""),
            &secret(pem),
            &secret("short hunter22 long"),
        ]);
        for (said, shown) in [
            ("cannot use postgres://app:hunter22@db/x", "cannot use ***"),
            ("password hunter22", "password ***"),
            (r#"{"password":"say \"friend\""}"#, r#"{"password":"***"}"#),
            ("short hunter22 long", "***"),
            ("MIIEvQIBADANBgkqhkiG9w0B", "***"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redaction.apply(said), shown);
        }
        assert!(
            !redaction
                .apply(&serde_json::json!({ "key": pem }).to_string())
                .contains("MIIE")
        );
    }

    #[test]
    fn api_keys_of_the_platform_are_cut_short() {
        let redaction = Redaction::new();
        for (said, shown) in [
            ("key sk_live_ab12cd34_AAAAAAAA used", "key sk_live_ab12*** used"),
            (
                "sk_test_0123456789,sk_live_0123456789",
                "sk_test_0123***,sk_live_0123***",
            ),
            ("sk_live_", "sk_live_"),
            ("sk_live_short", "sk_live_short"),
            ("pk_live_ab12cd34_AAAA is public", "pk_live_ab12cd34_AAAA is public"),
        ] {
            assert_eq!(redaction.apply(said), shown);
        }
    }

    #[test]
    fn an_excerpt_is_the_last_lines_without_colours_and_secrets() {
        let redaction = Redaction::new().and(&secret("hunter22"));
        let lines: Vec<String> = (0..20).map(|n| format!("line {n}\r\n\n")).collect();
        let shown = excerpt(&lines.concat(), &redaction);
        assert_eq!(shown.lines().count(), LINES);
        assert!(shown.starts_with("line 12\n") && shown.ends_with("line 19"));
        assert_eq!(
            excerpt("\u{1b}[1;31mERROR\u{1b}[0m hunt\u{1b}[0mer22 hunter22\u{7}", &redaction),
            "ERROR *** ***"
        );
        let long = excerpt(&"é".repeat(500), &redaction);
        assert_eq!(long.chars().count(), WIDTH + 1);
        assert_eq!(excerpt("\u{1b}", &redaction), "");
    }

    proptest! {
        #[test]
        fn no_known_secret_survives(before in "\\PC{0,20}", value in "\\PC{4,40}", after in "\\PC{0,20}") {
            prop_assume!(!MARK.contains(&value) && !value.contains('*'));
            let shown = Redaction::new().and(&secret(&value)).apply(&format!("{before}{value}{after}"));
            prop_assert!(!shown.contains(&value), "{shown}");
        }
    }
}
