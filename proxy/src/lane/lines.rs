//! The header lines of one head, without a map: all of them are kept as they are sent, in one piece of memory.
//!
//! Heads have ten or twenty lines. Going through all of them, comparing one number each, is cheaper than hashing every name
//! that is looked for, and most names that are looked for are not there at all, which a set of 64 bits tells. Nothing is taken
//! from the heap: the space is used again for the next head. Lines that were received are written anew from name and value; those
//! that stand in memory exactly so are copied in one go. Pure; nothing here fails.

use http::HeaderValue;

use crate::filter::lines::{Fields, Lines};
use crate::filter::name::{Mark, Name};
use crate::filter::sets::Sets;

/// The lines of a head.
#[derive(Default)]
pub(super) struct HeadLines {
    /// The head as received, then lines that were added here.
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// The [bits](Mark::bit) of all lines there are or were.
    bits: u64,
    /// The sets that any of their names is in.
    sets: Sets,
    /// Lines that follow all others: each with a line end before it and none behind, so that two pieces make one. Nobody looks
    /// for them.
    said: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    /// Of the name.
    mark: Mark,
    /// That the name is in.
    sets: Sets,
    name: Span,
    value: Span,
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

impl HeadLines {
    /// Begins with the bytes of a head, of which no line is known yet.
    pub(super) fn begin(&mut self, head: &[u8]) {
        self.lines.clear();
        self.bits = 0;
        self.sets = Sets::default();
        self.said.clear();
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
    }

    /// Begins with an answer's lines as they are sent, one behind the other.
    pub(super) fn begin_with(&mut self, lines: &[u8]) {
        self.begin(lines);
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\r', lines.get(at..).unwrap_or_default()) {
            let line = &lines[at..at + end];
            if let Some(colon) = memchr::memchr(b':', line) {
                let value = Span::of(line[colon + 1..].trim_ascii(), lines);
                self.receive_answer(Sets::default(), Span::new(at, at + colon), value);
            }
            at += end + 2;
        }
    }

    /// Adds a line of a client's head that was received.
    pub(super) fn receive(&mut self, name: Span, value: Span) {
        let text = self.at(name);
        let mark = Mark::of(text);
        let sets = Sets::of(text, mark);
        self.push(Line {
            mark,
            sets,
            name,
            value,
        });
    }

    /// Adds a line of an answer's head, unless its name is in any of these sets.
    pub(super) fn receive_answer(&mut self, not: Sets, name: Span, value: Span) {
        let text = self.at(name);
        let mark = Mark::of(text);
        let sets = Sets::of_answer(text, mark);
        if !sets.meet(not) {
            self.push(Line {
                mark,
                sets,
                name,
                value,
            });
        }
    }

    fn push(&mut self, line: Line) {
        self.bits |= line.mark.bit();
        self.sets = self.sets.and(line.sets);
        self.lines.push(line);
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
        out.reserve(self.bytes.len() + 4 * self.lines.len() + self.said.len() + 2);
        let mut run = Span::default();
        for line in &self.lines {
            if self.stands_as_sent(line) {
                if run.until != line.name.from {
                    out.extend_from_slice(self.at(run));
                    run.from = line.name.from;
                }
                run.until = line.value.until + 2;
                continue;
            }
            out.extend_from_slice(self.at(run));
            run = Span::default();
            out.extend_from_slice(self.at(line.name));
            out.extend_from_slice(b": ");
            out.extend_from_slice(self.at(line.value));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(self.at(run));
        if let Some(said) = self.said.get(2..) {
            out.extend_from_slice(said);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Are the bytes from the name to behind the value what is sent of the line?
    fn stands_as_sent(&self, line: &Line) -> bool {
        line.value.from == line.name.until + 2
            && self.bytes.get(line.name.until..line.value.from) == Some(b": ")
            && self.bytes.get(line.value.until..line.value.until + 2) == Some(b"\r\n")
    }

    /// Every line, name and value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| (self.at(line.name), self.at(line.value)))
    }

    /// Removes every line of the name, which may be in any case.
    pub(super) fn strike_named(&mut self, name: &[u8]) {
        let Self { bytes, lines, .. } = self;
        lines.retain(|line| !line.name.of_bytes(bytes).eq_ignore_ascii_case(name));
    }

    /// How much space is kept.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.said.capacity()
    }

    /// The lines among which one of this mark could be.
    fn among(&self, mark: Mark) -> &[Line] {
        if self.bits & mark.bit() == 0 { &[] } else { &self.lines }
    }

    /// The lines of this name.
    fn of(&self, name: &Name) -> impl DoubleEndedIterator<Item = &Line> {
        let lines = self.among(name.mark()).iter();
        lines.filter(move |line| line.mark == name.mark() && name.is(self.at(line.name)))
    }

    /// Adds a line as it is sent.
    fn append(&mut self, name: &Name, value: &[u8]) {
        self.bytes.reserve(name.as_bytes().len() + value.len() + 4);
        let from = self.named(name);
        self.bytes.extend_from_slice(value);
        self.ended(name, from);
    }

    fn named(&mut self, name: &Name) -> usize {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b": ");
        from
    }

    fn ended(&mut self, name: &Name, from: usize) {
        let length = name.as_bytes().len();
        self.push(Line {
            mark: name.mark(),
            sets: Sets::of_answer(name.as_bytes(), name.mark()),
            name: Span::new(from, from + length),
            value: Span::new(from + length + 2, self.bytes.len()),
        });
        self.bytes.extend_from_slice(b"\r\n");
    }
}

