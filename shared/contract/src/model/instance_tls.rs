//! TLS from the edge to an instance.

use serde::{Deserialize, Serialize};

/// The instance speaks TLS. The authorities that are trusted and the certificate that the edge shows are settings of the
/// edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTls {
    /// The name that the instance's certificate must have; sent as SNI.
    pub server_name: String,
}
