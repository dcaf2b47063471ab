//! The configuration of the provisioner: one TOML file with the environment over it.
//!
//! Owns the keys, their defaults and what must hold of them. Every problem is reported at once; the program then ends
//! with code 2.

mod authority;
mod kubernetes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::{DatabaseChoice, Plan, RedisChoice, UnknownName};
use authsome_core::config::{BadValue, FromValue, Reader};
use authsome_core::lifecycle::Timing;
use authsome_core::seal::{EdgeRing, PlatformRing};
use authsome_core::secret::SecretUrl;
use authsome_core::telemetry::{self, Format};

pub use kubernetes::Kubernetes;

use crate::tenancy::Chosen;

/// Operations in progress beside which there must be connections for leases and looks.
const MOST_CONCURRENT: usize = 64;

/// Processes on one machine for one application.
const MOST_REPLICAS: usize = 8;

/// Where instances run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// Child processes on loopback ports.
    Local,
    /// Namespaces in clusters.
    Kubernetes,
}

macro_rules! choices {
    ($($type:ty: $expected:literal, $($name:literal => $value:expr),+;)*) => {$(
        impl FromValue for $type {
            fn from_text(text: &str) -> Result<Self, BadValue> {
                match text {
                    $($name => Ok($value),)+
                    _ => Err(BadValue::not_a($expected)),
                }
            }
        }
    )*};
}

choices! {
    RuntimeChoice: "\"kubernetes\" or \"local\"", "kubernetes" => Self::Kubernetes, "local" => Self::Local;
}

/// The servers on which tenants' databases and keys live.
#[derive(Debug, Clone)]
pub struct Tenants {
    /// Administrator of the tenants' Postgres, where any are to share one.
    pub database_url: Option<SecretUrl>,
    /// The same server as instances reach it, where that differs; only scheme, host, port and how to encrypt are used.
    pub database_instance_url: Option<SecretUrl>,
    /// How the databases of new applications are kept apart.
    pub database_strategy: Chosen<DatabaseChoice>,
    /// The database in which tenants of the strategy `schema` have their schemas.
    pub schema_database: String,
    /// Administrator of the tenants' Redis, where any are to share one.
    pub redis_url: Option<SecretUrl>,
    /// The same server as instances reach it, where that differs; only scheme, host and port are used.
    pub redis_instance_url: Option<SecretUrl>,
    /// How the keys of new applications are kept apart.
    pub redis_strategy: Chosen<RedisChoice>,
}

/// The local runtime.
#[derive(Debug, Clone)]
pub struct Local {
    /// The program that stands in for an instance.
    pub sample_binary: PathBuf,
    /// Where their output goes; created if absent.
    pub log_dir: PathBuf,
    /// Instances of each application.
    pub replicas: usize,
    /// What instances log: a level or a filter.
    pub instance_log_level: String,
}

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The control database.
    pub database_url: SecretUrl,
    /// NATS; several addresses separated by commas.
    pub nats_url: SecretUrl,
    /// The tenants' servers.
    pub tenants: Tenants,
    /// Where instances run.
    pub runtime: RuntimeChoice,
    /// The local runtime, where instances run by it.
    pub local: Option<Local>,
    /// The clusters, where instances run in them.
    pub kubernetes: Option<Kubernetes>,
    /// The region whose applications are this provisioner's.
    pub region: String,
    /// Seals URLs and generated credentials.
    pub platform_ring: Arc<PlatformRing>,
    /// Seals what the edge injects towards instances.
    pub edge_ring: Arc<EdgeRing>,
    /// Operations at a time.
    pub concurrency: usize,
    /// The public address of the edge, without a slash at the end.
    pub public_url: String,
    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub admin_listen: SocketAddr,
    /// Time between two looks for due operations.
    pub reconcile_interval: Duration,
    /// Time between two looks at running instances.
    pub drift_interval: Duration,
    /// Time between two measurements of what applications use of their databases.
    pub usage_interval: Duration,
    /// How stopping is timed.
    pub timing: Timing,
    /// How log lines look.
    pub log_format: Format,
    /// What is logged: a level, or a list such as `info,authsome_provisioner=debug`.
    pub log_level: String,
}

