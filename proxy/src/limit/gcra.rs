//! The arithmetic of a limit: GCRA, the generic cell rate algorithm (ITU-T Recommendation I.371, annex A; ATM Forum Traffic
//! Management 4.0, section 4.4.2), in its virtual scheduling form.
//!
//! Owns one 64-bit word: the instant at which the allowance would be whole again (the theoretical arrival time), and the
//! share of the rate by which that instant was reckoned. Pure functions of the word, the allowance, the share and the time;
//! nothing here fails. Whatever the order of requests, between two instants `t` apart no more than `burst + rate × share × t`
//! are admitted. A share that changes keeps the number of requests that are left, not the time.

use std::num::NonZeroU32;

/// Nanoseconds in a unit of time. 52 bits of units are 2.3 years; half of them tell the past from the future.
const UNIT_NANOS: u64 = 16;
const UNITS_PER_SECOND: u64 = 1_000_000_000 / UNIT_NANOS;
const SHARE_BITS: u32 = 12;
const TIME_BITS: u32 = 64 - SHARE_BITS;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// A difference of this much or more is one to the past.
const HALF: u64 = 1 << (TIME_BITS - 1);

/// An instant, in units of 16 ns since the limiter began, modulo 2^52.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u64);

impl Moment {
    /// So many nanoseconds after the beginning.
    pub const fn after_nanos(nanos: u64) -> Self {
        Self((nanos / UNIT_NANOS) & TIME_MASK)
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, millis: u32) -> Self {
        Self((self.0 + millis as u64 * (UNITS_PER_SECOND / 1000)) & TIME_MASK)
    }

    /// How far `self` is after `now`, in units; 0 if it is not.
    const fn ahead_of(self, now: Self) -> u64 {
        let ahead = self.0.wrapping_sub(now.0) & TIME_MASK;
        if ahead < HALF { ahead } else { 0 }
    }

    /// Is it after `now`?
    pub const fn is_after(self, now: Self) -> bool {
        self.ahead_of(now) > 0
    }
}

/// A part of a rate, in 4096ths; never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u16);

impl Share {
    /// What a whole is divided into.
    pub const PARTS: u16 = 1 << SHARE_BITS;
    /// All of it.
    pub const WHOLE: Self = Self(Self::PARTS);

    /// So many 4096ths, at least one and at most all.
    #[expect(clippy::cast_possible_truncation, reason = "below 4096 here")]
    pub const fn of_parts(parts: u64) -> Self {
        if parts >= Self::PARTS as u64 {
            Self::WHOLE
        } else if parts == 0 {
            Self(1)
        } else {
            Self(parts as u16)
        }
    }

    /// In 4096ths.
    pub const fn parts(self) -> u16 {
        self.0
    }
}

/// How many requests a subject may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    per_second: u32,
    burst: u32,
}

impl Allowance {
    /// Most requests a second. At 1,000,000 rounding to units costs 0.8 % of the rate, at 1,000 less than 0.002 %.
    pub const MOST_PER_SECOND: u32 = 1_000_000;
    /// Seconds in which a burst must be made up for: a longer one is cut to this.
    pub const LONGEST_SECONDS: u32 = 3600;

    /// `per_second` requests a second (at most [`Self::MOST_PER_SECOND`]), and `burst` of them at once after a pause (at
    /// most an hour's worth).
    pub const fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let (per_second, burst) = (per_second.get(), burst.get());
        let per_second = if per_second < Self::MOST_PER_SECOND {
            per_second
        } else {
            Self::MOST_PER_SECOND
        };
        let most = per_second.saturating_mul(Self::LONGEST_SECONDS);
        Self {
            per_second,
            burst: if burst < most { burst } else { most },
        }
    }

    /// Requests a second.
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// Requests at once after a pause.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Seconds in which a whole burst comes back, rounded up.
    pub const fn window_seconds(self) -> u32 {
        self.burst.div_ceil(self.per_second)
    }

    /// Units that one request costs. Rounded up, so that rounding never admits more.
    const fn interval(self, share: Share) -> u64 {
        (UNITS_PER_SECOND * Share::PARTS as u64).div_ceil(self.per_second as u64 * share.0 as u64)
    }
}

