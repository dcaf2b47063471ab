//! Questions for logs, over a real NATS server, about real instances.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{AppStatus, Step};
use authsome_contract::wire::{LogLevel, LogPage, LogRefusal, LogReply, LogRequest, names};
use authsome_core::id::ApplicationId;
use authsome_core::seal::{PlatformRing, SealKey};
use authsome_core::secret::{ExposeSecret, SecretUrl};
use authsome_provisioner::execution::{BuiltIn, Engine, RETRY};
use authsome_provisioner::instance_logs::LogServer;
use authsome_provisioner::metrics::Metrics;
use authsome_provisioner::step::Facilities;
use authsome_testkit::{NatsOptions, NatsServer, programs, wait_for};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engine::REGION;
use crate::steps::{Platform, facilities, give};

const PATIENCE: Duration = Duration::from_secs(40);

struct Asked {
    platform: Platform,
    nats: NatsServer,
    client: async_nats::Client,
    server: JoinHandle<()>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn serve(platform: &Platform, facilities: Facilities, nats: &NatsServer) -> JoinHandle<()> {
    let engine = Engine {
        pool: platform.control.pool.clone(),
        holder: "worker".into(),
        actions: Arc::new(BuiltIn),
        clock: Arc::clone(&facilities.clock),
        entropy: Arc::clone(&facilities.entropy),
        facilities: Arc::new(facilities),
        lease_lifetime: Duration::from_secs(30),
        retry: RETRY,
        metrics: Arc::new(Metrics::new().unwrap()),
        stop: CancellationToken::new(),
    };
    let server = LogServer {
        engine: Arc::new(engine),
        region: REGION.to_owned(),
        nats: SecretUrl::parse(&nats.url()).unwrap(),
    };
    tokio::spawn(server.run(CancellationToken::new()))
}

impl Asked {
    /// An instance that has been told secrets, and somebody who answers about it.
    async fn start() -> Self {
        let platform = Platform::start().await;
        give(
            &platform,
            &platform.facilities.ring,
            "CUSTOM_TOKEN",
            "hunter2 of \"ours\"",
        )
        .await;
        for &step in Step::PROVISION {
            platform.apply(step).await;
        }
        let nats = NatsServer::start(NatsOptions::default()).await.unwrap();
        let server = serve(&platform, platform.another().await, &nats);
        let client = nats.connect().await.unwrap();
        Self {
            platform,
            nats,
            client,
            server,
        }
    }

    fn request(&self) -> LogRequest {
        LogRequest {
            application_id: self.platform.id,
            since: None,
            level: None,
            limit: 100,
            cursor: None,
        }
    }

    async fn ask(&self, request: &LogRequest) -> LogReply {
        self.ask_with(serde_json::to_vec(request).unwrap()).await
    }

    /// Until somebody listens.
    async fn ask_with(&self, payload: Vec<u8>) -> LogReply {
        wait_for("an answer", PATIENCE, async || {
            let answer = self
                .client
                .request(names::instance_logs(REGION), payload.clone().into())
                .await
                .map_err(|error| error.to_string())?;
            assert!(answer.payload.len() < 1024 * 1024);
            serde_json::from_slice(&answer.payload).map_err(|error| error.to_string())
        })
        .await
        .unwrap()
    }

    async fn page(&self, request: &LogRequest) -> LogPage {
        match self.ask(request).await {
            LogReply::Page(page) => page,
            refused @ LogReply::Refused(_) => panic!("{refused:?}"),
        }
    }

