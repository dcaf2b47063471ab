//! Which role may do what: one table, pure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a member is in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
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
            Action::ReadWorkspace | Action::ReadMembers | Action::ReadApplications | Action::ReadOperations => true,
            Action::ReadAudit
            | Action::UpdateWorkspace
            | Action::WriteMembers
            | Action::ReadTokens
            | Action::WriteTokens => {
                matches!(self, Self::Owner | Self::Admin)
            }
            Action::DeleteWorkspace | Action::TransferOwnership | Action::GrantOwnership => matches!(self, Self::Owner),
            Action::ReadKeys => !matches!(self, Self::Billing),
            Action::CreateApplications
            | Action::ChangeApplications
            | Action::ReadLogs
            | Action::ReadSecrets
            | Action::WriteSecrets
            | Action::WriteKeys => {
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
    /// Change its name, slug and metadata.
    UpdateWorkspace,
    /// Delete it, and restore it.
    DeleteWorkspace,
    /// Put it on somebody else's name.
    TransferOwnership,
    /// See who belongs to it.
    ReadMembers,
    /// Invite, change, suspend and remove members who are no owners.
    WriteMembers,
    /// Make, change and remove owners.
    GrantOwnership,
    /// See its service tokens, masked.
    ReadTokens,
    /// Create and revoke service tokens.
    WriteTokens,
    /// See its applications.
    ReadApplications,
    /// Create applications.
    CreateApplications,
    /// Change what the edge does for applications.
    ChangeApplications,
    /// Read what its instances wrote, which may hold data of its users.
    ReadLogs,
    /// See the names of the secrets that instances are given.
    ReadSecrets,
    /// Set and remove them.
    WriteSecrets,
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
    pub const ALL: [Self; 19] = [
        Self::ReadWorkspace,
        Self::UpdateWorkspace,
        Self::DeleteWorkspace,
        Self::TransferOwnership,
        Self::ReadMembers,
        Self::WriteMembers,
        Self::GrantOwnership,
        Self::ReadTokens,
        Self::WriteTokens,
        Self::ReadApplications,
        Self::CreateApplications,
        Self::ChangeApplications,
        Self::ReadLogs,
        Self::ReadSecrets,
        Self::WriteSecrets,
        Self::ReadKeys,
        Self::WriteKeys,
        Self::ReadOperations,
        Self::ReadAudit,
    ];

    /// What a refused caller reads: "Your role does not allow you to {…}".
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::ReadWorkspace => "see this workspace",
            Self::UpdateWorkspace => "change this workspace",
            Self::DeleteWorkspace => "delete or restore this workspace",
            Self::TransferOwnership => "transfer this workspace",
            Self::ReadMembers => "see members",
            Self::WriteMembers => "invite, change or remove members",
            Self::GrantOwnership => "make, change or remove owners",
            Self::ReadTokens => "see service tokens",
            Self::WriteTokens => "create or revoke service tokens",
            Self::ReadApplications => "see applications",
            Self::CreateApplications => "create applications",
            Self::ChangeApplications => "change applications",
            Self::ReadLogs => "read logs of applications",
            Self::ReadSecrets => "see the names of applications' secrets",
            Self::WriteSecrets => "set or remove applications' secrets",
            Self::ReadKeys => "see API keys",
            Self::WriteKeys => "create or revoke API keys",
            Self::ReadOperations => "see operations",
            Self::ReadAudit => "see the audit trail",
        }
    }

    /// What else of the API goes by the same permission, for the documentation.
    const fn covers(self) -> &'static [&'static str] {
        match self {
            Self::ReadApplications => &[
                "see host names of applications",
                "see webhooks and their deliveries",
                "see metrics of applications",
            ],
            Self::ChangeApplications => &[
                "add, verify or remove host names",
                "create, change, test or delete webhooks",
                "purge the cache of applications",
            ],
            Self::ReadWorkspace
            | Self::UpdateWorkspace
            | Self::DeleteWorkspace
            | Self::TransferOwnership
            | Self::ReadMembers
            | Self::WriteMembers
            | Self::GrantOwnership
            | Self::ReadTokens
            | Self::WriteTokens
            | Self::CreateApplications
            | Self::ReadLogs
            | Self::ReadSecrets
            | Self::WriteSecrets
            | Self::ReadKeys
            | Self::WriteKeys
            | Self::ReadOperations
            | Self::ReadAudit => &[],
        }
    }

    /// What a service token must be given to do it. `None`: only people do it.
    pub const fn scope(self) -> Option<&'static str> {
        match self {
            Self::ReadWorkspace => Some("workspace:read"),
            Self::UpdateWorkspace => Some("workspace:write"),
            Self::ReadMembers => Some("members:read"),
            Self::ReadApplications => Some("applications:read"),
            Self::CreateApplications | Self::ChangeApplications => Some("applications:write"),
            Self::ReadLogs => Some("logs:read"),
            Self::ReadSecrets => Some("secrets:read"),
            Self::WriteSecrets => Some("secrets:write"),
            Self::ReadKeys => Some("keys:read"),
            Self::WriteKeys => Some("keys:write"),
            Self::ReadOperations => Some("operations:read"),
            Self::ReadAudit => Some("audit:read"),
            Self::DeleteWorkspace
            | Self::TransferOwnership
            | Self::WriteMembers
            | Self::GrantOwnership
            | Self::ReadTokens
            | Self::WriteTokens => None,
        }
    }
}

/// Every scope that a service token can have, each once.
pub fn scopes() -> Vec<&'static str> {
    let mut scopes: Vec<_> = Action::ALL.into_iter().filter_map(Action::scope).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// The whole table as it stands in the documentation.
pub fn table() -> String {
    let mut table = String::from("| To … | Scope of a service token |");
    for role in Role::ALL {
        table.extend([" ", role.as_str(), " |"]);
    }
    table.push_str("\n|---|---|---|---|---|---|---|\n");
    let rows = Action::ALL.into_iter().flat_map(|action| {
        std::iter::once((action, action.phrase())).chain(action.covers().iter().map(move |&what| (action, what)))
    });
    for (action, what) in rows {
        table.extend(["| ", what, " | "]);
        match action.scope() {
            Some(scope) => table.extend(["`", scope, "` |"]),
            None => table.push_str("people only |"),
        }
        for role in Role::ALL {
            table.push_str(if role.may(action) { " yes |" } else { " |" });
        }
        table.push('\n');
    }
    table
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
                Action::WriteSecrets,
            ] {
                assert!(!role.may(action), "{role:?} {action:?}");
            }
        }
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = include_str!("../../../docs/control-api.md");
        let (_, rest) = page.split_once("<!-- permissions -->\n").unwrap();
        let (documented, _) = rest.split_once("<!-- /permissions -->").unwrap();
        assert_eq!(documented, table());
    }

    #[test]
    fn an_action_of_a_service_token_is_one_of_admins() {
        for action in Action::ALL {
            assert!(action.scope().is_none() || Role::Admin.may(action), "{action:?}");
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
