//! How a setting of each type is written, in the file and in a variable.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use toml::Value;

use super::units::{ByteSize, byte_size, duration};
use crate::seal::{Purpose, SealRing};
use crate::secret::SecretUrl;
use crate::telemetry::Format;

/// Why a value is not of its type. The reader adds the value itself, unless the type is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadValue {
    /// `… is not <this>`: "a duration such as 30s".
    NotA(String),
    /// A sentence that does not quote the value.
    Because(String),
}

impl BadValue {
    /// `… is not <expected>`.
    pub fn not_a(expected: impl Into<String>) -> Self {
        Self::NotA(expected.into())
    }
}

/// A type that a setting can have.
pub trait FromValue: Sized {
    /// Whether values are never to be shown.
    const SECRET: bool = false;

    /// Reads the text of a variable.
    fn from_text(text: &str) -> Result<Self, BadValue>;

    /// Reads a value of the file. A string is read as a variable is, unless a type says otherwise; other TOML types are
    /// refused.
    fn from_toml(value: &Value) -> Result<Self, BadValue> {
        match value {
            Value::String(text) => Self::from_text(text),
            // Asks for the type's own wording with a text that no type accepts.
            _ => Err(Self::from_text("\0")
                .err()
                .unwrap_or_else(|| BadValue::not_a("a string"))),
        }
    }
}

impl FromValue for String {
    fn from_text(text: &str) -> Result<Self, BadValue> {
        if text.contains('\0') {
            Err(BadValue::not_a("a string"))
        } else {
            Ok(text.to_owned())
        }
    }
}

impl FromValue for PathBuf {
    fn from_text(text: &str) -> Result<Self, BadValue> {
        if text.is_empty() || text.contains('\0') {
            Err(BadValue::not_a("a path"))
        } else {
            Ok(text.into())
        }
    }
}

impl FromValue for bool {
    fn from_text(text: &str) -> Result<Self, BadValue> {
        text.parse().map_err(|_| BadValue::not_a("true or false"))
    }

    fn from_toml(value: &Value) -> Result<Self, BadValue> {
        value.as_bool().ok_or_else(|| BadValue::not_a("true or false"))
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl FromValue for $type {
            fn from_text(text: &str) -> Result<Self, BadValue> {
                text.parse().map_err(|_| BadValue::not_a(format!("a whole number from {} to {}", Self::MIN, Self::MAX)))
            }

            fn from_toml(value: &Value) -> Result<Self, BadValue> {
                match value {
                    Value::Integer(number) => Self::from_text(&number.to_string()),
                    _ => Self::from_text(""),
                }
            }
        }
    )*};
}

whole_numbers!(u8, u16, u32, u64, usize, i32, i64);

impl FromValue for f64 {
    fn from_text(text: &str) -> Result<Self, BadValue> {
        text.parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| BadValue::not_a("a number"))
    }

    fn from_toml(value: &Value) -> Result<Self, BadValue> {
        match value {
            Value::Integer(_) | Value::Float(_) => Self::from_text(&value.to_string()),
            _ => Self::from_text(""),
        }
    }
}

macro_rules! texts {
    ($($type:ty: $expected:literal, $read:expr;)*) => {$(
        impl FromValue for $type {
            fn from_text(text: &str) -> Result<Self, BadValue> {
                let read: fn(&str) -> Option<$type> = $read;
                read(text).ok_or_else(|| BadValue::not_a($expected))
            }
        }
    )*};
}

texts! {
    Duration: "a duration such as 250ms, 30s, 5m, 24h or 7d", duration;
    ByteSize: "a size such as 512B, 64KiB, 64MiB or 2GiB", byte_size;
    SocketAddr: "an address and port such as 127.0.0.1:8081 or [::]:8081", |text| text.parse().ok();
    IpAddr: "an IP address", |text| text.parse().ok();
    Format: "json or pretty", |text| text.parse().ok();
}

impl FromValue for SecretString {
    const SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, BadValue> {
        if text.is_empty() || text.contains('\0') {
            Err(BadValue::not_a("a text"))
        } else {
            Ok(text.into())
        }
    }
}

impl FromValue for SecretUrl {
    const SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, BadValue> {
        text.parse()
            .map_err(|_| BadValue::not_a("an address of the form scheme://[user:password@]host[:port][/path]"))
    }
}

impl<P: Purpose> FromValue for SealRing<P> {
    const SECRET: bool = true;

    fn from_text(text: &str) -> Result<Self, BadValue> {
        Self::parse(text).map_err(|error| BadValue::Because(error.to_string()))
    }

    /// The keys may also be an array of `"id:base64"`.
    fn from_toml(value: &Value) -> Result<Self, BadValue> {
        match value {
            Value::Array(keys) => {
                let keys = keys.iter().map(String::from_toml).collect::<Result<Vec<_>, _>>()?;
                Self::from_text(&secrecy::zeroize::Zeroizing::new(keys.join(",")))
            }
            Value::String(text) => Self::from_text(text),
            _ => Self::from_text("\0"),
        }
    }
}

/// A variable separates elements by commas; blanks around them do not count.
impl<T: FromValue> FromValue for Vec<T> {
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str) -> Result<Self, BadValue> {
        text.split(',')
            .map(str::trim)
            .filter(|element| !element.is_empty())
            .map(T::from_text)
            .collect()
    }

    fn from_toml(value: &Value) -> Result<Self, BadValue> {
        match value {
            Value::Array(elements) => elements.iter().map(T::from_toml).collect(),
            Value::String(text) => Self::from_text(text),
            _ => Err(BadValue::not_a("a list")),
        }
    }
}

/// A table of the file, or `name=value,name=value` in a variable.
impl<T: FromValue> FromValue for BTreeMap<String, T> {
    const SECRET: bool = T::SECRET;

    fn from_text(text: &str) -> Result<Self, BadValue> {
        let entry = |entry: &str| {
            let (name, value) = entry
                .split_once('=')
                .ok_or_else(|| BadValue::not_a("a list of name=value"))?;
            Ok((name.trim().to_owned(), T::from_text(value.trim())?))
        };
        text.split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(entry)
            .collect()
    }

    fn from_toml(value: &Value) -> Result<Self, BadValue> {
        match value {
            Value::Table(table) => table
                .iter()
                .map(|(name, value)| Ok((name.clone(), T::from_toml(value)?)))
                .collect(),
            Value::String(text) => Self::from_text(text),
            _ => Err(BadValue::not_a("a table")),
        }
    }
}
