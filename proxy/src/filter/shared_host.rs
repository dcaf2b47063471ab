//! What an instance may not do to the host that all applications share.
//!
//! Owns the rewriting of answers on `api…/v1/{appId}/…`: a cookie, a redirect or an origin-wide header of one application must
//! not reach another's paths. Pure functions of one header value; depends on nothing. None of this applies on a host of the
//! application's own.

/// A `Set-Cookie` value confined to the application's `prefix` (`/v1/app_…`), or `None` for a cookie that cannot be: the
/// `__Host-` prefix demands `Path=/`.
pub fn confine_cookie(value: &str, prefix: &str) -> Option<String> {
    let mut parts = value.split(';');
    let pair = parts.next()?.trim();
    // Without `=` the whole text is the value of a nameless cookie; browsers read a prefix there too.
    let name = pair.split_once('=').map_or(pair, |(name, _)| name).trim();
    let text = if name.is_empty() {
        pair.trim_start_matches('=').trim_start()
    } else {
        name
    };
    if text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("__host-")) {
        return None;
    }
    let mut confined = String::with_capacity(value.len() + prefix.len() + 8);
    confined.push_str(pair);
    for attribute in parts {
        let attribute = attribute.trim();
        let name = attribute.split_once('=').map_or(attribute, |(name, _)| name).trim();
        if !attribute.is_empty() && !name.eq_ignore_ascii_case("path") && !name.eq_ignore_ascii_case("domain") {
            confined.push_str("; ");
            confined.push_str(attribute);
        }
    }
    confined.push_str("; Path=");
    confined.push_str(prefix);
    Some(confined)
}

/// What a `Location` needs to be understood.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The application's prefix on the shared host: `/v1/app_…`.
    pub prefix: &'a str,
    /// The prefix that the instance serves below; empty or `/…`.
    pub base_path: &'a str,
    /// The host that the client named.
    pub host: &'a [u8],
    /// Is this authority (`host:port`) one of the instance's own addresses?
    pub is_internal: &'a dyn Fn(&str) -> bool,
}

/// A `Location` as the client must see it; `None` if it may stay as it is.
///
/// Root-relative targets and targets at the instance's own or the shared host's origin become root-relative below the prefix.
/// What already begins with the prefix came from an instance that knows `X-Forwarded-Prefix`.
pub fn rewrite_location(value: &str, place: &Place<'_>) -> Option<String> {
    let value = value.trim();
    let path = if let Some(rest) = strip_scheme(value).or_else(|| value.strip_prefix("//")) {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let own = authority.as_bytes().eq_ignore_ascii_case(place.host) || (place.is_internal)(authority);
        if !own {
            return None;
        }
        path
    } else if value.starts_with('/') && !value.starts_with("/\\") {
        value
    } else {
        // Relative to the request's own path, or another host's business.
        return None;
    };
    let rooted = path.starts_with('/');
    if rooted && is_below(path, place.prefix) {
        // At an internal origin the path is right and the origin is not.
        return (path.len() != value.len()).then(|| path.to_owned());
    }
    let own = if rooted && !place.base_path.is_empty() && is_below(path, place.base_path) {
        &path[place.base_path.len()..]
    } else {
        path
    };
    let mut rewritten = String::with_capacity(place.prefix.len() + own.len() + 1);
    rewritten.push_str(place.prefix);
    if !own.starts_with('/') {
        rewritten.push('/');
    }
    rewritten.push_str(own);
    Some(rewritten)
}

/// A `Refresh` (`5; url=/login`) as the client must see it; `None` if it may stay as it is.
pub fn rewrite_refresh(value: &str, place: &Place<'_>) -> Option<String> {
    let at = value.find([';', ','])?;
    let (delay, rest) = value.split_at(at + 1);
    let rest = rest.trim_start();
    let url = match rest.get(..3) {
        Some(name) if name.eq_ignore_ascii_case("url") => rest[3..].trim_start().strip_prefix('=')?.trim(),
        // Browsers take the address without its name too.
        _ => rest,
    };
    let bare = url
        .strip_prefix(['"', '\''])
        .map_or(url, |quoted| quoted.split(['"', '\'']).next().unwrap_or_default());
    let rewritten = rewrite_location(bare, place)?;
    Some(format!("{delay} url={rewritten}"))
}

