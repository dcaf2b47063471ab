//! That an address is read by the person of the account.

use authsome_core::id::User;

use super::confirmation_mark;
use crate::audit::{self, Deed};
use crate::db::accounts;
use crate::error::Outcome;
use crate::identity::link::{self, Purpose};
use crate::identity::{Actor, Caller};
use crate::mail::{self, Letter};
use crate::state::App;

/// Confirms the address that the link was sent to. Nobody needs to be signed in for it.
pub async fn confirm(app: &App, actor: &Actor, token: &str) -> Outcome<()> {
    let now = app.clock().now();
    let link = link::read::<User>(app.tokens(), Purpose::VerifyEmail, token, now)?;
    let mut transaction = app.pool().begin().await?;
    let account = accounts::lock(&mut transaction, link.subject).await?;
    let account = account.ok_or_else(link::no_longer)?;
    link.require(&confirmation_mark(&account))?;
    accounts::confirm(&mut transaction, link.subject, now).await?;
    let deed = Deed::of_user("auth.verify_email", Some(link.subject));
    audit::record(&mut transaction, app, actor, &deed).await?;
    transaction.commit().await?;
    Ok(())
}

/// Sends the link again. A confirmed address gets none.
pub async fn send_confirmation(app: &App, caller: &Caller) -> Outcome<()> {
    if caller.email_verified {
        return Ok(());
    }
    let mut transaction = app.pool().begin().await?;
    let letter = Letter::VerifyEmail { user: caller.user };
    mail::post_sparingly(&mut transaction, app, &caller.email, &letter).await?;
    transaction.commit().await?;
    Ok(())
}
