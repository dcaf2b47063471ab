use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::KeyId;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

use super::*;
use crate::trace::{Parent, parse};

fn app() -> AppHeaders {
    AppHeaders {
        app_id: HeaderValue::from_static("app_x"),
        environment: HeaderValue::from_static("staging"),
        region: HeaderValue::from_static("eu"),
    }
}

fn key() -> KeyHeaders {
    KeyHeaders {
        key_id: KeyId::from_uuid(uuid::Uuid::from_u128(7)).text(),
        key_type: HeaderValue::from_static("secret"),
        scopes: HeaderValue::from_static("users:read"),
    }
}

fn request(pairs: &[(&str, &str)]) -> RequestHeader {
    let mut request = RequestHeader::build("GET", b"/", None).unwrap();
    for (name, value) in pairs {
        request.append_header((*name).to_owned(), *value).unwrap();
    }
    request
}

fn forwarded_as(request: &mut RequestHeader, key_type: Option<KeyType>, instance: &InstanceCredentials) {
    forwarded_in(
        request,
        key_type,
        instance,
        &Trace::continued(None, 1, [2, 3], |_| false),
    );
}

fn forwarded_in(request: &mut RequestHeader, key_type: Option<KeyType>, instance: &InstanceCredentials, trace: &Trace) {
    let (app, key) = (app(), key());
    let forward = Forward {
        app: &app,
        key: key_type.map(|key_type| (key_type, &key)),
        prefix: Some(&HeaderValue::from_static("/v1/app_x")),
        instance,
        request_id: &authsome_core::id::RequestId::generate(&ManualClock::default(), &SeededEntropy::new(1)).text(),
        trace: Some(trace),
        client: Some("::ffff:192.0.2.1".parse().unwrap()),
        scheme: "https",
        keys_in: Places::default(),
    };
    to_instance(request, &forward);
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

#[test]
fn the_instance_reads_the_edges_span_and_what_others_noted() {
    let given = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
    ];
    let with = |state: &'static str, parent: Option<Parent>| {
        let mut request = request(&[given[0], ("tracestate", state)]);
        let traced = Trace::continued(parent, 1, [2, 3], |_| false);
        forwarded_in(&mut request, None, &InstanceCredentials::default(), &traced);
        let read = |name| values(&request.headers, name).join("; ");
        (read("traceparent"), read("tracestate"))
    };
    let parent = parse(given[0].1.as_bytes());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-0000000000000003-01".to_owned();
    assert_eq!(with("a=b", parent), (trace.clone(), "a=b".to_owned()));
    assert_eq!(with("not a state", parent), (trace, String::new()));
    let own = format!("00-{:032x}-0000000000000003-00", 1);
    assert_eq!(with("a=b", None), (own, String::new()), "of another trace");
}

#[test]
fn no_protected_name_passes_in_another_spelling() {
    for name in [
        "X_API_KEY",
        "x-api_key",
        "X_Publishable-Key",
        "x_app-id",
        "content_length",
        "Transfer_Encoding",
        "x_real_ip",
    ] {
        let mut request = request(&[(name, "1"), ("x_mine", "kept")]);
        forwarded_as(&mut request, None, &InstanceCredentials::default());
        assert!(values(&request.headers, name).is_empty(), "{name}");
        assert_eq!(values(&request.headers, "x_mine"), ["kept"]);
    }
}

#[test]
fn who_asks_decides_which_credential_of_the_instance_is_shown() {
    let instance = InstanceCredentials {
        publishable_key: Some(HeaderValue::from_static("pk")),
        app_id: Some(HeaderValue::from_static("aapp")),
        service_key: Some(HeaderValue::from_static("sk")),
    };
    for (key_type, service, publishable) in [
        (Some(KeyType::Secret), true, false),
        (Some(KeyType::Public), false, true),
        (None, false, true),
    ] {
        let mut request = request(&[
            ("x-api-key", "mine"),
            ("x-app-id", "mine"),
            ("x-publishable-key", "mine"),
        ]);
        forwarded_as(&mut request, key_type, &instance);
        let shown = |name: &str, value: &'static str, is: bool| {
            assert_eq!(
                values(&request.headers, name),
                if is { vec![value] } else { vec![] },
                "{key_type:?} {name}"
            );
        };
        shown("x-api-key", "sk", service);
        shown("x-app-id", "aapp", service);
        shown("x-publishable-key", "pk", publishable);
    }
}

#[test]
fn the_instance_is_told_the_client_and_nothing_that_came_with_the_request() {
    for lines in [
        &[][..],
        &[
            ("x-forwarded-for", "a, b"),
            ("x-forwarded-for", "c"),
            ("x-real-ip", "d"),
            ("forwarded", "for=e"),
        ],
    ] {
        let mut request = request(lines);
        forwarded_as(&mut request, None, &InstanceCredentials::default());
        assert_eq!(values(&request.headers, "x-forwarded-for"), ["192.0.2.1"]);
        assert_eq!(values(&request.headers, "x-real-ip"), ["192.0.2.1"]);
        assert!(values(&request.headers, "forwarded").is_empty());
    }
}

