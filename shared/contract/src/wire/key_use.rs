//! Which keys were used lately, on their way from an edge to Postgres. Losing a message costs accuracy and nothing else;
//! one that comes twice or late changes nothing, since the later minute wins.

use authsome_core::id::KeyId;
use serde::{Deserialize, Serialize};

/// Keys that an edge admitted. Answered with an empty message once they are in Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyUses {
    /// At most [`KeyUses::MAX`].
    pub uses: Vec<KeyUse>,
}

impl KeyUses {
    /// Keys in one message: about 130 KB of JSON, well under NATS's 1 MiB.
    pub const MAX: usize = 2_000;
}

/// The last minute in which a key was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyUse {
    /// The key.
    pub id: KeyId,
    /// Minutes since the Unix epoch, UTC.
    pub minute: u32,
}
