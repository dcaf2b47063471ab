//! Level-triggered waits: ask until it is so, or say what was awaited and what was seen last.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A condition that did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {what}; last seen: {last}")]
pub struct WaitError {
    /// What was awaited.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last look saw.
    pub last: String,
}

/// What one look at a condition found: an `Option` (there or not), or a `Result` whose error describes what was seen.
pub trait Look {
    /// What the condition yields once it holds.
    type Found;

    /// The value, or what was seen instead.
    ///
    /// # Errors
    /// A description of what was seen instead.
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T, E: fmt::Display> Look for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks `look` again and again (20 ms apart) until it finds something. A look that hangs counts against the same deadline.
///
/// # Errors
/// [`WaitError`] once `deadline` has passed.
pub async fn wait_for<L: Look>(
    what: impl Into<String>,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> Result<L::Found, WaitError> {
    let end = Instant::now() + deadline;
    let mut last = "the first look did not return".to_owned();
    loop {
        match tokio::time::timeout_at(end, look()).await {
            Ok(seen) => match seen.found() {
                Ok(value) => return Ok(value),
                Err(description) => last = description,
            },
            Err(_) => {
                return Err(WaitError {
                    what: what.into(),
                    waited: deadline,
                    last,
                });
            }
        }
        if Instant::now() >= end {
            return Err(WaitError {
                what: what.into(),
                waited: deadline,
                last,
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
