//! Probes of ejected endpoints, off the request path.
//!
//! Owns the questions: a GET of the health path over a new connection, so that what a request would meet is met. Only endpoints
//! that are ejected, are in use, and belong to an application with recent requests are asked. Any answer below 500 counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::app::Upstream;
use super::endpoint::Endpoint;
use super::health::Outcome;
use super::peer::{self, Purpose};
use super::registry::Upstreams;

/// How an application's endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The name of their certificate, if they speak TLS.
    pub server_name: Option<String>,
    /// Base path and health path.
    pub path: String,
}

/// An ejected endpoint.
#[derive(Debug, Clone)]
pub(super) struct Patient {
    pub(super) upstream: Weak<Upstream>,
    pub(super) endpoint: Weak<Endpoint>,
}

/// Endpoints that were ejected and are not looked after yet. Each is in it once at most.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    waiting: Mutex<Vec<Patient>>,
    came: Notify,
}

impl Admissions {
    pub(super) fn add(&self, upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) {
        if endpoint.attend() {
            return;
        }
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Patient {
                upstream: Arc::downgrade(upstream),
                endpoint: Arc::downgrade(endpoint),
            });
        self.came.notify_one();
    }

    fn take(&self) -> Vec<Patient> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks after ejected endpoints until it is dropped.
pub(super) async fn attend(upstreams: Arc<Upstreams>) {
    let connector = Arc::new(Connector::new(Some(ConnectorOptions::new(1))));
    let mut order: u64 = 0;
    // By the time of the next look, and in the order of coming.
    let mut patients: BTreeMap<(Instant, u64), Patient> = BTreeMap::new();
    let mut probes: JoinSet<Patient> = JoinSet::new();
    let concurrency = upstreams.settings().probes.concurrency;
    loop {
        let now = Instant::now();
        for patient in upstreams.admissions().take() {
            order += 1;
            patients.insert((now, order), patient);
        }
        while probes.len() < concurrency
            && let Some(first) = patients.first_entry().filter(|first| first.key().0 <= now)
        {
            let patient = first.remove();
            match look(&upstreams, &patient, now) {
                Look::Discharge => {}
                Look::Later(at) => {
                    order += 1;
                    patients.insert((at, order), patient);
                }
                Look::Probe(upstream, endpoint) => {
                    let (upstreams, connector) = (Arc::clone(&upstreams), Arc::clone(&connector));
                    probes.spawn(async move {
                        let outcome = probe(&upstreams, &connector, &upstream, &endpoint).await;
                        upstreams.probed(&endpoint, outcome);
                        patient
                    });
                }
            }
        }
        upstreams.metrics().ejected.set(gauge(patients.len() + probes.len()));
        let next = patients.first_key_value().filter(|_| probes.len() < concurrency);
        let pause = next.map_or(Duration::from_hours(1), |((at, _), _)| {
            at.saturating_duration_since(now)
        });
        tokio::select! {
            () = upstreams.admissions().came.notified() => {}
            Some(done) = probes.join_next() => match done {
                Ok(patient) => {
                    order += 1;
                    patients.insert((Instant::now(), order), patient);
                }
                Err(error) => tracing::error!(%error, "a probe ended badly"),
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

enum Look {
    Discharge,
    Later(Instant),
    Probe(Arc<Upstream>, Arc<Endpoint>),
}

fn look(upstreams: &Upstreams, patient: &Patient, now: Instant) -> Look {
    let (Some(upstream), Some(endpoint)) = (patient.upstream.upgrade(), patient.endpoint.upgrade()) else {
        return Look::Discharge;
    };
    if !endpoint.is_ejected() {
        endpoint.discharge();
        // It may have been ejected again in this moment, and taken for one that is looked after.
        if !endpoint.is_ejected() || endpoint.attend() {
            return Look::Discharge;
        }
    }
    let policy = &upstreams.settings().health;
    let unused = upstream.idle_for(upstreams.elapsed()) > upstreams.settings().dns.idle;
    if unused || !endpoint.is_listed() {
        return Look::Later(now + policy.probe_longest);
    }
    match endpoint.probe_at() {
        Some(at) if at > now => Look::Later(at),
        _ if endpoint.probe(now) => Look::Probe(upstream, endpoint),
        _ => Look::Later(now + policy.probe_first),
    }
}

async fn probe(upstreams: &Upstreams, connector: &Connector, upstream: &Upstream, endpoint: &Endpoint) -> Outcome {
    let Some(target) = upstream.probe_target() else {
        return Outcome::Unknown;
    };
    let limit = upstreams.settings().probes.timeout;
    // Connect, handshake, send and read each have their own deadline; this one is for an answer that drips.
    match tokio::time::timeout(limit * 4, ask(upstreams, connector, endpoint, &target)).await {
        Ok(Ok(status)) if status < 500 => Outcome::Answered,
        Ok(_) | Err(_) => Outcome::Failed,
    }
}

async fn ask(
    upstreams: &Upstreams,
    connector: &Connector,
    endpoint: &Endpoint,
    target: &ProbeTarget,
) -> pingora::Result<u16> {
    let limit = upstreams.settings().probes.timeout;
    let mut timeouts = upstreams.settings().timeouts;
    for deadline in [
        &mut timeouts.connect,
        &mut timeouts.tls,
        &mut timeouts.read,
        &mut timeouts.write,
    ] {
        *deadline = limit;
    }
    let purpose = Purpose {
        group_key: 0,
        server_name: target.server_name.as_deref(),
        streaming: false,
        fresh: Some(0),
        hold: None,
        trailers: None,
        left: limit,
    };
    let peer = peer::peer(endpoint.address(), &purpose, &timeouts, &upstreams.tls());
    let (mut session, _) = connector.get_http_session(&peer).await?;
    session.read_timeout = Some(limit);
    session.write_timeout = Some(limit);
    let mut request = RequestHeader::build("GET", target.path.as_bytes(), Some(3))?;
    let host = target
        .server_name
        .clone()
        .unwrap_or_else(|| endpoint.address().to_string());
    request.insert_header(http::header::HOST, host)?;
    request.insert_header(http::header::USER_AGENT, "authsome-proxy")?;
    request.insert_header(http::header::CONNECTION, "close")?;
    session.write_request_header(Box::new(request)).await?;
    session.read_response().await?;
    Ok(session.get_status().map_or(0, |status| status.as_u16()))
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
