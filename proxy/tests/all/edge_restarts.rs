//! Edges are stopped, restarted and replaced while clients use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use authsome_testkit::{NatsOptions, NatsServer, Program, ProgramCommand, port, wait_for};
use http::Method;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::db::{App, NewApp, Tenants};
use crate::edge::{Edge, key, request};
use crate::http2::{self, Client};
use crate::instance::{Instance, nobody};
use crate::meter_usage::Aggregator;
use crate::tls::Secure;
use crate::wire::{Message, PATIENCE, Wire, exchange};

const LINGER: &str = "1500ms";

/// How the requests of a load went.
#[derive(Debug, Default)]
struct Score {
    answered: AtomicU64,
    /// The first failures, in words.
    failures: std::sync::Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Score {
    fn fail(&self, what: String) {
        let mut failures = self.failures.lock().unwrap();
        if failures.len() < 20 {
            failures.push(what);
        }
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests were answered.
    async fn more(&self, requests: u64) {
        let until = self.answered() + requests;
        wait_for("the load to go on", PATIENCE, async || {
            (self.answered() >= until)
                .then_some(())
                .ok_or_else(|| format!("{self:?}"))
        })
        .await
        .unwrap();
    }
}

/// Sends requests one after another, each on the connection of the last as long as the edge keeps it. `next` names the
/// address for a new connection.
async fn http1_load(score: Arc<Score>, request: String, next: impl Fn() -> String) {
    while score.goes_on() {
        let address = next();
        let mut wire = match TcpStream::connect(&address).await {
            Ok(stream) => Wire::new(stream),
            Err(error) => {
                score.fail(format!("connect to {address}: {error}"));
                continue;
            }
        };
        while score.goes_on() {
            if !wire.try_send(&request).await {
                score.fail(format!("{address}: the request was not taken"));
                break;
            }
            let Some(answer) = wire.receive().await else {
                score.fail(format!("{address}: closed without an answer"));
                break;
            };
            if answer.status() == 200 {
                score.answered.fetch_add(1, Ordering::Relaxed);
            } else {
                score.fail(format!("{address}: {answer:?}"));
            }
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
}

/// As [`http1_load`], with HTTP/2 through TLS.
async fn http2_load(score: Arc<Score>, secure: Arc<Secure>, asked: http::Request<()>) {
    while score.goes_on() {
        let stream =
            match crate::tls::connect(&secure.address, "api.authsome.test", &secure.authority.client(&["h2"])).await {
                Ok(stream) => stream,
                Err(error) => {
                    score.fail(format!("tls: {error}"));
                    continue;
                }
            };
        let mut client = Client::over(stream).await;
        while score.goes_on() {
            // Refused before it is sent: the connection was told to go, and the next one takes it.
            let Ok((response, _)) = client.send(asked.clone(), true).await else {
                break;
            };
            let answer = async { http2::read(response.await?).await };
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) if answer.status() == 200 => {
                    score.answered.fetch_add(1, Ordering::Relaxed);
                }
                other => score.fail(format!("h2: {other:?}")),
            }
        }
    }
}

/// Asks the admin port again and again, each time on a new connection.
async fn admin_load(score: Arc<Score>, address: String) {
    while score.goes_on() {
        let mut wire = match TcpStream::connect(&address).await {
            Ok(stream) => Wire::new(stream),
            Err(error) => {
                score.fail(format!("connect to admin: {error}"));
                continue;
            }
        };
        wire.try_send(request("GET", "/livez", "connection: close\r\n", ""))
            .await;
        match wire.receive().await {
            Some(answer) if answer.status() == 200 => {}
            other => score.fail(format!("admin: {other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ended(score: &Score, load: Vec<JoinHandle<()>>) {
    score.over.store(true, Ordering::Relaxed);
    for worker in load {
        tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
    }
    let failures = score.failures.lock().unwrap();
    assert!(failures.is_empty(), "of {}: {failures:#?}", score.answered());
}

/// One place in which edges follow each other: same addresses, same data.
struct Place {
    directory: TempDir,
    address: String,
    admin: String,
    secure: Arc<Secure>,
    url: String,
    nats: String,
}

impl Place {
    fn new(tenants: &Tenants) -> Self {
        let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
        Self {
            directory: tempfile::tempdir().unwrap(),
            address,
            admin,
            secure: Arc::new(Secure::new()),
            url: tenants.database.url.clone(),
            nats: format!("nats://{}", nobody()),
        }
    }

    fn command(&self, name: &str) -> ProgramCommand {
        let data = self.directory.path().join("data");
        let mut command = ProgramCommand::new("authsome-proxy", self.directory.path().join(format!("{name}.log")))
            .unwrap()
            .env("AUTHSOME_LISTEN_ADDRESS", &self.address)
            .env("AUTHSOME_LISTEN_ADMIN", &self.admin)
            .env("AUTHSOME_DATA_DIRECTORY", data.display().to_string())
            .env("AUTHSOME_SHUTDOWN_LINGER", LINGER)
            .env("AUTHSOME_SERVER_THREADS", "2")
            .env("DATABASE_URL", &self.url)
            .env("REDIS_URL", format!("redis://{}", nobody()))
            .env("NATS_URL", &self.nats);
        for (key, value) in self.secure.settings() {
            command = command.env(key, value);
        }
        command.deadline(Duration::from_secs(30))
    }

    async fn start(&self, name: &str) -> Program {
        self.command(name)
            .ready_at(&self.admin, "/readyz")
            .start()
            .await
            .unwrap()
    }

    async fn successor(&self, name: &str) -> Program {
        self.command(name).arg("--upgrade").spawn().await.unwrap()
    }
}

async fn logged(program: &Program, text: &str) {
    wait_for(text, PATIENCE, async || {
        program.log().contains(text).then_some(()).ok_or_else(|| program.log())
    })
    .await
    .unwrap();
}

async fn scene() -> (Tenants, Instance, App, Place) {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let place = Place::new(&tenants);
    (tenants, instance, app, place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_all_listeners_under_load_and_no_request_or_connection_fails() {
    let (_tenants, _instance, app, mut place) = scene().await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    place.nats = server.url();
    let mut edge = place.start("first").await;
    let score = Arc::new(Score::default());
    let target = format!("/v1/{}/users", app.id);
    let mut load = Vec::new();
    for _ in 0..4 {
        let address = place.address.clone();
        let asked = request("GET", &target, &key(&app.secret), "");
        load.push(tokio::spawn(http1_load(Arc::clone(&score), asked, move || {
            address.clone()
        })));
    }
    // A new connection for each request, too.
    let address = place.address.clone();
    let closing = format!("{}connection: close\r\n", key(&app.secret));
    let asked = request("GET", &target, &closing, "");
    load.push(tokio::spawn(http1_load(Arc::clone(&score), asked, move || {
        address.clone()
    })));
    for _ in 0..2 {
        let asked = http2::request(Method::GET, &target, &[("x-api-key", app.secret.expose())]);
        load.push(tokio::spawn(http2_load(
            Arc::clone(&score),
            Arc::clone(&place.secure),
            asked,
        )));
    }
    load.push(tokio::spawn(admin_load(Arc::clone(&score), place.admin.clone())));
    for name in ["second", "third"] {
        score.more(200).await;
        let next = place.successor(name).await;
        logged(&next, "the predecessor accepts no more").await;
        let exit = tokio::time::timeout(PATIENCE, edge.child().exited()).await.unwrap();
        assert!(exit.success(), "{}", edge.log());
        assert!(next.child().exit().is_none(), "{}", next.log());
        edge = next;
    }
    score.more(200).await;
    ended(&score, load).await;
    let ready = exchange(&place.admin, request("GET", "/readyz", "", "")).await;
    assert_eq!(ready.status(), 200);
    assert!(edge.stop().await.unwrap().success(), "{}", edge.log());
    // Three processes counted in one directory: every request once.
    aggregator.until(score.answered()).await;
}

#[tokio::test]
async fn a_successor_that_ends_before_it_is_ready_leaves_the_edge_as_it_was() {
    let (_tenants, _instance, app, place) = scene().await;
    let edge = place.start("first").await;
    let target = format!("/v1/{}/users", app.id);
    let ask = async || exchange(&place.address, request("GET", &target, &key(&app.secret), "")).await;
    assert_eq!(ask().await.status(), 200);
    // Without any table it never becomes ready.
    let mut lost = place
        .command("lost")
        .arg("--upgrade")
        .env("DATABASE_URL", format!("postgres://{}/control", nobody()))
        .env(
            "AUTHSOME_SNAPSHOT_DIRECTORY",
            place.directory.path().join("none").display().to_string(),
        )
        .spawn()
        .await
        .unwrap();
    logged(&edge, "a successor has the listening sockets").await;
    for _ in 0..50 {
        assert_eq!(ask().await.status(), 200, "the one that can serve does");
        let ready = exchange(&place.admin, request("GET", "/readyz", "connection: close\r\n", "")).await;
        assert_eq!(ready.status(), 200);
    }
    lost.kill().await.unwrap();
    logged(&edge, "this process goes on").await;
    for _ in 0..20 {
        assert_eq!(ask().await.status(), 200);
    }
    // The next one is served.
    let next = place.successor("next").await;
    logged(&next, "the predecessor accepts no more").await;
    assert_eq!(ask().await.status(), 200);
    let exit = tokio::time::timeout(PATIENCE, edge.child().exited()).await.unwrap();
    assert!(exit.success());
}

#[tokio::test]
async fn without_a_predecessor_an_upgrade_is_a_start() {
    let (_tenants, _instance, app, place) = scene().await;
    let mut edge = place
        .command("first")
        .arg("--upgrade")
        .ready_at(&place.admin, "/readyz")
        .start()
        .await
        .unwrap();
    let asked = request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), "");
    assert_eq!(exchange(&place.address, &asked).await.status(), 200);
    // What a killed process leaves is no predecessor either.
    edge.kill().await.unwrap();
    let next = place
        .command("second")
        .arg("--upgrade")
        .ready_at(&place.admin, "/readyz")
        .start()
        .await
        .unwrap();
    assert_eq!(exchange(&place.address, &asked).await.status(), 200);
    drop(next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_two_edges_under_load_fails_no_request() {
    let (tenants, _instance, app, place) = scene().await;
    let other = Place::new(&tenants);
    let mut edges = [place.start("first").await, other.start("second").await];
    let places = [
        (place.address.clone(), place.admin.clone()),
        (other.address.clone(), other.admin.clone()),
    ];
    // A load balancer: looks at readiness, and sends new connections to those that are ready.
    let (publish, ready) = watch::channel(vec![place.address.clone(), other.address.clone()]);
    let looking = tokio::spawn({
        let places = places.clone();
        async move {
            loop {
                let mut now = Vec::new();
                for (address, admin) in &places {
                    if is_ready(admin).await {
                        now.push(address.clone());
                    }
                }
                publish.send_replace(now);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let score = Arc::new(Score::default());
    let mut load = Vec::new();
    for worker in 0..6_usize {
        let (ready, turn) = (ready.clone(), AtomicU64::new(worker as u64));
        let asked = request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), "");
        let next = move || {
            let ready = ready.borrow();
            let turn = usize::try_from(turn.fetch_add(1, Ordering::Relaxed)).unwrap();
            ready[turn % ready.len()].clone()
        };
        load.push(tokio::spawn(http1_load(Arc::clone(&score), asked, next)));
    }
    for (edge, (address, _)) in edges.iter_mut().zip(&places) {
        score.more(200).await;
        edge.restart().await.unwrap();
        wait_for("the balancer to see it again", PATIENCE, async || {
            ready.borrow().contains(address).then_some(())
        })
        .await
        .unwrap();
    }
    score.more(200).await;
    ended(&score, load).await;
    looking.abort();
}

async fn is_ready(admin: &str) -> bool {
    let Ok(stream) = TcpStream::connect(admin).await else {
        return false;
    };
    let mut wire = Wire::new(stream);
    wire.try_send(request("GET", "/readyz", "connection: close\r\n", ""))
        .await
        && wire.receive().await.is_some_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn while_draining_answers_say_that_the_connection_closes_and_idle_ones_are_closed_at_the_end() {
    let tenants = Tenants::new().await;
    let instance = Instance::echo().await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_SHUTDOWN_LINGER", "8s")]).await;
    let asked = request("GET", &format!("/v1/{}/users", app.id), &key(&app.secret), "");
    let connection = |answer: &Message| answer.header("connection").map(str::to_owned);
    let (mut used, mut idle) = (Wire::connect(&edge.address).await, Wire::connect(&edge.address).await);
    for wire in [&mut used, &mut idle] {
        wire.send(&asked).await;
        let answer = wire.receive().await.unwrap();
        assert_ne!(connection(&answer).as_deref(), Some("close"), "{answer:?}");
    }
    edge.program.child().signal(Signal::SIGTERM).unwrap();
    wait_for("draining", PATIENCE, async || {
        (!is_ready(&edge.admin).await).then_some(())
    })
    .await
    .unwrap();
    used.send(&asked).await;
    let answer = used.receive().await.unwrap();
    assert_eq!((answer.status(), connection(&answer).as_deref()), (200, Some("close")));
    assert!(used.is_closed().await);
    let mut new = Wire::connect(&edge.address).await;
    new.send(&asked).await;
    let answer = new.receive().await.unwrap();
    assert_eq!((answer.status(), connection(&answer).as_deref()), (200, Some("close")));
    assert!(idle.is_closed().await, "closed without a word when the linger is over");
}

#[tokio::test]
async fn what_is_still_open_at_the_deadline_is_closed_and_counted() {
    let tenants = Tenants::new().await;
    let instance = Instance::connected(|_, mut wire| async move {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            .await;
        while let Some(heard) = wire.heard().await {
            wire.send(heard).await;
        }
        None
    })
    .await;
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let edge = Edge::start(&tenants, &[("AUTHSOME_SHUTDOWN_DEADLINE", "9s")]).await;
    let mut wire = Wire::connect(&edge.address).await;
    let head = format!("{}upgrade: websocket\r\nconnection: upgrade\r\n", key(&app.public));
    wire.send(request("GET", &format!("/v1/{}/v1/me/events", app.id), &head, ""))
        .await;
    assert_eq!(wire.receive_head().await.unwrap().status(), 101);
    edge.program.child().signal(Signal::SIGTERM).unwrap();
    wait_for("the edge to accept nothing more", PATIENCE, async || {
        TcpStream::connect(&edge.address).await.is_err().then_some(())
    })
    .await
    .unwrap();
    wire.send("still here").await;
    assert_eq!(wire.exactly(10).await, b"still here");
    assert!(wire.is_closed().await);
    let exit = tokio::time::timeout(PATIENCE, edge.program.child().exited())
        .await
        .unwrap();
    let log = edge.program.log();
    assert!(exit.success(), "{log}");
    assert!(log.contains("NoLongerAllowed"), "{log}");
}
