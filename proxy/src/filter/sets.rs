//! Sets of header names that rules ask every line of a head for.
//!
//! Owns which name belongs to which set. A name is looked up once, in a table that the compiler makes; every rule then costs a
//! comparison of bits, and a head of which no line is in any set that a rule is about is not gone through at all. Pure.

use super::name::Mark;

/// Some of the sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets(u16);

/// Declares each set with its names: in lower case, none twice in a set.
macro_rules! sets {
    ($($(#[$doc:meta])* $set:ident = $bit:literal: [$($name:literal),* $(,)?];)*) => {
        impl Sets {
            $($(#[$doc])* pub const $set: Self = Self(1 << $bit);)*
        }

        /// Every set with its names.
        const DECLARED: &[(Sets, &[&str])] = &[$((Sets::$set, &[$($name),*])),*];
    };
}

sets! {
    /// Ours in both directions: all names that begin with [`RESERVED`]. Some servers read `_` as `-`, so neither spelling may pass.
    RESERVED = 0: [];
    /// A name that a client may not set, or that must not come a second time, spelt with underscores: servers behind CGI or WSGI
    /// read both spellings as one.
    MISSPELT = 1: [];
    /// Names under which a client could pretend to be a proxy of ours, or an instance's own caller. Some are set anew afterwards.
    CLIENT_MAY_NOT_SET = 2: [
        "x-api-key",
        "x-publishable-key",
        "x-app-id",
        "x-real-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-prefix",
        "forwarded",
        "x-request-id",
        "traceparent",
        // By these some servers take another path or method than the one that was judged.
        "x-original-url",
        "x-rewrite-url",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
    ];
    /// Where a key can stand that is not for the instance.
    AUTHORIZATION = 3: ["authorization"];
    /// What others noted about a trace.
    TRACESTATE = 4: ["tracestate"];
    /// What an instance says to its own proxies, or of itself.
    NOT_FOR_CLIENTS = 5: ["keep-alive", "proxy-connection", "server", "x-powered-by"];
    /// How the caller stands with its limit: the edge's to say once it was judged.
    STANDING = 6: [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "ratelimit",
        "ratelimit-policy",
    ];
    /// What browsers are told about other origins, which the edge alone tells them.
    BROWSERS_ARE_TOLD = 7: [
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-expose-headers",
        "access-control-max-age",
        "access-control-allow-private-network",
    ];
    /// What an answer says of its whole origin, which on the shared host is everybody's; and what the edge says there itself.
    ORIGIN_WIDE = 8: [
        "accept-ch",
        "alt-svc",
        "clear-site-data",
        "nel",
        "origin-agent-cluster",
        "public-key-pins",
        "report-to",
        "service-worker-allowed",
        "strict-transport-security",
        "x-content-type-options",
    ];
    /// Asks for a part, or on a condition (RFC 9110 sections 13 and 14).
    PARTIAL = 9: [
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
    ];
    /// Of a request: the connection's own, or changes how the exchange goes on. Such a request is not for the lane.
    NOT_FOR_THE_LANE = 10: [
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    /// Of an answer: of the connection with the instance. Never passed on.
    HOP_BY_HOP = 11: ["connection", "te", "trailer", "transfer-encoding", "upgrade"];
    /// Which the edge says itself.
    DATE = 12: ["date"];
}

/// All names that begin so are ours.
pub const RESERVED: &[u8] = b"x-authsome-";

/// Names that a client may set, or that are set for it, and that must not come a second time in another spelling.
const DISGUISED: [&str; 3] = ["content-length", "content-type", "transfer-encoding"];

impl Sets {
    /// Those that the name, which may be in any case, is in. `mark`: its mark.
    pub fn of(name: &[u8], mark: Mark) -> Self {
        Self::of_answer(name, mark).and_if(is_misspelt(name), Self::MISSPELT)
    }

    /// As [`Self::of`], of an answer's line: nobody asks how an instance spells [`Self::MISSPELT`].
    pub fn of_answer(name: &[u8], mark: Mark) -> Self {
        TABLE.find(name, mark).and_if(is_reserved(name), Self::RESERVED)
    }

    /// As [`Self::of`], of a name whose mark is not known.
    pub fn of_name(name: &[u8]) -> Self {
        Self::of(name, Mark::of(name))
    }

    /// Both.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Both, if so.
    #[must_use]
    pub const fn and_if(self, also: bool, others: Self) -> Self {
        if also { self.and(others) } else { self }
    }

    /// Is any in both?
    pub const fn meet(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

fn is_reserved(name: &[u8]) -> bool {
    name.get(..RESERVED.len())
        .is_some_and(|begin| begin[0] | 0x20 == b'x' && reads_as(begin, RESERVED))
}

fn reads_as(given: &[u8], ours: &[u8]) -> bool {
    given.len() == ours.len()
        && given
            .iter()
            .zip(ours)
            .all(|(given, ours)| given.to_ascii_lowercase() == *ours || (*given == b'_' && *ours == b'-'))
}

fn is_misspelt(name: &[u8]) -> bool {
    // Without a way out of the loop it is done for many bytes at once.
    let underscores = name.iter().fold(0, |so_far, byte| so_far | u8::from(*byte == b'_'));
    underscores != 0 && is_misspelling(name)
}

#[cold]
fn is_misspelling(name: &[u8]) -> bool {
    let protected = TABLE
        .all()
        .iter()
        .filter(|known| known.sets.meet(Sets::CLIENT_MAY_NOT_SET));
    protected
        .map(|known| known.name)
        .chain(DISGUISED)
        .any(|ours| reads_as(name, ours.as_bytes()))
}

/// A name and the sets that it is in.
#[derive(Clone, Copy)]
struct Known {
    mark: Mark,
    sets: Sets,
    name: &'static str,
}

/// Places in the table, several for each name; a power of two.
const PLACES: usize = 256;
/// More names than there are.
const MOST: usize = 100;

/// All names, found by their marks.
struct Table {
    known: [Known; MOST],
    count: usize,
    /// One more than where the name is; 0 where there is none. A place that is taken leads to the next one.
    places: [u8; PLACES],
}

static TABLE: Table = Table::new();

impl Table {
    const fn new() -> Self {
        let nobody = Known {
            mark: Mark::of(b""),
            sets: Sets(0),
            name: "",
        };
        let mut table = Self {
            known: [nobody; MOST],
            count: 0,
            places: [0; PLACES],
        };
        let mut set = 0;
        while set < DECLARED.len() {
            let (sets, names) = DECLARED[set];
            let mut at = 0;
            while at < names.len() {
                table.add(names[at], sets);
                at += 1;
            }
            set += 1;
        }
        table
    }

    const fn add(&mut self, name: &'static str, sets: Sets) {
        let mark = Mark::of(name.as_bytes());
        let mut place = mark.place(PLACES);
        while self.places[place] != 0 {
            let known = &mut self.known[self.places[place] as usize - 1];
            if is_same(known.name, name) {
                known.sets = known.sets.and(sets);
                return;
            }
            place = (place + 1) % PLACES;
        }
        self.known[self.count] = Known { mark, sets, name };
        self.count += 1;
        assert!(
            self.count < MOST && MOST < u8::MAX as usize,
            "more names than there is room for"
        );
        #[expect(
            clippy::cast_possible_truncation,
            reason = "less than a byte holds, as was just seen"
        )]
        let number = self.count as u8;
        self.places[place] = number;
    }

    fn find(&self, name: &[u8], mark: Mark) -> Sets {
        let mut place = mark.place(PLACES);
        // Fewer names than places: there is always a place without one.
        while let Some(known) = usize::from(self.places[place]).checked_sub(1).map(|at| &self.known[at]) {
            if known.mark == mark && name.eq_ignore_ascii_case(known.name.as_bytes()) {
                return known.sets;
            }
            place = (place + 1) % PLACES;
        }
        Sets::default()
    }

    fn all(&self) -> &[Known] {
        &self.known[..self.count]
    }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the declaration says it, name by name.
    fn declared(name: &str) -> Sets {
        let lower = name.to_ascii_lowercase();
        let dashed = lower.replace('_', "-");
        let of = |sets: &mut Sets, set: Sets| *sets = sets.and(set);
        let mut sets = Sets::default();
        for (set, names) in DECLARED {
            if names.contains(&&*lower) {
                of(&mut sets, *set);
            }
        }
        if dashed.starts_with("x-authsome-") {
            of(&mut sets, Sets::RESERVED);
        }
        let is_protected = |names: &&(Sets, &[&str])| names.0 == Sets::CLIENT_MAY_NOT_SET;
        let protected = DECLARED.iter().find(is_protected).unwrap().1;
        if lower.contains('_') && (protected.contains(&&*dashed) || DISGUISED.contains(&&*dashed)) {
            of(&mut sets, Sets::MISSPELT);
        }
        sets
    }

    #[test]
    fn every_name_is_in_its_sets_in_any_case_and_spelling() {
        let all = DECLARED.iter().flat_map(|(_, names)| *names).chain(&DISGUISED);
        let mut seen = 0;
        for name in all.chain(&["x-authsome-app-id", "x-authsome-", "content-type"]) {
            for spelt in [(*name).to_owned(), name.to_uppercase(), name.replace('-', "_")] {
                assert_eq!(Sets::of_name(spelt.as_bytes()), declared(&spelt), "{spelt}");
                seen += 1;
            }
        }
        assert!(seen > 200);
    }

    proptest! {
        #[test]
        fn every_other_name_is_in_none(name in "[!-~]{0,20}") {
            prop_assert_eq!(Sets::of_name(name.as_bytes()), declared(&name));
        }

        #[test]
        fn names_like_those_that_are_known_are_not_taken_for_them(
            at in 0..TABLE.all().len(),
            place in any::<proptest::sample::Index>(),
            byte in b'!'..=b'~',
        ) {
            let mut name = TABLE.all()[at].name.as_bytes().to_vec();
            let place = place.index(name.len());
            name[place] = byte;
            let name = String::from_utf8(name).unwrap();
            prop_assert_eq!(Sets::of_name(name.as_bytes()), declared(&name), "{}", name);
        }
    }
}
