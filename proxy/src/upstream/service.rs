//! The work of this module that no request waits for: resolving names, probing endpoints, reading changed certificates,
//! forgetting. One service with a runtime of its own, so that a slow resolver delays nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use super::registry::{Upstreams, Wanted};
use super::{probe, resolve};

/// How often unused applications are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// How often the certificate files are looked at.
const CERTIFICATES: Duration = Duration::from_secs(10);

/// The service. It starts once.
pub struct UpstreamService {
    upstreams: Arc<Upstreams>,
    wanted: Mutex<Option<Wanted>>,
}

impl UpstreamService {
    /// For these.
    pub fn new(upstreams: Arc<Upstreams>, wanted: Wanted) -> Self {
        Self {
            upstreams,
            wanted: Mutex::new(Some(wanted)),
        }
    }
}

#[async_trait]
impl BackgroundService for UpstreamService {
    /// Runs until the edge stops accepting: what is in flight then has its endpoints.
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(wanted) = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        tokio::select! {
            () = resolve::follow(Arc::clone(&self.upstreams), wanted) => {}
            () = probe::attend(Arc::clone(&self.upstreams)) => {}
            () = sweep(&self.upstreams) => {}
            () = reload(&self.upstreams) => {}
            _ = shutdown.changed() => {}
        }
    }
}

async fn sweep(upstreams: &Upstreams) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        upstreams.sweep();
    }
}

/// Reads the certificates again when a file has changed. Files are local and small, so reading them here delays nothing.
async fn reload(upstreams: &Upstreams) {
    let files = &upstreams.settings().tls;
    let mut known = upstreams.tls_read();
    let mut every = tokio::time::interval(CERTIFICATES);
    loop {
        every.tick().await;
        let stamp = files.stamp();
        if stamp == known {
            continue;
        }
        known = stamp;
        match files.load() {
            Ok(identity) => {
                upstreams.replace_tls(identity);
                tracing::info!("the certificates for instances were read again");
            }
            Err(error) => tracing::error!(%error, "the certificates for instances stay as they were"),
        }
    }
}
