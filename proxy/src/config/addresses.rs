//! How clients reach the edge: public names, and the proxies between them and it.

use std::net::IpAddr;

use authsome_core::config::Reader;
use ipnet::IpNet;

use crate::filter::client_address::{ForwardedBy, TrustedProxies};
use crate::filter::own_host::Hosts;

/// Names and proxies.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// `public.edge`: the scheme under which clients see the edge; without it, the one of their connection.
    pub public_scheme: Option<&'static str>,
    /// The host of `public.edge`, and `public.apps_domain`.
    pub hosts: Hosts,
    /// `trusted_proxies`, `forwarded_header`: who is believed about where a request comes from.
    pub proxies: TrustedProxies,
}

impl Addresses {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let (public_scheme, shared) =
            public_edge(reader).map_or((None, None), |(scheme, host)| (Some(scheme), Some(host)));
        let apps_domain: Option<String> = reader.optional("public.apps_domain");
        reader.check(
            "public.apps_domain",
            apps_domain.as_deref().is_none_or(is_domain),
            "must be a domain such as apps.example.com",
        );
        Self {
            public_scheme,
            hosts: Hosts::new(shared.as_deref(), apps_domain.as_deref()),
            proxies: proxies(reader),
        }
    }
}

/// Scheme and host, without the port.
fn public_edge(reader: &mut Reader) -> Option<(&'static str, String)> {
    let url: Option<String> = reader.optional("public.edge");
    let read = url.as_deref().and_then(|url| {
        let url: http::Uri = url.parse().ok()?;
        let scheme = match url.scheme_str()? {
            "https" => "https",
            "http" => "http",
            _ => return None,
        };
        Some((scheme, url.host().filter(|host| !host.is_empty())?.to_owned()))
    });
    reader.check(
        "public.edge",
        url.is_none() || read.is_some(),
        "must be of the form https://api.example.com",
    );
    read
}

/// At least two labels of letters, digits and hyphens.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Room for the label of an application before it.
    text.len() <= 253 - 27 && text.contains('.') && text.split('.').all(label)
}

fn proxies(reader: &mut Reader) -> TrustedProxies {
    let texts: Vec<String> = reader.or("trusted_proxies", Vec::new());
    let networks: Option<Vec<IpNet>> = texts.iter().map(|text| network(text)).collect();
    reader.check(
        "trusted_proxies",
        networks.is_some(),
        "must be a list of networks such as 10.0.0.0/8 or addresses",
    );
    let header = reader.or("forwarded_header", "x-forwarded-for".to_owned());
    let by = match header.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Some(ForwardedBy::XForwardedFor),
        "forwarded" => Some(ForwardedBy::Forwarded),
        _ => None,
    };
    reader.check("forwarded_header", by.is_some(), "must be x-forwarded-for or forwarded");
    TrustedProxies::new(networks.unwrap_or_default(), by.unwrap_or_default())
}

fn network(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
