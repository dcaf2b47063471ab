//! W3C Trace Context: what `traceparent` and `tracestate` say, and what they say to the instance.
//!
//! Owns the strict reading of both (<https://www.w3.org/TR/trace-context/>): what is not of the form is as if it were not
//! there, so that no instance has to cope with it. The edge is a span of its own: the instance reads its id, not the
//! client's. Pure.

/// The flag that says that the caller may record the trace.
const SAMPLED: u8 = 1;
/// Of `tracestate`, combined; the specification asks for at least 512.
const STATE_BYTES: usize = 1024;
/// Of `tracestate`, in members.
const STATE_MEMBERS: usize = 32;

/// What a valid `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The caller's span; never zero.
    pub span_id: u64,
    /// Does the caller record the trace?
    pub is_sampled: bool,
}

/// Reads `traceparent`. Later versions are read by the fields of this one, as the specification demands.
pub fn parse(value: &[u8]) -> Option<Parent> {
    let (fields, rest) = value.split_at_checked(55)?;
    if fields[2] != b'-' || fields[35] != b'-' || fields[52] != b'-' {
        return None;
    }
    let version = hex(&fields[..2])?;
    let later_fields = rest.is_empty() || (version > 0 && rest[0] == b'-');
    if version == 0xff || !later_fields {
        return None;
    }
    let trace_id = hex(&fields[3..35]).filter(|id| *id != 0)?;
    let span_id = hex(&fields[36..52])
        .and_then(|id| u64::try_from(id).ok())
        .filter(|id| *id != 0)?;
    let flags = u8::try_from(hex(&fields[53..])?).ok()?;
    Some(Parent {
        trace_id,
        span_id,
        is_sampled: flags & SAMPLED != 0,
    })
}

/// Lower-case hexadecimal digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Is this, all its headers together, a `tracestate`? (Section 3.3.1: `key=value` members between commas.)
pub fn is_state<'a>(values: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut members, mut bytes) = (0, 0);
    for value in values {
        bytes += value.len();
        for member in value
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
        {
            members += 1;
            if !is_member(member) {
                return false;
            }
        }
    }
    members > 0 && members <= STATE_MEMBERS && bytes <= STATE_BYTES
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|b| *b == b'=') else {
        return false;
    };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let key_byte = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let begins = key
        .first()
        .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let ats = key.iter().filter(|b| **b == b'@').take(2).count();
    begins
        && key.len() <= 256
        && ats <= 1
        && key.iter().all(key_byte)
        && (1..=256).contains(&value.len())
        && value.iter().all(|b| matches!(b, 0x20..=0x7e) && *b != b'=')
}

/// The trace that a request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace_id: u128,
    /// The client's span, if it sent one.
    pub parent: Option<u64>,
    /// The edge's span for the request.
    pub span: u64,
    /// The edge's span for the instance's answer, which the instance reads as its parent.
    pub upstream_span: u64,
    /// May it be recorded, here and by the instance?
    pub is_sampled: bool,
}

impl Trace {
    /// Goes on with the client's trace, or begins one. `spans`: random. `sample`: decides for a new trace by its id.
    pub fn continued(parent: Option<Parent>, new_trace: u128, spans: [u64; 2], sample: impl Fn(u128) -> bool) -> Self {
        let [span, upstream_span] = spans.map(|span| span.max(1));
        match parent {
            Some(parent) => Self {
                trace_id: parent.trace_id,
                parent: Some(parent.span_id),
                span,
                upstream_span,
                is_sampled: parent.is_sampled,
            },
            None => Self {
                trace_id: new_trace.max(1),
                parent: None,
                span,
                upstream_span,
                is_sampled: sample(new_trace),
            },
        }
    }

    /// The `traceparent` for the instance.
    pub fn header(&self) -> ParentText {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(self.trace_id, &mut text[3..35]);
        write_hex(self.upstream_span.into(), &mut text[36..52]);
        text[54] += u8::from(self.is_sampled);
        ParentText(text)
    }
}

