//! Control and two edges as real processes on real servers of their own, with one application whose instance answers
//! everything. Between the second edge and its servers lies a network that can be cut.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use authsome_core::entropy::SystemEntropy;
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use authsome_testkit::{
    NatsOptions, NatsServer, PostgresOptions, PostgresServer, RedisOptions, RedisServer, programs, wait_for,
};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::edge_programs::{ControlProcess, EdgeProcess, Network, Servers};

/// Far longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// A path for secret keys.
pub(crate) const USERS: &str = "/users";
/// A path for publishable keys.
pub(crate) const CLIENT: &str = "/v1/client-config";
/// The control database.
pub(crate) const DATABASE: &str = "control";
const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct EdgeWorld {
    pub(crate) postgres: PostgresServer,
    pub(crate) redis: RedisServer,
    pub(crate) nats: NatsServer,
    pub(crate) control: ControlProcess,
    pub(crate) edges: Vec<EdgeProcess>,
    /// Between the second edge and its servers.
    pub(crate) network: Network,
    pub(crate) client: Client,
    token: String,
    workspace: String,
    pub(crate) app: String,
    pub(crate) public_key: String,
    instance: String,
    pub(crate) directory: tempfile::TempDir,
}

impl EdgeWorld {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let postgres = PostgresServer::start(PostgresOptions::default()).await.unwrap();
        postgres.create_database(DATABASE).await.unwrap();
        let redis = RedisServer::start(RedisOptions {
            directory: Some(directory.path().join("redis")),
            ..RedisOptions::default()
        });
        let nats = NatsServer::start(NatsOptions {
            directory: Some(directory.path().join("nats")),
            ..NatsOptions::default()
        });
        let (redis, nats) = (redis.await.unwrap(), nats.await.unwrap());
        let servers = Servers::of(&postgres, &redis, &nats);
        let control = ControlProcess::start("control", directory.path(), &servers).await;
        create_user(&servers.database);
        let network = Network::between(&postgres, &redis, &nats).await;
        let edges = vec![
            EdgeProcess::start("edge-1", directory.path(), &servers).await,
            EdgeProcess::start("edge-2", directory.path(), &network.across(&servers)).await,
        ];
        let mut world = Self {
            postgres,
            redis,
            nats,
            control,
            edges,
            network,
            client: Client::builder().timeout(SOON).no_proxy().build().unwrap(),
            token: String::new(),
            workspace: String::new(),
            app: String::new(),
            public_key: String::new(),
            instance: instance().await,
            directory,
        };
        let login = json!({ "email": "ada@example.com", "password": PASSWORD });
        world.token = text(&world.post("/auth/login", login).await, "token");
        world.workspace = text(&world.post("/workspaces", json!({ "name": "Acme" })).await, "id");
        // Tests that wait ask again and again: more often than the plans with a fixed limit allow.
        sqlx::query("UPDATE workspaces SET plan = 'enterprise'")
            .execute(&mut world.database().await)
            .await
            .unwrap();
        (world.app, world.public_key) = world.application("Shop").await;
        world
    }

    /// Another replica of control, with an API of its own that nobody asks.
    pub(crate) async fn another_control(&self) -> ControlProcess {
        ControlProcess::start("control-2", self.directory.path(), &self.servers()).await
    }

    pub(crate) fn servers(&self) -> Servers {
        Servers::of(&self.postgres, &self.redis, &self.nats)
    }

    /// Another application that serves: its id and its public key.
    pub(crate) async fn application(&self, name: &str) -> (String, String) {
        let body = json!({ "name": name, "environment": "production" });
        let created = self
            .post(&format!("/workspaces/{}/applications", self.workspace), body)
            .await;
        let app = text(&created, "id");
        let statement =
            "UPDATE applications SET status = 'active', activated_at = now(), endpoints = ARRAY[$2] WHERE id = $1";
        self.change_of(&app, statement, &self.instance).await;
        (app, text(&created, "publicKey"))
    }

    /// Changes the application by a statement whose first parameter is its id.
    pub(crate) async fn change(&self, statement: &'static str, value: &str) {
        self.change_of(&self.app, statement, value).await;
    }

    /// As [`Self::change`], of another application.
    pub(crate) async fn change_of(&self, app: &str, statement: &'static str, value: &str) {
        let changed = sqlx::query(statement)
            .bind(app)
            .bind(value)
            .execute(&mut self.database().await)
            .await
            .unwrap();
        assert_eq!(changed.rows_affected(), 1);
    }

    pub(crate) async fn database(&self) -> PgConnection {
        PgConnection::connect_with(&self.postgres.options(DATABASE))
            .await
            .unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self
            .client
            .post(format!("{}{path}", self.control.api))
            .bearer_auth(&self.token);
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Changes what the edge does for the application, by the API.
    pub(crate) async fn set_edge(&self, settings: Value) {
        let url = format!("{}/applications/{}", self.control.api, self.app);
        let request = self.client.patch(url).bearer_auth(&self.token);
        let answer = request.json(&json!({ "edge": settings })).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self
            .client
            .get(format!("{}{path}", self.control.api))
            .bearer_auth(&self.token);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// A new secret key: its id and itself.
    pub(crate) async fn secret_key(&self) -> (String, String) {
        self.secret_key_of(&self.app).await
    }

    /// As [`Self::secret_key`], of another application.
    pub(crate) async fn secret_key_of(&self, app: &str) -> (String, String) {
        let body = json!({ "name": "Server", "type": "secret" });
        let created = self.post(&format!("/applications/{app}/keys"), body).await;
        (text(&created, "id"), text(&created, "key"))
    }

    /// As [`Self::secret_key`], once control has its database back.
    pub(crate) async fn secret_key_soon(&self) -> (String, String) {
        wait_for("control to have its database back", SOON, async || {
            let listed = self
                .client
                .get(format!("{}/workspaces", self.control.api))
                .bearer_auth(&self.token);
            listed
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
                .then_some(())
        })
        .await
        .unwrap();
        self.secret_key().await
    }

    /// Revokes a key and waits for the edges.
    pub(crate) async fn revoke(&self, key: &str, query: &str) -> Response {
        let url = format!("{}/applications/{}/keys/{key}?{query}", self.control.api, self.app);
        self.client.delete(url).bearer_auth(&self.token).send().await.unwrap()
    }

    /// What an edge answers to a request with this key.
    pub(crate) async fn ask(&self, edge: usize, tail: &str, key: &str) -> Response {
        self.ask_of(&self.app, edge, tail, key).await
    }

    /// As [`Self::ask`], of another application.
    pub(crate) async fn ask_of(&self, app: &str, edge: usize, tail: &str, key: &str) -> Response {
        let url = format!("http://{}/v1/{app}{tail}", self.edges[edge].address);
        self.client.get(url).header("x-api-key", key).send().await.unwrap()
    }

    pub(crate) async fn until(&self, edge: usize, tail: &str, key: &str, status: u16) {
        self.until_of(&self.app, edge, tail, key, status).await;
    }

    /// As [`Self::until`], of another application. The answer that was awaited.
    pub(crate) async fn until_of(&self, app: &str, edge: usize, tail: &str, key: &str, status: u16) -> Response {
        wait_for(format!("{status} at edge {edge}"), SOON, async || {
            let answer = self.ask_of(app, edge, tail, key).await;
            let seen = answer.status();
            if seen == status { Ok(answer) } else { Err(seen) }
        })
        .await
        .unwrap()
    }

    /// Every edge refuses this key with 401, this soon.
    pub(crate) async fn refused_everywhere_within(&self, bound: Duration, key: &str) {
        let began = Instant::now();
        for edge in 0..self.edges.len() {
            self.until(edge, USERS, key, 401).await;
        }
        let took = began.elapsed();
        println!("refused everywhere after {took:?}");
        assert!(took < bound, "{took:?}");
    }

    /// A well-formed secret key of the application that was never made.
    pub(crate) fn unknown_key(&self) -> String {
        let app = self.app.parse().unwrap();
        let key = ApiKey::generate(KeyType::Secret, KeyMode::Live, &app, &SystemEntropy::new());
        key.expose().to_owned()
    }

    /// The edges as `name=state`, once they are as expected and those that live lack nothing.
    pub(crate) async fn until_edges(&self, expected: &[&str]) {
        wait_for(format!("edges {expected:?}"), SOON, async || {
            let listed = self.get("/edges").await;
            let edges = listed["data"].as_array().unwrap();
            let states: Vec<String> = edges
                .iter()
                .map(|edge| text(edge, "name") + "=" + &text(edge, "state"))
                .collect();
            // There is an application by now: an edge that has read nothing yet lacks its changes.
            let complete = edges.iter().all(|edge| edge["state"] != "live" || edge["lag"] == 0);
            if states == expected && complete {
                Ok(())
            } else {
                Err(listed.to_string())
            }
        })
        .await
        .unwrap();
    }
}

fn create_user(database: &str) {
    let arguments = [
        "admin",
        "create-user",
        "--email",
        "ada@example.com",
        "--name",
        "Ada",
        "--password-stdin",
    ];
    let mut child = Command::new(programs::binary("authsome-control").unwrap())
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// An instance that answers every request with 200.
async fn instance() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut part = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut part).await {
                    head.extend_from_slice(&part[..read]);
                    // Requests of these tests have no body.
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

pub(crate) fn text(json: &Value, field: &str) -> String {
    json[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {json}"))
        .to_owned()
}
