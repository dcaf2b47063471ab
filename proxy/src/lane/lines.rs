//! The header lines of one head, without a map: names and values stay where they were received, and what is added is kept
//! beside them.
//!
//! Heads have ten or twenty lines. Going through all of them, comparing one number each, is cheaper than hashing every name
//! that is looked for, and takes nothing from the heap: the space is used again for the next head. Pure; nothing here fails.

use http::{HeaderName, HeaderValue};

use crate::filter::lines::{Fields, Lines};

/// The lines of a head.
#[derive(Default)]
pub(super) struct HeadLines {
    /// The head as received, then values that were made here.
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

struct Line {
    /// [`mark`] of the name.
    mark: u32,
    name: Name,
    value: Value,
}

enum Name {
    Received(Span),
    Ours(HeaderName),
}

enum Value {
    Received(Span),
    Ours(HeaderValue),
}

/// A part of the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    from: usize,
    until: usize,
}

impl Span {
    /// From the first of these places to the one before the last.
    pub(super) fn new(from: usize, until: usize) -> Self {
        Self { from, until }
    }

    /// Where `part` is within `whole`, which it must be a part of.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Self {
        let from = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Self::new(from, from + part.len())
    }
}

/// Differs for most names that differ, and never for the same name in another case.
fn mark(name: &[u8]) -> u32 {
    let letter = |at: Option<&u8>| u32::from(at.map_or(0, u8::to_ascii_lowercase));
    let middle = name.get(name.len() / 2);
    // Names are shorter than a head, and only equality counts.
    #[expect(clippy::cast_possible_truncation, reason = "part of a mark that need not be unique")]
    let length = name.len() as u32;
    letter(name.first()) << 24 | letter(name.last()) << 16 | letter(middle) << 8 | length & 0xff
}

impl HeadLines {
    /// Begins with the bytes of a head, of which no line is known yet.
    pub(super) fn begin(&mut self, head: &[u8]) {
        self.lines.clear();
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
    }

    /// Adds a line of the head that was received.
    pub(super) fn receive(&mut self, name: Span, value: Span) {
        self.lines.push(Line {
            mark: mark(self.at(name)),
            name: Name::Received(name),
            value: Value::Received(value),
        });
    }

    /// A part of what was received.
    pub(super) fn at(&self, span: Span) -> &[u8] {
        self.bytes.get(span.from..span.until).unwrap_or_default()
    }

    /// A part of what was received, if it is text.
    pub(super) fn text_at(&self, span: Span) -> &str {
        str::from_utf8(self.at(span)).unwrap_or_default()
    }

    /// Appends all lines as they are sent.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.wire_bytes());
        for line in &self.lines {
            out.extend_from_slice(self.name(line));
            out.extend_from_slice(b": ");
            out.extend_from_slice(self.value(line));
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Every line, name and value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.name(line), self.value(line)))
    }

    /// How much space is kept.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn name<'a>(&'a self, line: &'a Line) -> &'a [u8] {
        match &line.name {
            Name::Received(span) => self.at(*span),
            Name::Ours(name) => name.as_str().as_bytes(),
        }
    }

    fn value<'a>(&'a self, line: &'a Line) -> &'a [u8] {
        match &line.value {
            Value::Received(span) => self.at(*span),
            Value::Ours(value) => value.as_bytes(),
        }
    }

    fn keep(&mut self, value: &[u8]) -> Span {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(value);
        Span::new(from, self.bytes.len())
    }

    fn replace(&mut self, name: HeaderName, value: Value) {
        self.strike(&name);
        self.push(name, value);
    }

    fn push(&mut self, name: HeaderName, value: Value) {
        self.lines.push(Line {
            mark: mark(name.as_str().as_bytes()),
            name: Name::Ours(name),
            value,
        });
    }
}

impl Fields for HeadLines {
    fn all(&self, name: HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let sought = mark(name.as_str().as_bytes());
        self.lines
            .iter()
            .filter(move |line| line.mark == sought && self.name(line).eq_ignore_ascii_case(name.as_str().as_bytes()))
            .map(|line| self.value(line))
    }

    fn wire_bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len() + ": \r\n".len())
            .sum()
    }
}

impl Lines for HeadLines {
    fn put(&mut self, name: HeaderName, value: HeaderValue) {
        self.replace(name, Value::Ours(value));
    }

