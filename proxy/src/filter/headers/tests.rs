use authsome_core::clock::ManualClock;
use authsome_core::entropy::SeededEntropy;
use authsome_core::id::KeyId;
use proptest::prelude::*;

use super::*;

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
    let (app, key) = (app(), key());
    let forward = Forward {
        app: &app,
        key: key_type.map(|key_type| (key_type, &key)),
        prefix: &HeaderValue::from_static("/v1/app_x"),
        instance,
        request_id: RequestId::generate(&ManualClock::default(), &SeededEntropy::new(1)),
        span: 0,
        client: Some("::ffff:192.0.2.1".parse().unwrap()),
        scheme: "https",
        key_in_authorization: false,
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
fn only_wellformed_traces_go_on() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert!(is_traceparent(good.as_bytes()));
    for bad in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
    ] {
        assert!(!is_traceparent(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn two_traces_are_none() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut twice = request(&[("traceparent", good), ("traceparent", good), ("tracestate", "a=b")]);
    forwarded_as(&mut twice, None, &InstanceCredentials::default());
    let traces = values(&twice.headers, "traceparent");
    assert!(traces.len() == 1 && traces[0] != good, "{traces:?}");
    assert!(
        is_traceparent(traces[0].as_bytes()),
        "a zero span is made one: {traces:?}"
    );
    assert!(values(&twice.headers, "tracestate").is_empty());
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

proptest! {
    #[test]
    fn no_reserved_name_passes_in_either_direction(
        name in "[xX][-_][aA]uth[sS]ome[-_][a-zA-Z-]{1,12}", value in "[ -~]{0,20}",
    ) {
        let mut request = request(&[(&name, &value), ("host", "a")]);
        forwarded_as(&mut request, None, &InstanceCredentials::default());
        let ours = ["x-authsome-app-id", "x-authsome-environment"];
        let theirs = request.headers.keys().filter(|name| is_reserved(name) && !ours.contains(&name.as_str())).count();
        prop_assert_eq!(theirs, 0);
        prop_assert_eq!(values(&request.headers, "x-authsome-app-id"), ["app_x"]);

        let mut response = ResponseHeader::build(200, None).unwrap();
        response.append_header(name.clone(), value.as_str()).unwrap();
        let (app, region) = (app(), HeaderValue::from_static("eu"));
        let request_id = RequestId::generate(&ManualClock::default(), &SeededEntropy::new(1));
        let identity = Identity { app: Some(&app), request_id, region: &region, standing: None };
        to_client(&mut response, &Reply {
            identity, prefix: "/v1/app_x", base_path: "", host: "a", is_internal: &|_| false,
        });
        let reserved: Vec<_> = response.headers.keys().filter(|name| is_reserved(name)).collect();
        prop_assert_eq!(reserved.len(), 3, "{:?}", reserved);
        prop_assert_eq!(values(&response.headers, "x-authsome-region"), ["eu"]);
    }
}
