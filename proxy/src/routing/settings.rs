//! What may be said of the routing table: how much memory it has, how long it waits, how old it may be.

use std::path::Path;
use std::time::Duration;

use authsome_core::config::{ByteSize, Reader};

use super::SnapshotSettings;

/// Bounds of the table and of its sources.
#[derive(Debug, Clone)]
pub struct RoutingSettings {
    /// `routing.keys_bytes`: memory for keys, bytes.
    pub keys_bytes: u64,
    /// `routing.apps_bytes`: memory for applications, bytes.
    pub apps_bytes: u64,
    /// `routing.hosts_bytes`: memory for hosts, bytes.
    pub hosts_bytes: u64,
    /// `routing.negative_entries`: names remembered as not existing, of each kind.
    pub negative_entries: u64,
    /// For how long.
    pub negative_ttl: Duration,
    /// Names whose newest version is remembered though they are not held, of each kind.
    pub floors: u64,
    /// For how long.
    pub floor_ttl: Duration,
    /// `routing.fill_deadline`: how long a miss may take.
    pub fill_deadline: Duration,
    /// How long a request waits for an entry to be read again before it uses the old one.
    pub stale_patience: Duration,
    /// For how long old entries are used without asking after nothing answered.
    pub hold: Duration,
    /// Misses under way at once.
    pub fills: usize,
    /// `routing.postgres_permits`: queries to Postgres at once.
    pub postgres_permits: u32,
    /// How old the relay's mark in Redis may be.
    pub redis_trust: Duration,
    /// While the feed is silent: how long an entry is good since it was last confirmed.
    pub stale_bound: Duration,
    /// `routing.max_staleness`: how old an entry may be when nothing answers.
    pub max_staleness: Duration,
    /// Hold the whole table from the start, within its bounds, instead of only what was asked for.
    pub whole: bool,
    /// While the feed is silent: between two questions to Postgres for what has changed.
    pub poll_every: Duration,
    /// `routing.compare_every`: a comparison of the whole table with Postgres is spread over this time.
    pub compare_every: Duration,
    /// `snapshot.directory`: where the table is kept for a start with nothing else; `None` keeps none.
    pub snapshot: Option<SnapshotSettings>,
}

impl Default for RoutingSettings {
    fn default() -> Self {
        Self {
            keys_bytes: 512 << 20,
            apps_bytes: 128 << 20,
            hosts_bytes: 32 << 20,
            negative_entries: 100_000,
            negative_ttl: Duration::from_secs(3),
            floors: 100_000,
            floor_ttl: Duration::from_mins(5),
            fill_deadline: Duration::from_millis(1500),
            stale_patience: Duration::from_millis(100),
            hold: Duration::from_secs(1),
            fills: 4096,
            postgres_permits: 8,
            redis_trust: Duration::from_secs(5),
            stale_bound: Duration::from_secs(10),
            max_staleness: Duration::from_hours(24),
            whole: true,
            poll_every: Duration::from_secs(1),
            compare_every: Duration::from_mins(10),
            snapshot: None,
        }
    }
}

const MIB: u64 = 1 << 20;

impl RoutingSettings {
    /// Reads them; what is wrong is kept by the reader. The snapshot lies below `data` unless its place is named.
    pub fn read(reader: &mut Reader, data: &Path) -> Self {
        let default = Self::default();
        let settings = Self {
            keys_bytes: memory(reader, "routing.keys_bytes", default.keys_bytes),
            apps_bytes: memory(reader, "routing.apps_bytes", default.apps_bytes),
            hosts_bytes: memory(reader, "routing.hosts_bytes", default.hosts_bytes),
            negative_entries: reader.or("routing.negative_entries", default.negative_entries),
            fill_deadline: reader.or("routing.fill_deadline", default.fill_deadline),
            postgres_permits: reader.or("routing.postgres_permits", default.postgres_permits),
            max_staleness: reader.or("routing.max_staleness", default.max_staleness),
            compare_every: reader.or("routing.compare_every", default.compare_every),
            snapshot: Some(SnapshotSettings::in_directory(
                reader.or("snapshot.directory", data.join("snapshots")),
            )),
            ..default
        };
        reader.check(
            "routing.negative_entries",
            (1..=100_000_000).contains(&settings.negative_entries),
            "must be 1 to 100000000",
        );
        // Below it a healthy Postgres is given up; above it clients have given up.
        let deadline = Duration::from_millis(100)..=Duration::from_secs(30);
        reader.check(
            "routing.fill_deadline",
            deadline.contains(&settings.fill_deadline),
            "must be 100ms to 30s",
        );
        reader.check(
            "routing.postgres_permits",
            (1..=1_000).contains(&settings.postgres_permits),
            "must be 1 to 1000",
        );
        reader.check(
            "routing.max_staleness",
            settings.max_staleness >= settings.stale_bound,
            "must be at least 10s",
        );
        reader.check(
            "routing.compare_every",
            settings.compare_every >= Duration::from_secs(10),
            "must be at least 10s",
        );
        settings
    }
}

fn memory(reader: &mut Reader, key: &'static str, default: u64) -> u64 {
    let bytes: ByteSize = reader.or(key, ByteSize::bytes(default));
    reader.check(key, bytes.as_u64() >= MIB, "must be at least 1MiB");
    bytes.as_u64()
}

#[cfg(test)]
mod tests {
    use authsome_core::config::Environment;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<RoutingSettings, String> {
        let environment: Environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Reader::new(None, environment)
            .finish(|reader| Some(RoutingSettings::read(reader, "/data".as_ref())))
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn each_has_a_default_and_bounds() {
        let default = read(&[]).unwrap();
        assert_eq!(default.max_staleness, Duration::from_hours(24));
        assert_eq!(default.keys_bytes, 512 * MIB);
        let set = read(&[
            ("AUTHSOME_ROUTING_KEYS_BYTES", "2GiB"),
            ("AUTHSOME_ROUTING_MAX_STALENESS", "1h"),
        ])
        .unwrap();
        assert_eq!(set.keys_bytes, 2048 * MIB);
        assert_eq!(set.max_staleness, Duration::from_hours(1));
        let wrong = [
            ("AUTHSOME_ROUTING_KEYS_BYTES", "routing.keys_bytes", "1KiB"),
            ("AUTHSOME_ROUTING_APPS_BYTES", "routing.apps_bytes", "0B"),
            ("AUTHSOME_ROUTING_HOSTS_BYTES", "routing.hosts_bytes", "5B"),
            ("AUTHSOME_ROUTING_NEGATIVE_ENTRIES", "routing.negative_entries", "0"),
            ("AUTHSOME_ROUTING_FILL_DEADLINE", "routing.fill_deadline", "1ms"),
            ("AUTHSOME_ROUTING_POSTGRES_PERMITS", "routing.postgres_permits", "0"),
            ("AUTHSOME_ROUTING_MAX_STALENESS", "routing.max_staleness", "1s"),
            ("AUTHSOME_ROUTING_COMPARE_EVERY", "routing.compare_every", "1s"),
        ];
        let problems = read(&wrong.map(|(name, _, value)| (name, value))).unwrap_err();
        for (_, key, _) in wrong {
            assert!(problems.contains(key), "{key} is not in {problems}");
        }
    }
}
