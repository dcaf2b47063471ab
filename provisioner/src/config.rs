//! The configuration of the provisioner: one TOML file with the environment over it.
//!
//! Owns the keys, their defaults and what must hold of them. Every problem is reported at once; the program then ends
//! with code 2.

mod kubernetes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use authsome_core::config::{BadValue, FromValue, Reader};
use authsome_core::lifecycle::Timing;
use authsome_core::seal::{EdgeRing, PlatformRing};
use authsome_core::secret::SecretUrl;
use authsome_core::telemetry::{self, Format};

pub use kubernetes::Kubernetes;

/// Operations in progress beside which there must be connections for leases and looks.
const MOST_CONCURRENT: usize = 64;

/// Processes on one machine for one application.
const MOST_REPLICAS: usize = 8;

/// How tenants' databases are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChoice {
    /// A database of its own on a shared server.
    Database,
}

/// How tenants' Redis keys are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisChoice {
    /// A user of its own with a key prefix on a shared server.
    Acl,
}

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
    DatabaseChoice: "\"database\"", "database" => Self::Database;
    RedisChoice: "\"acl\"", "acl" => Self::Acl;
    RuntimeChoice: "\"kubernetes\" or \"local\"", "kubernetes" => Self::Kubernetes, "local" => Self::Local;
}

/// The servers on which tenants' databases and keys live.
#[derive(Debug, Clone)]
pub struct Tenants {
    /// Administrator of the tenants' Postgres.
    pub database_url: SecretUrl,
    /// The same server as instances reach it, where that differs; only scheme, host, port and how to encrypt are used.
    pub database_instance_url: Option<SecretUrl>,
    /// How databases are kept apart.
    pub database_strategy: DatabaseChoice,
    /// Administrator of the tenants' Redis.
    pub redis_url: SecretUrl,
    /// The same server as instances reach it, where that differs; only scheme, host and port are used.
    pub redis_instance_url: Option<SecretUrl>,
    /// How keys are kept apart.
    pub redis_strategy: RedisChoice,
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
        let tenant_database = scheme(reader, "tenants.database_url", &["postgres", "postgresql"]);
        let tenant_redis = scheme(reader, "tenants.redis_url", &["redis", "rediss"]);
        let database_instance_url = reader.optional("tenants.database_instance_url");
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
        let database_strategy = reader.or("tenants.database_strategy", DatabaseChoice::Database);
        let redis_strategy = reader.or("tenants.redis_strategy", RedisChoice::Acl);

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
            Kubernetes::read(reader, &region, database, redis)
        });
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
                database_url: tenant_database?,
                database_instance_url,
                database_strategy,
                redis_url: tenant_redis?,
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
            timing,
            log_format,
            log_level,
        })
    }
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

#[cfg(test)]
mod tests {
    use authsome_core::config::Environment;

    use super::*;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn complete() -> Vec<(&'static str, &'static str)> {
        vec![
            ("DATABASE_URL", "postgres://u:secret@db/control"),
            ("NATS_URL", "nats://u:secret@a:4222,nats://b:4222"),
            ("AUTHSOME_TENANTS_DATABASE_URL", "postgres://u:secret@db/postgres"),
            ("AUTHSOME_REDIS_ADMIN_URL", "redis://u:secret@cache:6379"),
            ("AUTHSOME_LOCAL_SAMPLE_BINARY", "/bin/authsome-sample"),
            ("AUTHSOME_LOCAL_LOG_DIR", "/logs"),
            ("ENCRYPTION_KEY", KEY),
            ("AUTHSOME_ENCRYPTION_EDGE_KEY", KEY),
            ("AUTHSOME_PUBLIC_EDGE", "https://api.authsome.cloud/"),
        ]
    }

    fn read(variables: Vec<(&str, &str)>) -> Result<Config, String> {
        let environment: Environment = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Reader::new(None, environment)
            .finish(Config::read)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let config = read(complete()).unwrap();
        assert_eq!((config.concurrency, config.region.as_str()), (4, "local"));
        assert_eq!(config.public_url, "https://api.authsome.cloud");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9082");
        assert_eq!(config.tenants.redis_strategy, RedisChoice::Acl);
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_cluster_needs_an_image_and_networks_and_no_local_settings() {
        let mut variables = complete();
        variables.retain(|(name, _)| !name.starts_with("AUTHSOME_LOCAL"));
        variables.push(("AUTHSOME_RUNTIME", "kubernetes"));
        let problems = read(variables.clone()).unwrap_err();
        for key in ["kubernetes.image: required", "kubernetes.database_networks: required"] {
            assert!(problems.contains(key), "{key} is missing in:\n{problems}");
        }
        variables.extend([
            ("AUTHSOME_KUBERNETES_IMAGE", "registry.example/authsome:1"),
            ("AUTHSOME_KUBERNETES_DATABASE_NETWORKS", "10.1.0.0/16"),
            ("AUTHSOME_KUBERNETES_REDIS_NETWORKS", "10.2.0.7/24"),
            ("AUTHSOME_KUBERNETES_CLUSTERS", "eu=/etc/eu.yaml,us=in-cluster"),
        ]);
        let kubernetes = read(variables).unwrap().kubernetes.unwrap();
        assert_eq!(kubernetes.clusters.keys().collect::<Vec<_>>(), ["eu", "us"]);
        assert!(format!("{:?}", kubernetes.settings.redis).contains("10.2.0.0/24"));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let mut variables = complete();
        variables.retain(|(name, _)| *name != "DATABASE_URL");
        variables.extend([
            ("AUTHSOME_TENANTS_DATABASE_URL", "mysql://u:secret@db"),
            ("AUTHSOME_TENANTS_REDIS_INSTANCE_URL", "http://cache:6379"),
            ("AUTHSOME_RUNTIME", "mainframe"),
            ("AUTHSOME_REGION", "EU"),
            ("AUTHSOME_CONCURRENCY", "0"),
            ("AUTHSOME_PUBLIC_EDGE", "api.authsome.cloud"),
            ("AUTHSOME_LOG_LEVEL", "info,x=loud"),
        ]);
        let problems = read(variables).unwrap_err();
        for key in [
            "database.url: required",
            "tenants.database_url: must begin with postgres://",
            "tenants.redis_instance_url: must begin with redis://",
            "runtime: \"mainframe\" is not \"kubernetes\" or \"local\"",
            "region: must be a label",
            "concurrency: must be from 1",
            "public.edge: must be http://",
            "log.level: must be a level",
        ] {
            assert!(problems.contains(key), "{key} is missing in:\n{problems}");
        }
        assert_eq!(problems.lines().count(), 8, "{problems}");
        assert!(!problems.contains("secret"));
    }
}