fn strip_scheme(value: &str) -> Option<&str> {
    let (scheme, rest) = value.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

/// Is `path` equal to `prefix` or below it?
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Would a browser run script in an answer of this content type? Such documents are sandboxed away from the shared origin.
pub fn is_document(content_type: Option<&[u8]>) -> bool {
    let Some(content_type) = content_type else { return true };
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let essence = content_type[..end].trim_ascii();
    [
        "text/html",
        "application/xhtml+xml",
        "image/svg+xml",
        "text/xml",
        "application/xml",
        "application/pdf",
    ]
    .iter()
    .any(|document| essence.eq_ignore_ascii_case(document.as_bytes()))
        || essence.is_empty()
        || !content_type.is_ascii()
        || essence
            .last_chunk::<4>()
            .is_some_and(|end| end.eq_ignore_ascii_case(b"+xml"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &str = "/v1/app_x";

    #[test]
    fn a_cookie_is_confined_to_its_application() {
        let confined = |value| confine_cookie(value, PREFIX).unwrap();
        assert_eq!(confined("a=b"), "a=b; Path=/v1/app_x");
        assert_eq!(
            confined("s=1; Path=/; Domain=authsome.cloud; HttpOnly; Secure; SameSite=Lax; Max-Age=5"),
            "s=1; HttpOnly; Secure; SameSite=Lax; Max-Age=5; Path=/v1/app_x"
        );
        assert_eq!(
            confined("s=1;PATH = /other ;dOmAiN=x; path=/; ;"),
            "s=1; Path=/v1/app_x"
        );
        assert_eq!(
            confined("__Secure-s=1; Secure; Path=/"),
            "__Secure-s=1; Secure; Path=/v1/app_x"
        );
    }

    #[test]
    fn a_host_cookie_is_dropped() {
        for value in [
            "__Host-s=1; Secure; Path=/",
            "__host-s=1",
            " __HOST-s = 1",
            "=__Host-s=1",
            "__Host-s",
        ] {
            assert_eq!(confine_cookie(value, PREFIX), None, "{value}");
        }
    }

    fn location(value: &str) -> Option<String> {
        let place = Place {
            prefix: PREFIX,
            base_path: "/api/auth",
            host: b"api.authsome.cloud",
            is_internal: &|authority| authority == "10.0.0.7:8080",
        };
        rewrite_location(value, &place)
    }

    #[test]
    fn a_redirect_of_the_instance_stays_below_its_application() {
        for (from, to) in [
            ("/api/auth/v1/me?x=1", "/v1/app_x/v1/me?x=1"),
            ("/api/auth", "/v1/app_x/"),
            ("/api/authority", "/v1/app_x/api/authority"),
            ("/login", "/v1/app_x/login"),
            ("/", "/v1/app_x/"),
            ("http://10.0.0.7:8080/api/auth/login#f", "/v1/app_x/login#f"),
            ("HTTPS://API.authsome.cloud/login", "/v1/app_x/login"),
            ("http://10.0.0.7:8080", "/v1/app_x/"),
            ("http://10.0.0.7:8080?x", "/v1/app_x/?x"),
            ("http://10.0.0.7:8080/v1/app_x/login", "/v1/app_x/login"),
            ("//10.0.0.7:8080/login", "/v1/app_x/login"),
            ("//api.authsome.cloud/login", "/v1/app_x/login"),
            ("/v1/app_y/login", "/v1/app_x/v1/app_y/login"),
        ] {
            assert_eq!(location(from).as_deref(), Some(to), "{from}");
        }
    }

    #[test]
    fn a_redirect_elsewhere_or_already_right_is_left_alone() {
        for value in [
            "https://github.com/login/oauth",
            "//cdn.example/x",
            "/\\evil.example",
            "//10.0.0.8:8080/x",
            "next",
            "?page=2",
            "",
            "myapp://callback",
            "/v1/app_x/done?ok",
            "/v1/app_x",
            "http://10.0.0.8:8080/x",
        ] {
            assert_eq!(location(value), None, "{value}");
        }
    }

    #[test]
    fn a_refresh_is_a_redirect_too() {
        let refresh = |value| {
            let place = Place {
                prefix: PREFIX,
                base_path: "",
                host: b"api.authsome.cloud",
                is_internal: &|authority| authority == "localhost:8080",
            };
            rewrite_refresh(value, &place)
        };
        for (from, to) in [
            ("5; url=/login", "5; url=/v1/app_x/login"),
            ("0;URL='/login?a=1'", "0; url=/v1/app_x/login?a=1"),
            ("0, url = \"http://localhost:8080/login\"", "0, url=/v1/app_x/login"),
            ("0; /login", "0; url=/v1/app_x/login"),
        ] {
            assert_eq!(refresh(from).as_deref(), Some(to), "{from}");
        }
        for value in [
            "5",
            "",
            "5; url=https://github.test/",
            "5; url=next",
            "5; url",
            "0;url=\"",
        ] {
            assert_eq!(refresh(value), None, "{value}");
        }
    }

    #[test]
    fn only_documents_are_sandboxed() {
        for document in [
            Some("text/html; charset=utf-8"),
            Some("TEXT/HTML"),
            Some("image/svg+xml"),
            Some("a/b+xml"),
            None,
        ] {
            assert!(is_document(document.map(str::as_bytes)), "{document:?}");
        }
        for data in ["application/json", "text/plain", "text/event-stream", "image/png"] {
            assert!(!is_document(Some(data.as_bytes())), "{data}");
        }
        assert!(is_document(Some("text/plaîn".as_bytes())), "nobody knows what that is");
    }

    proptest! {
        #[test]
        fn no_cookie_escapes(value in "[ -~]{0,60}", attribute in "(?i)(path|domain) ?= ?[/a-z.]{0,8}") {
            if let Some(confined) = confine_cookie(&format!("{value};{attribute}"), PREFIX) {
                let paths: Vec<_> = confined
                    .split(';')
                    .skip(1)
                    .filter_map(|part| part.split_once('='))
                    .filter(|(name, _)| ["path", "domain"].contains(&name.trim().to_ascii_lowercase().as_str()))
                    .map(|(_, value)| value)
                    .collect();
                prop_assert_eq!(paths, [PREFIX]);
            }
        }

        #[test]
        fn no_location_makes_it_panic(value in "\\PC{0,60}") {
            let _ = location(&value);
        }
    }
}
