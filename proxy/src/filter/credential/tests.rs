use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

fn key(key_type: KeyType, seed: u64) -> ApiKey {
    let entropy = SeededEntropy::new(seed);
    let app = ApplicationId::generate(&ManualClock::default(), &entropy);
    ApiKey::generate(key_type, KeyMode::Live, &app, &entropy)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn found(pairs: &[(&str, &str)]) -> Result<Presented, BadCredential> {
    present(&Method::POST, &headers(pairs), None)
}

#[test]
fn a_key_is_found_in_each_of_its_places() {
    let (pk, sk) = (key(KeyType::Public, 1), key(KeyType::Secret, 2));
    assert_eq!(found(&[("x-api-key", sk.expose())]).unwrap().secret, Some(sk.digest()));
    assert_eq!(found(&[("x-api-key", pk.expose())]).unwrap().public, Some(pk.digest()));
    assert_eq!(
        found(&[("x-publishable-key", pk.expose())]).unwrap().public,
        Some(pk.digest())
    );
    for scheme in ["Bearer ", "bearer ", "BEARER  ", "Bearer\t"] {
        let value = format!("{scheme}{}", sk.expose());
        let presented = found(&[("authorization", &value)]).unwrap();
        assert_eq!(presented.secret, Some(sk.digest()));
        assert!(presented.places.authorization);
    }
}

#[test]
fn a_session_token_is_not_a_key() {
    for value in [
        "Bearer eyJhbGciOi.x.y",
        "Bearer ases_token",
        "Basic cGtfOg==",
        "Bearer",
        "Bearer ",
        "Bearersk_live_x",
        "",
    ] {
        let presented = found(&[("authorization", value)]).unwrap();
        assert_eq!(presented, Presented::default(), "{value}");
    }
}

#[test]
fn a_session_token_may_stand_beside_a_key() {
    let sk = key(KeyType::Secret, 2);
    let presented = found(&[("authorization", "Bearer session"), ("x-api-key", sk.expose())]).unwrap();
    assert_eq!(presented.secret, Some(sk.digest()));
    assert!(!presented.places.authorization);
}

#[test]
fn one_key_of_each_type_is_accepted_and_two_of_one_type_are_not() {
    let (pk, sk, other) = (
        key(KeyType::Public, 1),
        key(KeyType::Secret, 2),
        key(KeyType::Secret, 3),
    );
    let both = found(&[("x-api-key", sk.expose()), ("x-publishable-key", pk.expose())]).unwrap();
    assert_eq!((both.secret, both.public), (Some(sk.digest()), Some(pk.digest())));
    let bearer = format!("Bearer {}", sk.expose());
    assert!(
        found(&[("x-api-key", sk.expose()), ("authorization", &bearer)]).is_ok(),
        "the same key twice is one key"
    );
    let twice = found(&[("x-api-key", other.expose()), ("authorization", &bearer)]);
    assert_eq!(twice, Err(BadCredential::Several));
    let twice = found(&[("x-api-key", other.expose()), ("x-api-key", sk.expose())]);
    assert_eq!(twice, Err(BadCredential::Several));
}

#[test]
fn what_cannot_be_a_key_is_refused_by_its_form() {
    let sk = key(KeyType::Secret, 2);
    let mut wrong = sk.expose().to_owned();
    let last = if wrong.ends_with('0') { "1" } else { "0" };
    wrong.replace_range(wrong.len() - 1.., last);
    assert_eq!(found(&[("x-api-key", &wrong)]), Err(BadCredential::Checksum));
    for text in [
        "",
        "x",
        "sk_",
        "sk_live_",
        "ask_0123",
        "sk_live_0123456789abcdef0123456789abcdef",
        &sk.expose()[1..],
    ] {
        assert_eq!(found(&[("x-api-key", text)]), Err(BadCredential::Malformed), "{text}");
    }
    assert_eq!(
        found(&[("authorization", "Bearer sk_live_short")]),
        Err(BadCredential::Malformed)
    );
}

#[test]
fn a_publishable_key_is_accepted_in_the_query_of_a_get() {
    let pk = key(KeyType::Public, 1);
    let get = |query: &str| present(&Method::GET, &HeaderMap::new(), Some(query));
    let encoded = pk.expose().replace('_', "%5F");
    for query in [
        format!("key={}", pk.expose()),
        format!("a=b&key={}&c", pk.expose()),
        format!("%6bey={encoded}"),
    ] {
        let presented = get(&query).unwrap();
        assert_eq!(
            (presented.public, presented.places.query),
            (Some(pk.digest()), true),
            "{query}"
        );
    }
    assert_eq!(
        get("key=42&q=pk_"),
        Ok(Presented::default()),
        "an application's own parameter"
    );
    assert_eq!(get("key=pk_live_x"), Err(BadCredential::Malformed));
    let post = present(&Method::POST, &HeaderMap::new(), Some(&format!("key={}", pk.expose())));
    assert_eq!(post, Err(BadCredential::QueryNotAllowed));
}

#[test]
fn a_secret_key_in_the_query_is_refused_under_any_name() {
    let sk = key(KeyType::Secret, 1);
    let encoded = sk.expose().replace("sk_", "%73k%5f");
    for query in [
        format!("key={}", sk.expose()),
        format!("key={encoded}"),
        "key=sk_live_half".to_owned(),
        format!("api_key={}", sk.expose()),
        format!("x=y&token={encoded}"),
    ] {
        let refused = present(&Method::GET, &HeaderMap::new(), Some(&query));
        assert_eq!(refused, Err(BadCredential::SecretInQuery), "{query}");
    }
    let fine = present(&Method::GET, &HeaderMap::new(), Some("token=sk_something_of_mine"));
    assert_eq!(fine, Ok(Presented::default()));
}

#[test]
fn only_the_key_is_taken_out_of_the_query() {
    let pk = key(KeyType::Public, 1);
    let key = pk.expose();
    assert_eq!(query_without_keys(&format!("key={key}")), None);
    assert_eq!(
        query_without_keys(&format!("a=1&key={key}&b=%20x&b")).as_deref(),
        Some("a=1&b=%20x&b")
    );
    assert_eq!(
        query_without_keys(&format!("%6Bey={key}&key=5")).as_deref(),
        Some("key=5")
    );
}

proptest! {
    #[test]
    fn any_query_and_header_is_read_without_panic(query in "[ -~]{0,120}", value in "[ -~]{0,90}") {
        let map = headers(&[("authorization", &value)]);
        let _ = present(&Method::GET, &map, Some(&query));
        let _ = query_without_keys(&query);
    }

    #[test]
    fn no_key_survives_in_the_query(before in "[a-z=&%0-9]{0,20}", after in "[a-z=&%0-9]{0,20}", seed: u64) {
        let pk = key(KeyType::Public, seed);
        let query = format!("{before}&key={}&{after}", pk.expose());
        let kept = query_without_keys(&query).unwrap_or_default();
        prop_assert!(!kept.contains(pk.expose()));
    }
}

#[test]
fn a_publishable_key_is_accepted_as_a_subprotocol_and_taken_out_of_the_offer() {
    let pk = key(KeyType::Public, 1);
    let token = format!("authsome.key.{}", pk.expose());
    for (lines, left) in [
        (vec![token.clone()], None),
        (vec![format!("chat, {token},superchat")], Some("chat, superchat")),
        (
            vec!["chat".to_owned(), token.clone(), "v2".to_owned()],
            Some("chat, v2"),
        ),
    ] {
        let pairs: Vec<_> = lines
            .iter()
            .map(|line| ("sec-websocket-protocol", line.as_str()))
            .collect();
        let presented = found(&pairs).unwrap();
        assert_eq!(presented.public, Some(pk.digest()));
        assert!(presented.places.subprotocol);
        let headers = headers(&pairs);
        assert_eq!(
            subprotocols_without_keys(&headers),
            left.map(HeaderValue::from_static),
            "{lines:?}"
        );
        assert_eq!(key_subprotocol(&headers).unwrap(), token.as_str());
    }
    let none = found(&[("sec-websocket-protocol", "chat, authsome.keys")]).unwrap();
    assert_eq!(none, Presented::default());
}

#[test]
fn subprotocols_obey_the_rules_of_all_keys() {
    let (pk, other, sk) = (
        key(KeyType::Public, 1),
        key(KeyType::Public, 2),
        key(KeyType::Secret, 3),
    );
    let offer = |key: &str| format!("authsome.key.{key}");
    let secret = found(&[("sec-websocket-protocol", &offer(sk.expose()))]);
    assert_eq!(secret, Err(BadCredential::SecretInSubprotocol));
    let malformed = found(&[("sec-websocket-protocol", &offer("hello"))]);
    assert_eq!(malformed, Err(BadCredential::Malformed));
    let same = found(&[
        ("x-publishable-key", pk.expose()),
        ("sec-websocket-protocol", &offer(pk.expose())),
    ]);
    assert_eq!(same.unwrap().public, Some(pk.digest()));
    let two = found(&[
        ("x-publishable-key", other.expose()),
        ("sec-websocket-protocol", &offer(pk.expose())),
    ]);
    assert_eq!(two, Err(BadCredential::Several));
}

#[test]
fn a_leaked_key_is_told_by_its_masked_form() {
    let sk = key(KeyType::Secret, 2);
    let of = |pairs: &[(&str, &str)], query: Option<&str>| leaked(&headers(pairs), query);
    let whole = Some(sk.masked());
    for query in [
        format!("a=1&key={}", sk.expose()),
        format!("token={}", sk.expose()),
        format!("k%65y={}", sk.expose().replace('_', "%5f")),
    ] {
        let told = of(&[], Some(&query)).unwrap();
        assert_eq!((told.place, &told.masked), (LeakedIn::Query, &whole), "{query}");
        assert!(!told.masked.unwrap().contains(&sk.expose()[18..]));
    }
    let partly = of(&[], Some("key=sk_live_short")).unwrap();
    assert_eq!(partly.masked, None);
    let offer = format!("authsome.key.{}", sk.expose());
    let offered = of(&[("sec-websocket-protocol", &offer)], None).unwrap();
    assert_eq!((offered.place, offered.masked), (LeakedIn::Subprotocol, whole));
    assert_eq!(of(&[], Some("a=1&token=sk_live_short")), None);
}

#[test]
fn a_referer_loses_its_keys_and_nothing_else() {
    let (pk, sk) = (key(KeyType::Public, 1), key(KeyType::Secret, 2));
    let of = |text: &str| {
        referer_without_keys(&headers(&[("referer", text)])).map(|value| value.unwrap().to_str().unwrap().to_owned())
    };
    let (pk, sk) = (pk.expose(), sk.expose());
    for (from, to) in [
        (format!("https://a.test/x?key={pk}"), "https://a.test/x"),
        (format!("https://a.test/x?a=1&key={pk}&b#f"), "https://a.test/x?a=1&b#f"),
        (format!("https://a.test/x?token={sk}"), "https://a.test/x"),
        ("/x?k%65y=pk_live_half&b".to_owned(), "/x?b"),
    ] {
        assert_eq!(of(&from).as_deref(), Some(to), "{from}");
    }
    for same in [
        "https://a.test/x",
        "https://a.test/x?",
        "https://a.test/x?a=1&key=mine",
        "https://a.test/x?a=%zz",
    ] {
        assert_eq!(of(same), None, "{same}");
    }
}
