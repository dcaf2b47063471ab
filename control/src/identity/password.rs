//! Password hashes: argon2id with the OWASP parameters (19 MiB, 2 passes), kept as PHC strings.
//!
//! A verification costs about 20 ms of a core and 19 MiB, so as many run at once as there are cores; who waits longer than
//! 5 s for a turn is told to come back (503). Verification never tells "no such account" from "wrong password" by its time.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use authsome_core::entropy::{self, Entropy};
use authsome_core::error::Failure;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::{Outcome, Problem};

/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the shortest and the longest password that is hashed.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=1024;

/// Makes and checks hashes, a bounded number at a time.
#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// The hash of a password that nobody knows, verified where there is none.
    nobody: Arc<str>,
}

/// Hashing did not work: no memory, or a bug.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The algorithm.
    #[error("argon2: {0}")]
    Hash(argon2::password_hash::Error),
    /// The task that hashed.
    #[error("the hashing task did not finish: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// May this text become a password? `Err` says what is expected.
pub fn acceptable(password: &SecretString) -> Result<(), &'static str> {
    let bytes = password.expose_secret().len();
    if LENGTH.contains(&bytes) {
        Ok(())
    } else {
        Err("must be from 8 to 1024 bytes long")
    }
}

impl Passwords {
    /// Hashes once, to have something to verify for accounts that do not exist.
    pub fn new(entropy: &dyn Entropy) -> Result<Self, PasswordError> {
        let turns = std::thread::available_parallelism().map_or(2, usize::from);
        let nobody = hash(&entropy::bytes::<32>(entropy), &entropy::bytes::<16>(entropy))?;
        Ok(Self {
            turns: Arc::new(Semaphore::new(turns)),
            nobody: nobody.into(),
        })
    }

    /// The PHC string of a password.
    pub async fn hash(&self, password: SecretString, entropy: &dyn Entropy) -> Outcome<String> {
        let salt = entropy::bytes::<16>(entropy);
        let hashed = self
            .in_turn(move || hash(password.expose_secret().as_bytes(), &salt))
            .await?;
        Ok(hashed.map_err(Failure::internal)?)
    }

    /// Whether the password is the one that `hash` was made of. Without a hash: no, after the same work.
    pub async fn verify(&self, password: SecretString, hash: Option<SecretString>) -> Outcome<bool> {
        let nobody = Arc::clone(&self.nobody);
        self.in_turn(move || {
            let known = hash.is_some();
            let matches = matches(&password, hash.as_ref().map_or(&*nobody, ExposeSecret::expose_secret));
            known && matches
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::busy(
                "Too many people are signing in at once; try again",
                "busy",
            ));
        };
        // The turn ends with the work, also when the client has gone and nobody awaits it.
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        Ok(done
            .await
            .map_err(|error| Failure::internal(PasswordError::from(error)))?)
    }
}

fn hash(password: &[u8], salt: &[u8]) -> Result<String, PasswordError> {
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password, salt)
        .map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

/// A hash that cannot be read matches nothing: it is logged, since that person can never sign in.
fn matches(password: &SecretString, hash: &str) -> bool {
    match PasswordHash::new(hash) {
        Ok(hash) => Argon2::default()
            .verify_password(password.expose_secret().as_bytes(), &hash)
            .is_ok(),
        Err(error) => {
            tracing::error!(%error, "a stored password hash cannot be read");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_matches_its_hash() {
        let entropy = SeededEntropy::new(1);
        let passwords = Passwords::new(&entropy).unwrap();
        let hash = passwords.hash("correct horse".into(), &entropy).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let check = |password: &str, hash: Option<&str>| {
            passwords.verify(password.to_owned().into(), hash.map(|hash| hash.to_owned().into()))
        };
        assert!(check("correct horse", Some(&hash)).await.unwrap());
        assert!(!check("correct hors", Some(&hash)).await.unwrap());
        assert!(!check("correct horse", None).await.unwrap());
        assert!(!check("correct horse", Some("not a hash")).await.unwrap());
    }

    #[test]
    fn a_password_has_a_sensible_length() {
        assert!(acceptable(&"1234567".into()).is_err());
        assert!(acceptable(&"12345678".into()).is_ok());
        assert!(acceptable(&"x".repeat(1025).into()).is_err());
    }
}
