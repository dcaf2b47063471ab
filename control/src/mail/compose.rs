//! What letters say. Looks up what a letter is about at the moment that it is sent.

mod notice;
mod quote;

use askama::Template;
use authsome_core::error::Failure;
use authsome_core::id::{MemberId, UserId};
use sqlx::PgConnection;

use self::quote::quoted;
use super::Letter;
use crate::command::account::{confirmation_mark, reset_mark};
use crate::command::member::invitation_mark;
use crate::db::accounts::{self, Account};
use crate::db::members::{self, MemberStatus};
use crate::db::workspaces;
use crate::error::Outcome;
use crate::identity::link::{self, Purpose};
use crate::state::App;

/// A letter in words.
#[derive(Debug)]
pub struct Content {
    /// Its subject.
    pub subject: String,
    /// For programs that show text.
    pub text: String,
    /// For programs that show HTML.
    pub html: String,
}

/// What goes into the templates, which are the same for every letter.
struct Words {
    subject: String,
    greeting: String,
    paragraphs: Vec<String>,
    /// Label and address of the one thing to do.
    action: Option<(&'static str, String)>,
    /// Below the rest: why this came, and what to do if it should not have.
    note: &'static str,
}

#[derive(Template)]
#[template(path = "mail/letter.txt")]
struct Text<'a>(&'a Words);

#[derive(Template)]
#[template(path = "mail/letter.html")]
struct Html<'a>(&'a Words);

/// The words of a letter, or `None` where there is nothing to say any longer.
pub async fn compose(
    connection: &mut PgConnection,
    app: &App,
    recipient: &str,
    letter: &Letter,
) -> Outcome<Option<Content>> {
    let words = match letter {
        Letter::SignUp { user } => match addressee(connection, *user, recipient).await? {
            Some(account) => confirmation(app, *user, &account),
            None => taken(connection, app, recipient).await?,
        },
        Letter::VerifyEmail { user } => {
            let account = addressee(connection, *user, recipient).await?;
            account.and_then(|account| confirmation(app, *user, &account))
        }
        Letter::ResetPassword {} => reset(connection, app, recipient).await?,
        Letter::PasswordChanged { user } => {
            let account = addressee(connection, *user, recipient).await?;
            account.map(|account| password_changed(app, &account))
        }
        Letter::IdentityLinked { user } => {
            let account = addressee(connection, *user, recipient).await?;
            account.map(|account| identity_linked(app, &account))
        }
        Letter::SignInAttempts { user } => {
            let account = addressee(connection, *user, recipient).await?;
            account.map(|account| sign_in_attempts(app, &account))
        }
        Letter::SecondFactor { user, on } => {
            let account = addressee(connection, *user, recipient).await?;
            account.map(|account| second_factor(app, &account, *on))
        }
        Letter::KeyLeaked { key } => notice::key_leaked(connection, app, *key).await?,
        Letter::UsageThreshold {
            application,
            period,
            percent,
        } => notice::usage(connection, app, *application, period, *percent).await?,
        Letter::HostRecord {
            application,
            host,
            lost,
        } => notice::host_record(connection, app, *application, host, *lost).await?,
        Letter::Invitation { member } => invitation(connection, app, *member, recipient).await?,
    };
    words.as_ref().map(render).transpose()
}

fn render(words: &Words) -> Outcome<Content> {
    let text = Text(words).render().map_err(Failure::internal)?;
    let html = Html(words).render().map_err(Failure::internal)?;
    Ok(Content {
        subject: words.subject.clone(),
        text,
        html,
    })
}

/// The account, if the letter's address is still its own.
async fn addressee(connection: &mut PgConnection, user: UserId, recipient: &str) -> Outcome<Option<Account>> {
    let account = accounts::find(connection, user).await?;
    Ok(account.filter(|account| account.email.to_lowercase() == recipient.to_lowercase()))
}

fn page(app: &App, path: &str) -> String {
    format!("{}{path}", app.settings().dashboard_url)
}

/// By name only where the address was seen to be read: anybody can sign up with the address of somebody else, and write them
/// what they like by the name that they give.
fn greeting(account: &Account) -> String {
    if account.verified {
        format!("Hello {},", quoted(&account.name))
    } else {
        "Hello,".to_owned()
    }
}

const UNEXPECTED: &str = "If you did not ask for this, ignore this letter: nothing happens without the link.";

fn confirmation(app: &App, user: UserId, account: &Account) -> Option<Words> {
    if account.verified {
        return None;
    }
    let mark = confirmation_mark(account);
    let token = link::make(app.tokens(), Purpose::VerifyEmail, user, mark, app.clock().now());
    Some(Words {
        subject: "Confirm your e-mail address".to_owned(),
        greeting: greeting(account),
        paragraphs: vec![
            "your AuthSome Cloud account is ready. Confirm that this address is yours to create your first \
             application. The link is good for 24 hours."
                .to_owned(),
        ],
        action: Some(("Confirm address", page(app, &format!("/verify-email?token={token}")))),
        note: UNEXPECTED,
    })
}

