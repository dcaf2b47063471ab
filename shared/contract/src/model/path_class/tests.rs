use std::fmt::Write;

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

#[test]
fn a_tolerant_instance_opens_nothing_that_a_rule_closes() {
    let rule = |methods: &[&str], pattern: &str, class| PathRule {
        methods: methods.iter().map(ToString::to_string).collect(),
        pattern: pattern.to_owned(),
        class,
    };
    let policy = [
        rule(&["GET"], "/v1/me/export", PathClass::Secret(Some(Scope::AuditRead))),
        rule(&[], "/public/**", PathClass::Open),
    ];
    let closed = PathClass::Secret(Some(Scope::AuditRead));
    for (method, path) in [
        ("GET", "/v1/me/export"),
        ("HEAD", "/v1/me/export"),
        ("get", "/v1/me/export"),
        ("GET", "/v1/me/export/"),
        ("GET", "/v1/me/EXPORT"),
        ("GET", "/v1/me/%65xport"),
        ("GET", "/v1/me/%45xport/"),
    ] {
        assert_eq!(classify(&policy, method, path), closed, "{method} {path}");
    }
    assert_eq!(classify(&policy, "GET", "/v1/me/exports"), PathClass::Publishable);
    assert_eq!(classify(&policy, "POST", "/v1/me/export"), PathClass::Publishable);
    // A path that is open to the letter stays open; one that only looks like it does not become so.
    assert_eq!(classify(&policy, "GET", "/public/Report%41"), PathClass::Open);
    assert_eq!(classify(&policy, "GET", "/Public/report"), PathClass::Secret(None));
    assert_eq!(class("POST", "/v1/signup/"), PathClass::Secret(None));
    assert_eq!(class("post", "/v1/signup"), PathClass::Secret(None));
}

#[test]
fn escapes_that_are_none_or_that_hide_a_separator_match_no_rule() {
    for path in [
        "/v1/me/%",
        "/v1/me/%6",
        "/v1/me/%zz",
        "/v1/me/%u002f",
        "/v1/me/x%3fy",
        "/v1/me/x%23y",
        "/v1/me/x%3Bv",
        "/v1/me/%c0%af..",
        "/v1/me/%C1%9c",
    ] {
        assert_eq!(class("GET", path), PathClass::Secret(None), "{path}");
    }
}

/// The table of docs/security.md is the one that decides.
#[test]
fn the_documented_table_is_the_one_in_the_code() {
    let mut table = String::from("| Methods | Path | Needs |\n|---|---|---|\n");
    for (methods, pattern, class) in defaults() {
        let methods = if methods.is_empty() {
            "any".to_owned()
        } else {
            methods.join(", ")
        };
        let needs = match class {
            PathClass::Open => "no key".to_owned(),
            PathClass::Publishable => "a publishable or a secret key".to_owned(),
            PathClass::Secret(Some(scope)) => format!("a secret key with `{scope}`"),
            PathClass::Secret(None) => "a secret key with `*`".to_owned(),
        };
        writeln!(table, "| {methods} | `{pattern}` | {needs} |").unwrap();
    }
    table.push_str("| any | everything else | a secret key with `*` |\n");
    let documented = include_str!("../../../../../docs/security.md");
    let documented = documented
        .split_once("<!-- path classes -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- end -->"))
        .map(|(table, _)| table);
    assert_eq!(documented, Some(table.as_str()));
}

/// What the most tolerant of servers makes of a path: escapes undone, letters lower, parameters and empty segments dropped, dot
/// segments followed, no slash at the end.
fn normalised(path: &str) -> String {
    let mut text: Vec<u8> = path.bytes().collect();
    for _ in 0..3 {
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let escape = text
                .get(at + 1..at + 3)
                .and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
            if let Some(byte) = escape.filter(|_| text[at] == b'%') {
                out.push(byte);
                at += 3;
            } else {
                out.push(text[at]);
                at += 1;
            }
        }
        text = out;
    }
    let text = String::from_utf8_lossy(&text).to_lowercase().replace('\\', "/");
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Does everything that opens `one` open `other`?
fn is_at_least_as_strict(one: PathClass, other: PathClass) -> bool {
    match (one, other) {
        (_, PathClass::Open)
        | (PathClass::Publishable | PathClass::Secret(_), PathClass::Publishable)
        | (PathClass::Secret(None), PathClass::Secret(_)) => true,
        (PathClass::Secret(one), PathClass::Secret(other)) => one == other,
        _ => false,
    }
}

