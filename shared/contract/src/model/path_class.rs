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

/// The class of `method path`, where `path` is relative to the application and has no query.
///
/// A path that two servers could read differently (dot segments, empty segments, encoded separators, backslashes) matches no
/// rule: `/v1/me/../admin/users` must never pass as `/v1/me/**`.
pub fn classify(policy: &[PathRule], method: &str, path: &str) -> PathClass {
    if is_ambiguous(path) {
        return PathClass::Secret(None);
    }
    let own = policy
        .iter()
        .find(|rule| {
            (rule.methods.is_empty() || rule.methods.iter().any(|name| name == method)) && matches(&rule.pattern, path)
        })
        .map(|rule| rule.class);
    own.unwrap_or_else(|| {
        DEFAULTS
            .iter()
            .find(|(methods, pattern, _)| (methods.is_empty() || methods.contains(&method)) && matches(pattern, path))
            .map_or(PathClass::Secret(None), |(_, _, class)| *class)
    })
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
    // Parameters of a segment, which some servers cut off, can be escaped too. Other escapes cannot make a literal rule match.
    let escaped = has_ambiguous_escape(bytes, *b"3b");
    if escaped || bytes.iter().any(|b| matches!(b, b'\\' | b';' | 0..=0x20 | 0x7f)) {
        return true;
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if segment == "." || segment == ".." || (segment.is_empty() && !last) {
            return true;
        }
    }
    false
}

/// Is there an escape that two servers could read differently: of a separator, a dot, a percent sign or a control character
/// below 0x20, in either case, decodable or not? `also` is one more that counts for the caller: two lower-case hex digits.
pub fn has_ambiguous_escape(path: &[u8], also: [u8; 2]) -> bool {
    path.windows(3).any(|w| {
        let digits = [w[1], w[2].to_ascii_lowercase()];
        w[0] == b'%'
            && (digits == also || matches!(digits, [b'2', b'e' | b'f' | b'5'] | [b'5', b'c'] | [b'0' | b'1', _]))
    })
}

/// Does `path` match `pattern`? Allocates nothing.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut given = path.split('/');
    loop {
        match (wanted.next(), given.next()) {
            (Some("**"), _) | (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(method: &str, path: &str) -> PathClass {
        classify(&[], method, path)
    }

    #[test]
    fn the_sdk_paths_have_their_classes() {
        assert_eq!(class("GET", "/.well-known/jwks.json"), PathClass::Open);
        assert_eq!(class("GET", "/v1/health"), PathClass::Open);
        assert_eq!(class("GET", "/v1/social/github/callback"), PathClass::Open);
        assert_eq!(class("POST", "/v1/sso/okta/acs"), PathClass::Open);
        assert_eq!(class("POST", "/v1/oauth/token"), PathClass::Open);
        for path in ["/v1/signup", "/v1/signin", "/v1/signout", "/v1/refresh"] {
            assert_eq!(class("POST", path), PathClass::Publishable);
        }
        assert_eq!(class("GET", "/v1/me"), PathClass::Publishable);
        assert_eq!(class("DELETE", "/v1/sessions/ases_1"), PathClass::Publishable);
        assert_eq!(class("GET", "/users"), PathClass::Secret(Some(Scope::UsersRead)));
        assert_eq!(
            class("PATCH", "/users/ausr_1"),
            PathClass::Secret(Some(Scope::UsersWrite))
        );
        assert_eq!(class("GET", "/v1/admin/settings"), PathClass::Secret(None));
    }

    #[test]
    fn what_no_rule_names_needs_a_secret_key_with_every_scope() {
        for path in [
            "/",
            "/v1",
            "/v2/me",
            "/V1/me",
            "/v1/mexico",
            "/v1/signup/extra",
            "/anything",
            "/v1/me2/x",
        ] {
            assert_eq!(class("POST", path), PathClass::Secret(None), "{path}");
        }
        assert_eq!(class("DELETE", "/v1/signup"), PathClass::Secret(None));
        assert_eq!(class("PUT", "/v1/oauth/token"), PathClass::Secret(None));
    }

    #[test]
    fn paths_that_servers_read_differently_never_match_a_rule() {
        for path in [
            "/v1/me/../admin/users",
            "/v1/me/./x",
            "/v1/me//x",
            "//v1/me",
            "/v1/me/%2e%2e/admin",
            "/v1/me/.%2E/admin",
            "/v1/me%2fx",
            "/v1/me/%5c..",
            "/v1/me/..\\admin",
            "/v1/me/%252e%252e/admin",
            "/v1/me/..;/admin",
            "/v1/me/x%00",
            "/.well-known/../users",
            "v1/me",
            "",
        ] {
            assert_eq!(class("GET", path), PathClass::Secret(None), "{path}");
        }
    }

    #[test]
    fn an_application_policy_comes_first() {
        let rule = |methods: &[&str], pattern: &str, class| PathRule {
            methods: methods.iter().map(ToString::to_string).collect(),
            pattern: pattern.to_owned(),
            class,
        };
        let policy = [
            rule(&["GET"], "/v1/me", PathClass::Secret(None)),
            rule(&[], "/public/**", PathClass::Open),
        ];
        assert_eq!(classify(&policy, "GET", "/v1/me"), PathClass::Secret(None));
        assert_eq!(classify(&policy, "PATCH", "/v1/me"), PathClass::Publishable);
        assert_eq!(classify(&policy, "GET", "/public"), PathClass::Open);
        assert_eq!(classify(&policy, "GET", "/public/a/b"), PathClass::Open);
        assert_eq!(classify(&policy, "GET", "/public/../users"), PathClass::Secret(None));
    }

    #[test]
    fn a_pattern_that_no_path_can_match_is_not_one() {
        for pattern in [
            "/",
            "/**",
            "/a",
            "/a/",
            "/*/b",
            "/a/*/**",
            "/.well-known/**",
            "/a/b.c-d_e~f:g@h",
        ] {
            assert!(is_pattern(pattern), "{pattern}");
        }
        let long = format!("/{}", "a".repeat(PATTERN_BYTES));
        for pattern in [
            "", "a", "**", "/a*", "/**/a", "/***", "//a", "/a/../b", "/a%2fb", "/a b", "/a?b", "/a#b", "/é", &long,
        ] {
            assert!(!is_pattern(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_policy_survives_its_json() {
        let json = r#"[{"pattern":"/x/*","class":"secret","scope":"users:read"},{"methods":["GET"],"pattern":"/y","class":"open"}]"#;
        let policy: Vec<PathRule> = serde_json::from_str(json).unwrap();
        assert_eq!(policy[0].class, PathClass::Secret(Some(Scope::UsersRead)));
        assert_eq!(policy[1].class, PathClass::Open);
        let again: Vec<PathRule> = serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
        assert_eq!(again, policy);
    }

    proptest! {
        #[test]
        fn any_text_is_classified_without_panic(method in "[A-Z]{0,8}", path in ".{0,60}") {
            let _ = class(&method, &path);
        }

        #[test]
        fn a_dot_segment_anywhere_is_never_weaker_than_secret(
            before in "(/[a-z0-9-]{1,8}){0,3}", after in "(/[a-z0-9-]{1,8}){0,3}",
            dots in prop::sample::select(vec!["..", ".", "%2e%2e", "%2E.", "..%2f"]),
        ) {
            let path = format!("{before}/{dots}{after}");
            prop_assert_eq!(class("GET", &path), PathClass::Secret(None));
        }
    }
}
