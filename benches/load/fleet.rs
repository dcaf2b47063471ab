//! The tenants of a run: applications and their keys, the same for every contender, and the requests that carry them.

use std::net::{Ipv4Addr, SocketAddr};

use authsome_benches::db::tenants::{self, Tenant};
use authsome_benches::records;
use authsome_contract::wire::Change;
use authsome_core::clock::SystemClock;
use authsome_core::entropy::{Entropy, SystemEntropy};
use authsome_core::id::ApplicationId;
use authsome_core::key::{ApiKey, KeyMode, KeyType};
use sqlx::PgConnection;

/// Applications with their keys.
pub(crate) struct Fleet {
    /// Of applications whose plan lets them do all that is asked here.
    pub(crate) keys: Vec<Key>,
    /// Of an application on the free plan: ten requests a second.
    pub(crate) limited: Key,
    tenants: Vec<Tenant>,
}

/// A key and the application that it opens.
pub(crate) struct Key {
    pub(crate) app: ApplicationId,
    pub(crate) key: ApiKey,
}

impl Fleet {
    /// So many keys, spread evenly over so many applications; each application's instance is at an address of its own.
    pub(crate) fn new(keys: usize, apps: usize, upstream: u16) -> Self {
        let entropy = SystemEntropy::new();
        let apps: Vec<ApplicationId> = (0..apps)
            .map(|_| ApplicationId::generate(&SystemClock, &entropy))
            .collect();
        let free = ApplicationId::generate(&SystemClock, &entropy);
        let made: Vec<Key> = (0..keys)
            .map(|n| Key::generate(apps[n % apps.len()], &entropy))
            .collect();
        let limited = Key::generate(free, &entropy);
        let mut tenants: Vec<Tenant> = apps
            .iter()
            .enumerate()
            .map(|(n, app)| Tenant::enterprise(*app, address(n, upstream).to_string()))
            .collect();
        tenants.push(Tenant::free(free, address(0, upstream).to_string()));
        Self {
            keys: made,
            limited,
            tenants,
        }
    }

    /// Into the control database, from which the relay takes them to the edges.
    pub(crate) async fn insert(&self, connection: &mut PgConnection) {
        tenants::insert(connection, &self.tenants).await;
        let all = self.keys.iter().chain([&self.limited]);
        tenants::insert_keys(connection, all.map(|key| (key.app, &key.key))).await;
    }

    /// As the relay publishes them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        let apps = self
            .tenants
            .iter()
            .map(|tenant| records::app_of(tenant.id, &tenant.endpoint, tenant.plan));
        let keys = self.keys.iter().chain([&self.limited]);
        apps.chain(keys.map(|key| records::key_of(key.app, key.key.digest())))
    }

    /// The ids and addresses of the applications, for whoever routes by himself.
    pub(crate) fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }
}

impl Key {
    fn generate(app: ApplicationId, entropy: &dyn Entropy) -> Self {
        Self {
            app,
            key: ApiKey::generate(KeyType::Secret, KeyMode::Live, &app, entropy),
        }
    }
}

/// Linux answers on all of 127.0.0.0/8, so that every application can have an instance of its own at one listener.
fn address(n: usize, port: u16) -> SocketAddr {
    let n = if cfg!(target_os = "linux") {
        u32::try_from(n % 60_000).unwrap()
    } else {
        0
    };
    let ip = u32::from(Ipv4Addr::LOCALHOST) + n;
    SocketAddr::from((Ipv4Addr::from(ip), port))
}
