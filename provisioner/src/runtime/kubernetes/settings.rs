//! What an installation decides once for all of its applications: the image, the cluster's own names, where shared servers
//! are, and what of monitoring and Vault there is. Data only; `config/kubernetes.rs` reads and checks it.

use std::collections::BTreeMap;

use authsome_core::secret::SecretString;
use ipnet::IpNet;

/// The AuthSome image and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `registry/name:tag`, or with a digest. An application may be pinned to another one.
    pub reference: String,
    /// `imagePullPolicy`: `IfNotPresent`, `Always` or `Never`.
    pub pull_policy: String,
    /// Name of a pull secret that exists in every application's namespace, if one is needed.
    pub pull_secret: Option<String>,
    /// What to run, if not the image's own entry point.
    pub command: Vec<String>,
    /// The port that instances listen on.
    pub port: u16,
    /// Path of the health check, below an application's base path.
    pub health_path: String,
    /// Where the configuration is mounted: an absolute path of a file.
    pub config_path: String,
    /// What prepares the database schema, if the image does not do that when it starts.
    pub migrate_command: Vec<String>,
    /// Path that offers the instance's own application id and credentials, if the image has one.
    pub bootstrap_path: Option<String>,
    /// Path of its metrics.
    pub metrics_path: String,
    /// The user id that it runs as. Never 0.
    pub user: u32,
}

/// Pods of one name in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pods {
    /// Their namespace.
    pub namespace: String,
    /// A label that all of them have.
    pub label: (String, String),
}

/// Where a server is that applications share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// At these addresses, outside of the applications' namespaces.
    Shared {
        /// Its networks.
        networks: Vec<IpNet>,
        /// Its port.
        port: u16,
    },
    /// In each application's own namespace.
    Dedicated {
        /// Its image.
        image: String,
        /// The storage class of its volume, if not the cluster's default.
        storage_class: Option<String>,
    },
}

/// Vault or OpenBao, with the Agent injector in the cluster.
#[derive(Debug, Clone)]
pub struct Vault {
    /// Its address, `https://…`.
    pub address: String,
    /// PEM of the authorities that its certificate is checked against; the system's, if there is none.
    pub ca: Option<Vec<u8>>,
    /// What the provisioner logs in with.
    pub token: SecretString,
    /// The mount of the KV version 2 engine.
    pub mount: String,
    /// The mount of the Kubernetes login method.
    pub auth_mount: String,
    /// Networks where instances reach it.
    pub networks: Vec<IpNet>,
    /// Port where instances reach it.
    pub port: u16,
}

/// Where instances read their secrets.
#[derive(Debug, Clone)]
pub enum Secrets {
    /// A Secret in their namespace.
    Kubernetes,
    /// Vault, through the Agent injector: no secret is in the cluster's own store.
    Vault(Vault),
}

/// Scraping, alerts and the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// Is there any.
    pub enabled: bool,
    /// Where the alerts and the dashboard of the fleet go.
    pub namespace: String,
    /// Labels by which the Prometheus operator selects monitors and rules.
    pub labels: BTreeMap<String, String>,
    /// The pods that scrape; without them no policy lets anybody scrape.
    pub scrapers: Option<Pods>,
    /// The address of Grafana, for links to the dashboard.
    pub grafana: Option<String>,
}

/// Everything that manifests depend on besides the application.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The image.
    pub image: Image,
    /// The domain of the cluster's services, `cluster.local` in most.
    pub cluster_domain: String,
    /// The cluster gets more nodes by itself when pods find none: a lack of room is nothing to refuse for.
    pub grows: bool,
    /// The pods of the edge; nobody else reaches instances.
    pub edge: Pods,
    /// The pods of the provisioner; they reach instances where an image has a [`Image::bootstrap_path`], and only then.
    pub provisioner: Pods,
    /// The pods that answer DNS.
    pub dns: Pods,
    /// Postgres.
    pub database: Server,
    /// PEM of what instances check the certificate of the shared Postgres against, where their image cannot know it. It is at
    /// [`DATABASE_CA_PATH`](super::manifest::DATABASE_CA_PATH) for them.
    pub database_ca: Option<String>,
    /// Redis.
    pub redis: Server,
    /// Postgres of those applications that have one of their own beside others that share.
    pub own_database: Option<Server>,
    /// Redis of those applications that have one of their own beside others that share.
    pub own_redis: Option<Server>,
    /// Networks that count as private beside the well-known ones, such as a cluster's own with public addresses.
    pub private_networks: Vec<IpNet>,
    /// Where secrets are.
    pub secrets: Secrets,
    /// Monitoring.
    pub monitoring: Monitoring,
}