    /// As if the instance had written it.
    fn write(&self, text: &str) {
        let path = self.platform.directory.path().join("instances");
        let path = path.join(format!("{}-0.log", self.platform.id));
        let mut log = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }
}

impl Platform {
    /// What another provisioner with the same configuration has.
    async fn another(&self) -> Facilities {
        let program = programs::binary("authsome-sample").unwrap();
        facilities(&self.redis, self.directory.path(), program).await
    }
}

#[tokio::test]
async fn what_an_instance_wrote_is_told_without_any_secret_of_it() {
    let asked = Asked::start().await;
    let page = asked.page(&asked.request()).await;
    let listening = page.entries.iter().find(|entry| entry.message == "listening").unwrap();
    assert!(listening.timestamp.is_some() && listening.level == Some(LogLevel::Info));
    assert_eq!(listening.fields["app_id"], asked.platform.id.to_string());

    let (pool, ring) = (&asked.platform.control.pool, &asked.platform.facilities.ring);
    let credentials = authsome_provisioner::credentials::recorded(pool, ring, asked.platform.id)
        .await
        .unwrap()
        .unwrap();
    let mut secrets: Vec<String> = credentials
        .all()
        .map(|password| password.expose_secret().to_owned())
        .collect();
    secrets.push("hunter2 of \"ours\"".to_owned());
    for secret in &secrets {
        asked.write(&format!("plain {secret} text\n"));
        let line =
            serde_json::json!({ "level": "error", "message": format!("with {secret}"), secret: [{ "deep": secret }] });
        asked.write(&format!("{line}\n"));
    }
    asked.write("key sk_live_ab12cd34_0123456789012345678901234567890123456789012\n");
    let new = asked
        .page(&LogRequest {
            cursor: Some(page.cursor),
            ..asked.request()
        })
        .await;
    assert_eq!(new.entries.len(), secrets.len() * 2 + 1);
    let said = serde_json::to_string(&new).unwrap();
    for secret in &secrets {
        let quoted = serde_json::to_string(secret).unwrap();
        assert!(!said.contains(secret.as_str()) && !said.contains(quoted.trim_matches('"')));
    }
    assert!(!said.contains("hunter2") && !said.contains("cd34_0123"), "{said}");
    let errors = asked
        .page(&LogRequest {
            level: Some(LogLevel::Error),
            ..asked.request()
        })
        .await;
    assert_eq!(errors.entries.len(), secrets.len());
}

#[tokio::test]
async fn a_cursor_goes_on_after_the_provisioner_and_nats_were_restarted() {
    let mut asked = Asked::start().await;
    let page = asked.page(&asked.request()).await;
    asked.server.abort();
    asked.nats.kill().await.unwrap();
    asked.nats.restart().await.unwrap();
    asked.server = serve(&asked.platform, asked.platform.another().await, &asked.nats);
    asked.client = asked.nats.connect().await.unwrap();
    asked.write("after everything\n");
    let new = asked
        .page(&LogRequest {
            cursor: Some(page.cursor),
            ..asked.request()
        })
        .await;
    let said: Vec<&str> = new.entries.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!((said, new.has_more), (vec!["after everything"], false));
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_and_nothing_is_told_that_cannot_be_cleaned() {
    let mut asked = Asked::start().await;
    let refused = |why| LogReply::Refused(why);
    let bad = LogRequest {
        cursor: Some("!".to_owned()),
        ..asked.request()
    };
    assert_eq!(asked.ask(&bad).await, refused(LogRefusal::Cursor));
    let long = LogRequest {
        cursor: Some("A".repeat(LogRequest::CURSOR_MAX + 1)),
        ..asked.request()
    };
    assert_eq!(asked.ask(&long).await, refused(LogRefusal::Cursor));
    assert_eq!(asked.ask_with(b"{".to_vec()).await, refused(LogRefusal::Unavailable));
    let nobody = LogRequest {
        application_id: ApplicationId::from_uuid(uuid::Uuid::from_u128(1)),
        ..asked.request()
    };
    assert_eq!(asked.ask(&nobody).await, refused(LogRefusal::Unavailable));
    // One that was never built has no lines, which is no fault.
    let fresh = asked.platform.control.application(AppStatus::Provisioning).await;
    let empty = asked
        .page(&LogRequest {
            application_id: fresh,
            ..asked.request()
        })
        .await;
    assert_eq!((empty.entries.len(), empty.has_more), (0, false));

    // Without the key, the secrets are not known.
    asked.server.abort();
    let mut without = asked.platform.another().await;
    without.ring = Arc::new(PlatformRing::single(SealKey::new(9, &[9; 32])));
    asked.server = serve(&asked.platform, without, &asked.nats);
    wait_for("the one without the key to answer", PATIENCE, async || {
        match asked.ask(&asked.request()).await {
            LogReply::Refused(LogRefusal::Unavailable) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
}
