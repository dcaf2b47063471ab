//! Which role may do what: one table, pure.

use serde::Serialize;
use utoipa::ToSchema;

/// What a member is in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, ownership included.
    Owner,
    /// Everything but ownership.
    Admin,
    /// Applications and their keys.
    Developer,
    /// What is paid for, without access to keys.
    Billing,
    /// Looks on.
    Viewer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Developer, Self::Billing, Self::Viewer];

    /// The name in SQL and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Billing => "billing",
            Self::Viewer => "viewer",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The whole table. A new action does not compile until it has a row.
    pub const fn may(self, action: Action) -> bool {
        match action {
            Action::ReadWorkspace | Action::ReadApplications | Action::ReadOperations => true,
            Action::ReadAudit => matches!(self, Self::Owner | Self::Admin),
            Action::ReadKeys => !matches!(self, Self::Billing),
            Action::CreateApplications | Action::ChangeApplications | Action::WriteKeys => {
                matches!(self, Self::Owner | Self::Admin | Self::Developer)
            }
        }
    }
}

/// What a request wants to do in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See the workspace itself.
    ReadWorkspace,
    /// See its applications.
    ReadApplications,
    /// Create applications.
    CreateApplications,
    /// Change what the edge does for applications.
    ChangeApplications,
    /// See keys, secret ones masked.
    ReadKeys,
    /// Create and revoke keys.
    WriteKeys,
    /// Watch operations.
    ReadOperations,
    /// See the audit trail.
    ReadAudit,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] = [
        Self::ReadWorkspace,
        Self::ReadApplications,
        Self::CreateApplications,
        Self::ChangeApplications,
        Self::ReadKeys,
        Self::WriteKeys,
        Self::ReadOperations,
        Self::ReadAudit,
    ];

    /// What a refused caller reads: "Your role does not allow you to {…}".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::ReadWorkspace => "see this workspace",
            Self::ReadApplications => "see applications",
            Self::CreateApplications => "create applications",
            Self::ChangeApplications => "change applications",
            Self::ReadKeys => "see API keys",
            Self::WriteKeys => "create or revoke API keys",
            Self::ReadOperations => "see operations",
            Self::ReadAudit => "see the audit trail",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_more_than_an_admin_and_no_admin_more_than_an_owner() {
        for action in Action::ALL {
            for role in [Role::Developer, Role::Billing, Role::Viewer] {
                assert!(!role.may(action) || Role::Admin.may(action), "{role:?} {action:?}");
            }
            assert!(!Role::Admin.may(action) || Role::Owner.may(action), "{action:?}");
        }
    }

    #[test]
    fn viewers_and_billing_change_nothing() {
        for role in [Role::Viewer, Role::Billing] {
            for action in [
                Action::CreateApplications,
                Action::ChangeApplications,
                Action::WriteKeys,
            ] {
                assert!(!role.may(action), "{role:?} {action:?}");
            }
        }
    }

    #[test]
    fn names_survive_the_round_trip() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.as_str()), Some(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert_eq!(Role::named("root"), None);
    }
}
