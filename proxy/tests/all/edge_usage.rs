//! The edge as a process with a real NATS: what it forwarded is told exactly.

use authsome_testkit::{NatsOptions, NatsServer};

use crate::db::{NewApp, Tenants};
use crate::edge::{Edge, key};
use crate::instance::Instance;
use crate::meter_usage::Aggregator;

#[tokio::test]
async fn every_forwarded_request_is_counted_once_and_refused_ones_are_not() {
    let (tenants, instance) = (Tenants::new().await, Instance::echo().await);
    let app = tenants.app(NewApp::at(&[instance.endpoint()])).await;
    let server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let mut aggregator = Aggregator::start(&server).await;
    let mut edge = Edge::start(&tenants, &[("NATS_URL", &server.url())]).await;
    for _ in 0..20 {
        assert_eq!(edge.get(app.id, "/v1/me", &key(&app.secret)).await.status(), 200);
    }
    for _ in 0..5 {
        assert_eq!(edge.get(app.id, "/v1/me", "").await.status(), 401);
    }
    aggregator.until(20).await;
    assert_eq!(edge.get(app.id, "/v1/me", &key(&app.secret)).await.status(), 200);
    edge.program.stop().await.unwrap();
    aggregator.until(21).await;
}
