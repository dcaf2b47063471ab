//! How large waves are. Pure.

use std::fmt;
use std::str::FromStr;

/// How many applications have the new image once a wave is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wave {
    /// So many.
    Count(u32),
    /// This share of all, in percent, rounded up.
    Percent(u32),
}

/// A text is no size of a wave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWaves {
    /// Neither a number nor a share.
    #[error("{0:?} is neither a number from 1 on nor a share from 1% to 100%")]
    Size(String),
    /// Something would be left out.
    #[error("the last wave must be 100%")]
    NotAll,
    /// A list without end.
    #[error("there may be 20 waves at most")]
    TooMany,
}

/// The first application, then 5 %, then a quarter, then all.
pub const USUAL: [Wave; 4] = [Wave::Count(1), Wave::Percent(5), Wave::Percent(25), Wave::Percent(100)];

impl Wave {
    /// Of so many applications. Everything, without a number, for the last wave: those that came meanwhile belong to it.
    pub fn target(self, total: u32) -> Option<u32> {
        match self {
            Self::Count(count) => Some(count),
            Self::Percent(100) => None,
            Self::Percent(percent) => {
                let share = (u64::from(total) * u64::from(percent)).div_ceil(100).max(1);
                Some(u32::try_from(share).unwrap_or(u32::MAX))
            }
        }
    }
}

impl FromStr for Wave {
    type Err = BadWaves;

    fn from_str(text: &str) -> Result<Self, BadWaves> {
        let bad = || BadWaves::Size(text.to_owned());
        let (digits, wave): (&str, fn(u32) -> Self) = match text.strip_suffix('%') {
            Some(digits) => (digits, Self::Percent),
            None => (text, Self::Count),
        };
        let wave = wave(digits.trim().parse().map_err(|_| bad())?);
        match wave {
            Self::Count(1..) | Self::Percent(1..=100) => Ok(wave),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Reads `1,5%,25%,100%`.
pub fn parse(text: &str) -> Result<Vec<Wave>, BadWaves> {
    let waves: Vec<Wave> = text
        .split(',')
        .map(|one| one.trim().parse())
        .collect::<Result<_, _>>()?;
    if waves.last() != Some(&Wave::Percent(100)) {
        return Err(BadWaves::NotAll);
    }
    if waves.len() > 20 {
        return Err(BadWaves::TooMany);
    }
    Ok(waves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_read_as_they_are_written_and_end_with_everything() {
        assert_eq!(parse("1, 5%,25%,100%").unwrap(), USUAL);
        assert_eq!(parse("100%").unwrap(), [Wave::Percent(100)]);
        assert_eq!(parse("1,5%"), Err(BadWaves::NotAll));
        for bad in [
            "",
            "0,100%",
            "0%,100%",
            "101%,100%",
            "-1,100%",
            "x,100%",
            "1;100%",
            "1,,100%",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse(&format!("{}100%", "1,".repeat(20))), Err(BadWaves::TooMany));
        for wave in USUAL {
            assert_eq!(wave.to_string().parse(), Ok(wave));
        }
    }

    #[test]
    fn a_share_is_rounded_up_and_never_nothing() {
        let of = |wave: Wave| [0, 1, 10, 1000].map(|total| wave.target(total));
        assert_eq!(of(Wave::Percent(5)), [Some(1), Some(1), Some(1), Some(50)]);
        assert_eq!(of(Wave::Percent(25)), [Some(1), Some(1), Some(3), Some(250)]);
        assert_eq!(of(Wave::Count(2)), [Some(2); 4]);
        assert_eq!(of(Wave::Percent(100)), [None; 4], "all there are by then");
    }
}
