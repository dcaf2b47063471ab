//! The configuration of the program: read once, every problem reported at once.

mod mail;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use authsome_contract::model::Plan;
use authsome_core::config::Reader;
use authsome_core::lifecycle::Timing;
use authsome_core::seal::PlatformRing;
use authsome_core::secret::{ExposeSecret, SecretString, SecretUrl};
use authsome_core::telemetry::{self, Format};
use ipnet::IpNet;
use url::Url;

use crate::audit::checkpoint::Signer;
use crate::dns::DnsSettings;
use crate::identity;
use crate::identity::oidc::IssuersSetting;
use crate::mail::Smtp;
use crate::outbound::Roots;
use crate::settings::Settings;
use crate::time_series::PrometheusSettings;

/// Everything that can be configured.
#[derive(Debug)]
pub struct Config {
    /// `listen.api`: API and dashboard. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// `listen.admin`: `/livez`, `/readyz`, `/metrics`; not for the internet. Default `127.0.0.1:9080`.
    pub admin: SocketAddr,
    /// `database.url` (also `DATABASE_URL`), required.
    pub database_url: SecretUrl,
    /// `database.max_connections`: default 20.
    pub database_connections: u32,
    /// `database.migrate`: bring the schema up to date at start. Default true; with several releases side by side, run
    /// `authsome-control migrate` instead.
    pub migrate: bool,
    /// `redis.url` (also `REDIS_URL`), required.
    pub redis_url: SecretUrl,
    /// `nats.url` (also `NATS_URL`), required.
    pub nats_url: SecretUrl,
    /// `jwt.secret` (also `JWT_SECRET`), required: at least 32 bytes.
    pub jwt_secret: SecretString,
    /// `jwt.previous`: secrets that no longer sign and still verify, while old tokens live.
    pub jwt_previous: Vec<SecretString>,
    /// `jwt.lifetime`: how long a sign-in lasts. Default 12h; a suspended person is locked out at once regardless.
    pub jwt_lifetime: Duration,
    /// `encryption.key` (also `ENCRYPTION_KEY`): the platform's sealing ring. The installation's programs share it; it is
    /// checked here so that a bad one shows in every program's `--check-config`.
    pub encryption: Option<PlatformRing>,
    /// `mail.url`, `mail.from`, `mail.tls`: the server that letters go out by. Without it they wait.
    pub mail: Option<Smtp>,
    /// `audit.signing_key`: signs the heads of the audit trail. Without it nothing is signed, and nothing is dropped.
    pub audit_key: Option<Signer>,
    /// `webhooks.allowed_networks`: internal networks that webhooks may go to, by http as well. Default none.
    pub webhook_networks: Vec<IpNet>,
    /// `oidc.issuers`: identity providers whose tokens are believed. Default none.
    pub issuers: IssuersSetting,
    /// `tls.roots`: certificates that are believed of servers elsewhere, beside those of the system.
    pub roots: Roots,
    /// `prometheus.*`: what measures instances. Without it only the edge's counters are told.
    pub prometheus: Option<PrometheusSettings>,
    /// `dns.*`: who is asked about names of customers.
    pub dns: DnsSettings,
    /// `public.*`, `regions`, `plans.*`: what clients may see.
    pub settings: Settings,
    /// `log.level` (also `LOG_LEVEL`): default `info`.
    pub log_filter: String,
    /// `log.format`: `json` (default) or `pretty`.
    pub log_format: Format,
    /// `shutdown.linger` (default 0s) and `shutdown.deadline` (default 30s).
    pub timing: Timing,
}

/// What the subcommands that only need the database read.
#[derive(Debug)]
pub struct DatabaseConfig {
    /// `database.url`, required.
    pub url: SecretUrl,
    /// `log.level`.
    pub log_filter: String,
}

impl DatabaseConfig {
    /// For [`authsome_core::config::ConfigArgs::load`]. Other sections of the file are left alone.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        for section in ["database", "redis", "nats"] {
            reader.ignore(section);
        }
        ignore_service(reader);
        let url = postgres(reader);
        let (log_filter, _) = log(reader);
        Some(Self { url: url?, log_filter })
    }
}

/// What the subcommands that write the routing table read.
#[derive(Debug)]
pub struct CopiesConfig {
    /// `database.url`, required.
    pub database_url: SecretUrl,
    /// `redis.url`, required.
    pub redis_url: SecretUrl,
    /// `nats.url`, required.
    pub nats_url: SecretUrl,
    /// `log.level`.
    pub log_filter: String,
}

