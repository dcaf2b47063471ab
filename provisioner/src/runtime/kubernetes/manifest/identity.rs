//! What an application may use, from its plan and its own limits.

use authsome_contract::model::Plan;

use super::super::quantity::{NotAQuantity, Quantity};
use super::Spec;
use crate::runtime::Site;

/// The intent of an application cannot be put into manifests. Fatal: somebody must correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A limit that is no amount.
    #[error("{limit}: {source}")]
    Limit {
        /// Which.
        limit: &'static str,
        /// What it is.
        source: NotAQuantity,
    },
    /// An image that cannot be pulled, whatever its registry has.
    #[error("{0:?} is not an image reference")]
    Image(String),
    /// A configuration that is no JSON object, or larger than a ConfigMap may be.
    #[error("the configuration {0}")]
    Config(&'static str),
}

/// What all pods of an application may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Instances that always run. Never under two: one may go away with its node.
    pub min_replicas: u32,
    /// Instances at most.
    pub max_replicas: u32,
    /// CPU of one instance at most.
    pub cpu: Quantity,
    /// Memory of one instance at most.
    pub memory: Quantity,
    /// Storage of its database.
    pub storage: Quantity,
}

impl Limits {
    /// The limits of an application.
    pub fn of(site: &Site) -> Result<Self, Unusable> {
        let parse = |limit, text: &str| Quantity::parse(text).map_err(|source| Unusable::Limit { limit, source });
        Ok(Self {
            min_replicas: 2,
            max_replicas: match site.plan {
                Plan::Free => 3,
                Plan::Pro => 6,
                Plan::Enterprise => 10,
            },
            cpu: parse("cpu_limit", &site.cpu)?,
            memory: parse("memory_limit", &site.memory)?,
            storage: parse("storage_limit", &site.storage)?,
        })
    }
}

impl Spec<'_> {
    /// The image of this application: pinned, or the installation's. Refuses what no registry could have.
    pub fn image(&self) -> Result<&str, Unusable> {
        let image = self.site.image.as_deref().unwrap_or(&self.settings.image.reference);
        if is_image_reference(image) {
            Ok(image)
        } else {
            Err(Unusable::Image(image.to_owned()))
        }
    }
}

/// Has this text the form `[host[:port]/]path[:tag][@sha256:…]`?
/// (<https://github.com/distribution/reference>, without the rarer digests.)
pub fn is_image_reference(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let digested = digest.is_none_or(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|value| value.len() == 64 && value.bytes().all(hex))
    });
    // A colon after the last slash begins a tag; one before it, a port.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[last..].split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let tagged = tag.is_none_or(|tag| {
        (1..=128).contains(&tag.len())
            && tag.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
            && !tag.starts_with(['.', '-'])
    });
    let mut parts = path.split('/').peekable();
    let first = parts.peek().copied().unwrap_or_default();
    let hosted = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if hosted {
        parts.next();
        let (host, port) = first.split_once(':').unwrap_or((first, "1"));
        let labelled = !host.is_empty()
            && host
                .split('.')
                .all(|label| !label.is_empty() && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'));
        if !labelled || port.parse::<u16>().is_err() {
            return false;
        }
    }
    let component = |part: &str| {
        let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().next_back())
            && part
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"_.-".contains(&c))
    };
    digested && tagged && text.len() <= 255 && parts.all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_reference_is_told_from_what_no_registry_has() {
        for good in [
            "authsome",
            "authsome/authsome:1.6.2",
            "ghcr.io/xraph/authsome:v1",
            "localhost:5000/authsome",
            "registry.example:443/a/b_c/d-e.f:tag_1.2-3",
            &format!("ghcr.io/x/y:1@sha256:{}", "a".repeat(64)),
        ] {
            assert!(is_image_reference(good), "{good}");
        }
        for bad in [
            "",
            ":tag",
            "Authsome",
            "authsome:",
            "a b",
            "a//b",
            "/a",
            "a/",
            "https://ghcr.io/x",
            "a:-x",
            "x@sha256:12",
            "host:port/a",
            "a@md5:1",
        ] {
            assert!(!is_image_reference(bad), "{bad}");
        }
    }
}