impl Config {
    /// Reads every setting. `None` only where a problem was kept.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        // The tenants' Redis is an administrator's address, unlike the `redis.url` of the other programs.
        reader.alias("tenants.redis_url", "AUTHSOME_REDIS_ADMIN_URL");
        let database_url = scheme(reader, "database.url", &["postgres", "postgresql"]);
        let nats_url = scheme(reader, "nats.url", &["nats", "tls"]);
        let (database_strategy, redis_strategy) = (
            chosen(
                reader,
                "tenants.database_strategy",
                "tenants.database_strategy_by_plan",
                DatabaseChoice::Database,
            ),
            chosen(
                reader,
                "tenants.redis_strategy",
                "tenants.redis_strategy_by_plan",
                RedisChoice::Acl,
            ),
        );
        let database_shared =
            database_strategy.includes(DatabaseChoice::Database) || database_strategy.includes(DatabaseChoice::Schema);
        let tenant_database = shared(
            reader,
            "tenants.database_url",
            &["postgres", "postgresql"],
            database_shared,
        );
        let tenant_redis = shared(
            reader,
            "tenants.redis_url",
            &["redis", "rediss"],
            redis_strategy.includes(RedisChoice::Acl),
        );
        let schema_database = reader.or("tenants.schema_database", "authsome_tenants".to_owned());
        reader.check(
            "tenants.schema_database",
            is_database_name(&schema_database),
            "must be 1 to 40 lower-case letters, digits and underscores, a letter first",
        );
        let mut database_instance_url = reader.optional("tenants.database_instance_url");
        checked_scheme(
            reader,
            "tenants.database_instance_url",
            database_instance_url.as_ref(),
            &["postgres", "postgresql"],
        );
        let redis_instance_url = reader.optional("tenants.redis_instance_url");
        checked_scheme(
            reader,
            "tenants.redis_instance_url",
            redis_instance_url.as_ref(),
            &["redis", "rediss"],
        );

        let runtime = reader.or("runtime", RuntimeChoice::Local);
        let region = reader.or("region", "local".to_owned());
        reader.check(
            "region",
            is_label(&region),
            "must be a label of lower-case letters, digits and inner hyphens",
        );
        let kubernetes = (runtime == RuntimeChoice::Kubernetes).then(|| {
            let database = database_instance_url.as_ref().or(tenant_database.as_ref());
            let redis = redis_instance_url.as_ref().or(tenant_redis.as_ref());
            let dedicated = (
                database_strategy.includes(DatabaseChoice::Dedicated),
                redis_strategy.includes(RedisChoice::Dedicated),
            );
            Kubernetes::read(reader, &region, (database, redis), dedicated)
        });
        let kubernetes = kubernetes.map(|kubernetes| {
            let (key, address) = match (&database_instance_url, &tenant_database) {
                (Some(address), _) => ("tenants.database_instance_url", Some(address)),
                (None, address) => ("tenants.database_url", address.as_ref()),
            };
            let carried = address.and_then(|address| authority::carried(reader, key, address));
            let mut kubernetes = kubernetes?;
            if let Some((address, certificates)) = carried {
                database_instance_url = Some(address);
                kubernetes.settings.database_ca = Some(certificates);
            }
            Some(kubernetes)
        });
        let placed = runtime == RuntimeChoice::Kubernetes;
        for (key, dedicated) in [
            (
                "tenants.database_strategy",
                database_strategy.includes(DatabaseChoice::Dedicated),
            ),
            (
                "tenants.redis_strategy",
                redis_strategy.includes(RedisChoice::Dedicated),
            ),
        ] {
            reader.check(key, placed || !dedicated, "dedicated needs the runtime kubernetes");
        }
        let local = (runtime == RuntimeChoice::Local).then(|| local(reader));
        // One file may hold the settings of both.
        match runtime {
            RuntimeChoice::Local => reader.ignore("kubernetes"),
            RuntimeChoice::Kubernetes => reader.ignore("local"),
        }
        let platform_ring = reader.required("encryption.key");
        let edge_ring = reader.required("encryption.edge_key");
        let concurrency = reader.or("concurrency", 4_usize);
        let bounded = (1..=MOST_CONCURRENT).contains(&concurrency);
        reader.check("concurrency", bounded, &format!("must be from 1 to {MOST_CONCURRENT}"));
        let public_url: Option<String> = reader.required("public.edge");
        let addressed = public_url.as_deref().is_none_or(is_public_url);
        reader.check(
            "public.edge",
            addressed,
            "must be http:// or https:// and a host, without a query",
        );
        let admin_listen = reader.or("listen.admin", SocketAddr::from(([127, 0, 0, 1], 9082)));