impl CopiesConfig {
    /// For [`authsome_core::config::ConfigArgs::load`]. Other sections of the file are left alone.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        for key in ["database.max_connections", "database.migrate"] {
            reader.ignore(key);
        }
        ignore_service(reader);
        let (database_url, redis_url, nats_url) = (postgres(reader), redis(reader), nats(reader));
        let (log_filter, _) = log(reader);
        Some(Self {
            database_url: database_url?,
            redis_url: redis_url?,
            nats_url: nats_url?,
            log_filter,
        })
    }
}

impl Config {
    /// For [`authsome_core::config::ConfigArgs::load`].
    pub fn read(reader: &mut Reader) -> Option<Self> {
        ignore_other_programs(reader);
        let listen = reader.or("listen.api", SocketAddr::from(([0, 0, 0, 0], 8080)));
        let admin = reader.or("listen.admin", SocketAddr::from(([127, 0, 0, 1], 9080)));
        reader.check(
            "listen.admin",
            admin != listen || admin.port() == 0,
            "must differ from listen.api",
        );
        let database_url = postgres(reader);
        let database_connections = reader.or("database.max_connections", 20);
        reader.check(
            "database.max_connections",
            database_connections >= 2,
            "must be at least 2",
        );
        let migrate = reader.or("database.migrate", true);
        let redis_url = redis(reader);
        let nats_url = nats(reader);

        let jwt_secret: Option<SecretString> = reader.required("jwt.secret");
        let jwt_previous: Vec<SecretString> = reader.or("jwt.previous", Vec::new());
        let long = |secret: &SecretString| secret.expose_secret().len() >= identity::SECRET_MIN;
        reader.check(
            "jwt.secret",
            jwt_secret.as_ref().is_none_or(long),
            "must be at least 32 bytes long",
        );
        reader.check(
            "jwt.previous",
            jwt_previous.iter().all(long),
            "each must be at least 32 bytes long",
        );
        let jwt_lifetime = reader.or("jwt.lifetime", Duration::from_hours(12));
        let sensible = Duration::from_mins(1)..=Duration::from_hours(30 * 24);
        reader.check(
            "jwt.lifetime",
            sensible.contains(&jwt_lifetime),
            "must be from 1m to 30d",
        );
        let encryption = reader.optional("encryption.key");

        let roots = roots(reader);
        let mail = mail::read(reader, &roots);
        let issuers = reader.or("oidc.issuers", IssuersSetting::default());
        let audit_key = audit_key(reader);
        let webhook_networks = webhook_networks(reader);
        let prometheus = PrometheusSettings::read(reader);
        let dns = DnsSettings::read(reader);
        let settings = settings(reader, listen);
        let (log_filter, log_format) = log(reader);
        let timing = Timing {
            linger: reader.or("shutdown.linger", Duration::ZERO),
            deadline: reader.or("shutdown.deadline", Duration::from_secs(30)),
        };
        Some(Self {
            listen,
            admin,
            database_url: database_url?,
            database_connections,
            migrate,
            redis_url: redis_url?,
            nats_url: nats_url?,
            jwt_secret: jwt_secret?,
            jwt_previous,
            jwt_lifetime,
            encryption,
            mail,
            audit_key,
            webhook_networks,
            issuers,
            roots,
            prometheus,
            dns,
            settings,
            log_filter,
            log_format,
            timing,
        })
    }
}

fn webhook_networks(reader: &mut Reader) -> Vec<IpNet> {
    let names: Vec<String> = reader.or("webhooks.allowed_networks", Vec::new());
    let networks: Result<Vec<IpNet>, _> = names.iter().map(|network| network.parse()).collect();
    reader.check(
        "webhooks.allowed_networks",
        networks.is_ok(),
        "must be networks such as 10.0.0.0/8",
    );
    networks.unwrap_or_default()
}

/// Read here, so that a bad file shows in `--check-config`.
fn roots(reader: &mut Reader) -> Roots {
    let Some(path) = reader.optional::<PathBuf>("tls.roots") else {
        return Roots::default();
    };
    match std::fs::read(&path) {
        Ok(pem) => Roots::parse(&pem).unwrap_or_else(|error| {
            reader.check("tls.roots", false, &error.to_string());
            Roots::default()
        }),
        Err(error) => {
            reader.check("tls.roots", false, &format!("cannot be read: {error}"));
            Roots::default()
        }
    }
}