    fn put_text(&mut self, name: HeaderName, value: &str) {
        if value.bytes().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e)) {
            let span = self.keep(value.as_bytes());
            self.replace(name, Value::Received(span));
        } else {
            self.strike(&name);
        }
    }

    fn put_copy(&mut self, name: HeaderName, from: HeaderName) {
        let sought = mark(from.as_str().as_bytes());
        let value = self.lines.iter().find_map(|line| {
            let same = line.mark == sought && self.name(line).eq_ignore_ascii_case(from.as_str().as_bytes());
            same.then(|| match &line.value {
                Value::Received(span) => Value::Received(*span),
                Value::Ours(value) => Value::Ours(value.clone()),
            })
        });
        match value {
            Some(value) => self.replace(name, value),
            None => self.strike(&name),
        }
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.push(name, Value::Ours(value));
    }

    fn strike(&mut self, name: &HeaderName) {
        let name = name.as_str().as_bytes();
        let sought = mark(name);
        if self.lines.iter().all(|line| line.mark != sought) {
            return;
        }
        let Self { bytes, lines } = self;
        lines.retain(|line| line.mark != sought || !line.name.of(bytes).eq_ignore_ascii_case(name));
    }

    fn strike_where(&mut self, is_such: impl Fn(&[u8]) -> bool) {
        let Self { bytes, lines } = self;
        lines.retain(|line| !is_such(line.name.of(bytes)));
    }
}

impl Name {
    fn of<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Received(span) => bytes.get(span.from..span.until).unwrap_or_default(),
            Self::Ours(name) => name.as_str().as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[(&str, &str)]) -> HeadLines {
        let mut head = HeadLines::default();
        head.begin(b"");
        for (name, value) in lines {
            let (name, value) = (head.keep(name.as_bytes()), head.keep(value.as_bytes()));
            head.receive(name, value);
        }
        head
    }

    #[derive(Debug, Clone)]
    enum Change {
        Put(usize, String),
        Text(usize, String),
        Copy(usize, usize),
        Add(usize, String),
        Strike(usize),
        StrikeWhere(usize),
    }

    const NAMES: [&str; 6] = ["host", "x-a", "x-b", "x-request-id", "cookie", "accept"];

    fn change() -> impl Strategy<Value = Change> {
        let name = || 0..NAMES.len();
        let value = || "[ -~\u{7f}]{0,6}";
        prop_oneof![
            (name(), value()).prop_map(|(name, value)| Change::Put(name, value)),
            (name(), value()).prop_map(|(name, value)| Change::Text(name, value)),
            (name(), name()).prop_map(|(name, from)| Change::Copy(name, from)),
            (name(), value()).prop_map(|(name, value)| Change::Add(name, value)),
            name().prop_map(Change::Strike),
            name().prop_map(Change::StrikeWhere),
        ]
    }

    fn apply(head: &mut impl Lines, change: &Change) {
        let name = |at: &usize| HeaderName::from_static(NAMES[*at]);
        match change {
            Change::Put(at, value) => {
                if let Ok(value) = HeaderValue::from_str(value) {
                    head.put(name(at), value);
                }
            }
            Change::Text(at, value) => head.put_text(name(at), value),
            Change::Copy(at, from) => head.put_copy(name(at), name(from)),
            Change::Add(at, value) => {
                if let Ok(value) = HeaderValue::from_str(value) {
                    head.add(name(at), value);
                }
            }
            Change::Strike(at) => head.strike(&name(at)),
            Change::StrikeWhere(at) => head.strike_where(|given| given.eq_ignore_ascii_case(NAMES[*at].as_bytes())),
        }
    }

    proptest! {
        #[test]
        fn the_lines_are_those_that_a_map_would_hold(
            received in proptest::collection::vec((0..NAMES.len(), any::<bool>(), "[!-~]{0,6}"), 0..12),
            changes in proptest::collection::vec(change(), 0..20),
        ) {
            let spelt: Vec<(String, &String)> = received
                .iter()
                .map(|(name, upper, value)| {
                    (if *upper { NAMES[*name].to_uppercase() } else { NAMES[*name].to_owned() }, value)
                })
                .collect();
            let mut lines = of(&spelt.iter().map(|(name, value)| (&**name, value.as_str())).collect::<Vec<_>>());
            let mut map = HeaderMap::new();
            for (name, value) in &spelt {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            for change in &changes {
                apply(&mut lines, change);
                apply(&mut map, change);
            }
            for name in NAMES.map(HeaderName::from_static) {
                let ours: Vec<&[u8]> = lines.all(name.clone()).collect();
                let theirs: Vec<&[u8]> = Fields::all(&map, name).collect();
                prop_assert_eq!(ours, theirs);
            }
            prop_assert_eq!(lines.wire_bytes(), map.wire_bytes());
            let mut out = Vec::new();
            lines.write(&mut out);
            prop_assert_eq!(out.len(), lines.wire_bytes());
        }
    }
}
