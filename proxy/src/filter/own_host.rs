//! Which application a host name leads to.
//!
//! Owns the two kinds of addresses: the shared host, where the path names the application, and a host of the application's own,
//! where the whole path is its own and nothing of an answer is rewritten. Pure; names that are found in the routing table are
//! looked up by the caller.

use authsome_core::id::ApplicationId;
use http::{header, request};

/// The names that need no look-up.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// The host of `public.edge`, in lower case.
    shared: Option<String>,
    /// `public.apps_domain`, in lower case. Every name directly below it is that of one application.
    apps_domain: Option<String>,
}

/// The host that a request names, with its port; empty if it is no text. HTTP/2 may name it beside the path instead.
pub fn of(request: &request::Parts) -> &str {
    match request.headers.get(header::HOST) {
        Some(host) => host.to_str().unwrap_or_default(),
        None => request.uri.authority().map_or("", http::uri::Authority::as_str),
    }
}

/// What a host name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// The path names the application.
    Shared,
    /// The host is this application's own.
    Own(ApplicationId),
    /// Below the applications' domain, and no application's name.
    Nobody,
    /// No name that is known without a look-up, without its port. If nobody claims it, it is a shared one.
    Other(&'a str),
}

impl Hosts {
    /// Names in any case, without ports.
    pub fn new(shared: Option<&str>, apps_domain: Option<&str>) -> Self {
        Self {
            shared: shared.map(str::to_ascii_lowercase),
            apps_domain: apps_domain.map(str::to_ascii_lowercase),
        }
    }

    /// Reads the value of `Host`, of which only the form was checked.
    pub fn named<'a>(&self, host: &'a str) -> Named<'a> {
        let name = without_port(host);
        if self
            .shared
            .as_deref()
            .is_some_and(|shared| name.eq_ignore_ascii_case(shared))
        {
            return Named::Shared;
        }
        if let Some(domain) = &self.apps_domain
            && let Some(label) = label_below(name, domain)
        {
            return suffix(label).map_or(Named::Nobody, Named::Own);
        }
        if is_address(name) || name.eq_ignore_ascii_case("localhost") {
            return Named::Shared;
        }
        Named::Other(name)
    }
}

/// The 26 characters of an id, in any case.
fn suffix(label: &str) -> Option<ApplicationId> {
    let mut lower = [0; 26];
    let lower = lower.get_mut(..label.len())?;
    lower.copy_from_slice(label.as_bytes());
    lower.make_ascii_lowercase();
    ApplicationId::from_suffix(str::from_utf8(lower).ok()?).ok()
}

/// `api.example.com.:443` names the same host as `api.example.com`.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        // The last colon of a bare IPv6 address separates no port, but then nothing here can make use of it.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(']') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn is_address(name: &str) -> bool {
    // Hardly a name begins or reads so; the others are not parsed.
    let looks_like_one = name.as_bytes().first().is_some_and(u8::is_ascii_digit) || name.contains(':');
    name.starts_with('[') || (looks_like_one && name.parse::<std::net::IpAddr>().is_ok())
}

/// What stands before `.domain`; empty for the domain itself.
fn label_below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let split = name.len().checked_sub(domain.len())?;
    let (label, rest) = name.split_at_checked(split)?;
    if !rest.eq_ignore_ascii_case(domain) {
        return None;
    }
    if label.is_empty() {
        return Some(label);
    }
    label.strip_suffix('.')
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::ManualClock;
    use authsome_core::entropy::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(Some("api.authsome.test"), Some("Apps.authsome.test"))
    }

    #[test]
    fn a_host_below_the_applications_domain_is_that_application_and_nobody_elses() {
        let app = ApplicationId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        let suffix = app.suffix();
        let upper = suffix.to_uppercase();
        for host in [
            format!("{}.apps.authsome.test", &*suffix),
            format!("{}.apps.authsome.test:443", &*suffix),
            format!("{}.apps.authsome.test.", &*suffix),
            format!("{upper}.APPS.authsome.test.:8081"),
        ] {
            assert_eq!(hosts().named(&host), Named::Own(app), "{host}");
        }
        for host in [
            "apps.authsome.test".to_owned(),
            ".apps.authsome.test".to_owned(),
            "x.apps.authsome.test".to_owned(),
            format!("x.{}.apps.authsome.test", &*suffix),
            format!("{}x.apps.authsome.test", &*suffix),
            format!("app_{}.apps.authsome.test", &*suffix),
        ] {
            assert_eq!(hosts().named(&host), Named::Nobody, "{host}");
        }
        let beside = format!("{}.apps.authsome.test.evil.test", &*suffix);
        assert_eq!(hosts().named(&beside), Named::Other(&beside));
        let joined = format!("{}apps.authsome.test", &*suffix);
        assert_eq!(hosts().named(&joined), Named::Other(&joined));
        assert_eq!(Hosts::default().named(&joined), Named::Other(&joined));
    }

    #[test]
    fn the_shared_host_addresses_and_localhost_need_no_look_up() {
        for host in [
            "api.authsome.test",
            "API.authsome.test:443",
            "api.authsome.test.",
            "127.0.0.1",
            "10.0.0.1:8081",
            "[::1]",
            "[::1]:8081",
            "localhost:8081",
        ] {
            assert_eq!(hosts().named(host), Named::Shared, "{host}");
        }
        assert_eq!(hosts().named("auth.acme.test:443"), Named::Other("auth.acme.test"));
        // The shared host may itself be below the applications' domain.
        let within = Hosts::new(Some("api.authsome.test"), Some("authsome.test"));
        assert_eq!(within.named("api.authsome.test"), Named::Shared);
    }

    proptest! {
        #[test]
        fn any_host_is_read_without_panic(host in "[a-zA-Z0-9.:_\\[\\]-]{0,60}") {
            let _ = hosts().named(&host);
        }
    }
}
