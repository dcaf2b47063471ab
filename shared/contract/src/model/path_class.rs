//! Which credential a path needs. The table holds the defaults for an AuthSome instance; an application's policy is looked at
//! first. What no rule names is `secret`: deny by default.

use serde::{Deserialize, Serialize};

use super::Scope;

/// The credential that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "class", content = "scope")]
pub enum PathClass {
    /// None: the caller is a browser on its way through OAuth, or any verifier of tokens.
    Open,
    /// A public or a secret key.
    Publishable,
    /// A secret key with this scope; `None` is what no named scope covers and needs `*`.
    Secret(Option<Scope>),
}

/// One line of an application's own policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathRule {
    /// Upper-case methods; empty means all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Path below the application: literal segments, `*` for one segment, `**` at the end for any number, none included.
    pub pattern: String,
    /// What it needs.
    #[serde(flatten)]
    pub class: PathClass,
}

const ANY: &[&str] = &[];
const GET: &[&str] = &["GET", "HEAD"];
const POST: &[&str] = &["POST"];
const GET_POST: &[&str] = &["GET", "HEAD", "POST"];

/// The defaults, first match wins. Paths are those of the AuthSome server, relative to its base path.
const DEFAULTS: &[(&[&str], &str, PathClass)] = &[
    (ANY, "/.well-known/**", PathClass::Open),
    (GET, "/v1/social/*/callback", PathClass::Open),
    (GET_POST, "/v1/sso/*/callback", PathClass::Open),
    (POST, "/v1/sso/*/acs", PathClass::Open),
    (GET, "/v1/sso/*/metadata", PathClass::Open),
    (GET_POST, "/v1/oauth/authorize", PathClass::Open),
    (POST, "/v1/oauth/token", PathClass::Open),
    (POST, "/v1/oauth/revoke", PathClass::Open),
    (GET_POST, "/v1/oauth/userinfo", PathClass::Open),
    (POST, "/v1/oauth/device/authorize", PathClass::Open),
    (GET, "/v1/health", PathClass::Open),
    (POST, "/v1/signup", PathClass::Publishable),
    (POST, "/v1/signin", PathClass::Publishable),
    (POST, "/v1/signout", PathClass::Publishable),
    (POST, "/v1/refresh", PathClass::Publishable),
    (POST, "/v1/forgot-password", PathClass::Publishable),
    (POST, "/v1/reset-password", PathClass::Publishable),
    (POST, "/v1/change-password", PathClass::Publishable),
    (GET_POST, "/v1/verify-email", PathClass::Publishable),
    (POST, "/v1/verify-email/resend", PathClass::Publishable),
    (ANY, "/v1/me/**", PathClass::Publishable),
    (ANY, "/v1/sessions/**", PathClass::Publishable),
    (ANY, "/v1/devices/**", PathClass::Publishable),
    (GET, "/v1/client-config", PathClass::Publishable),
    (GET_POST, "/v1/social/**", PathClass::Publishable),
    (GET_POST, "/v1/sso/*", PathClass::Publishable),
    (ANY, "/v1/mfa/**", PathClass::Publishable),
    (ANY, "/v1/passkeys/**", PathClass::Publishable),
    (GET_POST, "/v1/magic-link/**", PathClass::Publishable),
    (GET_POST, "/v1/magic-links/**", PathClass::Publishable),
    (GET, "/users/**", PathClass::Secret(Some(Scope::UsersRead))),
    (ANY, "/users/**", PathClass::Secret(Some(Scope::UsersWrite))),
    (GET, "/v1/admin/users/**", PathClass::Secret(Some(Scope::UsersRead))),
    (ANY, "/v1/admin/users/**", PathClass::Secret(Some(Scope::UsersWrite))),
    (
        ANY,
        "/v1/admin/sessions/**",
        PathClass::Secret(Some(Scope::SessionsManage)),
    ),
    (POST, "/v1/introspect", PathClass::Secret(Some(Scope::SessionsManage))),
    (
        GET,
        "/v1/organizations/**",
        PathClass::Secret(Some(Scope::OrganizationsRead)),
    ),
    (
        ANY,
        "/v1/organizations/**",
        PathClass::Secret(Some(Scope::OrganizationsWrite)),
    ),
    (GET, "/v1/audit/**", PathClass::Secret(Some(Scope::AuditRead))),
    (
        GET,
        "/v1/admin/security-events/**",
        PathClass::Secret(Some(Scope::AuditRead)),
    ),
];

/// Of each letter `x`, the default rules that may fit a path that begins with `/v1/x`, and those for one that begins with `/x`:
/// one bit each.
const BY_LETTER: ([u64; 26], [u64; 26]) = {
    assert!(DEFAULTS.len() <= 64, "one bit for each rule");
    let (mut behind_version, mut first) = ([0; 26], [0; 26]);
    let mut at = 0;
    while at < DEFAULTS.len() {
        let pattern = DEFAULTS[at].1.as_bytes();
        // Whatever else a rule is about parts from such a path within its first bytes.
        match pattern {
            [b'/', b'v', b'1', b'/', letter @ b'a'..=b'z', ..] => behind_version[(*letter - b'a') as usize] |= 1 << at,
            [b'/', b'.', ..] => {}
            [b'/', b'u', ..] => first[(b'u' - b'a') as usize] |= 1 << at,
            _ => panic!("a rule that other paths fit, too"),
        }
        at += 1;
    }
    (behind_version, first)
};

