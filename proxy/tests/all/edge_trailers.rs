//! Trailers: from clients of both protocols to instances with and without TLS, and back.

use std::time::Duration;

use http::{HeaderMap, Method};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::http2::{self, Client};
use crate::instance::{Instance, Reply};
use crate::tls::Secure;
use crate::wire::{Message, PATIENCE, Wire};

const NAME: &str = "instance.test";
const ANSWER: &str = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n\
    HTTP/1.1 200 OK\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\
    x-check: 1\r\nset-cookie: a=b\r\nx-authsome-region: forged\r\ngrpc-status: 0\r\n\r\n";

/// An edge that serves both protocols, plain and through TLS, and an instance that speaks TLS or does not.
struct Stage {
    secure: Secure,
    edge: Edge,
    app: App,
    instance: Instance,
    _tenants: Tenants,
    _ca: NamedTempFile,
}

impl Stage {
    async fn start(is_tls: bool, answer: fn(&Message) -> Reply) -> Self {
        let (secure, tenants) = (Secure::new(), Tenants::new().await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = is_tls.then(|| secure.authority.server(NAME));
        let instance = Instance::speaking(listener, tls, move |asked, mut wire| {
            let reply = answer(&asked);
            async move {
                let Reply::Bytes(bytes) = reply else { return None };
                wire.send(bytes).await;
                Some(wire)
            }
        });
        let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
        if is_tls {
            let change = "UPDATE applications SET instance_tls = $2::jsonb WHERE id = $1";
            let name = format!(r#"{{"serverName": "{NAME}"}}"#);
            tenants.change_app(app.id, change, &name).await;
        }
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), secure.authority.pem()).unwrap();
        let ca_setting = [("AUTHSOME_UPSTREAM_TLS_CA", ca.path().to_str().unwrap())];
        let all: Vec<(&str, &str)> = secure.settings().into_iter().chain(ca_setting).collect();
        let edge = Edge::start(&tenants, &all).await;
        Self {
            secure,
            edge,
            app,
            instance,
            _tenants: tenants,
            _ca: ca,
        }
    }

    async fn http1(&self, is_tls: bool) -> Wire {
        if is_tls {
            Wire::new(self.secure.connect(&["http/1.1"]).await)
        } else {
            Wire::connect(&self.edge.address).await
        }
    }

    async fn http2(&self, is_tls: bool) -> Client {
        if is_tls {
            Client::over(self.secure.connect(&["h2"]).await).await
        } else {
            Client::plain(&self.edge.address).await
        }
    }

