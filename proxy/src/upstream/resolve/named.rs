//! Endpoints that come from the name of a service.
//!
//! Owns the last good addresses of a name, and those that the record lists beside it. Requests read them without a lock and never ask a resolver; the first request after
//! a long silence waits a moment for the answer to somebody else's question.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use tokio::sync::{Notify, mpsc};

use crate::upstream::app::Upstream;
use crate::upstream::set::Set;

/// A name and a port: `authsome.authsome-app-x.svc.cluster.local:8080`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceName {
    host: String,
    port: u16,
}

/// It is not a name, a colon and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form name:port")]
pub struct BadServiceName;

impl ServiceName {
    /// The name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of every instance.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Does `authority`, with or without a port, name the service?
    pub fn is_named_by(&self, authority: &str) -> bool {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority, Some(self.port)),
        };
        let trimmed = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        port == Some(self.port) && trimmed(host) == trimmed(&self.host)
    }
}

impl FromStr for ServiceName {
    type Err = BadServiceName;

    fn from_str(text: &str) -> Result<Self, BadServiceName> {
        let (host, port) = text.rsplit_once(':').ok_or(BadServiceName)?;
        let port: u16 = port.parse().map_err(|_| BadServiceName)?;
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        if port == 0 || name.len() > 253 || !name.split('.').all(label) {
            return Err(BadServiceName);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What the current set is made of.
#[derive(Debug, Default)]
struct Addresses {
    /// What the resolver said last, if that is still good.
    resolved: Vec<SocketAddr>,
    /// What the record lists.
    beside: Vec<SocketAddr>,
}

/// A name of an application that is, or was, followed.
#[derive(Debug)]
pub struct Named {
    name: ServiceName,
    upstream: Weak<Upstream>,
    current: ArcSwapOption<Set>,
    addresses: Mutex<Addresses>,
    /// Somebody asks for it again and again.
    followed: AtomicBool,
    /// It was asked for since it is followed.
    asked: AtomicBool,
    answered: Notify,
}

impl Named {
    pub(in crate::upstream) fn new(name: ServiceName, upstream: Weak<Upstream>) -> Self {
        Self {
            name,
            upstream,
            current: ArcSwapOption::empty(),
            addresses: Mutex::default(),
            followed: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            answered: Notify::new(),
        }
    }

    /// The name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Its endpoints as last known.
    pub(in crate::upstream) fn current(&self) -> Guard<Option<Arc<Set>>> {
        self.current.load()
    }

    /// Is what is known of it kept up to date?
    pub(in crate::upstream) fn is_known(&self) -> bool {
        self.asked.load(Ordering::Acquire) && self.followed.load(Ordering::Relaxed)
    }

    /// Does the record list somebody to go to until the name is resolved for the first time?
    pub(in crate::upstream) fn has_others(&self) -> bool {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.resolved.is_empty() && !addresses.beside.is_empty()
    }

    /// Has it followed, and waits for the answer to the first question, but not longer than `limit`.
    pub(in crate::upstream) async fn known(self: &Arc<Self>, wanted: &mpsc::Sender<Arc<Self>>, limit: Duration) {
        if !self.followed.swap(true, Ordering::Relaxed) {
            self.asked.store(false, Ordering::Relaxed);
            if wanted.try_send(Arc::clone(self)).is_err() {
                // No room: the next request tries again, and this one makes do with what is known.
                self.followed.store(false, Ordering::Relaxed);
                return;
            }
        }
        let answered = async {
            loop {
                let notified = self.answered.notified();
                if self.asked.load(Ordering::Acquire) {
                    return;
                }
                notified.await;
            }
        };
        if limit.is_zero() {
            return;
        }
        // What is known is used then, if anything is.
        let _ = tokio::time::timeout(limit, answered).await;
    }

    /// How long nobody has needed it; `None` if nobody ever will.
    pub(super) fn idle_for(&self, now: Duration) -> Option<Duration> {
        Some(self.upstream.upgrade()?.idle_for(now))
    }

    /// New addresses take the place of the old.
    pub(super) fn replace(&self, addresses: &[SocketAddr], now: Instant) {
        self.change(now, |so_far| &mut so_far.resolved, addresses);
    }

    /// The record lists these beside the name.
    pub(in crate::upstream) fn put_beside(&self, addresses: &[SocketAddr], now: Instant) {
        self.change(now, |so_far| &mut so_far.beside, addresses);
    }

    fn change(&self, now: Instant, part: fn(&mut Addresses) -> &mut Vec<SocketAddr>, addresses: &[SocketAddr]) {
        let mut so_far = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(upstream) = self.upstream.upgrade() else {
            return;
        };
        let part = part(&mut so_far);
        if part == addresses {
            return;
        }
        addresses.clone_into(part);
        let mut all = so_far.resolved.clone();
        all.extend(&so_far.beside);
        // Under the lock, so that a later change is stored later.
        self.current
            .store((!all.is_empty()).then(|| Arc::new(upstream.set(&all, now))));
    }

    /// A question was answered, or was not.
    pub(super) fn was_asked(&self) {
        self.asked.store(true, Ordering::Release);
        self.answered.notify_waiters();
    }

    /// Nobody follows it any more. What is known stays, for the case that the next question fails.
    pub(super) fn forsake(&self) {
        self.followed.store(false, Ordering::Relaxed);
        // Nobody waits longer for a question that nobody asks.
        self.answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_name_and_a_port() {
        let name: ServiceName = "authsome.ns-1.svc.cluster.local:8080".parse().unwrap();
        assert_eq!((name.host(), name.port()), ("authsome.ns-1.svc.cluster.local", 8080));
        assert_eq!(name.to_string(), "authsome.ns-1.svc.cluster.local:8080");
        assert!("svc.:80".parse::<ServiceName>().is_ok());
        for bad in [
            "",
            "name",
            ":80",
            "name:",
            "name:0",
            "name:65536",
            "a..b:80",
            "a b:80",
            "a/b:80",
            "x\n:80",
        ] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_authority_that_names_the_service_is_recognised() {
        let name: ServiceName = "app.ns.svc:8080".parse().unwrap();
        for yes in ["app.ns.svc", "app.ns.svc:8080", "APP.ns.svc.:8080"] {
            assert!(name.is_named_by(yes), "{yes}");
        }
        for no in ["app.ns", "app.ns.svc:80", "xapp.ns.svc", "app.ns.svc:x"] {
            assert!(!name.is_named_by(no), "{no}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_waits_for_the_first_answer_and_no_longer() {
        let (wanted, mut queue) = mpsc::channel(1);
        let named = Arc::new(Named::new("a:80".parse().unwrap(), Weak::new()));
        let limit = Duration::from_secs(2);
        let waiting = tokio::spawn({
            let (named, wanted) = (Arc::clone(&named), wanted.clone());
            async move { named.known(&wanted, limit).await }
        });
        let queued = queue.recv().await.unwrap();
        assert!(!waiting.is_finished() && !named.is_known());
        queued.was_asked();
        waiting.await.unwrap();
        assert!(named.is_known());
        assert!(queue.try_recv().is_err(), "it is followed once");

        named.forsake();
        assert!(!named.is_known());
        let began = tokio::time::Instant::now();
        named.known(&wanted, limit).await;
        assert_eq!(began.elapsed(), limit, "nobody answered");
    }

    #[tokio::test]
    async fn a_full_queue_is_no_reason_to_wait() {
        let (wanted, _queue) = mpsc::channel(1);
        let name = || Arc::new(Named::new("a:80".parse().unwrap(), Weak::new()));
        wanted.try_send(name()).unwrap();
        let named = name();
        named.known(&wanted, Duration::from_hours(1)).await;
        assert!(!named.is_known());
    }
}
