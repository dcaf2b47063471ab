//! Which ports the platform listens on: the usual ones where they are free, the last start's otherwise, else any.

use authsome_testkit::port;
use serde::{Deserialize, Serialize};

use crate::error::LocalError;

/// A port each. All on 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Ports {
    /// The control API and the dashboard.
    pub(crate) api: u16,
    /// Customers' traffic.
    pub(crate) edge: u16,
    /// Admin port of control.
    pub(crate) control_admin: u16,
    /// Admin port of the edge.
    pub(crate) edge_admin: u16,
    /// Admin port of the provisioner.
    pub(crate) provisioner_admin: u16,
    /// Postgres.
    pub(crate) postgres: u16,
    /// Redis.
    pub(crate) redis: u16,
    /// NATS.
    pub(crate) nats: u16,
}

impl Ports {
    /// The ports of this start, and a notice for each usual one that is taken. The servers keep the last start's ports
    /// where they can; nobody types those.
    ///
    /// # Errors
    /// When there are no free ports.
    pub(crate) fn choose(last: Option<&Self>, any: bool) -> Result<(Self, Vec<String>), LocalError> {
        let mut notices = Vec::new();
        let mut pick = |name: &str, usual: Option<u16>, last: Option<u16>| -> Result<u16, LocalError> {
            let usual = usual.filter(|_| !any);
            let known = [usual, last].into_iter().flatten().find(|port| port::is_free(*port));
            let port = known.map_or_else(port::free, Ok)?;
            if let Some(usual) = usual.filter(|usual| *usual != port) {
                notices.push(format!("Port {usual} is taken: {name} listens on {port} instead."));
            }
            Ok(port)
        };
        let ports = Self {
            api: pick("the API", Some(8080), last.map(|ports| ports.api))?,
            edge: pick("the edge", Some(8081), last.map(|ports| ports.edge))?,
            control_admin: pick(
                "the admin port of control",
                Some(9080),
                last.map(|ports| ports.control_admin),
            )?,
            edge_admin: pick(
                "the admin port of the edge",
                Some(9081),
                last.map(|ports| ports.edge_admin),
            )?,
            provisioner_admin: pick(
                "the admin port of the provisioner",
                Some(9082),
                last.map(|ports| ports.provisioner_admin),
            )?,
            postgres: pick("Postgres", None, last.map(|ports| ports.postgres))?,
            redis: pick("Redis", None, last.map(|ports| ports.redis))?,
            nats: pick("NATS", None, last.map(|ports| ports.nats))?,
        };
        Ok((ports, notices))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_start_keeps_the_last_ports_except_those_that_are_taken_now() {
        let last = Ports::choose(None, true).unwrap().0;
        let (same, notices) = Ports::choose(Some(&last), true).unwrap();
        assert_eq!((same, notices.len()), (last.clone(), 0));
        let _taken = TcpListener::bind(("127.0.0.1", last.redis)).unwrap();
        let (other, _) = Ports::choose(Some(&last), true).unwrap();
        assert_ne!(other.redis, last.redis);
        assert_eq!(
            Ports {
                redis: last.redis,
                ..other
            },
            last
        );
    }

    #[test]
    fn a_usual_port_that_is_taken_is_said() {
        // Whether or not something else listens there already, from now on something does.
        let _taken = TcpListener::bind(("127.0.0.1", 9082));
        let (ports, notices) = Ports::choose(None, false).unwrap();
        assert_ne!(ports.provisioner_admin, 9082);
        assert!(
            notices.iter().any(|notice| notice.starts_with("Port 9082 is taken")),
            "{notices:?}"
        );
    }
}
