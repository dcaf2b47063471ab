//! Tokens of a workspace, for programs: made, shown once, revoked.

use authsome_core::entropy;
use authsome_core::error::Failure;
use authsome_core::id::{TokenId, WorkspaceId};
use authsome_core::key::Digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::name;
use crate::audit::{self, Deed};
use crate::db::service_tokens::{self, NewToken, Token};
use crate::db::workspaces;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Action, Caller, TOKEN_PREFIX};
use crate::state::App;

/// The longest life of a token.
const LIFE_MAX: Duration = Duration::days(366);
/// The life of one that names no end.
const LIFE: Duration = Duration::days(90);
/// Good tokens of one workspace.
const MOST: i64 = 100;

/// What a new token is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewServiceToken<'a> {
    /// What people call it.
    pub name: &'a str,
    /// What it may do; see [`identity::scopes`].
    pub scopes: &'a [String],
    /// When it ends; in 90 days where it is left out.
    pub expires_at: Option<OffsetDateTime>,
}

/// A token that was made, with the text that is never shown again.
#[derive(Debug)]
pub struct Created {
    /// As it will be listed.
    pub token: Token,
    /// For the header `Authorization: Bearer`.
    pub secret: SecretString,
}

/// Makes a token.
pub async fn create(app: &App, caller: &Caller, workspace: WorkspaceId, new: NewServiceToken<'_>) -> Outcome<Created> {
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::WriteTokens).await?;
    let mut fields = Fields::new();
    let title = fields.take("name", name::name(new.name)).unwrap_or_default();
    let known = identity::scopes();
    fields.require(!new.scopes.is_empty(), "scopes", "must name at least one scope");
    for (position, scope) in new.scopes.iter().enumerate() {
        let field = format!("scopes[{position}]");
        let fresh = !new.scopes[..position].contains(scope);
        fields.require(fresh, &field, "is named twice");
        let expected = || format!("must be one of {}", known.join(", "));
        if !known.contains(&scope.as_str()) {
            fields.refuse(field, expected());
        }
    }
    let end = new.expires_at.unwrap_or(now + LIFE);
    let sensible = end > now && end <= now + LIFE_MAX;
    fields.require(sensible, "expiresAt", "must be in the future, within 366 days");
    fields.finish()?;

    // One turn after the other, so that the limit holds.
    workspaces::lock(&mut transaction, workspace).await?;
    if service_tokens::count(&mut transaction, workspace, now).await? >= MOST {
        let message = format!("A workspace has at most {MOST} service tokens; revoke one");
        return Err(Failure::conflict(message).with_reason("token_limit").into());
    }
    let text = format!(
        "{TOKEN_PREFIX}{}",
        URL_SAFE_NO_PAD.encode(entropy::bytes::<32>(app.entropy()))
    );
    let masked = format!("{}***", &text[..TOKEN_PREFIX.len() + 6]);
    let id = TokenId::generate(app.clock(), app.entropy());
    let row = NewToken {
        id,
        workspace,
        name: &title,
        digest: Digest::of(text.as_bytes()),
        masked: &masked,
        scopes: new.scopes,
        by: caller.user,
        expires_at: end,
        at: now,
    };
    service_tokens::insert(&mut transaction, &row).await?;
    let changes = json!({ "name": title, "scopes": new.scopes, "expiresAt": end.unix_timestamp() });
    let deed = Deed::of_token("token.create", workspace, id, changes);
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    let token = Token {
        id,
        name: title,
        masked,
        scopes: new.scopes.to_vec(),
        created_by: caller.user,
        last_used_at: None,
        expires_at: end,
        created_at: now,
    };
    Ok(Created {
        token,
        secret: text.into(),
    })
}

/// Revokes a token: it is refused from the next request on. Doing it again changes nothing.
pub async fn revoke(app: &App, caller: &Caller, workspace: WorkspaceId, id: TokenId) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    identity::workspace(&mut transaction, caller, workspace, Action::WriteTokens).await?;
    let found = service_tokens::revoke(&mut transaction, workspace, id, app.clock().now()).await?;
    let was_good = found.ok_or_else(|| Failure::not_found("Service token not found"))?;
    if was_good {
        let deed = Deed::of_token("token.revoke", workspace, id, json!({}));
        audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    }
    transaction.commit().await?;
    Ok(())
}
