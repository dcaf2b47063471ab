//! Reads settings by key and gathers what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::environment::{Environment, SEED_VARIABLES, variable_of};
use super::problem::{ConfigErrors, Problem, Source};
use super::suggest::nearest;
use super::value::{BadValue, FromValue};

/// The longest value that a problem quotes, in characters.
const QUOTED: usize = 60;

/// Reads settings. Every method that finds a problem keeps it and goes on; [`Reader::finish`] reports them all.
pub struct Reader {
    file: Option<(PathBuf, Table)>,
    environment: Environment,
    aliases: BTreeMap<&'static str, Vec<&'static str>>,
    known: BTreeSet<&'static str>,
    foreign: BTreeSet<&'static str>,
    sources: BTreeMap<&'static str, Source>,
    problems: Vec<Problem>,
}

enum Found {
    Text(String, Source),
    Value(Value, Source),
}

impl Reader {
    /// Reads the file, if one is named, and remembers what is wrong with it.
    pub fn new(file: Option<&Path>, environment: Environment) -> Self {
        let mut reader = Self {
            file: None,
            environment,
            aliases: BTreeMap::new(),
            known: BTreeSet::new(),
            foreign: BTreeSet::new(),
            sources: BTreeMap::new(),
            problems: Vec::new(),
        };
        for (key, variable) in SEED_VARIABLES {
            reader.alias(key, variable);
        }
        if let Some(path) = file {
            match read_file(path) {
                Ok(table) => reader.file = Some((path.to_owned(), table)),
                Err(message) => reader.problem("", message, Some(Source::File(path.to_owned()))),
            }
        }
        reader
    }

    /// Reads a key from one more variable, if neither its own nor an earlier alias is set.
    pub fn alias(&mut self, key: &'static str, variable: &'static str) {
        self.aliases.entry(key).or_default().push(variable);
    }

    /// Leaves a section of the file to other programs that read the same file.
    pub fn ignore(&mut self, section: &'static str) {
        self.foreign.insert(section);
    }

    /// A setting that must be given. `None` means that a problem was found and kept: go on reading, and use `?` only
    /// once everything was read.
    pub fn required<T: FromValue>(&mut self, key: &'static str) -> Option<T> {
        if let Some(found) = self.find(key) {
            return self.convert(key, &found);
        }
        let message = self.missing(key);
        self.problem(key, message, None);
        None
    }

    /// A setting that may be left out.
    pub fn optional<T: FromValue>(&mut self, key: &'static str) -> Option<T> {
        self.find(key).and_then(|found| self.convert(key, &found))
    }

    /// A setting with a default, which also stands in for a value that is wrong.
    pub fn or<T: FromValue>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// States what must hold of a setting that was read: `check("listen.port", port != 0, "must not be 0")`. Says nothing
    /// of a key that already has a problem.
    pub fn check(&mut self, key: &'static str, holds: bool, message: &str) {
        if !holds && !self.problems.iter().any(|problem| problem.key == key) {
            let source = self.sources.get(key).cloned().unwrap_or(Source::Default);
            self.problem(key, message.to_owned(), Some(source));
        }
    }

    /// Where a key that was read came from; the default where it was not given.
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// Builds the configuration, then reports everything that was wrong with it and every key of the file that nobody
    /// read.
    pub fn finish<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, ConfigErrors> {
        let config = read(&mut self);
        self.report_unknown();
        match config {
            Some(config) if self.problems.is_empty() => Ok(config),
            // Only a `read` that gives up without a reason comes here without a problem.
            None if self.problems.is_empty() => {
                self.problem("", "the configuration is not complete".to_owned(), None);
                Err(ConfigErrors(self.problems))
            }
            _ => Err(ConfigErrors(self.problems)),
        }
    }

    fn problem(&mut self, key: &str, message: String, source: Option<Source>) {
        self.problems.push(Problem {
            key: key.to_owned(),
            message,
            source,
        });
    }

