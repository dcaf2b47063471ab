//! Control and two edges as real processes on real servers, with one application whose instance answers everything.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use authsome_testkit::databases::empty_database;
use authsome_testkit::{
    Database, NatsOptions, NatsServer, Program, ProgramCommand, RedisOptions, RedisServer, port, programs, wait_for,
};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) const SOON: Duration = Duration::from_secs(20);
const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct EdgeWorld {
    pub(crate) database: Database,
    pub(crate) redis: RedisServer,
    pub(crate) nats: NatsServer,
    pub(crate) control: Program,
    pub(crate) edges: Vec<EdgeProcess>,
    pub(crate) client: Client,
    api: String,
    token: String,
    pub(crate) app: String,
    pub(crate) public_key: String,
    _directory: tempfile::TempDir,
}

pub(crate) struct EdgeProcess {
    pub(crate) program: Program,
    address: String,
}

impl EdgeWorld {
    pub(crate) async fn start() -> Self {
        let database = empty_database().await.unwrap();
        let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let servers = [
            ("DATABASE_URL", database.url.clone()),
            ("REDIS_URL", redis.url()),
            ("NATS_URL", nats.url()),
        ];
        let [api, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
        let mut control = ProgramCommand::new("authsome-control", directory.path().join("control.log"))
            .unwrap()
            .env("JWT_SECRET", "a secret of the tests that is long enough")
            .env("AUTHSOME_LISTEN_API", &api)
            .env("AUTHSOME_LISTEN_ADMIN", &admin)
            .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
            .ready_at(&admin, "/readyz");
        for (name, value) in &servers {
            control = control.env(*name, value);
        }
        let control = control.start().await.unwrap();
        create_user(&database.url);
        let edges = [
            edge("edge-1", &directory, &servers).await,
            edge("edge-2", &directory, &servers).await,
        ];
        let client = Client::builder().timeout(SOON).no_proxy().build().unwrap();
        let mut world = Self {
            database,
            redis,
            nats,
            control,
            edges: Vec::from(edges),
            client,
            api: format!("http://{api}/api/v1"),
            token: String::new(),
            app: String::new(),
            public_key: String::new(),
            _directory: directory,
        };
        world.create_application().await;
        world
    }

    async fn create_application(&mut self) {
        let login = json!({ "email": "ada@example.com", "password": PASSWORD });
        self.token = text(&self.post("/auth/login", login).await, "token");
        let workspace = text(&self.post("/workspaces", json!({ "name": "Acme" })).await, "id");
        let body = json!({ "name": "Shop", "environment": "production" });
        let created = self.post(&format!("/workspaces/{workspace}/applications"), body).await;
        self.app = text(&created, "id");
        self.public_key = text(&created, "publicKey");
        let statement =
            "UPDATE applications SET status = 'active', activated_at = now(), endpoints = ARRAY[$2] WHERE id = $1";
        let instance = instance().await;
        self.change(statement, &instance).await;
    }

    /// Changes the application by a statement whose first parameter is its id.
    pub(crate) async fn change(&self, statement: &'static str, value: &str) {
        let changed = sqlx::query(statement)
            .bind(&self.app)
            .bind(value)
            .execute(&mut self.database().await)
            .await
            .unwrap();
        assert_eq!(changed.rows_affected(), 1);
    }

    pub(crate) async fn database(&self) -> PgConnection {
        PgConnection::connect_with(&self.database.options).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}{path}", self.api)).bearer_auth(&self.token);
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Changes what the edge does for the application, by the API.
    pub(crate) async fn set_edge(&self, settings: Value) {
        let url = format!("{}/applications/{}", self.api, self.app);
        let request = self.client.patch(url).bearer_auth(&self.token);
        let answer = request.json(&json!({ "edge": settings })).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.api)).bearer_auth(&self.token);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// A new secret key: its id and itself.
    pub(crate) async fn secret_key(&self) -> (String, String) {
        let body = json!({ "name": "Server", "type": "secret" });
        let created = self.post(&format!("/applications/{}/keys", self.app), body).await;
        (text(&created, "id"), text(&created, "key"))
    }

    /// As [`Self::secret_key`], once control has its database back.
    pub(crate) async fn secret_key_soon(&self) -> (String, String) {
        wait_for("control to have its database back", SOON, async || {
            let listed = self
                .client
                .get(format!("{}/workspaces", self.api))
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
        let url = format!("{}/applications/{}/keys/{key}?{query}", self.api, self.app);
        self.client.delete(url).bearer_auth(&self.token).send().await.unwrap()
    }

    /// What an edge answers to a request with this key.
    pub(crate) async fn ask(&self, edge: usize, tail: &str, key: &str) -> Response {
        let url = format!("http://{}/v1/{}{tail}", self.edges[edge].address, self.app);
        self.client.get(url).header("x-api-key", key).send().await.unwrap()
    }

    pub(crate) async fn until(&self, edge: usize, tail: &str, key: &str, status: u16) {
        wait_for(format!("{status} at edge {edge}"), SOON, async || {
            (self.ask(edge, tail, key).await.status().as_u16() == status).then_some(())
        })
        .await
        .unwrap();
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
            let complete = edges
                .iter()
                .all(|edge| edge["state"] != "live" || (edge["lag"] == 0 && edge["position"] != 0));
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

async fn edge(name: &str, directory: &tempfile::TempDir, servers: &[(&str, String)]) -> EdgeProcess {
    let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
    let mut command = ProgramCommand::new("authsome-proxy", directory.path().join(format!("{name}.log")))
        .unwrap()
        .env("AUTHSOME_EDGE_NAME", name)
        .env("AUTHSOME_LISTEN_ADDRESS", &address)
        .env("AUTHSOME_LISTEN_ADMIN", &admin)
        .env(
            "AUTHSOME_DATA_DIRECTORY",
            directory.path().join(name).display().to_string(),
        )
        .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
        .env("AUTHSOME_SERVER_THREADS", "2")
        .ready_at(&admin, "/readyz");
    for (name, value) in servers {
        command = command.env(*name, value);
    }
    EdgeProcess {
        program: command.start().await.unwrap(),
        address,
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
