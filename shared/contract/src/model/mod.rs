//! Domain models shared by two or more programs.

pub mod application_secret;
pub mod cache_policy;
pub mod cache_purges;
pub(crate) mod closed;
pub mod environment;
pub mod host_name;
pub mod instance_tls;
pub mod limit_override;
pub mod path_class;
pub mod plan;
pub mod route;
pub mod scope;
pub mod status;
pub mod step;
pub mod strategy;
pub mod version;

pub use application_secret::{ApplicationSecrets, SecretName};
pub use cache_policy::{CachePolicy, CacheRule};
pub use cache_purges::CachePurges;
pub use closed::UnknownName;
pub use environment::Environment;
pub use host_name::is_host_name;
pub use instance_tls::InstanceTls;
pub use limit_override::LimitOverride;
pub use path_class::{PathClass, PathRule};
pub use plan::Plan;
pub use route::{AppRecord, HostRecord, KeyRecord, KeyState};
pub use scope::{Scope, Scopes};
pub use status::{AppStatus, Refusal, Serve, WorkspaceStatus};
pub use step::Step;
pub use strategy::{DatabaseChoice, RedisChoice};
pub use version::Version;
