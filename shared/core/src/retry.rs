//! Waiting between attempts, and waiting for a dependency that is not there yet.
//!
//! Owns the backoff (exponential with full jitter) and the loop that programs start with while Postgres, Redis or NATS
//! cannot be reached: it warns, with the dependency's name and address, and tries again until it succeeds or the process
//! is told to stop. It never gives up by itself.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::entropy::Entropy;
use crate::error::Chain;

/// How long to wait after a failed attempt: a random time up to `min(max, base × factor^attempt)`.
///
/// Full jitter: many processes that lost the same dependency do not come back in step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The longest wait after the first attempt.
    pub base: Duration,
    /// How much the bound grows with every attempt; at least 1.
    pub factor: f64,
    /// The bound never exceeds this.
    pub max: Duration,
}

impl Backoff {
    /// For a dependency at start: 250 ms, doubling, at most 10 s.
    pub const CONNECT: Self = Self {
        base: Duration::from_millis(250),
        factor: 2.0,
        max: Duration::from_secs(10),
    };

    /// The longest wait after this attempt; the first one is number 0.
    pub fn bound(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let seconds = self.base.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        // Infinite after enough attempts, which is no duration: the maximum then.
        Duration::try_from_secs_f64(seconds).map_or(self.max, |bound| bound.min(self.max))
    }

    /// How long to wait after this attempt; the first one is number 0.
    pub fn delay(&self, attempt: u32, entropy: &dyn Entropy) -> Duration {
        let bound = self.bound(attempt).as_nanos();
        // bound < 2^94 and the random part is 32 bits, so the product fits.
        let nanos = (bound * u128::from(entropy.next_u64() >> 32)) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Something outside the process that a program cannot start without.
#[derive(Debug, Clone)]
pub struct Dependency {
    name: &'static str,
    address: String,
    attempt_timeout: Duration,
}

impl Dependency {
    /// A dependency by name ("Postgres") and by the address to show, which must hold no secret: give a
    /// [`SecretUrl`](crate::secret::SecretUrl) itself, whose `Display` hides it. One attempt may take 10 s.
    pub fn new(name: &'static str, address: &dyn fmt::Display) -> Self {
        Self {
            name,
            address: address.to_string(),
            attempt_timeout: Duration::from_secs(10),
        }
    }

    /// Limits one attempt to this.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }
}

/// The process was told to stop before the dependency could be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped while waiting for {dependency}")]
pub struct Stopped {
    /// The name of what was waited for.
    pub dependency: &'static str,
}

/// Calls `attempt` until it succeeds, with one warning for every failure, or until `stop`.
///
/// The errors of `attempt` are logged with their causes, so they must not quote a password: a driver whose errors repeat
/// the address that it was given needs an error of the caller's own here.
pub async fn until_ready<T, E, F, A>(
    dependency: &Dependency,
    backoff: Backoff,
    entropy: &dyn Entropy,
    stop: &CancellationToken,
    mut attempt: A,
) -> Result<T, Stopped>
where
    A: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    E: Error,
{
    let Dependency {
        name,
        address,
        attempt_timeout,
    } = dependency;
    let attempts = async {
        for number in 0_u32.. {
            let outcome = tokio::time::timeout(*attempt_timeout, attempt()).await;
            let delay = backoff.delay(number, entropy);
            let error = match outcome {
                Ok(Ok(value)) => {
                    tracing::info!(dependency = name, %address, attempts = u64::from(number) + 1, "dependency is ready");
                    return Some(value);
                }
                Ok(Err(error)) => Chain(&error).to_string(),
                Err(_) => format!("no answer within {attempt_timeout:?}"),
            };
            tracing::warn!(
                dependency = name, %address, %error, retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "cannot reach {name} at {address}: {error}; trying again"
            );
            tokio::time::sleep(delay).await;
        }
        None
    };
    let stopped = Stopped { dependency: name };
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(stopped),
        value = attempts => value.ok_or(stopped),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::entropy::SeededEntropy;

    const QUICK: Backoff = Backoff {
        base: Duration::from_millis(1),
        factor: 2.0,
        max: Duration::from_millis(4),
    };

    fn postgres() -> Dependency {
        Dependency::new("Postgres", &"postgres://db:5432/control")
    }

    #[test]
    fn the_bound_grows_to_the_maximum_and_stays() {
        let backoff = Backoff {
            base: Duration::from_millis(100),
            factor: 3.0,
            max: Duration::from_secs(2),
        };
        let bounds: Vec<u128> = (0..5).map(|attempt| backoff.bound(attempt).as_millis()).collect();
        assert_eq!(bounds, [100, 300, 900, 2000, 2000]);
        assert_eq!(backoff.bound(u32::MAX), Duration::from_secs(2));
    }

    #[test]
    fn a_factor_below_one_does_not_shrink_the_wait() {
        let backoff = Backoff {
            base: Duration::from_millis(100),
            factor: 0.1,
            max: Duration::from_secs(2),
        };
        assert_eq!(backoff.bound(9), Duration::from_millis(100));
    }

    #[test]
    fn delays_fill_the_range_and_never_leave_it() {
        let (backoff, entropy) = (Backoff::CONNECT, SeededEntropy::new(1));
        let delays: Vec<Duration> = (0..1000).map(|_| backoff.delay(2, &entropy)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(1)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_millis(100)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(900)));
    }

    #[tokio::test]
    async fn it_tries_until_the_dependency_answers() {
        let calls = AtomicU32::new(0);
        let stop = CancellationToken::new();
        let value = until_ready(&postgres(), QUICK, &SeededEntropy::new(1), &stop, || async {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            if call < 3 {
                Err(io::Error::other("connection refused"))
            } else {
                Ok(call)
            }
        })
        .await;
        assert_eq!(value, Ok(3));
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_given_up_and_repeated() {
        let calls = AtomicU32::new(0);
        let stop = CancellationToken::new();
        let postgres = postgres().attempt_timeout(Duration::from_millis(20));
        let value = until_ready(&postgres, QUICK, &SeededEntropy::new(1), &stop, || async {
            if calls.fetch_add(1, Ordering::SeqCst) == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, io::Error>(())
        })
        .await;
        assert_eq!((value, calls.load(Ordering::SeqCst)), (Ok(()), 2));
    }

    #[tokio::test]
    async fn stopping_ends_the_wait_even_in_the_middle_of_an_attempt() {
        let stop = CancellationToken::new();
        let value: Result<(), Stopped> = until_ready(&postgres(), QUICK, &SeededEntropy::new(1), &stop, || async {
            stop.cancel();
            std::future::pending::<Result<(), io::Error>>().await
        })
        .await;
        assert_eq!(value.unwrap_err().to_string(), "stopped while waiting for Postgres");
    }
}
