//! What people do with their own accounts: sign up, confirm their address, choose another password, end their sessions.
//!
//! Nothing here tells anybody whether an address has an account: the answer, its status and the work behind it are the same
//! either way, and what there is to say goes to the address itself.

mod address;
pub mod identities;
mod password;
pub mod second_factor;
mod sessions;
mod sign_up;

pub use address::{confirm, send_confirmation};
pub use password::{change, forgotten, reset};
pub use sessions::{end_all_others, end_session};
pub use sign_up::{NewAccount, sign_up};

use secrecy::ExposeSecret;

use crate::db::accounts::Account;
use crate::identity::link::Mark;

/// What a link that confirms an address is good for: this address, until it is confirmed.
pub fn confirmation_mark(account: &Account) -> Mark {
    let state = if account.verified { "confirmed" } else { "new" };
    Mark::of(&["confirmation", &account.email.to_lowercase(), state])
}

/// What a link that resets a password is good for: the password, and the address that it was sent to.
pub fn reset_mark(account: &Account) -> Mark {
    let hash = account.password_hash.as_ref().map_or("", |hash| hash.expose_secret());
    Mark::of(&["reset", &account.email.to_lowercase(), hash])
}
