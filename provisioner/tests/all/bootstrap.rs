//! The instance is asked for its own application id and credentials: real Postgres, real HTTP, whatever it answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::model::Step;
use authsome_contract::wire::LogPage;
use authsome_core::id::ApplicationId;
use authsome_core::seal::{Aad, EdgeRing, SealKey};
use authsome_provisioner::instance_credentials::COLUMN;
use authsome_provisioner::instance_logs::LogQuery;
use authsome_provisioner::runtime::{InstanceState, Phase, Placement, Runtime, RuntimeError, Site, Workload};
use authsome_provisioner::step::StepError;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::steps::Platform;

const PATH: &str = "/v1/admin/bootstrap";

/// What the instance answers to everybody who asks for its credentials.
#[derive(Clone)]
enum Says {
    Json(StatusCode, String),
    /// An answer to the same question elsewhere.
    Elsewhere,
    /// Bytes without an end.
    Endless,
    /// A head, and never a body.
    Slow,
}

/// An instance, and the runtime that has it.
#[derive(Clone)]
struct Offering {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn answer(State(offering): State<Offering>, uri: Uri) -> Response {
    offering.asked.lock().unwrap().push(uri.path().to_owned());
    if uri.path() == "/elsewhere" {
        return r#"{"publishable_key":"pk_elsewhere"}"#.into_response();
    }
    let says = offering.says.lock().unwrap().clone();
    match says {
        Says::Json(status, body) => (status, body).into_response(),
        Says::Elsewhere => Redirect::temporary("/elsewhere").into_response(),
        Says::Endless => {
            let chunk = || Ok::<_, std::convert::Infallible>(vec![b' '; 8192]);
            Body::from_stream(futures::stream::repeat_with(chunk)).into_response()
        }
        Says::Slow => {
            Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::convert::Infallible>>()).into_response()
        }
    }
}

impl Offering {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let offering = Self {
            address: listener.local_addr().unwrap(),
            says: Arc::new(Mutex::new(Says::Endless)),
            asked: Arc::default(),
        };
        let routes = axum::Router::new().fallback(answer).with_state(offering.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        offering
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }

    fn offers(&self, offer: &Value) {
        self.says(Says::Json(StatusCode::OK, offer.to_string()));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Runtime for Offering {
    fn name(&self) -> &'static str {
        "offering"
    }
    fn skips(&self, _: Step) -> Option<&'static str> {
        None
    }
    fn bootstrap_path(&self) -> Option<&str> {
        Some(PATH)
    }
    async fn check(&self) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn observe(&self, _: ApplicationId) -> Result<Placement, RuntimeError> {
        let instance = InstanceState {
            generation: 1,
            address: Some(self.address),
            phase: Phase::Healthy,
        };
        Ok(Placement {
            instances: vec![instance],
            wanted: 1,
            ..Placement::default()
        })
    }
    async fn ensure(&self, _: &Workload) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn retire(&self, _: &Site) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn stop(&self, _: &Site) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn remove(&self, _: &Site) -> Result<(), RuntimeError> {
        Ok(())
    }
    async fn logs(&self, _: ApplicationId, _: &LogQuery) -> Result<LogPage, RuntimeError> {
        unreachable!("nobody reads its lines")
    }
    async fn moved(&self) -> ApplicationId {
        std::future::pending().await
    }
    async fn shutdown(&self) {}
}

async fn start() -> (Platform, Offering) {
    let (mut platform, offering) = (Platform::start().await, Offering::start().await);
    platform.facilities.runtime = Arc::new(offering.clone());
    (platform, offering)
}

/// What the edge would read, and the version of the record that it reads it from.
async fn published(platform: &Platform) -> (Option<Value>, i64) {
    let (sealed, version): (Option<Vec<u8>>, i64) =
        sqlx::query_as("SELECT edge_credentials, version FROM edge_apps WHERE id = $1")
            .bind(platform.id)
            .fetch_one(&platform.control.pool)
            .await
            .unwrap();
    let aad = Aad {
        table_column: COLUMN,
        row: &platform.id.text(),
    };
    let opened = sealed.map(|sealed| platform.facilities.edge_ring.open_text(aad, &sealed).unwrap());
    let read = opened.map(|opened| serde_json::from_str(opened.expose_secret()).unwrap());
    (read, version)
}

