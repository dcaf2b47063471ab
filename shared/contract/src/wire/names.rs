//! Every stream, subject and Redis key of the platform. Nothing else in the workspace spells one out.

use authsome_core::{
    id::{ApplicationId, KeyId},
    key::Digest,
};

/// JetStream: the routing table as a compacted stream (one message a subject).
pub const EDGE_STREAM: &str = "EDGE";
/// All subjects of [`EDGE_STREAM`].
pub const EDGE_SUBJECTS: &str = "edge.>";
/// The marker that a stream incarnation holds the whole table.
pub const EDGE_COMPLETE: &str = "edge.complete";
/// Core NATS: the relay's heartbeat, once a second. Not part of any stream.
pub const RELAY_HEARTBEAT: &str = "relay.heartbeat";
/// Header of a message of [`EDGE_STREAM`]: with this message the stream holds every change up to this outbox position.
pub const COVERS_HEADER: &str = "Authsome-Covers";
/// Core NATS: what edges say of themselves. Not part of any stream.
pub const EDGE_REPORTS: &str = "edges.report";
/// Core NATS, with replies: which keys were used lately. Not part of any stream.
pub const KEY_USES: &str = "keys.used";
/// The queue group in which the replicas of control share [`KEY_USES`].
pub const KEY_USES_GROUP: &str = "control";

/// The queue group in which the provisioners of a region share [`instance_logs`].
pub const INSTANCE_LOGS_GROUP: &str = "provisioners";

/// JetStream: work for the provisioners (work-queue retention).
pub const JOBS_STREAM: &str = "JOBS";
/// All subjects of [`JOBS_STREAM`].
pub const JOBS_SUBJECTS: &str = "app.>";

/// JetStream: absolute usage counters on their way to Postgres (work-queue retention).
pub const USAGE_STREAM: &str = "USAGE";
/// All subjects of [`USAGE_STREAM`].
pub const USAGE_SUBJECTS: &str = "usage.counters.>";
/// The durable consumer that all aggregators share.
pub const USAGE_CONSUMER: &str = "aggregators";

/// Subject of an application's record.
pub fn edge_app(id: &ApplicationId) -> String {
    format!("edge.app.{id}")
}

/// Subject of a key's record.
pub fn edge_key(digest: &Digest) -> String {
    format!("edge.key.{digest}")
}

/// Subject of a host's record. Dots separate subject tokens, so the labels of the host become tokens.
pub fn edge_host(host: &str) -> String {
    format!("edge.host.{host}")
}

/// Subject of a job: `app.<kind>.<region>`.
pub fn job(kind: &str, region: &str) -> String {
    format!("app.{kind}.{region}")
}

/// Subjects of all jobs of a region.
pub fn jobs_of_region(region: &str) -> String {
    format!("app.*.{region}")
}

/// The durable consumer that all provisioners of a region share.
pub fn jobs_consumer(region: &str) -> String {
    format!("provisioners-{region}")
}

/// Core NATS, with replies: the lines that instances of a region's applications wrote.
pub fn instance_logs(region: &str) -> String {
    format!("instances.logs.{region}")
}

/// Subject of one writer's usage counters.
pub fn usage_counters(writer: uuid::Uuid) -> String {
    format!("usage.counters.{}", writer.simple())
}

/// Core NATS: what the aggregator has committed of one writer's counters.
pub fn usage_confirmed(writer: uuid::Uuid) -> String {
    format!("usage.confirmed.{}", writer.simple())
}

/// Redis: an application's record.
pub fn redis_app(id: &ApplicationId) -> String {
    format!("edge:app:{id}")
}

/// Redis: a key's record.
pub fn redis_key(digest: &Digest) -> String {
    format!("edge:key:{digest}")
}

/// Redis: a host's record.
pub fn redis_host(host: &str) -> String {
    format!("edge:host:{host}")
}

/// Redis: how far the table in Redis has come and when the relay last said so.
pub const REDIS_MARK: &str = "edge:mark";

/// Redis: a whole-table rewrite is under way; the value names it. Gone again once the mark is set.
pub const REDIS_FILLING: &str = "edge:filling";

/// Redis: everything the platform itself keeps, for access rules.
pub const REDIS_EDGE_PATTERN: &str = "edge:*";

/// Redis: which edges share the rate limits.
pub const LIMIT_EDGES: &str = "limit:edges";

/// Redis: everything by which edges divide rate limits among themselves, for access rules. Edges read and write it.
pub const LIMIT_PATTERN: &str = "limit:*";

/// Redis: the edges' shares of a key's rate.
pub fn limit_key(id: &KeyId) -> String {
    format!("limit:key:{id}")
}

/// Redis: the edges' shares of an application's rate for requests without a key.
pub fn limit_app(id: &ApplicationId) -> String {
    format!("limit:app:{id}")
}

/// Redis: how many requests somebody sent to the API, by the window (`minute`, `day`). The braces keep both in one slot.
pub fn api_limit(sender: &str, window: &str) -> String {
    format!("api:limit:{{{sender}}}:{window}")
}

/// Redis: prefix of one application's own keys.
pub fn redis_tenant_prefix(id: &ApplicationId) -> String {
    format!("app:{}:", id.suffix())
}

/// Postgres channel on which the outbox announces new rows.
pub const OUTBOX_CHANNEL: &str = "outbox";
/// Postgres channel on which operations announce progress; the payload is the operation id.
pub const OPERATIONS_CHANNEL: &str = "operations";
