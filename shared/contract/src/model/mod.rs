//! Domain models shared by two or more programs.

pub(crate) mod closed;
pub mod environment;
pub mod path_class;
pub mod plan;
pub mod route;
pub mod scope;
pub mod status;
pub mod step;
pub mod version;

pub use closed::UnknownName;
pub use environment::Environment;
pub use path_class::{PathClass, PathRule};
pub use plan::Plan;
pub use route::{AppRecord, HostRecord, KeyRecord, KeyState};
pub use scope::{Scope, Scopes};
pub use status::{AppStatus, Refusal, Serve, WorkspaceStatus};
pub use step::Step;
pub use version::Version;