#[tokio::test]
async fn what_an_instance_offers_is_sealed_for_the_edge_and_a_repeat_tells_nobody() {
    let (mut platform, offering) = start().await;
    offering.offers(&json!({ "platform_app_id": "aapp_1", "publishable_key": "pk_2", "service_key": "ask_3" }));
    assert!(!platform.apply(Step::Bootstrap).await.skipped);
    let first = published(&platform).await;
    let expected = json!({ "appId": "aapp_1", "publishableKey": "pk_2", "serviceKey": "ask_3" });
    assert_eq!(first.0, Some(expected));
    platform.apply(Step::Bootstrap).await;
    assert_eq!(
        published(&platform).await,
        first,
        "nothing changed, and no edge is told so"
    );
    assert_eq!(offering.asked(), [PATH, PATH]);

    offering.offers(&json!({ "platform_app_id": "aapp_1", "publishable_key": "pk_other" }));
    platform.apply(Step::Bootstrap).await;
    let second = published(&platform).await;
    let expected = json!({ "appId": "aapp_1", "publishableKey": "pk_other" });
    assert_eq!(second.0, Some(expected));
    assert!(second.1 > first.1, "edges are told of a change");

    // Under a new key of the ring it is sealed anew, whatever it is.
    let keys = [SealKey::new(2, &[8; 32]), SealKey::new(1, &[9; 32])];
    platform.facilities.edge_ring = Arc::new(EdgeRing::new(keys).unwrap());
    platform.apply(Step::Bootstrap).await;
    let sealed = platform.intent().await.edge_credentials.unwrap();
    assert!(!platform.facilities.edge_ring.needs_reseal(&sealed.0));
    assert_eq!(published(&platform).await.0, second.0);

    platform.undo(Step::Bootstrap).await;
    assert_eq!(published(&platform).await.0, None);
}

#[tokio::test]
async fn an_instance_that_offers_nothing_is_passed_over_and_shown_nothing() {
    let (platform, offering) = start().await;
    let nothing = [
        Says::Json(StatusCode::NOT_FOUND, "no such page".to_owned()),
        Says::Json(StatusCode::OK, r#"{"version":"1.6.2"}"#.to_owned()),
    ];
    for says in nothing {
        offering.says(says.clone());
        let before = published(&platform).await;
        let outcome = platform.apply(Step::Bootstrap).await;
        assert!(
            outcome.skipped && outcome.detail.contains("offers no credentials"),
            "{outcome:?}"
        );
        assert_eq!((published(&platform).await, &before.0), (before.clone(), &None));

        // Another image no longer knows what the one before it offered.
        offering.offers(&json!({ "publishable_key": "pk_1" }));
        platform.apply(Step::Bootstrap).await;
        assert!(published(&platform).await.0.is_some());
        offering.says(says);
        assert!(platform.apply(Step::Bootstrap).await.skipped);
        assert_eq!(published(&platform).await.0, None);
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_taken_is_asked_for_again_and_leaves_what_is_known() {
    let (platform, offering) = start().await;
    offering.offers(&json!({ "publishable_key": "pk_1" }));
    platform.apply(Step::Bootstrap).await;
    let known = published(&platform).await;
    let said = [
        (Says::Json(StatusCode::OK, "<html>hidden-text".to_owned()), "JSON"),
        (
            Says::Json(StatusCode::OK, r#"{"publishable_key":"sk_hidden-text"}"#.to_owned()),
            "publishable_key",
        ),
        (
            Says::Json(StatusCode::INTERNAL_SERVER_ERROR, "hidden-text".to_owned()),
            "500",
        ),
        (Says::Json(StatusCode::UNAUTHORIZED, "hidden-text".to_owned()), "401"),
        (Says::Elsewhere, "307"),
        (Says::Endless, "more than 65536 bytes"),
        (Says::Slow, "does not end"),
    ];
    for (says, expected) in said {
        offering.says(says);
        let asking = tokio::time::timeout(Duration::from_mins(1), platform.try_apply(Step::Bootstrap));
        let error = asking.await.unwrap().unwrap_err();
        let StepError::Retry { reason, source } = &error else {
            panic!("{expected}: {error:?}")
        };
        assert!(source.to_string().contains(expected), "{expected}: {source}");
        assert!(
            !reason.contains(expected) && !format!("{error:?}").contains("hidden-text"),
            "{error:?}"
        );
        assert_eq!(published(&platform).await, known, "{expected}");
    }
    assert!(
        offering.asked().iter().all(|path| path == PATH),
        "no redirect is followed"
    );
}
