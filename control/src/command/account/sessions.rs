//! Ending sign-ins.

use authsome_core::error::Failure;
use authsome_core::id::SessionId;
use serde_json::json;

use crate::audit::{self, Deed};
use crate::db::sessions;
use crate::error::Outcome;
use crate::identity::Caller;
use crate::state::App;

/// Ends one of the caller's sessions: its tokens are refused from the next request on.
pub async fn end_session(app: &App, caller: &Caller, id: SessionId) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    if !sessions::revoke(&mut transaction, caller.user, id, app.clock().now()).await? {
        return Err(Failure::not_found("Session not found").into());
    }
    let deed = Deed::of_user("auth.logout", Some(caller.user)).changing(json!({ "session": id }));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(())
}

/// Ends all of the caller's sessions but the present one.
pub async fn end_all_others(app: &App, caller: &Caller) -> Outcome<()> {
    let mut transaction = app.pool().begin().await?;
    let ended = sessions::revoke_all(&mut transaction, caller.user, caller.session, app.clock().now()).await?;
    let deed = Deed::of_user("auth.logout_others", Some(caller.user)).changing(json!({ "sessions": ended }));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    transaction.commit().await?;
    Ok(())
}
