//! What an operator sets about limits: the section `limits.*` as far as it is about how many and how often.

use std::num::NonZeroU32;

use authsome_core::config::Reader;

/// Bounds on callers.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// `limits.in_flight`: requests at once, of all applications, without upgraded connections and event streams.
    pub in_flight: usize,
    /// `limits.connections_per_address`: open connections of one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// `limits.refusals_per_address`: answers 401 a second to one IPv4 address or IPv6 /64; ten seconds' worth at once.
    pub refusals_per_address: NonZeroU32,
    /// `limits.assumed_edges`: how many edges share the limits until Redis or NATS has told.
    pub assumed_edges: u32,
}

impl LimitSettings {
    /// Reads them; what is wrong is kept by the reader.
    pub fn read(reader: &mut Reader) -> Self {
        let refusals = bounded(reader, "limits.refusals_per_address", 10, 100_000);
        Self {
            in_flight: bounded(reader, "limits.in_flight", 16_384, 1_000_000) as usize,
            connections_per_address: bounded(reader, "limits.connections_per_address", 1_024, 1_000_000) as usize,
            refusals_per_address: NonZeroU32::new(refusals).unwrap_or(NonZeroU32::MIN),
            assumed_edges: bounded(reader, "limits.assumed_edges", 1, 4_096),
        }
    }
}

/// A whole number from 1 to `most`.
fn bounded(reader: &mut Reader, key: &'static str, default: u32, most: u32) -> u32 {
    let value = reader.or(key, default);
    reader.check(key, (1..=most).contains(&value), &format!("must be 1 to {most}"));
    value
}

#[cfg(test)]
mod tests {
    use authsome_core::config::Environment;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<LimitSettings, String> {
        let environment: Environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Reader::new(None, environment)
            .finish(|reader| Some(LimitSettings::read(reader)))
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn each_has_a_default_and_bounds() {
        assert_eq!(read(&[]).unwrap().in_flight, 16_384);
        let set = read(&[("AUTHSOME_LIMITS_ASSUMED_EDGES", "50")]).unwrap();
        assert_eq!(set.assumed_edges, 50);
        let problems = read(&[
            ("AUTHSOME_LIMITS_IN_FLIGHT", "0"),
            ("AUTHSOME_LIMITS_CONNECTIONS_PER_ADDRESS", "1000001"),
            ("AUTHSOME_LIMITS_REFUSALS_PER_ADDRESS", "0"),
        ])
        .unwrap_err();
        for key in [
            "limits.in_flight",
            "limits.connections_per_address",
            "limits.refusals_per_address",
        ] {
            assert!(problems.contains(key), "{key} is not in\n{problems}");
        }
    }
}