#[test]
fn names_that_some_servers_read_alike_do_not_pass_either() {
    let mut request = request(&[
        ("x_api_key", "mine"),
        ("X-App_ID", "mine"),
        ("x_forwarded_for", "1.1.1.1"),
        ("x_real-ip", "1.1.1.1"),
        ("x_mine", "kept"),
    ]);
    forwarded_as(&mut request, None, &InstanceCredentials::default());
    for gone in ["x_api_key", "x-app_id", "x_forwarded_for", "x_real-ip"] {
        assert!(values(&request.headers, gone).is_empty(), "{gone}");
    }
    assert_eq!(values(&request.headers, "x_mine"), ["kept"]);
}

fn answered(lines: &[(&'static str, &'static str)], shared: bool) -> HeaderMap {
    let mut response = HeaderMap::new();
    for (name, value) in lines {
        response.append(*name, HeaderValue::from_static(value));
    }
    let (app, region) = (app(), HeaderValue::from_static("eu"));
    let request_id = authsome_core::id::RequestId::generate(&ManualClock::default(), &SeededEntropy::new(1));
    let identity = Identity {
        app: Some(&app),
        request_id: &request_id.text(),
        region: &region,
        cors: &Grant::Nobody,
        standing: None,
    };
    let place = Place {
        prefix: "/v1/app_x",
        base_path: "/api",
        host: b"api.authsome.test",
        is_internal: &|authority| authority == "10.0.0.7:8080",
    };
    let reply = Reply {
        identity,
        shared: shared.then_some(place),
    };
    to_client(&mut response, &reply);
    response
}

const OF_AN_INSTANCE: &[(&str, &str)] = &[
    ("content-type", "text/html"),
    ("set-cookie", "__Host-s=1; Path=/; Secure"),
    ("set-cookie", "t=2; Path=/"),
    ("location", "/api/login"),
    ("content-location", "http://10.0.0.7:8080/api/me"),
    ("refresh", "5; url=/api/login"),
    ("strict-transport-security", "max-age=1"),
    ("access-control-allow-origin", "*"),
    ("server", "secret/1.0"),
    ("x-authsome-user-id", "ausr_1"),
];

#[test]
fn on_the_shared_host_every_address_and_cookie_is_the_applications() {
    let answer = answered(OF_AN_INSTANCE, true);
    assert_eq!(values(&answer, "set-cookie"), ["t=2; Path=/v1/app_x"]);
    assert_eq!(values(&answer, "location"), ["/v1/app_x/login"]);
    assert_eq!(values(&answer, "content-location"), ["/v1/app_x/me"]);
    assert_eq!(values(&answer, "refresh"), ["5; url=/v1/app_x/login"]);
    assert_eq!(values(&answer, "content-security-policy"), ["sandbox"]);
    assert!(values(&answer, "strict-transport-security").is_empty());
}

#[test]
fn on_a_host_of_its_own_an_answer_stays_as_it_is() {
    let answer = answered(OF_AN_INSTANCE, false);
    let gone = ["access-control-allow-origin", "server", "x-authsome-user-id"];
    for (name, value) in OF_AN_INSTANCE {
        assert_eq!(values(&answer, name).contains(value), !gone.contains(name), "{name}");
    }
    assert!(values(&answer, "content-security-policy").is_empty());
    assert!(values(&answer, "x-content-type-options").is_empty());
    assert_eq!(values(&answer, "x-authsome-app-id"), ["app_x"]);
}

proptest! {
    #[test]
    fn no_reserved_name_passes_in_either_direction(
        name in "[xX][-_][aA]uth[sS]ome[-_][a-zA-Z-]{1,12}", value in "[ -~]{0,20}",
    ) {
        let mut request = request(&[(&name, &value), ("host", "a")]);
        forwarded_as(&mut request, None, &InstanceCredentials::default());
        let ours = ["x-authsome-app-id", "x-authsome-environment"];
        let theirs = request.headers.keys().filter(|name| Sets::of_name(name.as_str().as_bytes()).meet(Sets::RESERVED) && !ours.contains(&name.as_str())).count();
        prop_assert_eq!(theirs, 0);
        prop_assert_eq!(values(&request.headers, "x-authsome-app-id"), ["app_x"]);

        let mut response = ResponseHeader::build(200, None).unwrap();
        response.append_header(name.clone(), value.as_str()).unwrap();
        let (app, region) = (app(), HeaderValue::from_static("eu"));
        let request_id = authsome_core::id::RequestId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        let identity = Identity { app: Some(&app), request_id: &request_id.text(), region: &region, cors: &Grant::Unknown, standing: None };
        let place = Place { prefix: "/v1/app_x", base_path: "", host: b"a", is_internal: &|_| false };
        to_client(&mut response, &Reply { identity, shared: Some(place) });
        let reserved: Vec<_> = response.headers.keys().filter(|name| Sets::of_name(name.as_str().as_bytes()).meet(Sets::RESERVED)).collect();
        prop_assert_eq!(reserved.len(), 3, "{:?}", reserved);
        prop_assert_eq!(values(&response.headers, "x-authsome-region"), ["eu"]);
    }
}