/// The default rules that may fit, one bit each: most paths begin with `/v1/` and a letter, or with another letter, and need
/// not be held against the rules of the others.
fn candidates(path: &str) -> u64 {
    match path.as_bytes() {
        [b'/', b'v', b'1', b'/', letter @ b'a'..=b'z', ..] => BY_LETTER.0[usize::from(letter - b'a')],
        // With a `v` it may be the version, however it is written.
        [b'/', b'v', ..] => u64::MAX,
        [b'/', letter @ b'a'..=b'z', ..] => BY_LETTER.1[usize::from(letter - b'a')],
        _ => u64::MAX,
    }
}

/// The class of `method path`, where `path` is relative to the application and has no query.
///
/// A path that two servers could read differently (dot segments, empty segments, encoded separators, backslashes) matches no
/// rule: `/v1/me/../admin/users` must never pass as `/v1/me/**`. Where an instance may be more tolerant than the edge (letter
/// case, escapes, a slash at the end, the case of a method), a rule that fits by the tolerant reading still counts: the path has
/// the strictest class of every rule that fits so, down to the first that fits exactly. An application that keeps
/// `/v1/me/export` for secret keys keeps `/v1/me/%65xport/` for them too. Allocates nothing.
pub fn classify(policy: &[PathRule], method: &str, path: &str) -> PathClass {
    if is_ambiguous(path) {
        return PathClass::Secret(None);
    }
    let own = policy.iter().map(|rule| {
        let fit = || Some(fit(&rule.pattern, path)?.and(methods_fit(rule.methods.iter().map(String::as_str), method)?));
        (fit(), rule.class)
    });
    let mut left = candidates(path);
    let candidates = std::iter::from_fn(|| {
        let at = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        DEFAULTS.get(at as usize)
    });
    let defaults = candidates.map(|(methods, pattern, class)| {
        let fit = || Some(fit(pattern, path)?.and(methods_fit(methods.iter().copied(), method)?));
        (fit(), *class)
    });
    let mut strictest = None;
    for (fit, class) in own.chain(defaults) {
        let Some(fit) = fit else { continue };
        let class = strictest.map_or(class, |so_far: PathClass| so_far.and(class));
        if fit == Fit::Exact {
            return class;
        }
        strictest = Some(class);
    }
    PathClass::Secret(None)
}

/// The defaults as they are documented: methods (empty is any), pattern, class.
pub fn defaults() -> impl Iterator<Item = (&'static [&'static str], &'static str, PathClass)> {
    DEFAULTS.iter().copied()
}

impl PathClass {
    /// The class that admits only what both admit.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Secret(one), Self::Secret(two)) if one == two => self,
            (Self::Secret(_), Self::Secret(_)) => Self::Secret(None),
            (Self::Secret(_), _) | (Self::Publishable, Self::Open) => self,
            _ => other,
        }
    }
}

/// Longest pattern of a rule, bytes.
pub const PATTERN_BYTES: usize = 256;

/// Is this a pattern that a path can match: segments of printable ASCII, `*` only as a whole segment, `**` only as the last?
pub fn is_pattern(pattern: &str) -> bool {
    if pattern.len() > PATTERN_BYTES || !pattern.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#') {
        return false;
    }
    let wildcards_stand_alone = pattern
        .strip_suffix("/**")
        .unwrap_or(pattern)
        .split('/')
        .all(|segment| segment == "*" || !segment.contains('*'));
    wildcards_stand_alone && !is_ambiguous(pattern)
}

/// Could two servers read this path differently?
pub(super) fn is_ambiguous(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else {
        return true;
    };
    let bytes = rest.as_bytes();
    // Without a way out of the loop many bytes are looked at at once.
    let odd = |b: &u8| matches!(b, b'\\' | b';' | 0..=0x20 | 0x7f);
    if bytes.iter().fold(false, |so_far, b| so_far | odd(b)) {
        return true;
    }
    // Parameters of a segment, which some servers cut off, can be escaped too.
    if bytes.contains(&b'%') && (has_ambiguous_escape(bytes, *b"3b") || has_odd_escape(bytes)) {
        return true;
    }
    let mut rest = bytes;
    loop {
        let end = rest.iter().position(|b| *b == b'/');
        match (&rest[..end.unwrap_or(rest.len())], end) {
            (b"." | b"..", _) | (b"", Some(_)) => return true,
            (_, None) => return false,
            (_, Some(end)) => rest = &rest[end + 1..],
        }
    }
}

