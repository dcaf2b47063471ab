//! Where certificates are found.
//!
//! In a directory: `NAME.crt` or `NAME.pem` beside `NAME.key`, and `NAME/tls.crt` beside `NAME/tls.key`, as Kubernetes mounts
//! secrets of type `kubernetes.io/tls`. Names that begin with a dot are left alone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::settings::TlsSettings;

/// A certificate's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pair {
    /// In metrics and log.
    pub(super) name: String,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FilePrint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

/// Of both files; `None` for one that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Print([Option<FilePrint>; 2]);

impl Pair {
    pub(super) fn print(&self) -> Print {
        let print = |path: &Path| {
            let of = |data: Metadata| FilePrint {
                device: data.dev(),
                inode: data.ino(),
                length: data.len(),
                modified: (data.mtime(), data.mtime_nsec()),
            };
            std::fs::metadata(path).ok().map(of)
        };
        Print([print(&self.certificate), print(&self.key)])
    }
}

/// The pairs that are there now: the configured one first, then `default` in the directory, then the others by name.
///
/// # Errors
/// If the directory cannot be read; what was found before stays then.
pub(super) fn pairs(settings: &TlsSettings) -> std::io::Result<Vec<Pair>> {
    let mut found = Vec::new();
    if let Some(directory) = &settings.directory {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                continue;
            };
            if !name.starts_with('.') {
                found.extend(pair(&path, name));
            }
        }
    }
    found.sort_by_key(|pair| (pair.name != "default", pair.name.clone()));
    found.dedup_by(|second, first| second.name == first.name);
    if let Some((certificate, key)) = settings.pair.clone() {
        found.insert(
            0,
            Pair {
                name: "tls.certificate".to_owned(),
                certificate,
                key,
            },
        );
    }
    Ok(found)
}

fn pair(path: &Path, name: String) -> Option<Pair> {
    if path.is_dir() {
        let (certificate, key) = (path.join("tls.crt"), path.join("tls.key"));
        return certificate.exists().then_some(Pair { name, certificate, key });
    }
    let extension = path.extension()?;
    (extension == "crt" || extension == "pem").then(|| Pair {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        certificate: path.to_owned(),
        key: path.with_extension("key"),
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::settings::UnknownNames;
    use super::*;

    #[test]
    fn both_layouts_are_found_and_the_default_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("b-secret")).unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        std::fs::create_dir(at("..data")).unwrap();
        for name in [
            "z.crt",
            "z.key",
            "default.pem",
            "default.key",
            "readme",
            ".hidden.crt",
            "b-secret/tls.crt",
            "..data/tls.crt",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        let settings = TlsSettings {
            address: SocketAddr::from(([0; 4], 0)),
            pair: Some((at("c"), at("k"))),
            directory: Some(directory.path().to_owned()),
            unknown_names: UnknownNames::Default,
            handshake_timeout: Duration::ZERO,
            reload_interval: Duration::ZERO,
        };
        let names: Vec<String> = pairs(&settings).unwrap().into_iter().map(|pair| pair.name).collect();
        assert_eq!(names, ["tls.certificate", "default", "b-secret", "z"]);
    }
}
