//! What a team may set of its application at the edge: its form in the API, and what of it is allowed. Pure.

use authsome_contract::model::{CachePolicy, CacheRule, PathClass, PathRule, Scope, path_class};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::key::origin;
use crate::error::Fields;

/// Most origins, and most rules for paths, of one application: the edge looks at each of them.
const LIST_MAX: usize = 100;
/// How long an application may let its secret keys be decided without a heartbeat, in seconds.
const STRICT_SECONDS: std::ops::RangeInclusive<u32> = 5..=86_400;
/// Most methods of one rule.
const METHODS_MAX: usize = 10;

/// What the edge does for the application. What is left out has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct EdgeSettings {
    /// Exact browser origins that may call the application, at most 100.
    #[schema(example = json!(["https://app.example.com"]), max_items = 100)]
    pub origins: Vec<String>,
    /// For how many seconds edges may decide about secret keys without hearing from the platform; past them they are
    /// refused with 503. `null`: for as long as edges serve at all.
    #[schema(minimum = 5, maximum = 86_400)]
    pub strict_seconds: Option<u32>,
    /// Accept secret keys from browsers. A secret key in a browser is readable by whoever uses it.
    pub secret_from_browsers: bool,
    /// Which credential paths need, before the defaults; first match wins, at most 100.
    #[schema(max_items = 100)]
    pub path_policy: Vec<PathRuleSettings>,
    /// What the response cache may do.
    pub cache_policy: CacheSettings,
}

/// The credential that paths need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PathRuleSettings {
    /// Upper-case methods; every one where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["GET"]), max_items = 10)]
    pub methods: Vec<String>,
    /// Path below the application: literal segments, `*` for one segment, `**` at the end for any number.
    #[schema(example = "/v1/catalogue/**", max_length = 256)]
    pub pattern: String,
    /// What it needs.
    pub class: Credential,
    /// Class `secret` only: the scope that the key must have; every scope where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "users:read")]
    pub scope: Option<Scope>,
}

/// A credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// None.
    Open,
    /// A public or a secret key.
    Publishable,
    /// A secret key.
    Secret,
}

/// The response cache of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CacheSettings {
    /// Keep responses that say that they may be shared.
    pub enabled: bool,
    /// First match wins, at most 32.
    #[schema(max_items = 32)]
    pub rules: Vec<CacheRuleSettings>,
}

/// What the cache does with paths; either `ttlSeconds` or `bypass`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CacheRuleSettings {
    /// As in a rule for paths.
    #[schema(example = "/v1/client-config", max_length = 256)]
    pub pattern: String,
    /// How long a response that may be shared and says nothing of its freshness stays fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub ttl_seconds: Option<u32>,
    /// Neither keep responses nor answer from the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass: bool,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self::from(CachePolicy::default())
    }
}

impl EdgeSettings {
    /// As they are kept: origins as browsers send them. Names every field that is not allowed, below `edge`.
    pub(super) fn checked(mut self, fields: &mut Fields) -> Self {
        fields.require(self.origins.len() <= LIST_MAX, "edge.origins", "must be at most 100");
        let mut origins = Vec::with_capacity(self.origins.len().min(LIST_MAX));
        for (position, text) in self.origins.iter().enumerate() {
            if let Some(kept) = fields.take(&format!("edge.origins[{position}]"), origin(text))
                && !origins.contains(&kept)
            {
                origins.push(kept);
            }
        }
        self.origins = origins;
        fields.require(
            self.strict_seconds
                .is_none_or(|seconds| STRICT_SECONDS.contains(&seconds)),
            "edge.strictSeconds",
            "must be from 5 to 86400, or null",
        );
        fields.require(
            self.path_policy.len() <= LIST_MAX,
            "edge.pathPolicy",
            "must be at most 100",
        );
        for (position, rule) in self.path_policy.iter().enumerate() {
            rule.check(&format!("edge.pathPolicy[{position}]"), fields);
        }
        CachePolicy::from(&self.cache_policy)
            .check(&mut |field, reason| fields.refuse(format!("edge.cachePolicy.{field}"), reason));
        self
    }
}

impl PathRuleSettings {
    fn check(&self, path: &str, fields: &mut Fields) {
        fields.require(
            path_class::is_pattern(&self.pattern),
            &format!("{path}.pattern"),
            "must be a path pattern of at most 256 bytes, such as /v1/catalogue/**",
        );
        let is_method = |name: &String| (1..=20).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase());
        fields.require(
            self.methods.len() <= METHODS_MAX && self.methods.iter().all(is_method),
            &format!("{path}.methods"),
            "must be at most 10 upper-case methods",
        );
        fields.require(
            self.class == Credential::Secret || self.scope.is_none(),
            &format!("{path}.scope"),
            "belongs to the class secret",
        );
    }
}

impl From<&PathRuleSettings> for PathRule {
    fn from(rule: &PathRuleSettings) -> Self {
        Self {
            methods: rule.methods.clone(),
            pattern: rule.pattern.clone(),
            class: match rule.class {
                Credential::Open => PathClass::Open,
                Credential::Publishable => PathClass::Publishable,
                Credential::Secret => PathClass::Secret(rule.scope),
            },
        }
    }
}

impl From<PathRule> for PathRuleSettings {
    fn from(rule: PathRule) -> Self {
        let (class, scope) = match rule.class {
            PathClass::Open => (Credential::Open, None),
            PathClass::Publishable => (Credential::Publishable, None),
            PathClass::Secret(scope) => (Credential::Secret, scope),
        };
        Self {
            methods: rule.methods,
            pattern: rule.pattern,
            class,
            scope,
        }
    }
}

impl From<&CacheSettings> for CachePolicy {
    fn from(settings: &CacheSettings) -> Self {
        let rules = settings.rules.iter().map(|rule| CacheRule {
            pattern: rule.pattern.clone(),
            ttl_seconds: rule.ttl_seconds,
            bypass: rule.bypass,
        });
        Self {
            enabled: settings.enabled,
            rules: rules.collect(),
        }
    }
}

impl From<CachePolicy> for CacheSettings {
    fn from(policy: CachePolicy) -> Self {
        let rules = policy.rules.into_iter().map(|rule| CacheRuleSettings {
            pattern: rule.pattern,
            ttl_seconds: rule.ttl_seconds,
            bypass: rule.bypass,
        });
        Self {
            enabled: policy.enabled,
            rules: rules.collect(),
        }
    }
}
