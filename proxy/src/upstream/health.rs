//! What is believed of one endpoint, from what its requests and probes met.
//!
//! A state machine without I/O: outcomes, time and randomness come in, the next state goes out. It depends on nothing that can
//! fail. An endpoint serves until several requests in a row failed on the way to it; then it is ejected, and only probes reach
//! it, with pauses that double. A probe that is answered opens it by half: one request at a time. When a few of these were
//! answered it takes its share again, a tenth of it at first. Outcomes of attempts that began before an endpoint came back say
//! nothing about it now and are ignored.

use std::time::{Duration, Instant};

use authsome_core::entropy::Entropy;

/// When endpoints are ejected, and how they come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Failures in a row that eject; at least 1.
    pub failures: u32,
    /// Before the first probe of an ejected endpoint.
    pub probe_first: Duration,
    /// The longest pause between two probes.
    pub probe_longest: Duration,
    /// Requests that a half-open endpoint must answer, one at a time.
    pub trials: u32,
    /// From the first full share of requests back to all of it; zero: at once.
    pub slow_start: Duration,
    /// An endpoint that served for so long is no longer held to its earlier ejections.
    pub forgive: Duration,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            probe_first: Duration::from_secs(1),
            probe_longest: Duration::from_secs(30),
            trials: 3,
            slow_start: Duration::from_secs(10),
            forgive: Duration::from_mins(5),
        }
    }
}

/// The share of its turns that an endpoint takes when its slow start begins, in percent.
const RAMP_FROM: u128 = 10;

/// How an attempt went, as far as it says something about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered,
    /// It could not be reached, or did not answer as HTTP, or not in time.
    Failed,
    /// Nothing is known: the client left, or the edge failed, or a pooled connection had been closed meanwhile.
    Unknown,
}

/// How a request may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// As any.
    Open,
    /// As the one request that a half-open endpoint gets.
    Trial,
}

/// A change that people may want to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// No more requests.
    Ejected,
    /// One at a time.
    HalfOpened,
    /// Its share again.
    Returned,
}

