//! A new account.

use authsome_core::id::UserId;
use secrecy::SecretString;

use crate::audit::{self, Deed};
use crate::command::name;
use crate::db::accounts;
use crate::error::{Fields, Outcome};
use crate::identity::{self, Actor};
use crate::mail::{self, Letter};
use crate::state::App;

/// What somebody gives who signs up.
#[derive(Debug)]
pub struct NewAccount<'a> {
    /// Where the confirmation goes.
    pub email: &'a str,
    /// To be shown.
    pub name: &'a str,
    /// To sign in with.
    pub password: SecretString,
}

/// Creates an account whose address is not confirmed yet, and sends it a link. Where the address has an account, that is
/// left as it is, and its owner is told by mail.
pub async fn sign_up(app: &App, actor: &Actor, new: NewAccount<'_>) -> Outcome<()> {
    let mut fields = Fields::new();
    let title = fields.take("name", name::title(new.name));
    let email = fields.take("email", name::email(new.email));
    fields.take("password", identity::acceptable(&new.password));
    fields.finish()?;
    let (title, email) = (title.unwrap_or_default(), email.unwrap_or_default());

    let hash = app.passwords().hash(new.password, app.entropy()).await?;
    let id = UserId::generate(app.clock(), app.entropy());
    let mut transaction = app.pool().begin().await?;
    let created = accounts::insert(&mut transaction, id, &email, &title, &hash).await?;
    let deed = Deed::of_user("auth.sign_up", created.then_some(id)).refused(!created);
    audit::record(&mut transaction, app, actor, &deed).await?;
    // To the address of the account, where there is one: another spelling may be another mailbox.
    let email = accounts::address_of(&mut transaction, &email).await?.unwrap_or(email);
    mail::post_sparingly(&mut transaction, app, &email, &Letter::SignUp { user: id }).await?;
    transaction.commit().await?;
    Ok(())
}
