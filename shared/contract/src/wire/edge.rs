//! What an edge says of itself: who it is and how far its table has come. Core NATS, several times a second; a report that is
//! lost is made up for by the next one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One report of one edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReport {
    /// Random for each start of the process: an edge that restarts is another edge.
    pub id: Uuid,
    /// Its configured name, for people.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// Version of its program.
    pub version: String,
    /// Restore epoch of [`Self::position`].
    pub epoch: u64,
    /// Incarnation of the `EDGE` stream that it follows (see [`Heartbeat`](super::Heartbeat)); 0 before the first heartbeat.
    pub incarnation: i64,
    /// Outbox position up to which every change is in its table; 0 before the first heartbeat.
    pub position: u64,
    /// How much it holds.
    pub table: TableSize,
    /// How its feed does.
    pub feed: FeedState,
    /// Age of the heartbeat that last proved its table complete, by the database's clock, in milliseconds. `None`: there was
    /// none yet.
    #[serde(default)]
    pub heartbeat_age_ms: Option<u64>,
    /// It is stopping and will not report again.
    #[serde(default)]
    pub goodbye: bool,
}

/// How much a routing table in memory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSize {
    /// Keys.
    pub keys: u64,
    /// Applications.
    pub apps: u64,
    /// The weight of these and of hosts, bytes.
    pub bytes: u64,
}

/// How the feed of an edge does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedState {
    /// Complete and up to date.
    Live,
    /// Attached, and not known to be complete.
    Following,
    /// Not attached. What another release may call something else counts as this.
    #[serde(other)]
    Away,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_the_wire_and_a_neighbouring_release() {
        let report = EdgeReport {
            id: Uuid::from_u128(7),
            name: "edge-1".to_owned(),
            region: "eu".to_owned(),
            version: "0.1.0".to_owned(),
            epoch: 1,
            incarnation: 2,
            position: 3,
            table: TableSize {
                keys: 4,
                apps: 5,
                bytes: 6,
            },
            feed: FeedState::Live,
            heartbeat_age_ms: Some(250),
            goodbye: false,
        };
        let mut json = serde_json::to_value(&report).unwrap();
        assert_eq!(serde_json::from_value::<EdgeReport>(json.clone()).unwrap(), report);
        let fields = json.as_object_mut().unwrap();
        fields.remove("heartbeatAgeMs");
        fields.remove("goodbye");
        fields.insert("feed".to_owned(), "a state of a later release".into());
        fields.insert("later".to_owned(), 1.into());
        let read: EdgeReport = serde_json::from_value(json).unwrap();
        assert_eq!(
            (read.feed, read.heartbeat_age_ms, read.goodbye),
            (FeedState::Away, None, false)
        );
    }
}