/// A `traceparent` as text.
#[derive(Debug, Clone, Copy)]
pub struct ParentText([u8; 55]);

impl ParentText {
    /// The same as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::Deref for ParentText {
    type Target = str;

    fn deref(&self) -> &str {
        // Hexadecimal digits and hyphens.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The lowest digits of `value`, as many as there are places.
fn write_hex(mut value: u128, places: &mut [u8]) {
    for place in places.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// Decides by a trace's id, the same at every edge, so that one ratio holds for whole traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio(u64);

impl Ratio {
    /// 0.0 records nothing, 1.0 everything.
    pub fn new(share: f64) -> Option<Self> {
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of 2^56 that is off by rounding is the same share"
        )]
        Some(Self((share * (1_u64 << 56) as f64) as u64))
    }

    /// Is the trace recorded? By the last 56 bits, which are random in every id (Trace Context level 2, section 3.2.2.3.1).
    pub fn samples(self, trace_id: u128) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
        let random = trace_id as u64 & ((1 << 56) - 1);
        random < self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_a_traceparent_of_the_form_is_read() {
        let parent = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parent.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span_id, parent.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert!(
            parse(format!("cc{}", &GOOD[2..]).as_bytes()).is_some(),
            "a later version"
        );
        assert!(parse(format!("cc{}-more", &GOOD[2..]).as_bytes()).is_some());
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            format!("{GOOD}0"),
            format!("cc{}more", &GOOD[2..]),
            format!("ff{}", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", "0".repeat(16)),
            GOOD.replace("b7", "+7"),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn only_a_tracestate_of_the_form_is_passed_on() {
        let is = |values: &[&str]| is_state(values.iter().map(|value| value.as_bytes()));
        assert!(is(&[
            "a=b",
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE , tenant@vendor=x"
        ]));
        assert!(is(&["a=b,,c=d"]));
        for bad in [
            "", ",", "a", "=b", "A=b", "a=", "a=b=c", "a@b@c=d", "a=\u{e9}", "a b=c", "@a=b",
        ] {
            assert!(!is(&[bad]), "{bad}");
        }
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=v")).collect();
        assert!(is(&[&many[..32].join(",")]));
        assert!(!is(&[&many.join(",")]));
        assert!(!is(&[&format!("a={}", "x".repeat(257))]));
        assert!(!is(&[&vec![format!("a={}", "x".repeat(256)); 5].join(",")]));
    }

    #[test]
    fn the_ratio_is_kept() {
        let ids = || (0..10_000_u64).map(|n| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let taken = |share| ids().filter(|id| Ratio::new(share).unwrap().samples(*id)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&taken(0.25)), "{}", taken(0.25));
        assert_eq!([Ratio::new(-0.1), Ratio::new(1.1), Ratio::new(f64::NAN)], [None; 3]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            trace in 1..u128::MAX, spans in any::<[u64; 2]>(), is_sampled in any::<bool>(), client in 1..u64::MAX,
        ) {
            let began = Trace::continued(None, trace, spans, |_| is_sampled);
            let read = parse(began.header().as_bytes()).unwrap();
            prop_assert_eq!(read, Parent { trace_id: trace, span_id: spans[1].max(1), is_sampled });
            let parent = Parent { trace_id: trace, span_id: client, is_sampled };
            let continued = Trace::continued(Some(parent), 7, spans, |_| !is_sampled);
            let read = parse(continued.header().as_bytes()).unwrap();
            prop_assert_eq!((read.trace_id, read.is_sampled, continued.parent), (trace, is_sampled, Some(client)));
        }

        #[test]
        fn no_input_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(parent) = parse(&value) {
                prop_assert!(parent.trace_id != 0 && parent.span_id != 0);
            }
            let _ = is_state(std::iter::once(&value[..]));
        }
    }
}
