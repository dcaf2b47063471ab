//! The one place where text becomes part of a statement: identifiers and literals, quoted.

use std::fmt;

/// The longest identifier that Postgres keeps whole, in bytes; longer ones it would cut, and two could become one.
const LONGEST: usize = 63;

/// A name that cannot be an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name for Postgres must have 1 to {LONGEST} bytes and no NUL")]
pub struct NameError;

/// An identifier as it stands in a statement: in double quotes, those inside doubled. Whatever the name holds is data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identifier(String);

impl Identifier {
    pub(crate) fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > LONGEST || name.contains('\0') {
            return Err(NameError);
        }
        Ok(Self(format!("\"{}\"", name.replace('"', "\"\""))))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string literal as it stands in a statement, for the clauses that take no parameter. The `E` form means the same
/// whatever `standard_conforming_strings` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Literal(String);

impl Literal {
    pub(crate) fn new(text: &str) -> Result<Self, NameError> {
        if text.contains('\0') {
            return Err(NameError);
        }
        Ok(Self(format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))))
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(name: &str) -> String {
        Identifier::new(name).unwrap().to_string()
    }

    #[test]
    fn marks_of_sql_are_data() {
        assert_eq!(quoted("app_1"), "\"app_1\"");
        assert_eq!(quoted("a\"; DROP DATABASE x; --"), "\"a\"\"; DROP DATABASE x; --\"");
        assert_eq!(Literal::new("it's \\ here").unwrap().to_string(), "E'it''s \\\\ here'");
    }

    #[test]
    fn what_postgres_would_cut_or_refuse_is_no_identifier() {
        assert_eq!(Identifier::new(""), Err(NameError));
        assert_eq!(Identifier::new("a\0b"), Err(NameError));
        assert!(Identifier::new(&"x".repeat(63)).is_ok());
        assert_eq!(Identifier::new(&"x".repeat(64)), Err(NameError));
        assert_eq!(Literal::new("a\0b"), Err(NameError));
    }

    /// Reads a quoted text as Postgres' scanner does: a doubled quote is one, a single one ends it.
    fn scan(text: &str, quote: char, escapes: bool) -> Option<(String, &str)> {
        let mut read = String::new();
        let mut rest = text.strip_prefix(quote)?.chars();
        loop {
            match rest.next()? {
                c if c == quote => match rest.clone().next() {
                    Some(next) if next == quote => {
                        rest.next();
                        read.push(quote);
                    }
                    _ => return Some((read, rest.as_str())),
                },
                '\\' if escapes => read.push(rest.next()?),
                c => read.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn an_identifier_reads_back_as_the_name_and_nothing_is_left_over(name in "[^\0]{1,15}") {
            let text = Identifier::new(&name).unwrap().to_string();
            prop_assert_eq!(scan(&text, '"', false), Some((name, "")));
        }

        #[test]
        fn a_literal_reads_back_as_the_text_and_nothing_is_left_over(value in "[^\0]{0,40}") {
            let text = Literal::new(&value).unwrap().to_string();
            prop_assert_eq!(scan(text.strip_prefix('E').unwrap(), '\'', true), Some((value, "")));
        }
    }
}
