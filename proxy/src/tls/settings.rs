//! The settings of the TLS listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use authsome_core::config::Reader;

/// What a client is shown that asks for a name which no certificate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownNames {
    /// The default certificate; the client will most likely refuse it, and say why.
    Default,
    /// Nothing: the handshake is refused. Clients that ask for no name still get the default certificate.
    Refuse,
}

/// Where to listen with TLS, and with what.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// `listen.tls`.
    pub address: SocketAddr,
    /// `tls.certificate` and `tls.key`: PEM files, the chain with the server's certificate first. The default certificate.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// `tls.directory`: more of them.
    pub directory: Option<PathBuf>,
    /// `tls.unknown_names`.
    pub unknown_names: UnknownNames,
    /// `tls.handshake_timeout`.
    pub handshake_timeout: Duration,
    /// `tls.reload_interval`: between two looks at the files.
    pub reload_interval: Duration,
}

impl TlsSettings {
    /// Reads `listen.tls` and the section; `None` without the former.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let address = reader.optional("listen.tls");
        let certificate: Option<PathBuf> = reader.optional("tls.certificate");
        let key: Option<PathBuf> = reader.optional("tls.key");
        let directory = reader.optional("tls.directory");
        let unknown_names = reader.or("tls.unknown_names", "default".to_owned());
        let handshake_timeout = reader.or("tls.handshake_timeout", Duration::from_secs(10));
        let reload_interval = reader.or("tls.reload_interval", Duration::from_secs(5));
        reader.check(
            "tls.key",
            certificate.is_some() == key.is_some(),
            "tls.certificate and tls.key go together",
        );
        reader.check(
            "listen.tls",
            address.is_none() || certificate.is_some() || directory.is_some(),
            "needs tls.certificate and tls.key, or tls.directory",
        );
        let unknown_names = match unknown_names.as_str() {
            "default" => Some(UnknownNames::Default),
            "refuse" => Some(UnknownNames::Refuse),
            _ => None,
        };
        reader.check(
            "tls.unknown_names",
            unknown_names.is_some(),
            "must be default or refuse",
        );
        reader.check(
            "tls.handshake_timeout",
            !handshake_timeout.is_zero(),
            "must be greater than 0",
        );
        reader.check(
            "tls.reload_interval",
            reload_interval >= Duration::from_millis(100),
            "must be at least 100ms",
        );
        Some(Self {
            address: address?,
            pair: certificate.zip(key),
            directory,
            unknown_names: unknown_names?,
            handshake_timeout,
            reload_interval,
        })
    }
}
