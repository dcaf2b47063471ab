//! The strategies `dedicated`: Postgres and Redis of an application's own, in its namespace.
//!
//! Owns when such a server counts as there: its objects are as they should be and its pod, with the keeper that has told it
//! the credentials, is ready. Nobody but the application's instances reaches it, the provisioner included. While the API
//! server is away nothing is changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use authsome_core::id::ApplicationId;
use authsome_core::secret::{ExposeSecret, SecretString, SecretUrl};

use super::cluster::{Cluster, fingerprint};
use super::kind::Kind;
use super::manifest::{self, Manifest, POSTGRES, REDIS, Spec};
use super::namespace_of;
use super::settings::{Server, Settings};
use crate::database::{self, DatabaseError, DatabaseStrategy, Slot};
use crate::lease::Fence;
use crate::redis::{self, RedisError, RedisStrategy};
use crate::runtime::{RuntimeError, Site};

/// How long a new server may take: its volume, its image and its first start.
const STARTING: Duration = Duration::from_mins(4);

/// What both servers have in common.
struct Dedicated {
    cluster: Arc<Cluster>,
    settings: Settings,
    name: &'static str,
}

type Make = fn(&Spec<'_>, &str, Option<&str>, [Option<&SecretString>; 2]) -> Result<Vec<Manifest>, manifest::Unusable>;

impl Dedicated {
    fn manifests(
        &self,
        site: Option<&Site>,
        passwords: [Option<&SecretString>; 2],
        choose: impl FnOnce(&Spec<'_>) -> (Server, Make),
    ) -> Result<Vec<Manifest>, RuntimeError> {
        let unfit = || RuntimeError::Unfit {
            public: "This region has no servers of applications' own.".to_owned(),
            detail: "the application's strategy is dedicated and the settings have no image for it".to_owned(),
        };
        let mut site = site.ok_or_else(unfit)?.clone();
        // A claim never changes: a larger plan gets its storage from the volume, not from the manifest.
        let seen = self.cluster.store.get(Kind::StatefulSet, &site.namespace, self.name);
        let storage = seen.as_ref().and_then(|seen| {
            seen.body
                .pointer("/spec/volumeClaimTemplates/0/spec/resources/requests/storage")?
                .as_str()
        });
        if let Some(storage) = storage {
            storage.clone_into(&mut site.storage);
        }
        let spec = Spec {
            site: &site,
            settings: &self.settings,
        };
        let (server, make) = choose(&spec);
        let Server::Dedicated { image, storage_class } = server else {
            return Err(unfit());
        };
        Ok(make(&spec, &image, storage_class.as_deref(), passwords)?)
    }

    /// Was nothing of it touched since it was last found right?
    fn is_verified(&self, site: &Site) -> bool {
        self.cluster
            .store
            .is_verified(&site.namespace, self.name, &fingerprint(site))
    }

    fn is_ready(&self, namespace: &str) -> bool {
        let seen = self.cluster.store.get(Kind::StatefulSet, namespace, self.name);
        seen.is_some_and(|seen| {
            seen.body["status"]["readyReplicas"].as_u64() == Some(1)
                && seen.body["status"]["observedGeneration"] == seen.body["generation"]
        })
    }

    fn differences(&self, manifests: &[Manifest], site: &Site) -> Vec<String> {
        let namespace = &site.namespace;
        let mut found = self.cluster.compared(self.name, site, &fingerprint(site), manifests);
        if found.is_empty() && !self.is_ready(namespace) {
            found.push(format!("{} in {namespace} is not ready", self.name));
        }
        found
    }

    async fn ensure(&self, manifests: &[Manifest], namespace: &str, fence: &Fence) -> Result<(), RuntimeError> {
        self.cluster.apply_all(manifests, fence).await?;
        if self.cluster.until(STARTING, || self.is_ready(namespace)).await {
            Ok(())
        } else {
            Err(RuntimeError::Slow(format!(
                "{} in {namespace} is not ready within {STARTING:?}",
                self.name
            )))
        }
    }

    fn is_absent(&self, id: ApplicationId) -> bool {
        let namespace = namespace_of(id);
        self.cluster
            .store
            .get(Kind::StatefulSet, &namespace, self.name)
            .is_none()
    }

    /// The volume goes with the namespace.
    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), RuntimeError> {
        let namespace = namespace_of(id);
        for kind in [Kind::StatefulSet, Kind::Service, Kind::Secret, Kind::ConfigMap] {
            self.cluster.delete(kind, Some(&namespace), self.name, fence).await?;
        }
        Ok(())
    }

    fn host(&self, id: ApplicationId) -> String {
        format!(
            "{}.{}.svc.{}",
            self.name,
            namespace_of(id),
            self.settings.cluster_domain
        )
    }
}

fn address(text: &str) -> SecretUrl {
    match SecretUrl::parse(text) {
        Ok(url) => url,
        Err(_) => unreachable!("names are labels and passwords are base64url"),
    }
}

/// A Postgres for each application, where an image for it is configured.
pub(super) fn postgres(cluster: &Arc<Cluster>, settings: &Settings) -> Option<Arc<dyn DatabaseStrategy>> {
    let all = matches!(settings.database, Server::Dedicated { .. });
    (all || settings.own_database.is_some()).then(|| {
        Arc::new(DedicatedPostgres(Dedicated {
            cluster: Arc::clone(cluster),
            settings: settings.clone(),
            name: POSTGRES,
        })) as Arc<dyn DatabaseStrategy>
    })
}

/// A Redis for each application, where an image for it is configured.
pub(super) fn redis(cluster: &Arc<Cluster>, settings: &Settings) -> Option<Arc<dyn RedisStrategy>> {
    let all = matches!(settings.redis, Server::Dedicated { .. });
    (all || settings.own_redis.is_some()).then(|| {
        Arc::new(DedicatedRedis(Dedicated {
            cluster: Arc::clone(cluster),
            settings: settings.clone(),
            name: REDIS,
        })) as Arc<dyn RedisStrategy>
    })
}

struct DedicatedPostgres(Dedicated);

impl DedicatedPostgres {
    fn manifests(&self, tenant: &database::Tenant<'_>) -> Result<Vec<Manifest>, RuntimeError> {
        let make = |spec: &Spec<'_>| (spec.database().clone(), manifest::postgres as Make);
        self.0.manifests(tenant.site, tenant.passwords, make)
    }
}

#[async_trait]
impl DatabaseStrategy for DedicatedPostgres {
    fn name(&self) -> &'static str {
        "dedicated"
    }

    /// There is no server yet that could be asked.
    async fn check(&self, _fence: &Fence) -> Result<Vec<String>, DatabaseError> {
        Ok(Vec::new())
    }

    fn is_verified(&self, site: &Site) -> bool {
        self.0.is_verified(site)
    }

    async fn differences(&self, tenant: &database::Tenant<'_>, _fence: &Fence) -> Result<Vec<String>, DatabaseError> {
        let manifests = self.manifests(tenant)?;
        Ok(tenant
            .site
            .map(|site| self.0.differences(&manifests, site))
            .unwrap_or_default())
    }

    async fn ensure(&self, tenant: &database::Tenant<'_>, fence: &Fence) -> Result<(), DatabaseError> {
        let manifests = self.manifests(tenant)?;
        Ok(self.0.ensure(&manifests, &namespace_of(tenant.id), fence).await?)
    }

    async fn is_absent(&self, id: ApplicationId, _fence: &Fence) -> Result<bool, DatabaseError> {
        Ok(self.0.is_absent(id))
    }

    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), DatabaseError> {
        Ok(self.0.remove(id, fence).await?)
    }

    /// Unencrypted: it never leaves the namespace's network, which nobody else may enter.
    fn url(&self, id: ApplicationId, slot: Slot, password: &SecretString) -> SecretUrl {
        let (user, database) = (database::names::login(id, slot), database::names::database(id));
        let (password, host) = (password.expose_secret(), self.0.host(id));
        address(&format!(
            "postgres://{user}:{password}@{host}:5432/{database}?sslmode=disable"
        ))
    }
}

