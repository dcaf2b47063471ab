//! What an application lets the edge's response cache do.

use serde::{Deserialize, Serialize};

use super::path_class::{PATTERN_BYTES, is_ambiguous, is_pattern, matches};

/// Most rules of one application: they are looked at one after another for each request that could be cached.
pub const MOST_RULES: usize = 32;
/// Longest time to live that a rule may give, seconds: a week.
pub const MOST_TTL_SECONDS: u32 = 7 * 86_400;

/// Whether responses are kept, and for which paths otherwise than their headers say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachePolicy {
    /// Is anything of this application kept at all?
    #[serde(default = "on")]
    pub enabled: bool,
    /// First match wins; a path that no rule names is treated as the response's headers say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<CacheRule>,
}

/// One line of a [`CachePolicy`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheRule {
    /// Path below the application, in the form of [`PathRule::pattern`](super::PathRule::pattern).
    pub pattern: String,
    /// How long a cacheable response without freshness of its own stays fresh, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
    /// Neither kept nor answered from the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass: bool,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            rules: Vec::new(),
        }
    }
}

impl CachePolicy {
    /// Is this what an application has that never said anything?
    pub fn is_default(&self) -> bool {
        self.enabled && self.rules.is_empty()
    }

    /// The rule for a path relative to the application, without its query. A path that two servers could read differently
    /// has none; whoever caches should leave it alone. Allocates nothing.
    pub fn rule(&self, path: &str) -> Option<&CacheRule> {
        if self.rules.is_empty() || is_ambiguous(path) {
            return None;
        }
        self.rules.iter().find(|rule| matches(&rule.pattern, path))
    }

    /// Names each field that is out of its bounds, with what is expected of it.
    pub fn check(&self, refuse: &mut dyn FnMut(&str, String)) {
        if self.rules.len() > MOST_RULES {
            refuse("rules", format!("must be at most {MOST_RULES}"));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if !is_pattern(&rule.pattern) {
                refuse(
                    &format!("rules[{index}].pattern"),
                    format!("must be a path pattern of at most {PATTERN_BYTES} bytes"),
                );
            }
            if rule
                .ttl_seconds
                .is_some_and(|ttl| !(1..=MOST_TTL_SECONDS).contains(&ttl))
            {
                refuse(
                    &format!("rules[{index}].ttlSeconds"),
                    format!("must be from 1 to {MOST_TTL_SECONDS}"),
                );
            }
            if rule.bypass == rule.ttl_seconds.is_some() {
                refuse(
                    &format!("rules[{index}]"),
                    "must have either ttlSeconds or bypass".to_owned(),
                );
            }
        }
    }
}

fn on() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> CachePolicy {
        serde_json::from_str(json).unwrap()
    }

    fn faults(policy: &CachePolicy) -> Vec<String> {
        let mut found = Vec::new();
        policy.check(&mut |field, _| found.push(field.to_owned()));
        found
    }

    #[test]
    fn caching_is_on_until_it_is_switched_off() {
        assert!(policy("{}").is_default());
        assert!(!policy(r#"{"enabled":false}"#).enabled);
        assert_eq!(serde_json::to_value(CachePolicy::default()).unwrap()["enabled"], true);
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_an_ambiguous_path_has_none() {
        let policy =
            policy(r#"{"rules":[{"pattern":"/v1/client-config","ttlSeconds":60},{"pattern":"/v1/**","bypass":true}]}"#);
        assert_eq!(faults(&policy), [""; 0]);
        assert_eq!(policy.rule("/v1/client-config").unwrap().ttl_seconds, Some(60));
        assert!(policy.rule("/v1/me").unwrap().bypass);
        assert!(policy.rule("/other").is_none());
        assert!(policy.rule("/v1/../v1/client-config").is_none());
    }

    #[test]
    fn every_rule_out_of_bounds_is_named() {
        let wrong = policy(
            r#"{"rules":[{"pattern":"/a","ttlSeconds":0},{"pattern":"a","bypass":true},{"pattern":"/b"},
                {"pattern":"/c","ttlSeconds":5,"bypass":true}]}"#,
        );
        assert_eq!(
            faults(&wrong),
            ["rules[0].ttlSeconds", "rules[1].pattern", "rules[2]", "rules[3]"]
        );
        let many = CachePolicy {
            enabled: true,
            rules: vec![policy(r#"{"rules":[{"pattern":"/a","bypass":true}]}"#).rules[0].clone(); MOST_RULES + 1],
        };
        assert_eq!(faults(&many), ["rules"]);
    }
}
