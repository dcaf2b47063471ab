//! How clients reach the edge: public names, and the proxies between them and it.

use std::net::IpAddr;

use authsome_core::config::Reader;
use ipnet::IpNet;

use crate::filter::client_address::{ForwardedBy, TrustedProxies};

/// Names and proxies.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// `public.edge`: the scheme under which clients see the edge; without it, the one of their connection.
    pub public_scheme: Option<&'static str>,
    /// `trusted_proxies`, `forwarded_header`: who is believed about where a request comes from.
    pub proxies: TrustedProxies,
}

impl Addresses {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            public_scheme: public_scheme(reader),
            proxies: proxies(reader),
        }
    }
}

fn public_scheme(reader: &mut Reader) -> Option<&'static str> {
    let url: Option<String> = reader.optional("public.edge");
    let scheme = url.as_deref().and_then(|url| match url.split_once("://") {
        Some(("https", host)) if !host.is_empty() => Some("https"),
        Some(("http", host)) if !host.is_empty() => Some("http"),
        _ => None,
    });
    reader.check(
        "public.edge",
        url.is_none() || scheme.is_some(),
        "must be of the form https://api.example.com",
    );
    scheme
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