/// What is left after a request was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// May it pass?
    pub admitted: bool,
    /// Requests that may follow at once.
    pub remaining: u32,
    /// Milliseconds until the allowance is whole, if no other request comes. Rounded up.
    pub reset_ms: u64,
    /// Milliseconds until a request may pass; 0 if this one may. Rounded up.
    pub retry_after_ms: u64,
}

/// A judged request: the word that stands for it afterwards if it is admitted, and the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// To be put in place of the word that was judged; only if admitted.
    pub word: u64,
    /// What the client is told.
    pub verdict: Verdict,
}

/// The word of a subject that has sent nothing yet.
pub const fn fresh(now: Moment) -> u64 {
    pack(now, Share::WHOLE)
}

/// Judges one request.
pub const fn step(word: u64, allowance: Allowance, share: Share, now: Moment) -> Step {
    let interval = allowance.interval(share);
    let most = interval * allowance.burst as u64;
    let debt = debt(word, allowance, share, now);
    let after = debt + interval;
    if after > most {
        return Step {
            word,
            verdict: Verdict {
                admitted: false,
                remaining: 0,
                reset_ms: millis(debt),
                retry_after_ms: millis(after - most),
            },
        };
    }
    Step {
        word: pack(Moment((now.0 + after) & TIME_MASK), share),
        verdict: Verdict {
            admitted: true,
            remaining: remaining(most - after, interval),
            reset_ms: millis(after),
            retry_after_ms: 0,
        },
    }
}

/// The same number of requests left, reckoned by another share from now on.
pub const fn retune(word: u64, allowance: Allowance, share: Share, now: Moment) -> u64 {
    pack(Moment((now.0 + debt(word, allowance, share, now)) & TIME_MASK), share)
}

/// Requests that may follow at once.
#[cfg(test)]
pub(super) const fn left(word: u64, allowance: Allowance, share: Share, now: Moment) -> u32 {
    let interval = allowance.interval(share);
    let most = interval * allowance.burst as u64;
    remaining(most - debt(word, allowance, share, now), interval)
}

/// Units until the allowance is whole, reckoned by `share`. Never more than a whole burst, so that a limit that was lowered
/// keeps nobody waiting longer than it would have from the start.
const fn debt(word: u64, allowance: Allowance, share: Share, now: Moment) -> u64 {
    let (whole_at, reckoned_by) = unpack(word);
    let ahead = whole_at.ahead_of(now);
    let debt = if reckoned_by.0 == share.0 {
        ahead
    } else {
        // Below 2^51 × 2^12: no overflow.
        (ahead * reckoned_by.0 as u64).div_ceil(share.0 as u64)
    };
    let most = allowance.interval(share) * allowance.burst as u64;
    if debt < most { debt } else { most }
}

#[expect(clippy::cast_possible_truncation, reason = "at most the burst, which is a u32")]
const fn remaining(units: u64, interval: u64) -> u32 {
    (units / interval) as u32
}

const fn millis(units: u64) -> u64 {
    units.div_ceil(UNITS_PER_SECOND / 1000)
}

/// A moment and a share in one word.
pub const fn pack(moment: Moment, share: Share) -> u64 {
    (moment.0 << SHARE_BITS) | (share.0 - 1) as u64
}

/// The parts of a word.
#[expect(clippy::cast_possible_truncation, reason = "twelve bits")]
pub const fn unpack(word: u64) -> (Moment, Share) {
    let share = (word & (Share::PARTS as u64 - 1)) as u16 + 1;
    (Moment(word >> SHARE_BITS), Share(share))
}

#[cfg(test)]
mod tests;
