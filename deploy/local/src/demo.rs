//! The demo: a person, a workspace and an application that answers, created where absent; and what somebody needs to know
//! to use them, for people on the terminal and for scripts in `demo.json`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use authsome_testkit::{http_probe, private_file, programs, wait_for};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::configuration::{CONTROL_DATABASE, control_url, edge_url, foreign_variables, own_url};
use crate::console;
use crate::control_api::{Application, ControlApi, Events};
use crate::db;
use crate::error::LocalError;
use crate::ports::Ports;
use crate::progress::Progress;
use crate::servers::Servers;
use crate::state::State;

/// Who signs in.
const EMAIL: &str = "demo@example.com";
/// Provisioning takes seconds; this is for a machine that is busy building something.
const PROVISIONED: Duration = Duration::from_mins(5);
/// From an active application to an answer through the edge.
const ANSWERS: Duration = Duration::from_mins(1);
/// For a program that does one thing and ends.
const ONE_THING: Duration = Duration::from_mins(2);

/// What scripts read.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Demo {
    control_url: String,
    edge_url: String,
    /// Of the application itself.
    #[serde(default)]
    own_url: String,
    admin_urls: AdminUrls,
    email: String,
    password: String,
    workspace_id: String,
    application_id: String,
    public_key: String,
    secret_key: String,
    database_url: String,
    redis_url: String,
    nats_url: String,
}

/// Probes and metrics of the three programs.
#[derive(Serialize, Deserialize)]
struct AdminUrls {
    control: String,
    proxy: String,
    provisioner: String,
}

/// Brings the schema up to date and makes sure that the demo user exists: before the programs run.
///
/// # Errors
/// [`LocalError::Command`] with what `authsome-control` said.
pub(crate) async fn prepare(state: &State, control_config: &Path) -> Result<(), LocalError> {
    let control = programs::binary("authsome-control")?;
    run(&control, control_config, &["migrate"], "").await?;
    let user = [
        "admin",
        "create-user",
        "--if-absent",
        "--email",
        EMAIL,
        "--name",
        "Demo",
        "--password-stdin",
    ];
    run(&control, control_config, &user, &state.secrets.demo_password).await
}

/// Makes sure that the demo application answers through the edge, and writes `demo.json`.
///
/// # Errors
/// [`LocalError::Provisioning`] with the platform's own reason, [`LocalError::Wait`] when it takes too long.
pub(crate) async fn ensure(state: &State, ports: &Ports, servers: &Servers) -> Result<Demo, LocalError> {
    let password = &state.secrets.demo_password;
    let api = ControlApi::sign_in(&control_url(ports), EMAIL, password).await?;
    let workspace = api.workspace("Demo", "demo").await?;
    let application = api.application(&workspace.id, "Demo", "demo").await?;
    let file = state.file("demo.json");
    let keys = Keys::of(&api, &application, &file).await?;

    let admin = |port| format!("http://127.0.0.1:{port}");
    let demo = Demo {
        control_url: control_url(ports),
        edge_url: edge_url(ports),
        own_url: own_url(ports, &application.id),
        admin_urls: AdminUrls {
            control: admin(ports.control_admin),
            proxy: admin(ports.edge_admin),
            provisioner: admin(ports.provisioner_admin),
        },
        email: EMAIL.to_owned(),
        password: password.clone(),
        workspace_id: workspace.id,
        application_id: application.id.clone(),
        public_key: keys.public,
        secret_key: keys.secret,
        database_url: servers.postgres.url(CONTROL_DATABASE),
        redis_url: servers.redis.url(),
        nats_url: servers.nats.url(),
    };
    // Written before the application is active: its secret key was shown this once.
    private_file::write(&file, &(serde_json::to_string_pretty(&demo).unwrap_or_default() + "\n"))?;

    provisioned(&api, application).await?;
    answers(ports, servers, &demo).await?;
    Ok(demo)
}

/// Waits until every instance is healthy and the edge sends requests to them. Nothing asked here reaches an instance through
/// the edge, so the application's usage still counts its customers' requests only.
async fn answers(ports: &Ports, servers: &Servers, demo: &Demo) -> Result<(), LocalError> {
    let options = servers.postgres.options(CONTROL_DATABASE);
    wait_for("the demo application's instances to be healthy", ANSWERS, async || {
        let found = db::instances(&options, &demo.application_id).await;
        let (endpoints, base_path) = found.map_err(|error| error.to_string())?;
        if endpoints.is_empty() {
            return Err("there are none".to_owned());
        }
        for endpoint in endpoints {
            http_probe::ok(
                endpoint.trim_start_matches("http://"),
                &format!("{base_path}/v1/health"),
            )
            .await?;
        }
        Ok(())
    })
    .await?;
    // A public key on a path for secret keys: 403 once the edge would serve, 401 or 503 before.
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .no_proxy()
        .build()?;
    let url = format!("{}/v1/{}/users", edge_url(ports), demo.application_id);
    wait_for("the edge to know the demo application", ANSWERS, async || {
        let reply = client.get(&url).header("x-api-key", &demo.public_key).send().await;
        match reply.map(|reply| reply.status().as_u16()) {
            Ok(403) => Ok(()),
            Ok(status) => Err(format!("it answers {status}")),
            Err(error) => Err(console::chain(&error)),
        }
    })
    .await?;
    Ok(())
}

