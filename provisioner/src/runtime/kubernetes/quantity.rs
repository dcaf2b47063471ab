//! Kubernetes quantities: reading them, adding them up, and writing them as an API server does.
//!
//! An API server rewrites what it is sent (`1000m` becomes `1`), so a manifest that is compared with what came back must be
//! written in that form from the start. Nothing here does I/O; a text that is no quantity is an error, never a zero.

use std::fmt;

/// An amount in thousandths of its unit: of a core for CPU, of a byte for memory and storage.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    milli: i128,
    form: Form,
}

/// Amounts are the same however they are written.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.milli.cmp(&other.milli)
    }
}

/// How it is written: the API server keeps the kind of suffix that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Powers of ten: `m`, none, `k`, `M`, `G`, …
    Decimal,
    /// Powers of two: `Ki`, `Mi`, `Gi`, …
    Binary,
}

/// A text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a Kubernetes quantity")]
pub struct NotAQuantity(String);

const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, i128); 6] = [
    ("E", 1_000_000_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];
/// More than any cluster has; keeps sums far from overflow.
const LARGEST: i128 = 1 << 90;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        milli: 0,
        form: Form::Decimal,
    };

    /// So many whole units.
    pub fn whole(units: u32) -> Self {
        Self {
            milli: i128::from(units) * 1000,
            form: Form::Decimal,
        }
    }

    /// Reads a quantity. Fractions finer than a thousandth are refused, as are negative amounts.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        let refused = || NotAQuantity(text.to_owned());
        let suffix = BINARY.iter().find(|(suffix, _)| text.ends_with(suffix));
        let (number, unit, form) = if let Some((suffix, unit)) = suffix {
            (text.trim_end_matches(suffix), unit * 1000, Form::Binary)
        } else if let Some(number) = text.strip_suffix('m') {
            (number, 1, Form::Decimal)
        } else if let Some((suffix, unit)) = DECIMAL.iter().find(|(suffix, _)| text.ends_with(suffix)) {
            (text.trim_end_matches(suffix), unit * 1000, Form::Decimal)
        } else {
            (text, 1000, Form::Decimal)
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(refused());
        }
        let whole: i128 = whole.parse().map_err(|_| refused())?;
        let scale = 10_i128.pow(u32::try_from(fraction.len()).map_err(|_| refused())?);
        let fraction: i128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse().map_err(|_| refused())?
        };
        let milli = whole
            .checked_mul(scale)
            .and_then(|whole| whole.checked_add(fraction))
            .and_then(|number| number.checked_mul(unit))
            .filter(|product| product % scale == 0)
            .map(|product| product / scale)
            .filter(|milli| *milli < LARGEST)
            .ok_or_else(refused)?;
        Ok(Self { milli, form })
    }

    /// This many times as much.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        Self {
            milli: self.milli * i128::from(factor),
            ..self
        }
    }

    /// The sum of both, written as this one; as the other one where this one is nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            milli: self.milli + other.milli,
            form: if self.milli == 0 { other.form } else { self.form },
        }
    }

    /// Half of it, rounded down to whole units of its suffix where it has one.
    #[must_use]
    pub fn half(self) -> Self {
        let half = self.milli / 2;
        let milli = match self.form {
            Form::Decimal => half,
            Form::Binary => half / 1000 * 1000,
        };
        Self { milli, ..self }
    }

    /// Whole units, rounded down: cores or bytes.
    pub fn units(self) -> i128 {
        self.milli / 1000
    }
}

impl fmt::Display for Quantity {
    /// The form in which an API server writes it: the largest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffixes = match self.form {
            Form::Binary => &BINARY,
            Form::Decimal => &DECIMAL,
        };
        if self.milli == 0 {
            return f.write_str("0");
        }
        for (suffix, unit) in suffixes {
            if self.milli % (unit * 1000) == 0 {
                return write!(f, "{}{suffix}", self.milli / (unit * 1000));
            }
        }
        if self.milli % 1000 == 0 {
            write!(f, "{}", self.milli / 1000)
        } else {
            write!(f, "{}m", self.milli)
        }
    }
}

/// Are these two texts the same amount? Texts that are no quantities are the same only if they are equal.
pub(super) fn same_amount(one: &str, other: &str) -> bool {
    one == other || matches!((Quantity::parse(one), Quantity::parse(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        Quantity::parse(text).unwrap().to_string()
    }

    #[test]
    fn a_quantity_is_written_as_an_api_server_writes_it() {
        for (text, canonical) in [
            ("1000m", "1"),
            ("500m", "500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("2", "2"),
            ("2000", "2k"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("2Gi", "2Gi"),
            ("1.5Gi", "1536Mi"),
            ("100", "100"),
            ("0", "0"),
            ("1G", "1G"),
        ] {
            assert_eq!(written(text), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "",
            "m",
            "Gi",
            "-1",
            "1 Gi",
            "1e3x",
            "one",
            "1.2.3",
            "0.0001",
            "1GiB",
            "999999999999999999E",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sums_and_halves_keep_their_form() {
        let memory = Quantity::parse("512Mi").unwrap();
        assert_eq!(memory.times(3).to_string(), "1536Mi");
        assert_eq!(memory.plus(memory).to_string(), "1Gi");
        assert_eq!(memory.half().to_string(), "256Mi");
        assert_eq!(Quantity::parse("1").unwrap().half().to_string(), "500m");
        assert_eq!(Quantity::parse("5Gi").unwrap().units(), 5 << 30);
    }

    #[test]
    fn the_same_amount_in_another_writing_is_the_same() {
        assert!(same_amount("1000m", "1") && same_amount("1Gi", "1024Mi") && same_amount("x", "x"));
        assert!(!same_amount("1", "2") && !same_amount("x", "y"));
    }
}