async fn taken(connection: &mut PgConnection, app: &App, recipient: &str) -> Outcome<Option<Words>> {
    let Some(user) = accounts::id_of(connection, recipient).await? else {
        return Ok(None);
    };
    let Some(account) = accounts::find(connection, user).await? else {
        return Ok(None);
    };
    Ok(Some(Words {
        subject: "You already have an account".to_owned(),
        greeting: greeting(&account),
        paragraphs: vec![
            "somebody signed up for AuthSome Cloud with this address, which has an account. Nothing was changed. \
             Sign in with your password, or choose another one if you have forgotten it."
                .to_owned(),
        ],
        action: Some(("Choose another password", page(app, "/forgot-password"))),
        note: "If this was not you, there is nothing to do.",
    }))
}

async fn reset(connection: &mut PgConnection, app: &App, recipient: &str) -> Outcome<Option<Words>> {
    let Some(user) = accounts::id_of(connection, recipient).await? else {
        return Ok(None);
    };
    let Some(account) = accounts::find(connection, user).await? else {
        return Ok(None);
    };
    let mark = reset_mark(&account);
    let token = link::make(app.tokens(), Purpose::ResetPassword, user, mark, app.clock().now());
    Ok(Some(Words {
        subject: "Choose another password".to_owned(),
        greeting: greeting(&account),
        paragraphs: vec![
            "with this link you choose another password. It is good for one hour and works once; afterwards you are \
             signed out everywhere."
                .to_owned(),
        ],
        action: Some((
            "Choose another password",
            page(app, &format!("/reset-password?token={token}")),
        )),
        note: UNEXPECTED,
    }))
}

fn identity_linked(app: &App, account: &Account) -> Words {
    Words {
        subject: "Another way to sign in".to_owned(),
        greeting: greeting(account),
        paragraphs: vec![
            "an identity provider can now be used to sign in to your AuthSome Cloud account. A password that was set before \
             the address was confirmed is void."
                .to_owned(),
        ],
        action: Some(("Choose another password", page(app, "/forgot-password"))),
        note: "If this was you, there is nothing to do. If not, choose another password at once, and take the identity away.",
    }
}

fn sign_in_attempts(app: &App, account: &Account) -> Words {
    Words {
        subject: "Somebody is trying passwords".to_owned(),
        greeting: greeting(account),
        paragraphs: vec![
            "somebody has tried to sign in to your AuthSome Cloud account with a wrong password, many times in a row. \
             They did not get in, and their next attempts have to wait. Where you have signed in before you can sign in as \
             always. If you are told to wait, choose another password by the link: then you need not."
                .to_owned(),
        ],
        action: Some(("Choose another password", page(app, "/forgot-password"))),
        note: "If this was you, there is nothing to do.",
    }
}

fn second_factor(app: &App, account: &Account, on: bool) -> Words {
    let (subject, state) = if on {
        (
            "Your second factor is on",
            "a sign-in to your AuthSome Cloud account now needs a code of your authenticator.",
        )
    } else {
        (
            "Your second factor is off",
            "a sign-in to your AuthSome Cloud account needs no code of an authenticator any longer.",
        )
    };
    Words {
        subject: subject.to_owned(),
        greeting: greeting(account),
        paragraphs: vec![state.to_owned()],
        action: Some(("Choose another password", page(app, "/forgot-password"))),
        note: "If this was you, there is nothing to do. If not, choose another password at once.",
    }
}

async fn invitation(connection: &mut PgConnection, app: &App, id: MemberId, recipient: &str) -> Outcome<Option<Words>> {
    let Some(member) = members::find(connection, id).await? else {
        return Ok(None);
    };
    let Some(workspace) = workspaces::name(connection, member.workspace_id).await? else {
        return Ok(None);
    };
    if member.status != MemberStatus::Invited || member.email.to_lowercase() != recipient.to_lowercase() {
        return Ok(None);
    }
    let inviter = match member.invited_by {
        Some(user) => accounts::find(connection, user).await?,
        None => None,
    };
    let inviter = inviter.map_or_else(
        || "Somebody".to_owned(),
        |account| format!("{} ({})", quoted(&account.name), account.email),
    );
    let workspace = quoted(&workspace);
    let mark = invitation_mark(&member);
    let token = link::make(app.tokens(), Purpose::Invitation, id, mark, app.clock().now());
    Ok(Some(Words {
        subject: format!("You are invited to {workspace}"),
        greeting: "Hello,".to_owned(),
        paragraphs: vec![format!(
            "{inviter} invites you to the workspace {workspace} of AuthSome Cloud, as {}. Sign in, or sign up with this \
             address, and accept. The link is good for seven days.",
            member.role.as_str()
        )],
        action: Some((
            "Accept the invitation",
            page(app, &format!("/invitation?token={token}")),
        )),
        note: "If you do not know who this is, ignore this letter: nothing happens without the link.",
    }))
}

fn password_changed(app: &App, account: &Account) -> Words {
    Words {
        subject: "Your password was changed".to_owned(),
        greeting: greeting(account),
        paragraphs: vec![
            "the password of your AuthSome Cloud account was changed, and other sessions were signed out.".to_owned(),
        ],
        action: Some(("Choose another password", page(app, "/forgot-password"))),
        note: "If this was you, there is nothing to do. If not, choose another password at once.",
    }
}