    fn target(&self) -> String {
        format!("/v1/{}/users", self.app.id)
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What the instance was told of a request that announced trailers, or asked for them.
fn check(seen: &Message, announced: bool, asked: bool, what: &str) {
    let upwards = if announced {
        vec![pair("x-sum", "7")]
    } else {
        Vec::new()
    };
    assert_eq!(seen.trailers, upwards, "{what}");
    assert_eq!(seen.header("trailer"), announced.then_some("x-sum"), "{what}");
    assert_eq!(seen.header("te"), asked.then_some("trailers"), "{what}");
    assert_eq!(seen.text(), if announced { "hello" } else { "" }, "{what}");
}

/// Whether a request announces trailers, and whether it asks for them; more often than once on each connection.
const KINDS: [(bool, bool); 5] = [(true, true), (true, false), (false, true), (false, false), (true, true)];

#[tokio::test]
async fn trailers_pass_both_ways_over_http_1_where_they_are_asked_for() {
    for secure in [false, true] {
        let stage = Stage::start(secure, |_| Reply::Bytes(ANSWER.into())).await;
        for is_tls in [false, true] {
            let mut wire = stage.http1(is_tls).await;
            for (announced, asked) in KINDS {
                let what = format!("client with TLS: {is_tls}, instance: {secure}, {announced}, {asked}");
                let mut head = key(&stage.app.secret);
                let mut body = "";
                if announced {
                    head += "transfer-encoding: chunked\r\ntrailer: x-sum, host\r\n";
                    body = "5\r\nhello\r\n0\r\nX-Sum: 7\r\nHost: evil\r\nX-AuthSome-App-ID: forged\r\n\r\n";
                }
                if asked {
                    head += "te: trailers\r\nconnection: te\r\n";
                }
                let target = stage.target();
                wire.send(format!("POST {target} HTTP/1.1\r\nhost: a\r\n{head}\r\n{body}"))
                    .await;
                assert_eq!(wire.receive_head().await.unwrap().status(), 103, "{what}");
                let answer = wire.receive().await.unwrap();
                assert_eq!((answer.status(), answer.text().as_str()), (200, "body"), "{what}");
                let all = vec![pair("x-check", "1"), pair("grpc-status", "0")];
                assert_eq!(answer.trailers, if asked { all } else { Vec::new() }, "{what}");
                check(&stage.instance.seen().pop().unwrap(), announced, asked, &what);
            }
        }
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http_2_where_they_are_asked_for() {
    for secure in [false, true] {
        let stage = Stage::start(secure, |_| Reply::Bytes(ANSWER.into())).await;
        for is_tls in [false, true] {
            let mut client = stage.http2(is_tls).await;
            for (announced, asked) in KINDS {
                let what = format!("client with TLS: {is_tls}, instance: {secure}, {announced}, {asked}");
                let mut headers = vec![("x-api-key", stage.app.secret.expose())];
                headers.extend(announced.then_some(("trailer", "x-sum, host")));
                headers.extend(asked.then_some(("te", "trailers")));
                // A length beside trailers is nothing unusual here, and has no place beside chunks.
                headers.extend(asked.then_some(("content-length", if announced { "5" } else { "0" })));
                let request = http2::request(Method::POST, &stage.target(), &headers);
                let (response, mut body) = client.send(request, !announced).await.unwrap();
                if announced {
                    body.send_data("hello".into(), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    for (name, value) in [("x-sum", "7"), ("host", "evil"), ("x-authsome-app-id", "forged")] {
                        trailers.insert(name, value.parse().unwrap());
                    }
                    body.send_trailers(trailers).unwrap();
                }
                let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
                let answer = http2::read(answer).await.unwrap();
                assert_eq!((answer.status(), answer.text().as_str()), (200, "body"), "{what}");
                let mut expected = HeaderMap::new();
                expected.insert("x-check", "1".parse().unwrap());
                expected.insert("grpc-status", "0".parse().unwrap());
                assert_eq!(answer.trailers, asked.then_some(expected), "{what}");
                let seen = stage.instance.seen().pop().unwrap();
                check(&seen, announced, asked, &what);
            }
        }
    }
}

#[tokio::test]
async fn over_http_2_trailers_that_nobody_announced_or_asked_for_end_at_the_edge_and_the_bodies_arrive_whole() {
    let stage = Stage::start(false, |_| Reply::Bytes(ANSWER.into())).await;
    for what in [false, true] {
        let mut client = stage.http2(what).await;
        for asks in [false, true] {
            let mut headers = vec![("x-api-key", stage.app.secret.expose())];
            headers.extend(asks.then_some(("te", "trailers")));
            let request = http2::request(Method::POST, &stage.target(), &headers);
            let (response, mut body) = client.send(request, false).await.unwrap();
            body.send_data("hello".into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "7".parse().unwrap());
            body.send_trailers(trailers).unwrap();
            let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
            let answer = http2::read(answer).await.unwrap();
            assert_eq!((answer.status(), answer.text().as_str()), (200, "body"), "{what}");
            assert_eq!(answer.trailers.is_some(), asks, "{what}");
            let seen = stage.instance.seen().pop().unwrap();
            assert_eq!((seen.text().as_str(), seen.trailers.len()), ("hello", 0), "{what}");
        }
    }
}

#[tokio::test]
async fn trailers_stand_behind_all_of_a_long_answer_that_is_read_slowly() {
    const CHUNKS: usize = 200;
    let stage = Stage::start(true, |_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..CHUNKS {
            bytes.extend_from_slice(format!("4000\r\n{}\r\n", "x".repeat(0x4000)).as_bytes());
        }
        bytes.extend_from_slice(b"0\r\nx-check: 1\r\n\r\n");
        Reply::Bytes(bytes)
    })
    .await;
    for what in [false, true] {
        let mut client = stage.http2(what).await;
        let headers = [("x-api-key", stage.app.secret.expose()), ("te", "trailers")];
        let request = http2::request(Method::GET, &stage.target(), &headers);
        let (response, _) = client.send(request, true).await.unwrap();
        let mut stream = tokio::time::timeout(PATIENCE, response)
            .await
            .unwrap()
            .unwrap()
            .into_body();
        let mut length = 0;
        while let Some(part) = tokio::time::timeout(PATIENCE, stream.data()).await.unwrap() {
            let part = part.unwrap();
            length += part.len();
            stream.flow_control().release_capacity(part.len()).unwrap();
            // The slowness is the subject: the window is used up again and again.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(length, CHUNKS * 0x4000, "{what}");
        let trailers = stream.trailers().await.unwrap().unwrap();
        assert_eq!(trailers.get("x-check").unwrap(), "1", "{what}");
    }
}

#[tokio::test]
async fn trailers_of_a_request_that_are_too_long_are_refused() {
    let stage = Stage::start(false, |_| Reply::Bytes(ANSWER.into())).await;
    let mut client = stage.http2(false).await;
    let headers = [("x-api-key", stage.app.secret.expose()), ("trailer", "x-sum")];
    let request = http2::request(Method::POST, &stage.target(), &headers);
    let (response, mut body) = client.send(request, false).await.unwrap();
    body.send_data("hello".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".repeat(9 * 1024).parse().unwrap());
    body.send_trailers(trailers).unwrap();
    let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(answer.status(), 400);
    // The connection is of use.
    let request = http2::request(Method::GET, &stage.target(), &headers[..1]);
    assert_eq!(client.ask(request).await.unwrap().status(), 200);
}