/// What is believed of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    phase: Phase,
    /// Ejections and failed probes in a row.
    strikes: u32,
    /// Attempts that began before this are about an earlier time.
    since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving { failures: u32 },
    Ejected { probe_at: Instant, probing: bool },
    HalfOpen { answered: u32, busy: bool },
    Ramp { began: Instant, failures: u32 },
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// An endpoint of which nothing bad is known.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Serving { failures: 0 },
            strikes: 0,
            since: None,
        }
    }

    /// An endpoint that joins others which already serve: it may still be warming up.
    pub const fn joining(now: Instant) -> Self {
        Self {
            phase: Phase::Ramp {
                began: now,
                failures: 0,
            },
            strikes: 0,
            since: None,
        }
    }

    /// Serves without a blemish: everything is admitted, and an answer changes nothing.
    pub const fn is_plain(&self) -> bool {
        matches!(self.phase, Phase::Serving { failures: 0 }) && self.strikes == 0
    }

    /// Gets no ordinary requests.
    pub const fn is_ejected(&self) -> bool {
        matches!(self.phase, Phase::Ejected { .. })
    }

    /// May a request use it now? A trial must be [settled](Self::observe), or nothing more is admitted.
    pub fn admit(&mut self, now: Instant, policy: &HealthPolicy, entropy: &dyn Entropy) -> Option<Admission> {
        match &mut self.phase {
            Phase::Serving { .. } => Some(Admission::Open),
            Phase::Ejected { .. } | Phase::HalfOpen { busy: true, .. } => None,
            Phase::HalfOpen { busy, .. } => {
                *busy = true;
                Some(Admission::Trial)
            }
            Phase::Ramp { began, failures } => {
                let (began, failures) = (*began, *failures);
                let share = ramp_percent(now.saturating_duration_since(began), policy.slow_start);
                if share >= 100 {
                    self.phase = Phase::Serving { failures };
                    return Some(Admission::Open);
                }
                (u128::from(entropy.next_u64() % 100) < share).then_some(Admission::Open)
            }
        }
    }

    /// An attempt that began at `began` ended at `now`. `admission` is `None` for one that was made although the endpoint
    /// admits nobody, because no other did either.
    pub fn observe(
        &mut self,
        outcome: Outcome,
        admission: Option<Admission>,
        began: Instant,
        now: Instant,
        policy: &HealthPolicy,
        entropy: &dyn Entropy,
    ) -> Option<Change> {
        if admission == Some(Admission::Trial) {
            self.release(began);
        }
        if !self.is_about_now(began) || outcome == Outcome::Unknown {
            return None;
        }
        let failed = outcome == Outcome::Failed;
        match self.phase {
            Phase::Serving { failures } if failed => {
                self.failed(failures, now, policy, entropy, |failures| Phase::Serving { failures })
            }
            Phase::Ramp { began, failures } if failed => self.failed(failures, now, policy, entropy, |failures| {
                Phase::Ramp { began, failures }
            }),
            Phase::HalfOpen { .. } if failed => Some(self.eject(now, policy, entropy)),
            // Nobody was better, so it was used; that it failed is no news.
            Phase::Ejected { .. } if failed => None,
            Phase::Serving { .. } => {
                self.phase = Phase::Serving { failures: 0 };
                if self.strikes > 0
                    && self
                        .since
                        .is_none_or(|since| now.saturating_duration_since(since) >= policy.forgive)
                {
                    self.strikes = 0;
                }
                None
            }
            Phase::Ramp { began, .. } => {
                self.phase = if ramp_percent(now.saturating_duration_since(began), policy.slow_start) >= 100 {
                    Phase::Serving { failures: 0 }
                } else {
                    Phase::Ramp { began, failures: 0 }
                };
                None
            }
            // As good as a probe.
            Phase::Ejected { .. } => Some(self.half_open(1, now, policy)),
            Phase::HalfOpen { answered, busy } => {
                let answered = answered.saturating_add(1);
                if answered < policy.trials {
                    self.phase = Phase::HalfOpen { answered, busy };
                    return None;
                }
                self.phase = Phase::Ramp {
                    began: now,
                    failures: 0,
                };
                Some(Change::Returned)
            }
        }
    }

    /// A trial that began at `began` is over, however it went.
    pub fn release(&mut self, began: Instant) {
        if self.is_about_now(began)
            && let Phase::HalfOpen { busy, .. } = &mut self.phase
        {
            *busy = false;
        }
    }

    fn is_about_now(&self, began: Instant) -> bool {
        self.since.is_none_or(|since| began >= since)
    }

    /// When a probe is due, if one ever is.
    pub const fn probe_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ejected {
                probe_at,
                probing: false,
            } => Some(probe_at),
            _ => None,
        }
    }

    /// Begins a probe if one is due; it must be [ended](Self::probed).
    pub fn probe(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Ejected { probe_at, probing } if !*probing && *probe_at <= now => {
                *probing = true;
                true
            }
            _ => false,
        }
    }

    /// A probe ended.
    pub fn probed(
        &mut self,
        outcome: Outcome,
        now: Instant,
        policy: &HealthPolicy,
        entropy: &dyn Entropy,
    ) -> Option<Change> {
        if !matches!(self.phase, Phase::Ejected { probing: true, .. }) {
            // A request was faster.
            return None;
        }
        if outcome == Outcome::Answered {
            return Some(self.half_open(0, now, policy));
        }
        // The ejection was the first strike, and had the first pause.
        let failed = u32::from(outcome == Outcome::Failed);
        let strikes = self.strikes.saturating_sub(1).saturating_add(failed);
        self.phase = Phase::Ejected {
            probe_at: now + pause(strikes, policy, entropy),
            probing: false,
        };
        self.strikes = self.strikes.saturating_add(failed);
        None
    }

    fn failed(
        &mut self,
        failures: u32,
        now: Instant,
        policy: &HealthPolicy,
        entropy: &dyn Entropy,
        remain: impl FnOnce(u32) -> Phase,
    ) -> Option<Change> {
        let failures = failures.saturating_add(1);
        if failures >= policy.failures {
            return Some(self.eject(now, policy, entropy));
        }
        self.phase = remain(failures);
        None
    }

    fn eject(&mut self, now: Instant, policy: &HealthPolicy, entropy: &dyn Entropy) -> Change {
        self.phase = Phase::Ejected {
            probe_at: now + pause(self.strikes, policy, entropy),
            probing: false,
        };
        self.strikes = self.strikes.saturating_add(1);
        self.since = Some(now);
        Change::Ejected
    }

    fn half_open(&mut self, answered: u32, now: Instant, policy: &HealthPolicy) -> Change {
        self.since = Some(now);
        if answered >= policy.trials {
            self.phase = Phase::Ramp {
                began: now,
                failures: 0,
            };
            return Change::Returned;
        }
        self.phase = Phase::HalfOpen { answered, busy: false };
        Change::HalfOpened
    }
}

/// The pause before the next probe: doubled with every strike, up to the longest, and of that a random part of at least half,
/// so that many edges do not probe at once.
fn pause(strikes: u32, policy: &HealthPolicy, entropy: &dyn Entropy) -> Duration {
    let full = policy
        .probe_first
        .saturating_mul(1_u32.checked_shl(strikes.min(31)).unwrap_or(u32::MAX))
        .min(policy.probe_longest);
    let half = full / 2;
    let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
    full.saturating_sub(half) + Duration::from_micros(entropy.next_u64() % span).min(half)
}

/// The share of its turns that an endpoint takes so long after its slow start began.
fn ramp_percent(elapsed: Duration, slow_start: Duration) -> u128 {
    if slow_start.is_zero() {
        return 100;
    }
    (elapsed.as_micros() * 100 / slow_start.as_micros().max(1)).max(RAMP_FROM)
}

#[cfg(test)]
mod tests;