    fn find(&mut self, key: &'static str) -> Option<Found> {
        self.known.insert(key);
        let own = variable_of(key);
        let aliases = self.aliases.get(key).into_iter().flatten().copied();
        let variable = std::iter::once(own.as_str())
            .chain(aliases)
            .find_map(|name| Some((name.to_owned(), self.environment.get(name)?.to_owned())));
        if let Some((name, text)) = variable {
            let source = Source::Variable(name);
            self.sources.insert(key, source.clone());
            return Some(Found::Text(text, source));
        }
        let (path, table) = self.file.as_ref()?;
        let value = at(table, key)?.clone();
        let source = Source::File(path.clone());
        self.sources.insert(key, source.clone());
        Some(Found::Value(value, source))
    }

    fn convert<T: FromValue>(&mut self, key: &'static str, found: &Found) -> Option<T> {
        let (result, shown, source) = match found {
            Found::Text(text, source) if text.contains('\u{FFFD}') => {
                (Err(BadValue::not_a("valid UTF-8")), None, source)
            }
            Found::Text(text, source) => (T::from_text(text), Some(format!("{text:?}")), source),
            // What is inside a table or an array may be anything, a secret too.
            Found::Value(value @ (Value::Table(_) | Value::Array(_)), source) => (T::from_toml(value), None, source),
            Found::Value(value, source) => (T::from_toml(value), Some(value.to_string()), source),
        };
        let message = match result {
            Ok(value) => return Some(value),
            Err(BadValue::Because(reason)) => reason,
            Err(BadValue::NotA(expected)) => {
                // An '@' hints at an address with a password that was put into the wrong place.
                let shown = shown.filter(|shown| !T::SECRET && shown.chars().count() <= QUOTED && !shown.contains('@'));
                format!("{} is not {expected}", shown.as_deref().unwrap_or("the value"))
            }
        };
        self.problem(key, message, Some(source.clone()));
        None
    }

    fn missing(&self, key: &'static str) -> String {
        let own = variable_of(key);
        let mut message = format!("required; set it in the file or in {own}");
        for alias in self.aliases.get(key).into_iter().flatten() {
            message.push_str(" or ");
            message.push_str(alias);
        }
        if let Some(set) = nearest(&own, self.environment.names()).filter(|set| *set != own) {
            message.push_str(" (is ");
            message.push_str(set);
            message.push_str(" a misspelling of it?)");
        }
        message
    }

    fn report_unknown(&mut self) {
        let Some((path, table)) = &self.file else { return };
        let mut leaves = Vec::new();
        flatten(table, "", &mut leaves);
        let covers = |key: &str, leaf: &str| {
            leaf.strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let unknown = leaves
            .into_iter()
            .filter(|leaf| !self.known.iter().chain(&self.foreign).any(|key| covers(key, leaf)));
        let problems: Vec<Problem> = unknown
            .map(|key| {
                let message = match nearest(&key, self.known.iter().copied()) {
                    Some(meant) => format!("there is no such setting; did you mean {meant}?"),
                    None => "there is no such setting".to_owned(),
                };
                Problem {
                    key,
                    message,
                    source: Some(Source::File(path.clone())),
                }
            })
            .collect();
        self.problems.extend(problems);
    }
}

/// Keys only: the values may be secrets.
impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("known", &self.known)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

fn read_file(path: &Path) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        io::ErrorKind::InvalidData => "the file is not UTF-8".to_owned(),
        _ => format!("cannot read the file: {error}"),
    })?;
    // The parser's own display quotes the line, which may hold a secret.
    text.parse::<Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        format!("not valid TOML in line {line}: {}", error.message().replace('\n', ", "))
    })
}

fn at<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => at(table.get(section)?.as_table()?, rest),
    }
}

/// The key path of every value that is not a table, and of every empty table.
fn flatten(table: &Table, prefix: &str, leaves: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(inner, &key, leaves),
            _ => leaves.push(key),
        }
    }
}
