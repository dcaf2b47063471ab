//! Who is calling, and what they may do.
//!
//! Owns passwords (argon2id), sessions and their tokens, links that come by mail, the role table, and the one place where a role is looked up before a
//! resource is shown or changed. Needs the control database for every request: a suspended person or a removed member
//! loses access with the next request, not with the token's end. Without the database the answer is 503, never access.

mod access;
pub mod attempts;
mod caller;
pub mod federated;
mod grant;
pub mod link;
pub mod oidc;
mod password;
mod permission;
pub mod refresh_token;
pub mod second_factor;
mod session;
mod token;
pub mod totp;

pub use access::{allow, application, operation, workspace};
pub use caller::{Actor, Caller, Person};
pub use federated::IdentityId;
pub use grant::{Grant, TOKEN_PREFIX};
pub use password::{PasswordError, Passwords, acceptable};
pub use permission::{Action, Role, scopes, table};
pub use session::{Session, refresh, sign_in};
pub use token::{SECRET_MIN, TokenError, Tokens};
