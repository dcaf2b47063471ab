//! The settings of the runtime `kubernetes`: which clusters, which image, and what is where in them.
//!
//! Nothing here is asked of anybody else: a cluster that is away is no problem of the configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use authsome_core::config::Reader;
use authsome_core::secret::{SecretString, SecretUrl};
use ipnet::IpNet;

use super::is_label;
use crate::runtime::Patience;
use crate::runtime::kubernetes::manifest::is_image_reference;
use crate::runtime::kubernetes::{Image, Monitoring, Pods, Secrets, Server, Settings, Source, Vault};

/// Where each region's applications run, and how.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// The cluster of each region that this process serves.
    pub clusters: BTreeMap<String, Source>,
    /// What manifests depend on.
    pub settings: Settings,
    /// How long instances may take.
    pub patience: Patience,
}

/// The word for the cluster that the process itself runs in.
const IN_CLUSTER: &str = "in-cluster";

impl Kubernetes {
    /// Reads every setting; `None` only where a problem was kept.
    pub(super) fn read(
        reader: &mut Reader,
        region: &str,
        (database, redis): (Option<&SecretUrl>, Option<&SecretUrl>),
        (own_database, own_redis): (bool, bool),
    ) -> Option<Self> {
        let clusters = clusters(reader, region);
        let image = image(reader);
        let cluster_domain = reader.or("kubernetes.cluster_domain", "cluster.local".to_owned());
        let edge = pods(
            reader,
            "kubernetes.edge_pods",
            "authsome-system/app.kubernetes.io/name=authsome-proxy",
        );
        let provisioner = pods(
            reader,
            "kubernetes.provisioner_pods",
            "authsome-system/app.kubernetes.io/name=authsome-provisioner",
        );
        let dns = pods(reader, "kubernetes.dns_pods", "kube-system/k8s-app=kube-dns");
        let database = server(reader, "kubernetes.database_networks", database, 5432);
        let redis = server(reader, "kubernetes.redis_networks", redis, 6379);
        let own_database = own_server(reader, "kubernetes.postgres_image", own_database);
        let own_redis = own_server(reader, "kubernetes.redis_image", own_redis);
        let private_networks = networks(reader, "kubernetes.private_networks");
        let scrapers: Option<String> = reader.optional("kubernetes.scraper_pods");
        let parsed = scrapers.as_deref().and_then(parse_pods);
        reader.check(
            "kubernetes.scraper_pods",
            scrapers.is_none() || parsed.is_some(),
            PODS_FORM,
        );
        let monitoring = Monitoring {
            enabled: reader.or("kubernetes.monitoring", true),
            namespace: reader.or("kubernetes.monitoring_namespace", "monitoring".to_owned()),
            labels: reader.or("kubernetes.monitoring_labels", BTreeMap::new()),
            scrapers: parsed,
            grafana: reader.optional("kubernetes.grafana"),
        };
        let patience = Patience {
            vanishing: Patience::default().vanishing,
            rollout: reader.or("kubernetes.rollout_timeout", Duration::from_mins(10)),
            failing: reader.or("kubernetes.failure_patience", Duration::from_secs(45)),
            look: Duration::from_millis(250),
        };
        let secrets = secrets(reader);
        let bounded = patience.failing < patience.rollout;
        reader.check(
            "kubernetes.failure_patience",
            bounded,
            "must be less than kubernetes.rollout_timeout",
        );
        Some(Self {
            clusters,
            settings: Settings {
                image: image?,
                cluster_domain,
                grows: reader.or("kubernetes.cluster_grows", false),
                edge: edge?,
                provisioner: provisioner?,
                dns: dns?,
                database: database?,
                database_ca: None,
                redis: redis?,
                own_database,
                own_redis,
                private_networks: private_networks?,
                secrets: secrets?,
                monitoring,
            },
            patience,
        })
    }
}

/// `kubernetes.clusters` maps regions to kubeconfig files; without it there is one region and one cluster.
fn clusters(reader: &mut Reader, region: &str) -> BTreeMap<String, Source> {
    let named: BTreeMap<String, String> = reader.or("kubernetes.clusters", BTreeMap::new());
    let kubeconfig: Option<String> = reader.optional("kubernetes.kubeconfig");
    let labels = named.keys().all(|region| is_label(region));
    reader.check(
        "kubernetes.clusters",
        labels,
        "a region must be a label of lower-case letters, digits and inner hyphens",
    );
    let once = named.is_empty() || kubeconfig.is_none();
    reader.check(
        "kubernetes.kubeconfig",
        once,
        "has no meaning beside kubernetes.clusters",
    );
    if named.is_empty() {
        let only = kubeconfig.as_deref().unwrap_or(IN_CLUSTER);
        return BTreeMap::from([(region.to_owned(), source(only))]);
    }
    named
        .iter()
        .map(|(region, text)| (region.clone(), source(text)))
        .collect()
}

