//! Vault tells nobody what changes in it: every half minute its lists say what is gone, and some applications are looked at again
//! one by one for what was changed. Whoever is not as it should be is left to the drift loop, which puts it right.
//!
//! Three calls a round for all applications together, and three for each of those that are looked at again. While Vault is away a
//! round finds nothing; that is said once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::error::Chain;
use authsome_core::id::ApplicationId;

use super::VaultClient;
use crate::runtime::kubernetes::INSTANCE;
use crate::runtime::kubernetes::store::Store;

/// The time from one round to the next.
const ROUND: Duration = Duration::from_secs(30);
/// Applications looked at again in one round: so many that a thousand are through in four minutes, at 12 calls a second.
const AT_ONCE: usize = 120;

/// Goes round until it is dropped.
pub(in crate::runtime::kubernetes) async fn patrol(vault: Arc<VaultClient>, store: Arc<Store>) {
    let mut after = String::new();
    let mut told = false;
    loop {
        tokio::time::sleep(ROUND).await;
        match vault.listed().await {
            Ok(listed) => {
                told = false;
                for namespace in store.verified_namespaces(INSTANCE) {
                    if !listed.has(&namespace) {
                        tracing::warn!(namespace, "Vault lacks what is an application's; looking again");
                        store.doubt(&namespace, INSTANCE);
                    }
                }
            }
            Err(error) => {
                if !told {
                    tracing::warn!(error = %Chain(&error), "cannot ask Vault what it keeps; asking again");
                }
                told = true;
                // Nobody else gets an answer either. A token that may not list may still read.
                if error.is_transient() {
                    continue;
                }
            }
        }
        after = next(&store, &after);
    }
}

/// Has those looked at again that come after the last one of the round before. Returns the last one of this.
fn next(store: &Store, after: &str) -> String {
    let mut all = store.verified_namespaces(INSTANCE);
    all.sort_unstable();
    let begin = all.partition_point(|namespace| namespace.as_str() <= after);
    all.rotate_left(begin);
    all.truncate(AT_ONCE);
    for namespace in &all {
        store.doubt(namespace, INSTANCE);
    }
    all.pop().unwrap_or_default()
}

/// The names that Vault has of each thing.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) documents: HashSet<String>,
    pub(super) policies: HashSet<String>,
    pub(super) roles: HashSet<String>,
}

impl Listed {
    fn has(&self, namespace: &str) -> bool {
        let document = application_of(namespace).map(|id| id.to_string());
        document.is_none_or(|id| self.documents.contains(&id))
            && self.policies.contains(namespace)
            && self.roles.contains(namespace)
    }
}

/// The reverse of [`namespace_of`](crate::runtime::kubernetes::namespace_of).
pub(in crate::runtime::kubernetes) fn application_of(namespace: &str) -> Option<ApplicationId> {
    let suffix = namespace.strip_prefix("authsome-app-")?;
    format!("app_{suffix}").parse().ok()
}

#[cfg(test)]
mod tests {
    use authsome_core::clock::SystemClock;
    use authsome_core::entropy::SystemEntropy;

    use super::*;
    use crate::runtime::kubernetes::namespace_of;

    #[test]
    fn every_application_is_looked_at_again_before_any_is_twice() {
        let store = Store::default();
        let names: Vec<String> = (0..AT_ONCE * 2 + 10).map(|number| format!("one-{number:04}")).collect();
        let verify = || {
            for name in &names {
                store.verified(name, INSTANCE, "site", 0);
            }
        };
        let mut seen = HashSet::new();
        let mut after = String::new();
        for round in 0..3 {
            verify();
            after = next(&store, &after);
            let left: HashSet<String> = store.verified_namespaces(INSTANCE).into_iter().collect();
            let doubted: Vec<&String> = names.iter().filter(|name| !left.contains(*name)).collect();
            assert_eq!(doubted.len(), AT_ONCE, "round {round}");
            seen.extend(doubted.into_iter().cloned());
        }
        assert_eq!(seen.len(), names.len());
    }

    #[test]
    fn what_is_missing_of_an_application_is_seen_in_any_of_the_lists() {
        let id = ApplicationId::generate(&SystemClock, &SystemEntropy::new());
        let namespace = namespace_of(id);
        assert_eq!(application_of(&namespace), Some(id));
        let all = || Listed {
            documents: HashSet::from([id.to_string()]),
            policies: HashSet::from([namespace.clone()]),
            roles: HashSet::from([namespace.clone()]),
        };
        assert!(all().has(&namespace));
        let empty = [
            Listed {
                documents: HashSet::new(),
                ..all()
            },
            Listed {
                policies: HashSet::new(),
                ..all()
            },
            Listed {
                roles: HashSet::new(),
                ..all()
            },
        ];
        assert!(empty.iter().all(|listed| !listed.has(&namespace)));
    }
}
