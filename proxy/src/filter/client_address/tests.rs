use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn trusting(networks: &[&str], by: ForwardedBy) -> TrustedProxies {
    TrustedProxies::new(networks.iter().map(|text| text.parse().unwrap()).collect(), by)
}

fn x(networks: &[&str], peer: &str, lines: &[(&'static str, &str)]) -> String {
    let client = trusting(networks, ForwardedBy::XForwardedFor).client(Some(ip(peer)), &headers(lines));
    client.address.unwrap().to_string()
}

const XFF: &str = "x-forwarded-for";
const TRUSTED: &[&str] = &["10.0.0.0/8", "203.0.113.0/24", "fd00::/8"];

#[test]
fn nobody_is_believed_who_is_not_a_trusted_proxy() {
    let spoofed: &[(&str, &str)] = &[
        (XFF, "1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1;proto=https"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(x(&[], "10.0.0.1", spoofed), "10.0.0.1");
    assert_eq!(x(TRUSTED, "192.0.2.1", spoofed), "192.0.2.1");
    for by in [ForwardedBy::XForwardedFor, ForwardedBy::Forwarded] {
        let client = trusting(TRUSTED, by).client(Some(ip("192.0.2.1")), &headers(spoofed));
        assert_eq!((client.address, client.https), (Some(ip("192.0.2.1")), None));
    }
    assert_eq!(
        trusting(TRUSTED, ForwardedBy::default()).client(None, &headers(spoofed)),
        Client::default()
    );
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_a_trusted_proxy() {
    for (given, client) in [
        (&["198.51.100.7"][..], "198.51.100.7"),
        (&["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        (&["1.1.1.1", "198.51.100.7, 203.0.113.9", "10.2.3.4"], "198.51.100.7"),
        (&["10.9.9.9, 198.51.100.7"], "198.51.100.7"),
        // All of them are ours: the one that is farthest away.
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        // A list may have empty elements, and a proxy's is always the last that is not.
        (&["1.1.1.1,, ,198.51.100.7 , "], "198.51.100.7"),
        (&[""], "10.0.0.1"),
        (&[], "10.0.0.1"),
    ] {
        let lines: Vec<_> = given.iter().map(|value| (XFF, *value)).collect();
        assert_eq!(x(TRUSTED, "10.0.0.1", &lines), client, "{given:?}");
    }
}

#[test]
fn what_is_no_address_ends_the_chain_at_the_proxy_that_said_it() {
    for unsaid in [
        "unknown",
        "_hidden",
        "localhost",
        "1.1.1",
        "1.1.1.1.1",
        "fe80::1%eth0",
        "[1.1.1.1",
        "é",
        "999.1.1.1",
    ] {
        assert_eq!(
            x(
                TRUSTED,
                "10.0.0.1",
                &[(XFF, &format!("1.1.1.1, {unsaid}, 203.0.113.9"))]
            ),
            "203.0.113.9",
            "{unsaid}"
        );
        assert_eq!(
            x(TRUSTED, "10.0.0.1", &[(XFF, &format!("1.1.1.1, {unsaid}"))]),
            "10.0.0.1"
        );
    }
}

#[test]
fn addresses_are_read_in_every_form_that_proxies_write() {
    for (given, client) in [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("[::ffff:198.51.100.7]:80", "198.51.100.7"),
        // A trusted proxy in another notation is still one.
        ("198.51.100.7, ::ffff:10.1.1.1", "198.51.100.7"),
        ("198.51.100.7, [fd00::5]:99", "198.51.100.7"),
    ] {
        assert_eq!(x(TRUSTED, "10.0.0.1", &[(XFF, given)]), client, "{given}");
    }
    assert_eq!(x(TRUSTED, "::ffff:10.0.0.1", &[(XFF, "198.51.100.7")]), "198.51.100.7");
    assert_eq!(x(TRUSTED, "fd00::1", &[(XFF, "198.51.100.7")]), "198.51.100.7");
    assert_eq!(
        x(&["::ffff:10.0.0.0/104"], "10.0.0.1", &[(XFF, "198.51.100.7")]),
        "198.51.100.7"
    );
}

#[test]
fn the_scheme_is_believed_from_trusted_proxies_only_and_the_nearest_has_the_last_word() {
    let proxies = trusting(TRUSTED, ForwardedBy::XForwardedFor);
    for (given, https) in [
        (&["https"][..], Some(true)),
        (&["HTTP"], Some(false)),
        (&["http, https"], Some(true)),
        (&["https", "http"], Some(false)),
        (&["wss"], Some(true)),
        (&["ftp"], None),
        (&[], None),
    ] {
        let lines: Vec<_> = given.iter().map(|value| ("x-forwarded-proto", *value)).collect();
        let said = |peer| proxies.client(Some(ip(peer)), &headers(&lines)).https;
        assert_eq!(said("10.0.0.1"), https, "{given:?}");
        assert_eq!(said("192.0.2.1"), None, "{given:?}");
    }
}

#[test]
fn forwarded_is_followed_element_by_element() {
    let proxies = trusting(TRUSTED, ForwardedBy::Forwarded);
    for (given, address, https) in [
        ("for=198.51.100.7", "198.51.100.7", None),
        ("For=\"[2001:db8::7]:4711\";Proto=https", "2001:db8::7", Some(true)),
        (
            "for=1.1.1.1;proto=http, for=198.51.100.7;proto=https;by=10.0.0.1",
            "198.51.100.7",
            Some(true),
        ),
        (
            "for=198.51.100.7;proto=https, for=203.0.113.9;proto=http",
            "198.51.100.7",
            Some(true),
        ),
        ("for=1.1.1.1, for=unknown", "10.0.0.1", None),
        ("for=1.1.1.1, for=_x;proto=https", "10.0.0.1", None),
        ("for=1.1.1.1, proto=https", "10.0.0.1", None),
        // A comma or a semicolon within quotes belongs to the value.
        ("for=198.51.100.7;ext=\"a, for=1.1.1.1\"", "198.51.100.7", None),
    ] {
        let lines = [("forwarded", given), (XFF, "9.9.9.9"), ("x-forwarded-proto", "ftp")];
        let client = proxies.client(Some(ip("10.0.0.1")), &headers(&lines));
        assert_eq!((client.address, client.https), (Some(ip(address)), https), "{given}");
    }
}

#[test]
fn a_chain_is_followed_for_so_long_and_no_longer() {
    let endless = vec!["10.0.0.2"; 10_000].join(",");
    assert_eq!(
        x(TRUSTED, "10.0.0.1", &[(XFF, &format!("1.1.1.1,{endless}"))]),
        "10.0.0.2"
    );
}

proptest! {
    /// Whatever the client wrote, the address that the trusted proxy appended stands.
    #[test]
    fn a_client_cannot_change_what_the_proxy_says_of_it(
        written in prop::collection::vec("[ -~]{0,40}", 0..4), same_line: bool,
    ) {
        let mut values = written.clone();
        match values.last_mut().filter(|_| same_line) {
            Some(last) => last.push_str(", 198.51.100.7"),
            None => values.push("198.51.100.7".to_owned()),
        }
        let lines: Vec<_> = values.iter().map(|value| (XFF, value.as_str())).collect();
        prop_assert_eq!(x(TRUSTED, "10.0.0.1", &lines), "198.51.100.7", "{:?}", values);
    }
}
