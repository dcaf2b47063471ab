//! Who may talk to whom: nobody to anybody, and exactly the flows that an application needs.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::kind::Kind;
use super::super::settings::{Pods, Secrets, Server};
use super::{COMPONENT_LABEL, Component, Manifest, Spec, selector};

/// Addresses that are not the internet: this network, private, shared by carriers, loopback, link-local with the metadata
/// services of clouds, documentation, benchmarks, multicast, reserved (IANA special-purpose registries, RFC 6890).
const NOT_INTERNET_V4: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// The same of IPv6; the second to fourth lead to IPv4 addresses of any kind.
const NOT_INTERNET_V6: [&str; 9] = [
    "::/127",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "100::/64",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// The policies of an application's namespace.
pub fn policies(spec: &Spec<'_>) -> Vec<Manifest> {
    let mut all = vec![
        deny_all(spec),
        dns(spec),
        from_edge(spec),
        to_database(spec),
        to_redis(spec),
        to_internet(spec),
    ];
    if let Some(scrapers) = spec
        .settings
        .monitoring
        .scrapers
        .as_ref()
        .filter(|_| spec.settings.monitoring.enabled)
    {
        all.push(ingress(
            spec,
            "allow-scraping",
            Component::Instance,
            &json!([peer(scrapers)]),
            spec.settings.image.port,
        ));
    }
    if spec.settings.image.bootstrap_path.is_some() {
        all.push(ingress(
            spec,
            "allow-bootstrap",
            Component::Instance,
            &json!([peer(&spec.settings.provisioner)]),
            spec.settings.image.port,
        ));
    }
    if let Secrets::Vault(vault) = &spec.settings.secrets {
        all.push(egress(
            spec,
            "allow-vault",
            &json!([{ "to": blocks(&vault.networks), "ports": [tcp(vault.port)] }]),
        ));
    }
    for (server, component, port) in [
        (spec.database(), Component::Postgres, POSTGRES_PORT),
        (spec.redis(), Component::Redis, REDIS_PORT),
    ] {
        if matches!(server, Server::Dedicated { .. }) {
            let name = format!("allow-{}-from-instance", component.as_str());
            let from = json!([{ "podSelector": { "matchExpressions": [ours()] } }]);
            all.push(ingress(spec, &name, component, &from, port));
        }
    }
    all
}

pub(super) const POSTGRES_PORT: u16 = 5432;
pub(super) const REDIS_PORT: u16 = 6379;

fn deny_all(spec: &Spec<'_>) -> Manifest {
    // The empty lists say that nobody may add to them.
    let body = json!({ "spec": {
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [],
    }});
    spec.manifest(Kind::NetworkPolicy, "default-deny", body)
}

/// Only what runs the image asks for names; dedicated servers ask nobody for anything.
fn dns(spec: &Spec<'_>) -> Manifest {
    let ports = json!([{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }]);
    egress(
        spec,
        "allow-dns",
        &json!([{ "to": [peer(&spec.settings.dns)], "ports": ports }]),
    )
}

fn from_edge(spec: &Spec<'_>) -> Manifest {
    let from = json!([peer(&spec.settings.edge)]);
    ingress(spec, "allow-edge", Component::Instance, &from, spec.settings.image.port)
}

fn to_database(spec: &Spec<'_>) -> Manifest {
    egress(
        spec,
        "allow-postgres",
        &to(spec.database(), Component::Postgres, POSTGRES_PORT),
    )
}

fn to_redis(spec: &Spec<'_>) -> Manifest {
    egress(spec, "allow-redis", &to(spec.redis(), Component::Redis, REDIS_PORT))
}

fn to(server: &Server, component: Component, port: u16) -> Value {
    match server {
        Server::Shared { networks, port } => json!([{ "to": blocks(networks), "ports": [tcp(*port)] }]),
        Server::Dedicated { .. } => {
            json!([{ "to": [{ "podSelector": { "matchLabels": selector(component) } }], "ports": [tcp(port)] }])
        }
    }
}

/// HTTPS, for OAuth, mail providers and webhooks: to addresses that are nobody's inside.
fn to_internet(spec: &Spec<'_>) -> Manifest {
    let except = |all: &str, known: &[&str], v4: bool| {
        let own = spec
            .settings
            .private_networks
            .iter()
            .filter(|network| network.addr().is_ipv4() == v4);
        let mut except: Vec<String> = known.iter().map(|&network| network.to_owned()).collect();
        except.extend(own.map(ToString::to_string));
        json!({ "ipBlock": { "cidr": all, "except": except } })
    };
    let to = json!([
        except("0.0.0.0/0", &NOT_INTERNET_V4, true),
        except("::/0", &NOT_INTERNET_V6, false)
    ]);
    egress(spec, "allow-https", &json!([{ "to": to, "ports": [tcp(443)] }]))
}

/// The pods that run the image.
fn ours() -> Value {
    json!({
        "key": COMPONENT_LABEL,
        "operator": "In",
        "values": [Component::Instance.as_str(), Component::Migration.as_str()],
    })
}

fn egress(spec: &Spec<'_>, name: &str, rules: &Value) -> Manifest {
    let body = json!({ "spec": {
        "podSelector": { "matchExpressions": [ours()] },
        "policyTypes": ["Egress"],
        "egress": rules,
    }});
    spec.manifest(Kind::NetworkPolicy, name, body)
}

fn ingress(spec: &Spec<'_>, name: &str, component: Component, from: &Value, port: u16) -> Manifest {
    let body = json!({ "spec": {
        "podSelector": { "matchLabels": selector(component) },
        "policyTypes": ["Ingress"],
        "ingress": [{ "from": from, "ports": [tcp(port)] }],
    }});
    spec.manifest(Kind::NetworkPolicy, name, body)
}

fn peer(pods: &Pods) -> Value {
    json!({
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": pods.namespace } },
        "podSelector": { "matchLabels": { pods.label.0.as_str(): pods.label.1 } },
    })
}

fn blocks(networks: &[IpNet]) -> Value {
    networks
        .iter()
        .map(|network| json!({ "ipBlock": { "cidr": network.to_string() } }))
        .collect()
}

fn tcp(port: u16) -> Value {
    json!({ "protocol": "TCP", "port": port })
}
