//! The real steps on real servers: from intent to a serving instance, and back to nothing.

use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, DatabaseChoice, RedisChoice, SecretName, Step, application_secret};
use authsome_core::clock::{Clock, SystemClock};
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::seal::{EdgeRing, PlatformRing, SealKey};
use authsome_core::secret::{ExposeSecret, SecretString, SecretUrl};
use authsome_provisioner::database::{DatabaseStrategy, SharedDatabase, SharedServer};
use authsome_provisioner::db;
use authsome_provisioner::lease::{Fence, Lease};
use authsome_provisioner::plan::{Desired, Intent};
use authsome_provisioner::redis::AclServer;
use authsome_provisioner::runtime::local::{LocalConfig, LocalRuntime};
use authsome_provisioner::step::{self, Facilities, Observed, Outcome, StepContext, StepError};
use authsome_provisioner::tenancy::{Caches, Chosen, Databases};
use authsome_testkit::{RedisOptions, RedisServer, http_probe, programs, shared_postgres};

use crate::captured::Captured;
use crate::engine::Control;
use crate::lease::{run_out, take};

/// A provisioner with everything it needs, and an application that is to be built.
pub struct Platform {
    pub control: Control,
    pub facilities: Facilities,
    pub id: ApplicationId,
    lease: Lease,
    pub redis: RedisServer,
    pub directory: tempfile::TempDir,
}

impl Platform {
    pub async fn start() -> Self {
        let control = Control::start().await;
        let redis = RedisServer::start(RedisOptions::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let facilities = facilities(&redis, directory.path(), programs::binary("authsome-sample").unwrap()).await;
        let id = control.application(AppStatus::Provisioning).await;
        let lease = take(&control.pool, id, "worker", Duration::from_mins(5)).await.unwrap();
        Self {
            control,
            facilities,
            id,
            lease,
            redis,
            directory,
        }
    }

    pub async fn intent(&self) -> Intent {
        let mut connection = self.control.pool.acquire().await.unwrap();
        db::intent::load(&mut connection, self.id).await.unwrap().unwrap()
    }

    fn cx<'a>(&'a self, intent: &'a Intent, fence: &'a Fence) -> StepContext<'a> {
        StepContext {
            intent,
            fence,
            pool: &self.control.pool,
            facilities: &self.facilities,
        }
    }

    pub async fn observe(&self, step: Step) -> Observed {
        let intent = self.intent().await;
        step::action(step)
            .observe(&self.cx(&intent, self.lease.fence()))
            .await
            .unwrap()
    }

    pub async fn try_apply(&self, step: Step) -> Result<Outcome, StepError> {
        let intent = self.intent().await;
        step::action(step).apply(&self.cx(&intent, self.lease.fence())).await
    }

    pub async fn apply(&self, step: Step) -> Outcome {
        self.try_apply(step)
            .await
            .unwrap_or_else(|error| panic!("{step}: {error:?}"))
    }

    pub async fn undo(&self, step: Step) {
        let intent = self.intent().await;
        step::action(step)
            .undo(&self.cx(&intent, self.lease.fence()))
            .await
            .unwrap_or_else(|error| panic!("{step}: {error:?}"));
    }

    /// Row versions as the edge sees them, and sealed columns as they are.
    async fn row(&self) -> String {
        sqlx::query_scalar(
            "SELECT jsonb_build_array(a.version, a.endpoints, a.internal_url, a.edge_credentials,
                                      (SELECT jsonb_agg(c ORDER BY kind) FROM application_credentials c
                                       WHERE c.application_id = a.id))::text
             FROM applications a WHERE id = $1",
        )
        .bind(self.id)
        .fetch_one(&self.control.pool)
        .await
        .unwrap()
    }
}