impl Fields for HeadLines {
    fn all(&self, name: &Name) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.of(name).map(|line| self.at(line.value))
    }

    fn first(&self, name: &Name) -> Option<&[u8]> {
        Some(self.at(self.of(name).next()?.value))
    }

    fn all_named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |(given, _)| given.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    fn has_any(&self, sets: Sets) -> bool {
        self.sets.meet(sets) && self.lines.iter().any(|line| line.sets.meet(sets))
    }

    fn wire_bytes(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len() + ": \r\n".len())
            .sum()
    }
}

impl Lines for HeadLines {
    fn put(&mut self, name: &Name, value: HeaderValue) {
        self.put_ref(name, &value);
    }

    fn put_ref(&mut self, name: &Name, value: &HeaderValue) {
        self.strike(name);
        self.append(name, value.as_bytes());
    }

    fn put_text(&mut self, name: &Name, value: &str) {
        self.strike(name);
        // Without a way out of the loop it is done for many bytes at once.
        let is_text = value.bytes().fold(true, |so_far, byte| so_far & is_text_byte(byte));
        if is_text {
            self.append(name, value.as_bytes());
        }
    }

    fn put_made(&mut self, name: &Name, value: &[u8]) {
        self.strike(name);
        self.append(name, value);
    }

    fn put_copy(&mut self, name: &Name, from: &Name) {
        let value = self.of(from).next().map(|line| line.value);
        self.strike(name);
        if let Some(value) = value {
            self.bytes
                .reserve(name.as_bytes().len() + 4 + value.until.saturating_sub(value.from));
            let begins = self.named(name);
            self.bytes.extend_from_within(value.from..value.until);
            self.ended(name, begins);
        }
    }

    fn add(&mut self, name: &Name, value: HeaderValue) {
        self.append(name, value.as_bytes());
    }

    fn say(&mut self, name: &Name, value: &[u8]) {
        let before = name.before_value();
        self.said.reserve(before.len() + value.len());
        self.said.extend_from_slice(before);
        self.said.extend_from_slice(value);
    }

    fn say_ref(&mut self, name: &Name, value: &HeaderValue) {
        self.say(name, value.as_bytes());
    }

    fn strike(&mut self, name: &Name) {
        let sought = name.mark();
        if self.among(sought).iter().all(|line| line.mark != sought) {
            return;
        }
        let Self { bytes, lines, .. } = self;
        lines.retain(|line| line.mark != sought || !name.is(line.name.of_bytes(bytes)));
    }

    fn strike_sets(&mut self, sets: Sets) {
        if self.sets.meet(sets) {
            self.lines.retain(|line| !line.sets.meet(sets));
        }
    }
}

const fn is_text_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x7e)
}

impl Span {
    fn of_bytes(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.from..self.until).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};
    use proptest::prelude::*;

    use super::*;
    use crate::filter::name::name;

    fn of(lines: &[(&str, &str)]) -> HeadLines {
        let mut head = HeadLines::default();
        let mut sent = String::new();
        for (name, value) in lines {
            sent.extend([name, ": ", value, "\r\n"]);
        }
        head.begin(sent.as_bytes());
        let mut at = 0;
        for (name, value) in lines {
            let value_at = at + name.len() + 2;
            let value = Span::new(value_at, value_at + value.len());
            head.receive(Span::new(at, at + name.len()), value);
            at = value.until + 2;
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
        StrikeSets(bool),
    }

    static NAMES: [Name; 7] = [
        name!("host"),
        name!("x-a"),
        name!("x-b"),
        name!("x-request-id"),
        name!("cookie"),
        name!("accept"),
        name!("range"),
    ];

    fn change() -> impl Strategy<Value = Change> {
        let name = || 0..NAMES.len();
        let value = || "[ -~\u{7f}]{0,6}";
        prop_oneof![
            (name(), value()).prop_map(|(name, value)| Change::Put(name, value)),
            (name(), value()).prop_map(|(name, value)| Change::Text(name, value)),
            (name(), name()).prop_map(|(name, from)| Change::Copy(name, from)),
            (name(), value()).prop_map(|(name, value)| Change::Add(name, value)),
            name().prop_map(Change::Strike),
            any::<bool>().prop_map(Change::StrikeSets),
        ]
    }

    fn apply(head: &mut impl Lines, change: &Change) {
        let name = |at: &usize| &NAMES[*at];
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
            Change::Strike(at) => head.strike(name(at)),
            Change::StrikeSets(more) => head.strike_sets(Sets::CLIENT_MAY_NOT_SET.and_if(*more, Sets::PARTIAL)),
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
                    let name = NAMES[*name].header().as_str();
                    (if *upper { name.to_uppercase() } else { name.to_owned() }, value)
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
            for name in &NAMES {
                let ours: Vec<&[u8]> = lines.all(name).collect();
                let theirs: Vec<&[u8]> = Fields::all(&map, name).collect();
                prop_assert_eq!(ours, theirs);
            }
            prop_assert_eq!(lines.wire_bytes(), map.wire_bytes());
            let mut out = Vec::new();
            lines.write(&mut out);
            let anew: Vec<u8> = lines
                .iter()
                .flat_map(|(name, value)| [name, b": ", value, b"\r\n"].concat())
                .collect();
            prop_assert_eq!(out, anew);
        }
    }
}