        let reconcile_interval = interval(reader, "reconcile.interval", Duration::from_secs(3));
        let drift_interval = interval(reader, "drift.interval", Duration::from_secs(3));
        let usage_interval = interval(reader, "usage.interval", Duration::from_mins(5));
        let timing = Timing {
            linger: Duration::ZERO,
            deadline: reader.or("shutdown.deadline", Timing::default().deadline),
        };
        let log_format = reader.or("log.format", Format::default());
        let log_level = reader.or("log.level", "info".to_owned());
        let filter = telemetry::check_filter(&log_level);
        reader.check(
            "log.level",
            filter.is_ok(),
            "must be a level such as info, or a list such as info,authsome_provisioner=debug",
        );

        Some(Self {
            database_url: database_url?,
            nats_url: nats_url?,
            tenants: Tenants {
                database_url: tenant_database,
                database_instance_url,
                database_strategy,
                schema_database,
                redis_url: tenant_redis,
                redis_instance_url,
                redis_strategy,
            },
            runtime,
            local: local.map_or(Some(None), |local| local.map(Some))?,
            kubernetes: kubernetes.map_or(Some(None), |kubernetes| kubernetes.map(Some))?,
            region,
            platform_ring: Arc::new(platform_ring?),
            edge_ring: Arc::new(edge_ring?),
            concurrency,
            public_url: public_url?.trim_end_matches('/').to_owned(),
            admin_listen,
            reconcile_interval,
            drift_interval,
            usage_interval,
            timing,
            log_format,
            log_level,
        })
    }
}

/// A choice for every plan, and others for some.
fn chosen<C>(reader: &mut Reader, key: &'static str, by_plan: &'static str, default: C) -> Chosen<C>
where
    C: Copy + PartialEq + FromStr<Err = UnknownName>,
{
    let text: Option<String> = reader.optional(key);
    let parsed = text.map_or(Ok(default), |text| text.parse());
    reader.check(key, parsed.is_ok(), "must be the name of a strategy");
    let texts: BTreeMap<String, String> = reader.or(by_plan, BTreeMap::new());
    let plans: Result<BTreeMap<Plan, C>, UnknownName> = texts
        .iter()
        .map(|(plan, strategy)| Ok((plan.parse()?, strategy.parse()?)))
        .collect();
    reader.check(by_plan, plans.is_ok(), "must map plans to strategies");
    Chosen {
        default: parsed.unwrap_or(default),
        by_plan: plans.unwrap_or_default(),
    }
}

/// The address of a shared server: required where applications are to share it, and kept where some still do.
fn shared(reader: &mut Reader, key: &'static str, schemes: &[&str], required: bool) -> Option<SecretUrl> {
    if required {
        return scheme(reader, key, schemes);
    }
    let url = reader.optional(key);
    checked_scheme(reader, key, url.as_ref(), schemes);
    url
}

/// A name that needs no quotes anywhere, with room for what is appended to it.
fn is_database_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The local runtime.
fn local(reader: &mut Reader) -> Option<Local> {
    let sample_binary = reader.required("local.sample_binary");
    let log_dir = reader.required("local.log_dir");
    let replicas = reader.or("local.replicas", 1_usize);
    reader.check(
        "local.replicas",
        (1..=MOST_REPLICAS).contains(&replicas),
        &format!("must be from 1 to {MOST_REPLICAS}"),
    );
    let instance_log_level = reader.or("local.instance_log_level", "info".to_owned());
    let filter = telemetry::check_filter(&instance_log_level);
    reader.check(
        "local.instance_log_level",
        filter.is_ok(),
        "must be a level such as info, or a filter",
    );
    Some(Local {
        sample_binary: sample_binary?,
        log_dir: log_dir?,
        replicas,
        instance_log_level,
    })
}

/// A required address whose scheme is one of these.
fn scheme(reader: &mut Reader, key: &'static str, schemes: &[&str]) -> Option<SecretUrl> {
    let url: Option<SecretUrl> = reader.required(key);
    checked_scheme(reader, key, url.as_ref(), schemes);
    url
}

fn checked_scheme(reader: &mut Reader, key: &'static str, url: Option<&SecretUrl>, schemes: &[&str]) {
    let right = url.is_none_or(|url| schemes.contains(&url.scheme()));
    reader.check(key, right, &format!("must begin with {}://", schemes.join(":// or ")));
}

fn interval(reader: &mut Reader, key: &'static str, default: Duration) -> Duration {
    let interval = reader.or(key, default);
    let bounded = (Duration::from_millis(50)..=Duration::from_mins(5)).contains(&interval);
    reader.check(key, bounded, "must be from 50ms to 5m");
    interval
}

/// As the column `applications.region` has it; it is part of subjects and consumer names.
fn is_label(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_public_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}