async fn provisioned(api: &ControlApi, application: Application) -> Result<(), LocalError> {
    if application.status == "active" {
        return Ok(());
    }
    console::say("Provisioning the demo application:");
    let mut progress = Progress::default();
    let mut events = Events::default();
    let outcome = wait_for("the demo application to be active", PROVISIONED, async || {
        let now = api
            .get_application(&application.id)
            .await
            .map_err(|error| console::chain(&error))?;
        let operation = api
            .newest_operation(&application.id)
            .await
            .map_err(|error| console::chain(&error))?;
        if let Some(operation) = &operation {
            progress.show(operation);
        }
        match (now.status.as_str(), operation) {
            ("active", _) => Ok(Ok(())),
            ("failed", operation) => {
                let (reason, remediation) = operation
                    .map(|done| (done.reason, done.remediation))
                    .unwrap_or_default();
                let (reason, remediation) = (reason.unwrap_or_default(), remediation.unwrap_or_default());
                Ok(Err(LocalError::Provisioning { reason, remediation }))
            }
            (status, operation) => {
                if let Some(operation) = &operation {
                    events.next(api, &operation.id).await;
                }
                let operation = operation.map_or("no operation".to_owned(), |operation| operation.status);
                Err(format!("the application is {status}, its operation {operation}"))
            }
        }
    });
    outcome.await?
}

/// The demo application's keys.
struct Keys {
    public: String,
    secret: String,
}

impl Keys {
    /// A secret key is shown once: it comes with a new application or from the file; if both fail, another is made.
    async fn of(api: &ControlApi, application: &Application, file: &Path) -> Result<Self, LocalError> {
        let kept = std::fs::read_to_string(file)
            .ok()
            .and_then(|text| serde_json::from_str::<Demo>(&text).ok());
        let kept = kept
            .filter(|demo| demo.application_id == application.id)
            .map(|demo| demo.secret_key);
        let secret = match application.secret_key.clone().or(kept) {
            Some(secret) => secret,
            None => api.create_key(&application.id, "Demo server", "secret").await?,
        };
        let public = match application.public_key.clone() {
            Some(public) => public,
            None => api.create_key(&application.id, "Demo browser", "public").await?,
        };
        Ok(Self { public, secret })
    }
}

impl Demo {
    /// What a person reads.
    pub(crate) fn introduce(&self, state: &State) {
        let Self {
            control_url,
            edge_url,
            own_url,
            email,
            password,
            application_id,
            public_key,
            secret_key,
            ..
        } = self;
        let base = format!("{edge_url}/v1/{application_id}");
        console::say(&format!(
            "\nAuthSome Cloud runs.\n\n\
             Edge             {base}\n\
             Its own host     {own_url}\n\
             Public key       {public_key}\n\
             Secret key       {secret_key}\n\n\
             Sign a user up:\n\n  \
               curl -sS {base}/v1/signup -H 'X-API-Key: {public_key}' -H 'Content-Type: application/json' \
                 -d '{{\"email\":\"user-'$(date +%s)'@example.com\",\"password\":\"correct horse battery\"}}'\n\n\
             List the users:\n\n  \
               curl -sS {base}/users -H 'X-API-Key: {secret_key}'\n\n\
             API, dashboard   {control_url}  (API under /api/v1)\n\
             Sign in as       {email}\n\
             Password         {password}\n\n\
             For scripts      {}\n\
             Logs             {}\n\n\
             Ctrl-C stops everything; the data stays.",
            state.file("demo.json").display(),
            state.file("logs").display(),
        ));
    }
}

async fn run(program: &PathBuf, config: &Path, arguments: &[&str], input: &str) -> Result<(), LocalError> {
    let name = || format!("authsome-control {}", arguments.join(" "));
    let io = |action: &str| LocalError::io(format!("{action} {}", name()));
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(arguments).kill_on_drop(true);
    for variable in foreign_variables() {
        command.env_remove(variable);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(io("start"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why on its error output.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = tokio::time::timeout(ONE_THING, child.wait_with_output()).await;
    let failed = |output: String| LocalError::Command {
        program: name(),
        output,
    };
    let output = output
        .map_err(|_| failed(format!("it did not end within {ONE_THING:?}")))?
        .map_err(io("run"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    Err(failed(lines[lines.len().saturating_sub(20)..].join("\n")))
}