/// `in-cluster`, or a file with an optional `#context`.
fn source(text: &str) -> Source {
    if text == IN_CLUSTER {
        return Source::InCluster;
    }
    let (path, context) = match text.rsplit_once('#') {
        Some((path, context)) => (path, Some(context.to_owned())),
        None => (text, None),
    };
    Source::File {
        path: PathBuf::from(path),
        context,
    }
}

fn image(reader: &mut Reader) -> Option<Image> {
    let reference: Option<String> = reader.required("kubernetes.image");
    let readable = reference.as_deref().is_none_or(is_image_reference);
    reader.check(
        "kubernetes.image",
        readable,
        "must be an image reference such as registry.example/authsome:1.6.2",
    );
    let pull_policy = reader.or("kubernetes.image_pull_policy", "IfNotPresent".to_owned());
    let known = ["IfNotPresent", "Always", "Never"].contains(&pull_policy.as_str());
    reader.check(
        "kubernetes.image_pull_policy",
        known,
        "must be IfNotPresent, Always or Never",
    );
    let user = reader.or("kubernetes.image_user", 10001_u32);
    reader.check(
        "kubernetes.image_user",
        user > 0,
        "must not be 0: instances never run as root",
    );
    let port = reader.or("kubernetes.image_port", 8080_u16);
    reader.check("kubernetes.image_port", port >= 1024, "must be from 1024 to 65535");
    let mut path = |key, default: &str| {
        let path = reader.or(key, default.to_owned());
        let absolute = is_path(&path);
        reader.check(key, absolute, "must be a path that begins with /");
        path
    };
    let health_path = path("kubernetes.health_path", "/v1/health");
    let config_path = path("kubernetes.config_path", "/etc/authsome/config.yaml");
    let metrics_path = path("kubernetes.metrics_path", "/_/metrics");
    let bootstrap_path: Option<String> = reader.optional("kubernetes.bootstrap_path");
    let absolute = bootstrap_path.as_deref().is_none_or(is_path);
    reader.check(
        "kubernetes.bootstrap_path",
        absolute,
        "must be a path that begins with /",
    );
    Some(Image {
        reference: reference?,
        pull_policy,
        pull_secret: reader.optional("kubernetes.image_pull_secret"),
        command: reader.or("kubernetes.command", Vec::new()),
        port,
        health_path,
        config_path,
        migrate_command: reader.or("kubernetes.migrate_command", Vec::new()),
        bootstrap_path,
        metrics_path,
        user,
    })
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['?', '#', ' '])
}

const PODS_FORM: &str = "must be namespace/label=value";

/// `namespace/label=value`
fn pods(reader: &mut Reader, key: &'static str, default: &str) -> Option<Pods> {
    let text = reader.or(key, default.to_owned());
    let pods = parse_pods(&text);
    reader.check(key, pods.is_some(), PODS_FORM);
    pods
}

fn parse_pods(text: &str) -> Option<Pods> {
    let (namespace, label) = text.split_once('/')?;
    let (name, value) = label.rsplit_once('=')?;
    let filled = is_label(namespace) && !name.is_empty() && !value.is_empty();
    filled.then(|| Pods {
        namespace: namespace.to_owned(),
        label: (name.to_owned(), value.to_owned()),
    })
}

fn networks(reader: &mut Reader, key: &'static str) -> Option<Vec<IpNet>> {
    let texts: Vec<String> = reader.or(key, Vec::new());
    let parsed: Result<Vec<IpNet>, _> = texts
        .iter()
        .map(|text| text.parse().map(|net: IpNet| net.trunc()))
        .collect();
    reader.check(key, parsed.is_ok(), "must be networks such as 10.20.0.0/24");
    parsed.ok()
}