fn any_class() -> impl Strategy<Value = PathClass> {
    prop::sample::select(vec![
        PathClass::Open,
        PathClass::Publishable,
        PathClass::Secret(Some(Scope::UsersRead)),
        PathClass::Secret(Some(Scope::AuditRead)),
        PathClass::Secret(None),
    ])
}

const WORDS: [&str; 9] = [
    "v1",
    "me",
    "users",
    "admin",
    "social",
    "callback",
    "export",
    "signup",
    ".well-known",
];

fn any_policy() -> impl Strategy<Value = Vec<PathRule>> {
    let word = prop::sample::select([&WORDS[..], &["*"]].concat());
    let pattern = (prop::collection::vec(word, 1..4), any::<bool>())
        .prop_map(|(words, deep)| format!("/{}{}", words.join("/"), if deep { "/**" } else { "" }));
    let methods = prop::sample::select(vec![vec![], vec!["GET".to_owned()], vec!["POST".to_owned()]]);
    let rule = (methods, pattern, any_class()).prop_map(|(methods, pattern, class)| PathRule {
        methods,
        pattern,
        class,
    });
    prop::collection::vec(rule, 0..5)
}

/// A path of known words, written in a way that some server understands.
fn any_spelling() -> impl Strategy<Value = String> {
    let spelt =
        (prop::sample::select(&WORDS[..]), 0_u8..9, any::<prop::sample::Index>()).prop_map(|(word, how, at)| {
            let at = at.index(word.len());
            let (before, letter, after) = (&word[..at], word.as_bytes()[at], &word[at + 1..]);
            match how {
                0 => word.to_uppercase(),
                1 => format!("{before}%{letter:02x}{after}"),
                2 => format!("{before}%{letter:02X}{after}"),
                3 => format!("{before}%25{letter:02x}{after}"),
                4 => format!("{word};v=1"),
                5 => format!("{word}%3b"),
                6 => format!("x/../{word}"),
                _ => word.to_owned(),
            }
        });
    let separator = prop::sample::select(vec!["/", "/", "/", "/", "//", "/./", "%2f", "\\", "/%2e/"]);
    let end = prop::sample::select(vec![
        "", "", "", "/", "//", "/.", "%2f", "%3fx", "%23", ";", "%00", "/..",
    ]);
    (prop::collection::vec((separator, spelt), 1..5), end).prop_map(|(segments, end)| {
        let mut path = String::new();
        for (separator, word) in segments {
            path.push_str(separator);
            path.push_str(&word);
        }
        path.push_str(end);
        path
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_spelling_of_a_path_is_more_open_than_the_path(
        policy in any_policy(), path in any_spelling(),
        method in prop::sample::select(vec!["GET", "POST", "HEAD", "get", "DELETE"]),
    ) {
        let plain = normalised(&path);
        let (given, meant) = (classify(&policy, method, &path), classify(&policy, method, &plain));
        prop_assert!(is_at_least_as_strict(given, meant), "{path} is {given:?}, {plain} is {meant:?}");
        let (given, meant) = (classify(&policy, method, &path), classify(&policy, &method.to_uppercase(), &path));
        prop_assert!(is_at_least_as_strict(given, meant), "{method} {path} is {given:?}, in upper case {meant:?}");
    }
}

proptest! {
    #[test]
    fn a_rule_that_is_no_candidate_would_not_have_fitted(path in any_spelling()) {
        let candidates = candidates(&path);
        for (at, (_, pattern, _)) in defaults().enumerate() {
            let fitted = fit_by_segments(pattern, &path);
            prop_assert!(candidates >> at & 1 != 0 || fitted.is_none(), "{pattern} {path}");
        }
    }

    #[test]
    fn what_parts_early_would_not_have_fitted(policy in any_policy(), path in any_spelling()) {
        for pattern in policy.iter().map(|rule| rule.pattern.as_str()).chain(defaults().map(|(_, pattern, _)| pattern)) {
            let slowly = fit_by_segments(pattern, &path);
            prop_assert_eq!(fit(pattern, &path), slowly, "{} {}", pattern, path);
        }
    }
}
