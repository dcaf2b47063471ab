//! Values that must never be printed.
//!
//! Owns nothing of its own but [`SecretUrl`]; the rest is `secrecy`, named here once so that every crate uses the same.
//! Depends on nothing that can fail.

mod url;

pub use secrecy::zeroize::Zeroizing;
pub use secrecy::{ExposeSecret, SecretBox, SecretSlice, SecretString};
pub use url::{SecretUrl, SecretUrlError};
