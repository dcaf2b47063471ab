//! Password hashing with argon2id, off the async threads and never more at once than there are places.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use authsome_core::entropy::{self, Entropy};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Each place costs 19 MiB while it hashes.
const PLACES: usize = 2;
/// How long a request waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hashes and verifies passwords.
#[derive(Clone)]
pub(crate) struct Passwords {
    places: Arc<Semaphore>,
    /// Verified when there is no such user, so that a reply takes as long as with one.
    nobody: Arc<str>,
}

impl Passwords {
    /// Prepares hashing.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if argon2 refuses its own defaults.
    pub(crate) fn new(entropy: &dyn Entropy) -> Result<Self, ApiError> {
        let nobody = hash("nobody has this password", &entropy::bytes::<16>(entropy))?;
        Ok(Self {
            places: Arc::new(Semaphore::new(PLACES)),
            nobody: nobody.into(),
        })
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, password: String, entropy: &dyn Entropy) -> Result<String, ApiError> {
        let salt = entropy::bytes::<16>(entropy);
        self.in_a_place(move || hash(&password, &salt)).await
    }

    /// Whether the password is the right one; `None` stands for a user that does not exist.
    pub(crate) async fn verify(&self, password: String, known: Option<String>) -> Result<bool, ApiError> {
        let exists = known.is_some();
        let phc = known.unwrap_or_else(|| self.nobody.to_string());
        let matches = self
            .in_a_place(move || {
                let parsed = PasswordHash::new(&phc).map_err(|error| ApiError::Internal(error.to_string()))?;
                Ok(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
            })
            .await?;
        Ok(exists && matches)
    }

    async fn in_a_place<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| ApiError::Busy)?.map_err(|_| ApiError::Busy)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        })
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?
    }
}

fn hash(password: &str, salt: &[u8]) -> Result<String, ApiError> {
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), salt);
    hash.map(|hash| hash.to_string())
        .map_err(|error| ApiError::Internal(error.to_string()))
}