fn audit_key(reader: &mut Reader) -> Option<Signer> {
    let seed: Option<SecretString> = reader.optional("audit.signing_key");
    let signer = seed.as_ref().map(Signer::parse).transpose();
    reader.check("audit.signing_key", signer.is_ok(), "must be 32 bytes in base64");
    signer.ok().flatten()
}

/// What only the service reads; subcommands leave it alone.
fn ignore_service(reader: &mut Reader) {
    for section in [
        "listen",
        "jwt",
        "public",
        "plans",
        "regions",
        "shutdown",
        "http",
        "mail",
        "dns",
        "audit",
        "webhooks",
        "oidc",
        "tls",
        "prometheus",
    ] {
        reader.ignore(section);
    }
    ignore_other_programs(reader);
}

/// One file may serve all programs.
fn ignore_other_programs(reader: &mut Reader) {
    for section in ["proxy", "provisioner", "edge", "encryption", "runtime"] {
        reader.ignore(section);
    }
}

fn settings(reader: &mut Reader, listen: SocketAddr) -> Settings {
    let own = format!("http://localhost:{}", listen.port());
    let api_url = public(reader, "public.api", &own);
    let edge_url = public(reader, "public.edge", "http://localhost:8081");
    let dashboard_url = public(reader, "public.dashboard", &api_url);

    let apps_domain: Option<String> = reader.optional("public.apps_domain");

    let regions: Vec<String> = reader.or("regions", vec!["local".to_owned()]);
    reader.check("regions", !regions.is_empty(), "must name at least one region");
    reader.check(
        "regions",
        regions.iter().all(|region| is_region(region)),
        "must be names such as eu-west-1",
    );

    let names: Vec<String> = reader.or("plans.self_service", vec!["free".to_owned(), "pro".to_owned()]);
    let plans: Result<Vec<Plan>, _> = names.iter().map(|name| name.parse::<Plan>()).collect();
    reader.check(
        "plans.self_service",
        plans.is_ok(),
        "must be of free, pro and enterprise",
    );
    let plans = plans.unwrap_or_default();
    reader.check(
        "plans.self_service",
        plans.contains(&Plan::Free),
        "must contain free, the default of a new workspace",
    );

    let proxies: Vec<String> = reader.or("http.trusted_proxies", Vec::new());
    let trusted: Result<Vec<IpNet>, _> = proxies.iter().map(|network| network.parse()).collect();
    reader.check(
        "http.trusted_proxies",
        trusted.is_ok(),
        "must be networks such as 10.0.0.0/8",
    );
    let request_deadline = reader.or("http.deadline", Duration::from_secs(30));
    reader.check("http.deadline", !request_deadline.is_zero(), "must not be 0");
    Settings {
        api_url,
        edge_url,
        dashboard_url,
        apps_domain,
        regions,
        self_service_plans: plans,
        trusted_proxies: trusted.unwrap_or_default(),
        request_deadline,
    }
}

fn postgres(reader: &mut Reader) -> Option<SecretUrl> {
    address(reader, "database.url", &["postgres", "postgresql"])
}

fn redis(reader: &mut Reader) -> Option<SecretUrl> {
    let schemes = ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel"];
    address(reader, "redis.url", &schemes)
}

fn nats(reader: &mut Reader) -> Option<SecretUrl> {
    address(reader, "nats.url", &["nats", "tls", "ws", "wss"])
}

fn address(reader: &mut Reader, key: &'static str, schemes: &[&str]) -> Option<SecretUrl> {
    let url: Option<SecretUrl> = reader.required(key);
    let known = url.as_ref().is_none_or(|url| schemes.contains(&url.scheme()));
    reader.check(key, known, &format!("must begin with {}://", schemes.join(":// or ")));
    url
}

/// An address that clients see, without its trailing slash.
fn public(reader: &mut Reader, key: &'static str, default: &str) -> String {
    let text = reader.or(key, default.to_owned());
    let valid = Url::parse(&text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    reader.check(
        key,
        valid,
        "must be an http or https address without user, query or fragment",
    );
    text.trim_end_matches('/').to_owned()
}

/// As the database has it.
fn is_region(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=32).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn log(reader: &mut Reader) -> (String, Format) {
    let filter: String = reader.or("log.level", "info".to_owned());
    reader.check(
        "log.level",
        telemetry::check_filter(&filter).is_ok(),
        "must be a level such as info, or info,target=debug",
    );
    (filter, reader.or("log.format", Format::Json))
}
