//! What a key may be: its fields as they are kept, or which of them is wrong. Pure.

use std::net::IpAddr;

use authsome_contract::model::Scopes;
use authsome_core::key::KeyType;
use ipnet::IpNet;
use time::OffsetDateTime;
use url::Url;

use super::super::name;
use super::NewKey;
use crate::error::{Fields, Outcome};

/// The most networks, and the most origins, of one key: the edge looks at each of them.
const LIST_MAX: usize = 100;

/// The checked fields.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) scopes: Vec<String>,
    pub(super) networks: Vec<String>,
    pub(super) origins: Vec<String>,
}

/// The fields as they are kept, or every one that is wrong.
pub(super) fn validate(new: &NewKey<'_>, now: OffsetDateTime) -> Outcome<Input> {
    let mut fields = Fields::new();
    let name = fields.take("name", name::name(new.name));
    let scopes = match (new.key_type, new.scopes) {
        (_, None) => vec!["*".to_owned()],
        (KeyType::Public, Some(_)) => {
            fields.refuse(
                "scopes",
                "belong to secret keys; a public key may do what the path class allows",
            );
            Vec::new()
        }
        (KeyType::Secret, Some([])) => {
            fields.refuse("scopes", "must name at least one scope, or be left out for all of them");
            Vec::new()
        }
        (KeyType::Secret, Some(names)) => match Scopes::from_names(names) {
            Ok(scopes) => scopes.names().map(str::to_owned).collect(),
            Err(unknown) => {
                fields.refuse("scopes", format!("has {:?}, which is no scope", unknown.name));
                Vec::new()
            }
        },
    };
    let future = new.expires_at.is_none_or(|end| end > now);
    fields.require(future, "expiresAt", "must lie in the future");
    fields.require(new.networks.len() <= LIST_MAX, "networks", "must be at most 100");
    fields.require(new.origins.len() <= LIST_MAX, "origins", "must be at most 100");
    fields.require(
        new.key_type == KeyType::Public || new.origins.is_empty(),
        "origins",
        "belong to public keys; a secret key never goes into a browser",
    );
    let networks = each(&mut fields, "networks", new.networks, network);
    let origins = each(&mut fields, "origins", new.origins, origin);
    fields.finish()?;
    Ok(Input {
        name: name.unwrap_or_default(),
        scopes,
        networks,
        origins,
    })
}

fn each(
    fields: &mut Fields,
    field: &str,
    texts: &[String],
    read: fn(&str) -> Result<String, &'static str>,
) -> Vec<String> {
    let mut kept = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        if let Some(value) = fields.take(&format!("{field}[{position}]"), read(text))
            && !kept.contains(&value)
        {
            kept.push(value);
        }
    }
    kept
}

/// A CIDR block without host bits; a single address is a block of one.
fn network(text: &str) -> Result<String, &'static str> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "must be an address or a CIDR block such as 203.0.113.0/24")?;
    Ok(network.trunc().to_string())
}

/// An origin exactly as browsers send it: scheme, host, port unless it is the default one.
pub(in crate::command) fn origin(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "must be an origin such as https://app.example.com, without path";
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if bare && text.len() <= 253 + 16 {
        Ok(url.origin().ascii_serialization())
    } else {
        Err(EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_kept_as_browsers_send_them() {
        assert_eq!(
            origin("https://App.Example.com:443/").as_deref(),
            Ok("https://app.example.com")
        );
        assert_eq!(origin("http://localhost:3000").as_deref(), Ok("http://localhost:3000"));
        for bad in [
            "",
            "*",
            "null",
            "example.com",
            "https://",
            "ftp://a",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://*.a/x",
        ] {
            assert!(origin(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks_lose_their_host_bits() {
        assert_eq!(network("203.0.113.7/24").as_deref(), Ok("203.0.113.0/24"));
        assert_eq!(network("203.0.113.7").as_deref(), Ok("203.0.113.7/32"));
        assert_eq!(network("2001:db8::1").as_deref(), Ok("2001:db8::1/128"));
        for bad in ["", "203.0.113.0/33", "300.1.1.1", "example.com", "203.0.113.0/24\0"] {
            assert!(network(bad).is_err(), "{bad:?}");
        }
    }
}