pub async fn facilities(redis: &RedisServer, directory: &std::path::Path, program: std::path::PathBuf) -> Facilities {
    let entropy = Arc::new(SystemEntropy::new());
    let postgres = SecretUrl::parse(&shared_postgres().await.unwrap().admin_url()).unwrap();
    let config = LocalConfig {
        program,
        directory: directory.join("instances"),
        replicas: 1,
        log_level: "info".to_owned(),
    };
    Facilities {
        databases: Databases::only(
            DatabaseChoice::Database,
            Arc::new(SharedServer::new(&postgres, None, entropy.clone()).unwrap()),
        ),
        caches: Caches::only(
            RedisChoice::Acl,
            Arc::new(AclServer::new(&SecretUrl::parse(&redis.url()).unwrap(), None).unwrap()),
        ),
        runtime: Arc::new(LocalRuntime::new(config, entropy.clone()).unwrap()),
        ring: Arc::new(PlatformRing::single(SealKey::new(1, &[7; 32]))),
        edge_ring: Arc::new(EdgeRing::single(SealKey::new(1, &[9; 32]))),
        clock: Arc::new(SystemClock),
        entropy,
        public_base_url: "https://edge.example".to_owned(),
    }
}

/// What a client asks of an instance.
async fn ask(
    endpoint: &str,
    method: reqwest::Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> serde_json::Value {
    let mut request = reqwest::Client::new().request(method, format!("http://{endpoint}{path}"));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {response:?}");
    response.json().await.unwrap()
}

#[tokio::test]
async fn the_steps_build_an_instance_that_serves_and_taking_them_twice_changes_nothing() {
    let platform = Platform::start().await;
    let (captured, guard) = Captured::begin();
    for &step in Step::PROVISION {
        let outcome = platform.apply(step).await;
        let left_out = matches!(step, Step::Namespace | Step::Migrate | Step::Monitoring);
        assert_eq!(outcome.skipped, left_out, "{step}");
        assert!(!outcome.detail.is_empty());
        let settled = platform.observe(step).await == Observed::Done;
        let asked_again = matches!(step, Step::Preflight | Step::Bootstrap);
        assert_eq!(settled, !left_out && !asked_again, "{step}");
    }
    let intent = platform.intent().await;
    let endpoint = intent.endpoints.first().unwrap().clone();
    assert_eq!(intent.internal_url, Some(format!("http://{endpoint}")));
    let person = serde_json::json!({ "email": "ada@example.com", "password": "correct horse", "name": "Ada" });
    ask(&endpoint, reqwest::Method::POST, "/v1/signup", Some(person)).await;
    let listed = ask(&endpoint, reqwest::Method::GET, "/users", None).await;
    assert!(listed.to_string().contains("ada@example.com"));

    let before = platform.row().await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    drop(guard);
    let after = platform.row().await;
    assert_eq!(
        before, after,
        "credentials, endpoints and the version that the edge sees"
    );
    assert!(
        http_probe::ok(&endpoint, "/v1/health").await.is_ok(),
        "it is still the same instance"
    );

    let text = captured.text();
    let credentials =
        authsome_provisioner::credentials::recorded(&platform.control.pool, &platform.facilities.ring, platform.id)
            .await
            .unwrap()
            .unwrap();
    for password in credentials.all() {
        assert!(
            !text.contains(secrecy::ExposeSecret::expose_secret(password)),
            "a password in our log"
        );
    }
    platform.facilities.runtime.shutdown().await;
}

/// Strategies of databases on the server of the tests, with this choice among them.
pub async fn databases(choice: DatabaseChoice) -> Databases {
    let postgres = SecretUrl::parse(&shared_postgres().await.unwrap().admin_url()).unwrap();
    let entropy = Arc::new(SystemEntropy::new());
    let schemas = SharedDatabase::new(&postgres, None, "shared_by_steps".to_owned(), entropy.clone()).unwrap();
    let own = SharedServer::new(&postgres, None, entropy).unwrap();
    let all: Vec<(_, Arc<dyn DatabaseStrategy>)> = vec![
        (DatabaseChoice::Schema, Arc::new(schemas)),
        (DatabaseChoice::Database, Arc::new(own)),
    ];
    Databases::new(all, Chosen::always(choice))
}

#[tokio::test]
async fn an_instance_lives_in_a_schema_and_another_choice_later_moves_nothing() {
    let mut platform = Platform::start().await;
    platform.facilities.databases = databases(DatabaseChoice::Schema).await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    let intent = platform.intent().await;
    assert_eq!(
        (intent.database, intent.redis),
        (Some(DatabaseChoice::Schema), Some(RedisChoice::Acl))
    );
    let person = serde_json::json!({ "email": "ada@example.com", "password": "correct horse", "name": "Ada" });
    ask(&intent.endpoints[0], reqwest::Method::POST, "/v1/signup", Some(person)).await;

    let before = platform.row().await;
    platform.facilities.databases = databases(DatabaseChoice::Database).await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    assert_eq!(before, platform.row().await);
    let listed = ask(&intent.endpoints[0], reqwest::Method::GET, "/users", None).await;
    assert!(listed.to_string().contains("ada@example.com"));

    for &step in Step::PROVISION.iter().rev() {
        platform.undo(step).await;
    }
    let strategy = platform.facilities.databases.of(&intent).unwrap();
    assert!(strategy.is_absent(platform.id, platform.lease.fence()).await.unwrap());
}

#[tokio::test]
async fn an_application_of_a_strategy_that_is_gone_fails_with_a_reason_and_keeps_what_it_has() {
    let platform = Platform::start().await;
    platform.apply(Step::Preflight).await;
    sqlx::query("UPDATE applications SET database_strategy = 'dedicated' WHERE id = $1")
        .bind(platform.id)
        .execute(&platform.control.pool)
        .await
        .unwrap();
    for step in [Step::Preflight, Step::Database, Step::Secrets] {
        let error = platform.try_apply(step).await.unwrap_err();
        assert!(
            matches!(&error, StepError::Fatal { reason, .. } if reason.contains("no servers of the kind")),
            "{error:?}"
        );
    }
}

/// As control does it.
pub async fn give(platform: &Platform, ring: &PlatformRing, name: &str, value: &str) {
    let (name, value): (SecretName, _) = (name.parse().unwrap(), SecretString::from(value));
    let sealed = application_secret::seal(ring, platform.id, &name, &value, &SystemEntropy::new());
    let mut connection = platform.control.pool.acquire().await.unwrap();
    let row = authsome_db::application_secret::Stored { name, sealed };
    authsome_db::application_secret::put(&mut connection, platform.id, &row, None, SystemClock.now())
        .await
        .unwrap();
}

async fn configure(platform: &Platform, config: serde_json::Value) {
    sqlx::query("UPDATE applications SET config = $2, generation = generation + 1 WHERE id = $1")
        .bind(platform.id)
        .bind(config)
        .execute(&platform.control.pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn configuration_and_secrets_reach_the_instance_and_a_change_of_them_reaches_the_next_one() {
    let platform = Platform::start().await;
    let (captured, guard) = Captured::begin();
    let ring = &*platform.facilities.ring;
    give(&platform, ring, "MAILER_SMTP_PASSWORD", "hunter2-of-the-mail-server").await;
    // What the platform owns is not for a team to choose, whoever wrote it there.
    configure(
        &platform,
        serde_json::json!({ "password": { "min_length": 12 }, "debug": true, "oauth": { "issuer": "https://evil" } }),
    )
    .await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    let first = platform.intent().await.endpoints[0].clone();
    let shown = ask(&first, reqwest::Method::GET, "/v1/client-config", None).await;
    assert_eq!(
        (&shown["password"]["min_length"], &shown["debug"], &shown["secrets"]),
        (&12.into(), &false.into(), &serde_json::json!(["MAILER_SMTP_PASSWORD"]))
    );
    assert_eq!(shown["issuer"], format!("https://edge.example/v1/{}", platform.id));

    give(&platform, ring, "CUSTOM_TOKEN", "another hunter2").await;
    configure(&platform, serde_json::json!({ "session": { "token_ttl": "2h" } })).await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    let second = platform.intent().await.endpoints[0].clone();
    assert_ne!(first, second, "a new instance takes over");
    let shown = ask(&second, reqwest::Method::GET, "/v1/client-config", None).await;
    assert_eq!(
        (&shown["password"]["min_length"], &shown["session"]["token_ttl_seconds"]),
        (&8.into(), &7200.into())
    );
    assert_eq!(
        shown["secrets"],
        serde_json::json!(["CUSTOM_TOKEN", "MAILER_SMTP_PASSWORD"])
    );

    // They go with everything else.
    for &step in Step::PROVISION.iter().rev() {
        platform.undo(step).await;
    }
    drop(guard);
    assert!(!captured.text().contains("hunter2"));
    let mut connection = platform.control.pool.acquire().await.unwrap();
    let left = authsome_db::application_secret::list(&mut connection, platform.id)
        .await
        .unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn secrets_are_sealed_anew_under_a_new_key_and_a_lost_key_starts_no_instance() {
    let mut platform = Platform::start().await;
    let old = || SealKey::new(1, &[7; 32]);
    give(&platform, &PlatformRing::single(old()), "CUSTOM_TOKEN", "hunter2").await;
    for step in [Step::Database, Step::Redis, Step::Secrets] {
        platform.apply(step).await;
    }
    assert_eq!(platform.observe(Step::Secrets).await, Observed::Done);
    platform.facilities.ring = Arc::new(PlatformRing::new([SealKey::new(2, &[8; 32]), old()]).unwrap());
    assert!(matches!(platform.observe(Step::Secrets).await, Observed::Needed(_)));
    platform.apply(Step::Secrets).await;
    let mut connection = platform.control.pool.acquire().await.unwrap();
    let rows = authsome_db::application_secret::sealed(&mut connection, platform.id)
        .await
        .unwrap();
    assert!(
        rows.iter()
            .all(|row| !platform.facilities.ring.needs_reseal(&row.sealed))
    );
    let opened =
        authsome_provisioner::application_secrets::load(&platform.control.pool, &platform.facilities.ring, platform.id)
            .await
            .unwrap();
    let values: Vec<&str> = opened.iter().map(|(_, value)| value.expose_secret()).collect();
    assert_eq!(values, ["hunter2"]);

    give(
        &platform,
        &PlatformRing::single(SealKey::new(9, &[9; 32])),
        "CUSTOM_TOKEN",
        "hunter3",
    )
    .await;
    let refused = platform.try_apply(Step::Instance).await;
    assert!(matches!(refused, Err(StepError::Fatal { .. })), "{refused:?}");
    assert!(
        platform
            .facilities
            .runtime
            .observe(platform.id)
            .await
            .unwrap()
            .instances
            .is_empty()
    );
}

#[tokio::test]
async fn undoing_leaves_nothing_and_twice_is_once() {
    let platform = Platform::start().await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    let endpoint = platform.intent().await.endpoints[0].clone();
    for _ in 0..2 {
        for &step in Step::PROVISION.iter().rev() {
            platform.undo(step).await;
        }
        assert!(http_probe::status(&endpoint, "/v1/health").await.is_err());
        let fence = platform.lease.fence();
        assert!(
            platform
                .facilities
                .databases
                .of(&platform.intent().await)
                .unwrap()
                .is_absent(platform.id, fence)
                .await
                .unwrap()
        );
        let intent = platform.intent().await;
        let cache = platform.facilities.caches.of(&intent).unwrap();
        assert!(cache.is_absent(platform.id, fence).await.unwrap());
        let intent = platform.intent().await;
        assert!(intent.endpoints.is_empty() && intent.internal_url.is_none());
        assert!(intent.database_url.is_none() && intent.redis_url.is_none());
    }
}

#[tokio::test]
async fn a_successor_uses_the_credentials_that_were_recorded_before_the_crash() {
    let platform = Platform::start().await;
    platform.apply(Step::Database).await;
    let recorded = platform.row().await;
    // The record is all that a killed worker leaves: the next one has another lease and no memory.
    run_out(&platform.control.pool, platform.id).await;
    let lease = take(&platform.control.pool, platform.id, "successor", Duration::from_mins(5))
        .await
        .unwrap();
    let intent = platform.intent().await;
    let cx = platform.cx(&intent, lease.fence());
    assert_eq!(step::action(Step::Database).observe(&cx).await.unwrap(), Observed::Done);
    for step in [Step::Database, Step::Redis] {
        step::action(step).apply(&cx).await.unwrap();
    }
    assert_eq!(platform.row().await, recorded);

    // The first worker is not dead but slow: it can neither record nor destroy.
    let stale = platform.cx(&intent, platform.lease.fence());
    for step in [Step::Secrets, Step::Activate] {
        let refused = step::action(step).undo(&stale).await;
        assert!(matches!(refused, Err(StepError::Fenced)), "{step}");
    }
    for step in [Step::Database, Step::Redis] {
        assert!(
            matches!(step::action(step).undo(&stale).await, Err(StepError::Fenced)),
            "{step}"
        );
        assert_eq!(step::action(step).observe(&cx).await.unwrap(), Observed::Done, "{step}");
    }
}

#[tokio::test]
async fn a_stopped_application_has_no_instance_and_no_endpoint_but_its_data() {
    let platform = Platform::start().await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    let mut intent = platform.intent().await;
    let endpoint = intent.endpoints[0].clone();
    intent.desired = Desired::Stopped;
    let cx = platform.cx(&intent, platform.lease.fence());
    for step in [Step::Instance, Step::Rollout, Step::Activate] {
        step::action(step).apply(&cx).await.unwrap();
    }
    assert!(http_probe::status(&endpoint, "/v1/health").await.is_err());
    assert!(platform.intent().await.endpoints.is_empty());
    assert_eq!(platform.observe(Step::Database).await, Observed::Done);

    for step in [Step::Instance, Step::Rollout, Step::Activate] {
        platform.apply(step).await;
    }
    assert!(
        http_probe::ok(&platform.intent().await.endpoints[0], "/v1/health")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn endpoints_of_an_older_generation_are_not_recorded() {
    let platform = Platform::start().await;
    for &step in Step::PROVISION {
        platform.apply(step).await;
    }
    let older = platform.intent().await;
    platform.control.raise_generation(platform.id).await;
    let refused = step::action(Step::Activate)
        .apply(&platform.cx(&older, platform.lease.fence()))
        .await;
    assert!(matches!(refused, Err(StepError::Fenced)));
}

#[tokio::test]
async fn preflight_says_what_is_missing() {
    let mut platform = Platform::start().await;
    let missing = LocalConfig {
        program: "/nowhere/authsome-sample".into(),
        directory: std::env::temp_dir(),
        replicas: 1,
        log_level: "info".to_owned(),
    };
    platform.facilities.runtime = Arc::new(LocalRuntime::new(missing, Arc::new(SystemEntropy::new())).unwrap());
    let Err(StepError::Fatal { reason, source, .. }) = platform.try_apply(Step::Preflight).await else {
        panic!()
    };
    assert!(
        !reason.contains("/nowhere") && source.to_string().contains("/nowhere"),
        "the path is for operators"
    );
}

#[tokio::test]
async fn an_unreadable_credential_stops_the_step_and_is_not_replaced() {
    let mut platform = Platform::start().await;
    platform.apply(Step::Database).await;
    let before = platform.row().await;
    platform.facilities.ring = Arc::new(PlatformRing::single(SealKey::new(2, &[8; 32])));
    assert!(matches!(
        platform.try_apply(Step::Database).await,
        Err(StepError::Fatal { .. })
    ));
    assert_eq!(platform.row().await, before);
}