/// Is there an escape that is none, one that may end the path for whoever decodes it too early (`?`, `#`), or one that begins
/// an overlong UTF-8 form of another character?
fn has_odd_escape(path: &[u8]) -> bool {
    path.iter().enumerate().filter(|(_, b)| **b == b'%').any(|(at, _)| {
        let Some(&[high, low]) = path.get(at + 1..at + 3) else {
            return true;
        };
        let digits = [high, low.to_ascii_lowercase()];
        !high.is_ascii_hexdigit()
            || !low.is_ascii_hexdigit()
            || matches!(digits, [b'3', b'f'] | [b'2', b'3'] | [b'c' | b'C', b'0' | b'1'])
    })
}

/// Is there an escape that two servers could read differently: of a separator, a dot, a percent sign or a control character
/// below 0x20, in either case, decodable or not? `also` is one more that counts for the caller: two lower-case hex digits.
pub fn has_ambiguous_escape(path: &[u8], also: [u8; 2]) -> bool {
    path.contains(&b'%')
        && path.windows(3).any(|w| {
            let digits = [w[1], w[2].to_ascii_lowercase()];
            w[0] == b'%'
                && (digits == also || matches!(digits, [b'2', b'e' | b'f' | b'5'] | [b'5', b'c'] | [b'0' | b'1', _]))
        })
}

/// Does `path` match `pattern` to the letter? Allocates nothing.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    fit(pattern, path) == Some(Fit::Exact)
}

/// How a rule fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// To the letter.
    Exact,
    /// For a server that is tolerant.
    Tolerant,
}

impl Fit {
    fn and(self, other: Self) -> Self {
        if self == Self::Exact { other } else { self }
    }
}

/// No methods are all of them. What answers GET answers HEAD.
fn methods_fit<'a>(mut methods: impl ExactSizeIterator<Item = &'a str> + Clone, method: &str) -> Option<Fit> {
    let exact = |name: &str| name == method || (name == "GET" && method == "HEAD");
    if methods.len() == 0 || methods.clone().any(exact) {
        return Some(Fit::Exact);
    }
    methods
        .any(|name| name.eq_ignore_ascii_case(method))
        .then_some(Fit::Tolerant)
}

/// Do the two part where both mean what they say, before any wildcard or escape? Then they do not fit by any reading. Most
/// rules are done with here after a few bytes, in a tenth of the time that going through their segments takes.
#[inline]
fn part_early(pattern: &str, path: &str) -> bool {
    // Both begin with a slash, and at the next byte most pairs part already.
    if let ([b'/', wanted, ..], [b'/', given, ..]) = (pattern.as_bytes(), path.as_bytes()) {
        let says_more = *wanted == b'*' || *wanted == b'%' || *given == b'%';
        if !says_more && (wanted | 0x20) != (given | 0x20) {
            return true;
        }
    }
    for (wanted, given) in pattern.bytes().zip(path.bytes()) {
        // Most pairs are the same letter; asked first, that is all that is asked of them.
        let says_more = wanted == b'*' || wanted == b'%' || given == b'%';
        if says_more {
            return false;
        }
        if wanted != given && !wanted.eq_ignore_ascii_case(&given) {
            return true;
        }
    }
    false
}

#[inline]
fn fit(pattern: &str, path: &str) -> Option<Fit> {
    if part_early(pattern, path) {
        return None;
    }
    fit_by_segments(pattern, path)
}

fn fit_by_segments(pattern: &str, path: &str) -> Option<Fit> {
    let (mut wanted, mut given) = (segments(pattern), segments(path));
    let mut fit = Fit::Exact;
    loop {
        match (wanted.next(), given.next()) {
            (Some(b"**"), _) => return Some(fit),
            (None, None) if pattern.ends_with('/') == path.ends_with('/') => return Some(fit),
            (None, None) => return Some(Fit::Tolerant),
            (Some(b"*"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            (Some(literal), Some(segment)) if decoded(literal).eq(decoded(segment)) => fit = Fit::Tolerant,
            _ => return None,
        }
    }
}

/// Between slashes, the last of which may be missing. Short ones are found sooner by looking at each byte than by what searches
/// long texts: `str::split` takes four times as much.
fn segments(path: &str) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(path.strip_suffix('/').unwrap_or(path).as_bytes());
    std::iter::from_fn(move || {
        let here = rest?;
        let end = here.iter().position(|byte| *byte == b'/');
        rest = end.map(|end| &here[end + 1..]);
        Some(&here[..end.unwrap_or(here.len())])
    })
}

/// The bytes of a segment without its escapes, in lower case.
fn decoded(segment: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = segment.iter().copied();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        if byte != b'%' {
            return Some(byte.to_ascii_lowercase());
        }
        let mut ahead = bytes.clone();
        let digits = ahead.next().zip(ahead.next());
        let value = digits.and_then(|(high, low)| {
            let high = char::from(high).to_digit(16)?;
            let low = char::from(low).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        });
        if value.is_some() {
            bytes = ahead;
        }
        Some(value.unwrap_or(byte).to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests;
