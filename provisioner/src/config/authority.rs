//! What instances in a cluster check the certificate of the tenants' Postgres against. The file that `sslrootcert` names is on the
//! provisioner's disk and on no pod's: what it holds goes along, and the address that instances are given names its place there.

use std::path::Path;

use authsome_core::config::Reader;
use authsome_core::secret::SecretUrl;
use url::Url;

use crate::runtime::kubernetes::manifest::DATABASE_CA_PATH;

const PARAMETER: &str = "sslrootcert";
/// What Postgres' own library takes for the system's authorities, which are the image's to have.
const SYSTEM: &str = "system";

/// The address for instances and the certificates that go along, if `url` names a file of them. `None` where it names none, or
/// a problem was kept.
pub(super) fn carried(reader: &mut Reader, key: &'static str, url: &SecretUrl) -> Option<(SecretUrl, String)> {
    let mut address = Url::parse(url.expose()).ok()?;
    let path = address
        .query_pairs()
        .find(|(name, value)| name == PARAMETER && value != SYSTEM)
        .map(|(_, value)| value.into_owned())?;
    let read = std::fs::read_to_string(Path::new(&path));
    let why = match &read {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => None,
        Ok(_) => Some("holds no certificate".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    };
    reader.check(
        key,
        why.is_none(),
        &format!("the file of {PARAMETER} {}", why.as_deref().unwrap_or_default()),
    );
    let others: Vec<(String, String)> = address
        .query_pairs()
        .filter(|(name, _)| name != PARAMETER)
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    address
        .query_pairs_mut()
        .clear()
        .extend_pairs(others)
        .append_pair(PARAMETER, DATABASE_CA_PATH);
    Some((SecretUrl::parse(address.as_str()).ok()?, read.ok()?))
}