/// `kubernetes.secrets`: a Secret in the namespace, or Vault.
fn secrets(reader: &mut Reader) -> Option<Secrets> {
    let store = reader.or("kubernetes.secrets", "kubernetes".to_owned());
    let known = ["kubernetes", "vault"].contains(&store.as_str());
    reader.check("kubernetes.secrets", known, "must be kubernetes or vault");
    if store != "vault" {
        reader.ignore("vault");
        return Some(Secrets::Kubernetes);
    }
    let address: Option<SecretUrl> = reader.required("vault.address");
    let token: Option<SecretString> = reader.required("vault.token");
    let address = address.map(|address| address.expose().to_owned());
    let http = address
        .as_deref()
        .is_none_or(|address| address.starts_with("https://") || address.starts_with("http://"));
    reader.check("vault.address", http, "must begin with https:// or http://");
    let mut networks = networks(reader, "vault.networks")?;
    let parsed = address.as_deref().and_then(|address| url::Url::parse(address).ok());
    if networks.is_empty() {
        let host = parsed
            .as_ref()
            .and_then(url::Url::host_str)
            .map(|host| host.trim_matches(['[', ']']));
        networks.extend(host.and_then(|host| host.parse::<IpAddr>().ok()).map(IpNet::from));
    }
    let placed = address.is_none() || !networks.is_empty();
    reader.check(
        "vault.networks",
        placed,
        "required, since vault.address is a name and network policies know none",
    );
    let ca = reader.optional::<PathBuf>("vault.ca").and_then(|path| {
        let read = std::fs::read(&path);
        let why = read.as_ref().err().map(ToString::to_string).unwrap_or_default();
        reader.check("vault.ca", read.is_ok(), &format!("cannot be read: {why}"));
        read.ok()
    });
    let mount = reader.or("vault.mount", "secret".to_owned());
    let auth_mount = reader.or("vault.auth_mount", "kubernetes".to_owned());
    Some(Secrets::Vault(Vault {
        port: parsed
            .as_ref()
            .and_then(url::Url::port_or_known_default)
            .unwrap_or(8200),
        address: address?,
        ca,
        token: token?,
        mount,
        auth_mount,
        networks,
    }))
}

/// A shared server: its networks are configured, or its address is one. A policy knows no names.
fn server(reader: &mut Reader, key: &'static str, url: Option<&SecretUrl>, port: u16) -> Option<Server> {
    let mut networks = networks(reader, key)?;
    let parsed = url.and_then(|url| url::Url::parse(url.expose()).ok());
    if networks.is_empty() {
        let address = parsed
            .as_ref()
            .and_then(url::Url::host_str)
            .map(|host| host.trim_matches(['[', ']']));
        networks.extend(address.and_then(|host| host.parse::<IpAddr>().ok()).map(IpNet::from));
    }
    let placed = url.is_none() || !networks.is_empty();
    reader.check(
        key,
        placed,
        "required, since the server's address is a name and network policies know none",
    );
    Some(Server::Shared {
        networks,
        port: parsed.as_ref().and_then(url::Url::port).unwrap_or(port),
    })
}

/// Servers of applications' own, where an image for them is configured.
fn own_server(reader: &mut Reader, key: &'static str, required: bool) -> Option<Server> {
    let image: Option<String> = if required {
        reader.required(key)
    } else {
        reader.optional(key)
    };
    let readable = image.as_deref().is_none_or(is_image_reference);
    reader.check(key, readable, "must be an image reference such as postgres:17");
    let storage_class: Option<String> = reader.optional("kubernetes.storage_class");
    image.map(|image| Server::Dedicated { image, storage_class })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_file_a_context_or_the_own_cluster() {
        assert_eq!(source("in-cluster"), Source::InCluster);
        let file = |path: &str, context: Option<&str>| Source::File {
            path: path.into(),
            context: context.map(str::to_owned),
        };
        assert_eq!(source("/etc/eu.yaml"), file("/etc/eu.yaml", None));
        assert_eq!(source("/etc/all.yaml#eu"), file("/etc/all.yaml", Some("eu")));
    }

    #[test]
    fn pods_are_a_namespace_and_a_label() {
        let pods = parse_pods("authsome-system/app.kubernetes.io/name=authsome-proxy").unwrap();
        assert_eq!(pods.namespace, "authsome-system");
        assert_eq!(
            pods.label,
            ("app.kubernetes.io/name".to_owned(), "authsome-proxy".to_owned())
        );
        for bad in ["", "ns", "ns/label", "ns/=x", "ns/label=", "N/label=x"] {
            assert!(parse_pods(bad).is_none(), "{bad}");
        }
    }
}
