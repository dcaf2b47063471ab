//! Closed sets of names: one declaration gives an enum its text form everywhere (SQL, JSON, logs, metric labels).

/// A name that the closed set does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a known {set}")]
pub struct UnknownName {
    /// What the set holds, as a noun.
    pub set: &'static str,
    /// The name that was given.
    pub name: String,
}

/// Declares an enum with a fixed text for each variant: `as_str`, `ALL`, `Display`, `FromStr` and serde as that text.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident, $set:literal { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in SQL, JSON, logs and metric labels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                match name {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::model::UnknownName { set: $set, name: name.to_owned() }),
                }
            }
        }
    };
}
pub(crate) use closed_set;
