//! The names of a tenant's database and roles, from the application's id.

use authsome_core::id::ApplicationId;

/// The two login roles of a tenant. One is in use; the other is there for rotation without downtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// `app_<suffix>_a`
    A,
    /// `app_<suffix>_b`
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];
}

/// The database: `authsome_app_<suffix>`.
pub fn database(id: ApplicationId) -> String {
    format!("authsome_app_{}", id.suffix())
}

/// The schema, where tenants share a database: `app_<suffix>`.
pub fn schema(id: ApplicationId) -> String {
    format!("app_{}", id.suffix())
}

/// The role that owns everything in the database and cannot log in: `app_<suffix>`.
pub fn owner(id: ApplicationId) -> String {
    format!("app_{}", id.suffix())
}

/// A role that logs in: `app_<suffix>_a` or `app_<suffix>_b`.
pub fn login(id: ApplicationId, slot: Slot) -> String {
    match slot {
        Slot::A => format!("app_{}_a", id.suffix()),
        Slot::B => format!("app_{}_b", id.suffix()),
    }
}
