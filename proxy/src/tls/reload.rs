//! Notices new certificates.
//!
//! Looks at the files every few seconds, which finds changes on every kind of file system, mounted secrets included. A pair
//! that changed is read again; if it cannot be used, the certificate that it was to replace stays, and that is logged once
//! and counted. A pair that is gone is no longer shown, unless it is the last one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::TlsError;
use super::certificate::Certificate;
use super::choose::{Certificates, Table};
use super::directory::{Pair, Print, pairs};
use super::metrics::TlsMetrics;
use super::settings::TlsSettings;

/// A pair as it was last read.
#[derive(Debug)]
struct Known {
    print: Print,
    /// The last one that could be used.
    certificate: Option<Arc<Certificate>>,
}

/// The files and what they hold.
#[derive(Debug)]
pub struct Reload {
    settings: TlsSettings,
    known: BTreeMap<Pair, Known>,
    /// In order: the first is the default.
    shown: Vec<Pair>,
    certificates: Arc<Certificates>,
    metrics: TlsMetrics,
}

impl Reload {
    /// Reads all certificates for the first time.
    ///
    /// # Errors
    /// [`TlsError::NoCertificate`] if none can be used.
    pub fn start(settings: TlsSettings, metrics: TlsMetrics) -> Result<Self, TlsError> {
        let certificates = Arc::new(Certificates::new(
            Table::default(),
            settings.unknown_names,
            metrics.clone(),
        ));
        let mut reload = Self {
            settings,
            known: BTreeMap::new(),
            shown: Vec::new(),
            certificates,
            metrics,
        };
        reload.look();
        if reload.shown.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(reload)
    }

    /// What is shown, for the listener.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    /// Looks at the files again and again until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let interval = self.settings.reload_interval;
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            self = match looked.await {
                Ok(reload) => reload,
                Err(error) => return tracing::error!(%error, "certificates are no longer reloaded"),
            };
        }
    }

    /// Reads what has changed since the last time, and shows it.
    fn look(&mut self) {
        let found = match pairs(&self.settings) {
            Ok(found) => found,
            Err(error) => {
                let directory = self
                    .settings
                    .directory
                    .as_deref()
                    .unwrap_or_else(|| "".as_ref())
                    .display();
                tracing::warn!(%directory, %error, "the directory of certificates cannot be read");
                self.metrics.reloaded(false);
                return;
            }
        };
        let mut changed = false;
        for pair in &found {
            changed |= self.read(pair);
        }
        let usable = |pair: &Pair| self.known.get(pair).is_some_and(|known| known.certificate.is_some());
        let shown: Vec<Pair> = found.iter().filter(|pair| usable(pair)).cloned().collect();
        if shown.is_empty() || (!changed && shown == self.shown) {
            return;
        }
        for gone in self.shown.iter().filter(|pair| !shown.contains(pair)) {
            tracing::info!(certificate = gone.name, "the certificate is gone");
            self.metrics.gone(&gone.name);
        }
        self.known.retain(|pair, _| found.contains(pair));
        let in_order: Vec<Arc<Certificate>> = shown
            .iter()
            .filter_map(|pair| self.known.get(pair)?.certificate.clone())
            .collect();
        self.certificates.replace(Table::new(&in_order));
        self.shown = shown;
    }

    /// Reads a pair if its files have changed. True if there is a new certificate.
    fn read(&mut self, pair: &Pair) -> bool {
        let print = pair.print();
        let known = self.known.get(pair);
        if known.is_some_and(|known| known.print == print) {
            return false;
        }
        let before = known.and_then(|known| known.certificate.clone());
        let (certificate, is_new) = match Certificate::read(&pair.certificate, &pair.key) {
            Ok(read) => {
                tracing::info!(certificate = pair.name, names = ?read.names, not_after = read.not_after, "certificate read");
                self.metrics.not_after(&pair.name, read.not_after);
                (Some(Arc::new(read)), true)
            }
            Err(error) => {
                let kept = before.is_some();
                tracing::error!(certificate = pair.name, %error, kept, "a certificate cannot be used; the one before it stays");
                (before, false)
            }
        };
        self.metrics.reloaded(is_new);
        self.known.insert(pair.clone(), Known { print, certificate });
        is_new
    }
}
