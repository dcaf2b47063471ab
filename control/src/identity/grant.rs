//! What a service token may do: named scopes, in one workspace.

use authsome_core::error::Failure;
use authsome_core::id::{TokenId, WorkspaceId};

use super::access::missing;
use super::{Action, Role};
use crate::error::Outcome;

/// How every service token begins.
pub const TOKEN_PREFIX: &str = "ast_";

/// A service token that is good.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Which one.
    pub token: TokenId,
    /// Where it may do something.
    pub workspace: WorkspaceId,
    /// What, as [`Action::scope`] names it.
    pub scopes: Vec<String>,
}

impl Grant {
    /// Whether it may do this in the workspace. What is elsewhere does not exist for it. Its role is the least, for whatever
    /// asks for one after it was admitted.
    pub(super) fn allow(&self, workspace: Option<WorkspaceId>, action: Action, nothing: &'static str) -> Outcome<Role> {
        if workspace != Some(self.workspace) {
            return Err(missing(nothing));
        }
        let Some(scope) = action.scope() else {
            let message = format!("A service token cannot {}; sign in", action.phrase());
            return Err(Failure::forbidden(message).with_reason("service_token").into());
        };
        if self.scopes.iter().any(|held| held == scope) {
            return Ok(Role::Viewer);
        }
        let message = format!("The service token has no scope {scope} to {}", action.phrase());
        Err(Failure::forbidden(message).with_reason("scope").into())
    }
}