struct DedicatedRedis(Dedicated);

impl DedicatedRedis {
    fn manifests(&self, tenant: &redis::Tenant<'_>) -> Result<Vec<Manifest>, RuntimeError> {
        let make = |spec: &Spec<'_>| (spec.redis().clone(), manifest::redis as Make);
        self.0.manifests(tenant.site, tenant.passwords, make)
    }
}

#[async_trait]
impl RedisStrategy for DedicatedRedis {
    fn name(&self) -> &'static str {
        "dedicated"
    }

    /// There is no server yet that could be asked.
    async fn check(&self, _fence: &Fence) -> Result<Vec<String>, RedisError> {
        Ok(Vec::new())
    }

    fn is_verified(&self, site: &Site) -> bool {
        self.0.is_verified(site)
    }

    async fn differences(&self, tenant: &redis::Tenant<'_>, _fence: &Fence) -> Result<Vec<String>, RedisError> {
        let manifests = self.manifests(tenant)?;
        Ok(tenant
            .site
            .map(|site| self.0.differences(&manifests, site))
            .unwrap_or_default())
    }

    async fn ensure(&self, tenant: &redis::Tenant<'_>, fence: &Fence) -> Result<(), RedisError> {
        let manifests = self.manifests(tenant)?;
        Ok(self.0.ensure(&manifests, &namespace_of(tenant.id), fence).await?)
    }

    async fn is_absent(&self, id: ApplicationId, _fence: &Fence) -> Result<bool, RedisError> {
        Ok(self.0.is_absent(id))
    }

    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), RedisError> {
        Ok(self.0.remove(id, fence).await?)
    }

    /// The server does that by itself when it reads its users again: nobody outside reaches it.
    async fn end_sessions(&self, _id: ApplicationId, _age: Duration, _fence: &Fence) -> Result<(), RedisError> {
        Ok(())
    }

    /// Its keys went with its server.
    async fn remove_keys(&self, _id: ApplicationId, _fence: &Fence) -> Result<(), RedisError> {
        Ok(())
    }

    fn url(&self, id: ApplicationId, password: &SecretString) -> SecretUrl {
        let (user, password, host) = (redis::user(id), password.expose_secret(), self.0.host(id));
        address(&format!("redis://{user}:{password}@{host}:6379"))
    }
}
