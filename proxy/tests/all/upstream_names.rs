//! Endpoints by the name of a service, with a resolver that answers, changes its mind, and hangs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authsome_testkit::wait_for;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::instance::Instance;

const NAME: &str = "authsome.ns.svc.cluster.local";

#[derive(Clone)]
enum Says {
    Addresses(Vec<Ipv4Addr>),
    Nothing,
    Failure,
    NotAWord,
}

/// A name server that says the same of every name.
struct NameServer {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl NameServer {
    async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(Mutex::new(Vec::new())));
        let (saying, noted) = (Arc::clone(&says), Arc::clone(&asked));
        let serving = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let (name, end) = question(&packet[..length]);
                noted.lock().unwrap().push(name);
                let says = saying.lock().unwrap().clone();
                if let Some(answer) = answer(&packet[..end], &says) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            address,
            says,
            asked,
            serving,
        }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The name that is asked for, and where the question ends (RFC 1035, 4.1.2).
fn question(packet: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while packet[at] != 0 {
        let length = usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..=at + length]).to_ascii_lowercase());
        at += 1 + length;
    }
    (labels.join("."), at + 5)
}

/// A response to a packet that is cut off after its question. Only A records exist.
fn answer(query: &[u8], says: &Says) -> Option<Vec<u8>> {
    let wants_ipv4 = query[query.len() - 3] == 1;
    let (code, addresses): (u8, &[Ipv4Addr]) = match says {
        Says::Addresses(addresses) if wants_ipv4 => (0, addresses),
        Says::Addresses(_) => (0, &[]),
        Says::Nothing => (3, &[]),
        Says::Failure => (2, &[]),
        Says::NotAWord => return None,
    };
    let mut answer = query.to_vec();
    answer[2] = 0x84 | (query[2] & 1);
    answer[3] = 0x80 | code;
    answer[4..12].fill(0);
    answer[5] = 1;
    answer[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        // The name of the question, A, IN, one second, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

async fn named(tenants: &Tenants, endpoints: &[String], port: u16) -> App {
    let app = tenants.app(NewApp::at(endpoints)).await;
    let service = format!("{NAME}:{port}");
    tenants
        .change_app(
            app.id,
            "UPDATE applications SET instance_service = $2 WHERE id = $1",
            &service,
        )
        .await;
    app
}

async fn edge(tenants: &Tenants, names: &NameServer) -> Edge {
    let server = names.address.to_string();
    let settings = [
        ("AUTHSOME_UPSTREAM_DNS_SERVER", server.as_str()),
        ("AUTHSOME_UPSTREAM_DNS_MIN_REFRESH", "200ms"),
        ("AUTHSOME_UPSTREAM_DNS_MAX_REFRESH", "400ms"),
        ("AUTHSOME_UPSTREAM_DNS_TIMEOUT", "1s"),
    ];
    Edge::start(tenants, &settings).await
}

async fn get(edge: &Edge, app: &App) -> u16 {
    edge.get(app.id, "/users", &key(&app.secret)).await.status()
}

/// Two instances at the same port of different addresses.
async fn two_at_one_port() -> (Instance, Instance, u16) {
    loop {
        let first = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.3", port)).await.is_ok() {
            drop(first);
            let [one, two] = [2, 3].map(|last| format!("127.0.0.{last}:{port}"));
            return (Instance::echo_at(&one).await, Instance::echo_at(&two).await, port);
        }
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

#[tokio::test]
async fn instances_of_a_service_are_found_followed_and_kept_while_the_resolver_fails() {
    let (tenants, (one, two, port)) = (Tenants::new().await, two_at_one_port().await);
    let names = NameServer::start(Says::Addresses(vec![ip(2)])).await;
    let app = named(&tenants, &[], port).await;
    let edge = edge(&tenants, &names).await;
    assert_eq!(
        get(&edge, &app).await,
        200,
        "the first request waits for the first answer"
    );
    assert!(names.asked.lock().unwrap().iter().all(|asked| asked == NAME));
    assert_eq!(one.seen().len(), 1);

    names.say(Says::Addresses(vec![ip(2), ip(3)]));
    wait_for("the second instance", Duration::from_secs(30), async || {
        assert_eq!(get(&edge, &app).await, 200);
        (!two.seen().is_empty()).then_some(())
    })
    .await
    .unwrap();

    for failure in [Says::Failure, Says::NotAWord] {
        names.say(failure);
        let failed = "authsome_edge_upstream_resolutions_total{outcome=\"failed\"}";
        let before = edge.metric(failed).await;
        wait_for("two failures", Duration::from_secs(30), async || {
            (edge.metric(failed).await >= before + 2).then_some(())
        })
        .await
        .unwrap();
        for _ in 0..10 {
            assert_eq!(get(&edge, &app).await, 200, "the last good addresses stay");
        }
    }

    names.say(Says::Addresses(vec![ip(3)]));
    wait_for("the first to be gone", Duration::from_secs(30), async || {
        let before = one.seen().len();
        for _ in 0..10 {
            assert_eq!(get(&edge, &app).await, 200);
        }
        (one.seen().len() == before).then_some(())
    })
    .await
    .unwrap();

    names.say(Says::Nothing);
    wait_for("nobody", Duration::from_secs(30), async || {
        (get(&edge, &app).await == 503).then_some(())
    })
    .await
    .unwrap();
    names.say(Says::Addresses(vec![ip(2)]));
    wait_for("somebody", Duration::from_secs(30), async || {
        (get(&edge, &app).await == 200).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_resolver_that_hangs_costs_first_requests_their_wait_and_others_nothing() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let names = NameServer::start(Says::NotAWord).await;
    let waiting = named(&tenants, &[], instance.address.port()).await;
    let beside = named(&tenants, &[instance.endpoint()], 1).await;
    let plain = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = edge(&tenants, &names).await;
    let refused = tokio::spawn({
        let (address, line) = (edge.address.clone(), key(&waiting.secret));
        let request = crate::edge::request("GET", &format!("/v1/{}/users", waiting.id), &line, "");
        async move { crate::wire::exchange(&address, request).await }
    });
    wait_for("the question", Duration::from_secs(30), async || {
        (names.asked() > 0).then_some(())
    })
    .await
    .unwrap();
    for app in [&plain, &beside] {
        assert_eq!(get(&edge, app).await, 200, "others have endpoints");
    }
    let refused = refused.await.unwrap();
    assert_eq!(
        (refused.status(), refused.error_code().as_str()),
        (503, "service_unavailable")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Each would take the second that the resolver has; the quickest of them says whether anybody waits for it again.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(get(&edge, &waiting).await, 503);
        quickest = quickest.min(began.elapsed());
    }
    assert!(
        quickest < Duration::from_secs(1),
        "everybody waits for it: {quickest:?}"
    );
}

#[tokio::test]
async fn a_name_that_nobody_needs_is_not_asked_for() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let names = NameServer::start(Says::Addresses(vec![ip(1)])).await;
    let app = named(&tenants, &[], instance.address.port()).await;
    let server = names.address.to_string();
    let settings = [
        ("AUTHSOME_UPSTREAM_DNS_SERVER", server.as_str()),
        ("AUTHSOME_UPSTREAM_DNS_MIN_REFRESH", "50ms"),
        ("AUTHSOME_UPSTREAM_DNS_MAX_REFRESH", "50ms"),
        ("AUTHSOME_UPSTREAM_DNS_IDLE", "2s"),
    ];
    let edge = Edge::start(&tenants, &settings).await;
    assert_eq!(names.asked(), 0, "before its first request");
    assert_eq!(get(&edge, &app).await, 200);
    let followed = "authsome_edge_upstream_names";
    assert_eq!(edge.metric(followed).await, 1);
    wait_for("it to be left alone", Duration::from_secs(30), async || {
        (edge.metric(followed).await == 0).then_some(())
    })
    .await
    .unwrap();
    let asked = names.asked();
    assert_eq!(get(&edge, &app).await, 200);
    assert!(names.asked() > asked, "it is asked for again");
}

#[tokio::test]
async fn a_location_that_names_the_service_is_led_back_to_the_edge() {
    let tenants = Tenants::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let instance = Instance::listening(listener, move |_, mut wire: crate::wire::Wire| async move {
        let location = format!("http://{NAME}:{port}/v1/me");
        wire.send(format!(
            "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        Some(wire)
    });
    let names = NameServer::start(Says::Addresses(vec![ip(1)])).await;
    let app = named(&tenants, &[], instance.address.port()).await;
    let edge = edge(&tenants, &names).await;
    let answer = edge.get(app.id, "/users", &key(&app.secret)).await;
    let location = answer.header("location").unwrap();
    assert!(location.ends_with(&format!("/v1/{}/v1/me", app.id)), "{location}");
    assert!(!location.contains(NAME), "{location}");
}
