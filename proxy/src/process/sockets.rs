//! The listening sockets: inherited from a predecessor, or made; and their copies for a successor.

use std::net::TcpListener;

use super::EdgeError;
use crate::config::Config;
use crate::listener::{BindError, bind};
use crate::upgrade::{Inherited, Listener};

/// What is listened on.
pub(super) struct Sockets {
    pub(super) traffic: TcpListener,
    pub(super) tls: Option<TcpListener>,
    pub(super) admin: TcpListener,
}

impl Sockets {
    const TRAFFIC: &str = "listen.address";
    const TLS: &str = "listen.tls";
    const ADMIN: &str = "listen.admin";

    /// Those that are inherited, and new ones for addresses that no predecessor had.
    pub(super) async fn open(config: &Config, mut inherited: Inherited) -> Result<Self, BindError> {
        let mut open = async |address, key| match inherited.take(key, address) {
            Some(socket) => Ok(socket),
            None => bind(address, key).await,
        };
        Ok(Self {
            traffic: open(config.listen, Self::TRAFFIC).await?,
            tls: match &config.tls {
                Some(tls) => Some(open(tls.address, Self::TLS).await?),
                None => None,
            },
            admin: open(config.admin, Self::ADMIN).await?,
        })
    }

    /// The same sockets once more, for a successor.
    pub(super) fn copies(&self) -> Result<Vec<Listener>, EdgeError> {
        [
            (Self::TRAFFIC, Some(&self.traffic)),
            (Self::TLS, self.tls.as_ref()),
            (Self::ADMIN, Some(&self.admin)),
        ]
        .into_iter()
        .filter_map(|(key, socket)| {
            let copy = socket?.try_clone().map_err(EdgeError::Copy);
            Some(copy.map(|socket| Listener { key, socket }))
        })
        .collect()
    }
}
