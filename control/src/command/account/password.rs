//! Another password: of one's own accord, or because the old one is forgotten. Either way whoever else is signed in is not any
//! longer, and the address is told.

use authsome_core::error::Failure;
use authsome_core::id::User;
use secrecy::SecretString;

use super::reset_mark;
use crate::audit::{self, Deed};
use crate::command::name;
use crate::db::{accounts, sessions};
use crate::error::{Fields, Outcome};
use crate::identity::link::{self, Purpose};
use crate::identity::{self, Actor, Caller, attempts};
use crate::mail::{self, Letter};
use crate::state::App;

/// Sends a link to the address, if it has an account: that is found out when the letter is sent, not here.
pub async fn forgotten(app: &App, actor: &Actor, email: &str) -> Outcome<()> {
    let mut fields = Fields::new();
    let email = fields.take("email", name::email(email));
    fields.finish()?;
    let email = email.unwrap_or_default();
    let mut transaction = app.pool().begin().await?;
    let known = accounts::id_of(&mut transaction, &email).await?;
    let deed = Deed::of_user("auth.forgot_password", known).refused(known.is_none());
    audit::record(&mut transaction, app, actor, &deed).await?;
    // To the address of the account: what the database takes for the same may be another mailbox.
    let email = accounts::address_of(&mut transaction, &email).await?.unwrap_or(email);
    mail::post_sparingly(&mut transaction, app, &email, &Letter::ResetPassword {}).await?;
    transaction.commit().await?;
    Ok(())
}

/// Sets the password of the account that the link was sent to. It was read there, so the address is confirmed as well.
pub async fn reset(app: &App, actor: &Actor, token: &str, password: SecretString) -> Outcome<()> {
    let mut fields = Fields::new();
    fields.take("password", identity::acceptable(&password));
    fields.finish()?;
    let now = app.clock().now();
    let link = link::read::<User>(app.tokens(), Purpose::ResetPassword, token, now)?;
    // Looked at before the work of hashing, and again under the lock.
    let account = accounts::find(&mut *app.pool().acquire().await?, link.subject).await?;
    link.require(&reset_mark(&account.ok_or_else(link::no_longer)?))?;

    let hash = app.passwords().hash(password, app.entropy()).await?;
    let mut transaction = app.pool().begin().await?;
    let account = accounts::lock(&mut transaction, link.subject).await?;
    let account = account.ok_or_else(link::no_longer)?;
    link.require(&reset_mark(&account))?;
    accounts::set_password(&mut transaction, link.subject, &hash).await?;
    accounts::confirm(&mut transaction, link.subject, now).await?;
    sessions::revoke_all(&mut transaction, link.subject, None, now).await?;
    attempts::begin_anew(&mut transaction, &account.email).await?;
    attempts::recognised(&mut transaction, app, link.subject, actor.address).await?;
    let deed = Deed::of_user("auth.reset_password", Some(link.subject));
    audit::record(&mut transaction, app, actor, &deed).await?;
    let letter = Letter::PasswordChanged { user: link.subject };
    mail::post(&mut transaction, app, &account.email, &letter).await?;
    transaction.commit().await?;
    Ok(())
}

/// Sets the caller's password. Their other sessions end.
pub async fn change(app: &App, caller: &Caller, present: SecretString, new: SecretString) -> Outcome<()> {
    let mut fields = Fields::new();
    fields.take("newPassword", identity::acceptable(&new));
    fields.finish()?;
    let account = accounts::find(&mut *app.pool().acquire().await?, caller.user).await?;
    let known = account.and_then(|account| account.password_hash);
    let attempt = attempts::of_person(app, caller.user).await?;
    if !app.passwords().verify(present, known).await? {
        let mut transaction = app.pool().begin().await?;
        let deed = Deed::of_user("auth.change_password", Some(caller.user)).refused(true);
        audit::record(&mut transaction, app, &caller.actor, &deed).await?;
        transaction.commit().await?;
        let failure = Failure::forbidden("The present password is not right").with_reason("wrong_password");
        return Err(failure.into());
    }
    let hash = app.passwords().hash(new, app.entropy()).await?;
    let now = app.clock().now();
    let mut transaction = app.pool().begin().await?;
    attempts::right(&mut transaction, &attempt).await?;
    accounts::set_password(&mut transaction, caller.user, &hash).await?;
    sessions::revoke_all(&mut transaction, caller.user, caller.session, now).await?;
    let deed = Deed::of_user("auth.change_password", Some(caller.user));
    audit::record(&mut transaction, app, &caller.actor, &deed).await?;
    let letter = Letter::PasswordChanged { user: caller.user };
    mail::post(&mut transaction, app, &caller.email, &letter).await?;
    transaction.commit().await?;
    Ok(())
}
