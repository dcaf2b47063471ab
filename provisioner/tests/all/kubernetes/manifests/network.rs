//! Who may talk to whom.

use authsome_provisioner::runtime::kubernetes::{Kind, Manifest};
use serde_json::{Value, json};

use super::{all, named};
use crate::kubernetes::samples::{elaborate, new_id, settings, workload};

/// All that a policy allows, as text: direction, pods, peers and ports.
fn flows(all: &[Manifest]) -> Vec<String> {
    let mut found = Vec::new();
    for policy in all.iter().filter(|one| one.kind == Kind::NetworkPolicy) {
        let spec = &policy.body["spec"];
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec[direction].as_array().into_iter().flatten() {
                let ports: Vec<String> = rule["ports"]
                    .as_array()
                    // Without them it would allow all ports.
                    .unwrap()
                    .iter()
                    .map(|port| format!("{}/{}", port["protocol"].as_str().unwrap(), port["port"]))
                    .collect();
                // Without them it would allow everybody.
                for peer in rule[peers].as_array().unwrap() {
                    assert_ne!(peer, &json!({}));
                    if let Some(selector) = peer.get("namespaceSelector") {
                        assert_ne!(selector, &json!({}), "every namespace of the cluster");
                        assert!(peer.get("podSelector").is_some(), "every pod of a namespace");
                    }
                    found.push(format!("{direction} {} {}", policy.name, ports.join("+")));
                }
            }
        }
    }
    found
}

#[test]
fn only_the_flows_that_are_needed_are_open() {
    let application = workload(new_id(), 1);
    let shared = all(&settings(), &application);
    assert_eq!(
        flows(&shared),
        [
            "egress allow-dns UDP/53+TCP/53",
            "ingress allow-edge TCP/8080",
            "egress allow-postgres TCP/5432",
            "egress allow-redis TCP/6379",
            "egress allow-https TCP/443",
            "egress allow-https TCP/443",
        ]
    );
    let deny = named(&shared, Kind::NetworkPolicy, "default-deny");
    assert_eq!(
        deny["spec"],
        json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": [] })
    );
    let edge = &named(&shared, Kind::NetworkPolicy, "allow-edge")["spec"]["ingress"][0]["from"];
    assert_eq!(
        edge,
        &json!([{
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "authsome-system" } },
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": "authsome-proxy" } },
        }])
    );
    let database = &named(&shared, Kind::NetworkPolicy, "allow-postgres")["spec"]["egress"][0]["to"];
    assert_eq!(database, &json!([{ "ipBlock": { "cidr": "10.20.0.0/24" } }]));

    let dedicated = all(&elaborate(), &application);
    let flows = flows(&dedicated);
    for flow in [
        "ingress allow-scraping TCP/8080",
        "ingress allow-bootstrap TCP/8080",
        "egress allow-vault TCP/8200",
        "ingress allow-postgres-from-instance TCP/5432",
        "ingress allow-redis-from-instance TCP/6379",
    ] {
        assert!(flows.iter().any(|one| one == flow), "{flow} is not among {flows:?}");
    }
    assert_eq!(flows.len(), 11);
    for (name, component) in [
        ("allow-postgres-from-instance", "postgres"),
        ("allow-redis-from-instance", "redis"),
    ] {
        let spec = &named(&dedicated, Kind::NetworkPolicy, name)["spec"];
        assert_eq!(
            spec["podSelector"]["matchLabels"]["authsome.cloud/component"],
            component
        );
        let peer = &spec["ingress"][0]["from"][0];
        assert!(
            peer.get("namespaceSelector").is_none(),
            "only pods of the same namespace"
        );
        assert_eq!(
            peer["podSelector"]["matchExpressions"][0]["values"],
            json!(["instance", "migration"])
        );
    }
}

#[test]
fn the_internet_is_everything_but_what_is_inside() {
    use ipnet::IpNet;
    let application = workload(new_id(), 1);
    let all = all(&elaborate(), &application);
    let to = &named(&all, Kind::NetworkPolicy, "allow-https")["spec"]["egress"][0]["to"];
    let open = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        to.as_array().unwrap().iter().any(|peer| {
            let block = &peer["ipBlock"];
            let inside = |cidr: &Value| cidr.as_str().unwrap().parse::<IpNet>().unwrap().contains(&address);
            inside(&block["cidr"]) && !block["except"].as_array().unwrap().iter().any(inside)
        })
    };
    for outside in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
        assert!(open(outside), "{outside}");
    }
    for inside in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "203.0.112.9",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "fc00::1",
        "ff02::1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:db9::1",
    ] {
        assert!(!open(inside), "{inside}");
    }
    for peer in to.as_array().unwrap() {
        let whole: IpNet = peer["ipBlock"]["cidr"].as_str().unwrap().parse().unwrap();
        for except in peer["ipBlock"]["except"].as_array().unwrap() {
            let except: IpNet = except.as_str().unwrap().parse().unwrap();
            assert!(whole.contains(&except) && except.trunc() == except, "{except}");
        }
    }
}
