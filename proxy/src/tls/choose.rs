//! Which certificate a client is shown.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;
use super::metrics::TlsMetrics;
use super::settings::UnknownNames;

/// Certificates by name.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Those of one name differ in their kind of key, or in their age: the one that ends last comes first.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the first label.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Table {
    /// Of these certificates; the first is the default.
    pub(super) fn new(certificates: &[Arc<Certificate>]) -> Self {
        let mut by_end: Vec<&Arc<Certificate>> = certificates.iter().collect();
        by_end.sort_by_key(|certificate| std::cmp::Reverse(certificate.not_after));
        let mut table = Self {
            default: certificates
                .first()
                .map(|first| Arc::clone(&first.key))
                .into_iter()
                .collect(),
            ..Self::default()
        };
        for certificate in by_end {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut table.wildcard, suffix),
                    None => (&mut table.exact, name.as_str()),
                };
                map.entry(name.to_owned())
                    .or_default()
                    .push(Arc::clone(&certificate.key));
            }
        }
        table
    }

    /// The certificates for a name: its own, else those of its parent's wildcard.
    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let lower;
        let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        let exact = self.exact.get(name);
        let found = exact.or_else(|| self.wildcard.get(name.split_once('.')?.1));
        found.map(Vec::as_slice)
    }
}

/// The certificates that are shown now. They may be replaced at any time; connections keep what they were shown.
#[derive(Debug)]
pub struct Certificates {
    table: ArcSwap<Table>,
    unknown_names: UnknownNames,
    metrics: TlsMetrics,
}

impl Certificates {
    pub(super) fn new(table: Table, unknown_names: UnknownNames, metrics: TlsMetrics) -> Self {
        Self {
            table: ArcSwap::from_pointee(table),
            unknown_names,
            metrics,
        }
    }

    pub(super) fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let candidates = match name.map(|name| table.named(name)) {
            Some(Some(named)) => named,
            Some(None) => {
                self.metrics.unknown_name();
                match self.unknown_names {
                    UnknownNames::Default => &table.default,
                    UnknownNames::Refuse => return None,
                }
            }
            None => &table.default,
        };
        // Where no kind of key suits the client, the handshake says so.
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        candidates.iter().find(suits).or(candidates.first()).map(Arc::clone)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};

    use super::*;

    const EC: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    const ED: SignatureScheme = SignatureScheme::ED25519;

    fn certificate(names: &[&str], year: i32, algorithm: &'static SignatureAlgorithm) -> Arc<Certificate> {
        let directory = tempfile::tempdir().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let (chain, key) = (directory.path().join("c"), directory.path().join("k"));
        std::fs::write(&chain, params.self_signed(&pair).unwrap().pem()).unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        Arc::new(Certificate::read(&chain, &key).unwrap())
    }

    fn certificates(all: &[Arc<Certificate>], unknown_names: UnknownNames) -> Certificates {
        let metrics = TlsMetrics::register(&Registry::new()).unwrap();
        Certificates::new(Table::new(all), unknown_names, metrics)
    }

    #[test]
    fn the_most_exact_name_wins_and_a_wildcard_stands_for_one_label() {
        let all = [
            certificate(&["default.test"], 2040, &PKCS_ECDSA_P256_SHA256),
            certificate(&["*.apps.test", "apps.test"], 2040, &PKCS_ECDSA_P256_SHA256),
            certificate(&["special.apps.test"], 2040, &PKCS_ECDSA_P256_SHA256),
        ];
        for (name, refuse, default) in [
            (Some("apps.test"), Some(1), Some(1)),
            (Some("one.apps.test"), Some(1), Some(1)),
            (Some("ONE.Apps.Test"), Some(1), Some(1)),
            (Some("special.apps.test"), Some(2), Some(2)),
            (Some("two.one.apps.test"), None, Some(0)),
            (Some("test"), None, Some(0)),
            (Some("other.example"), None, Some(0)),
            (None, Some(0), Some(0)),
        ] {
            for (policy, expected) in [(UnknownNames::Refuse, refuse), (UnknownNames::Default, default)] {
                let chosen = certificates(&all, policy).choose(name, &[EC]);
                let expected = expected.map(|index: usize| Arc::as_ptr(&all[index].key));
                assert_eq!(chosen.as_ref().map(Arc::as_ptr), expected, "{name:?} {policy:?}");
            }
        }
    }

    #[test]
    fn of_one_name_the_key_that_the_client_can_use_and_then_the_later_end_counts() {
        let all = [
            certificate(&["a.test"], 2040, &PKCS_ECDSA_P256_SHA256),
            certificate(&["a.test"], 2041, &PKCS_ECDSA_P256_SHA256),
            certificate(&["a.test"], 2039, &PKCS_ED25519),
        ];
        let certificates = certificates(&all, UnknownNames::Refuse);
        for (schemes, expected) in [(&[EC, ED][..], 1), (&[ED][..], 2), (&[][..], 1)] {
            let chosen = certificates.choose(Some("a.test"), schemes).unwrap();
            assert!(Arc::ptr_eq(&chosen, &all[expected].key), "{schemes:?}");
        }
    }

    #[test]
    fn what_is_replaced_is_shown_from_then_on() {
        let (old, new) = (
            certificate(&["a.test"], 2040, &PKCS_ECDSA_P256_SHA256),
            certificate(&["a.test"], 2030, &PKCS_ECDSA_P256_SHA256),
        );
        let certificates = certificates(std::slice::from_ref(&old), UnknownNames::Refuse);
        certificates.replace(Table::new(std::slice::from_ref(&new)));
        assert!(Arc::ptr_eq(
            &certificates.choose(Some("a.test"), &[EC]).unwrap(),
            &new.key
        ));
    }
}
