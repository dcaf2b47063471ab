//! The published schema of an application's configuration: the settings of an AuthSome instance that a team may choose, in the
//! instance's own names. Pure. Secrets have no place in it: they are set where they cannot be read again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::Fields;
use crate::shape;

/// The largest configuration, in bytes of JSON.
const CONFIG_MAX: usize = 64 * 1024;

/// Settings of the AuthSome instance. What is left out has the instance's default.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplicationConfig {
    session: Option<SessionConfig>,
    password: Option<PasswordConfig>,
    rate_limit: Option<RateLimitConfig>,
    lockout: Option<LockoutConfig>,
    mailer: Option<MailerConfig>,
}

/// Sessions of end users.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SessionConfig {
    /// From 1m to 24h.
    #[schema(pattern = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", example = "1h")]
    token_ttl: Option<String>,
    /// From 1h to 8760h.
    #[schema(pattern = "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", example = "720h")]
    refresh_token_ttl: Option<String>,
    #[schema(minimum = 1, maximum = 1000)]
    max_active_sessions: Option<u32>,
    rotate_refresh_token: Option<bool>,
}

/// Passwords of end users.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordConfig {
    #[schema(minimum = 8, maximum = 128)]
    min_length: Option<u32>,
    require_uppercase: Option<bool>,
    require_lowercase: Option<bool>,
    require_digit: Option<bool>,
    require_special: Option<bool>,
    #[schema(value_type = Option<crate::names::PasswordAlgorithm>)]
    algorithm: Option<String>,
    #[schema(minimum = 10, maximum = 15)]
    bcrypt_cost: Option<u32>,
    check_breached: Option<bool>,
}

/// The instance's own limits of attempts.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RateLimitConfig {
    enabled: Option<bool>,
    #[schema(minimum = 1, maximum = 10_000)]
    signin_limit: Option<u32>,
    #[schema(minimum = 1, maximum = 10_000)]
    signup_limit: Option<u32>,
    #[schema(minimum = 1, maximum = 86_400)]
    window_seconds: Option<u32>,
}

/// What wrong passwords lead to.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LockoutConfig {
    enabled: Option<bool>,
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    #[schema(minimum = 1, maximum = 604_800)]
    lockout_duration_seconds: Option<u32>,
    #[schema(minimum = 1, maximum = 604_800)]
    reset_after_seconds: Option<u32>,
}

/// Who sends the instance's mail. Its password or API key is a secret of the application.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailerConfig {
    #[schema(value_type = Option<crate::names::MailProvider>)]
    provider: Option<String>,
    resend: Option<ResendConfig>,
    smtp: Option<SmtpConfig>,
}

/// Mail by Resend.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResendConfig {
    #[schema(max_length = 320, example = "Shop <no-reply@shop.example>")]
    from: Option<String>,
}

/// Mail by an SMTP server.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SmtpConfig {
    #[schema(max_length = 253)]
    host: Option<String>,
    port: Option<u16>,
    #[schema(max_length = 320)]
    username: Option<String>,
    #[schema(max_length = 320)]
    from: Option<String>,
    tls: Option<bool>,
}

/// Refuses every field of `config` that is not as the schema has it, below `config`.
pub fn check(config: &Value, fields: &mut Fields) {
    fields.require(config.is_object(), "config", "must be a JSON object");
    fields.require(!holds_nul(config), "config", "must not contain the character U+0000");
    fields.require(
        config.to_string().len() <= CONFIG_MAX,
        "config",
        "must be at most 64 KiB of JSON",
    );
    // A structure could be read of a list as well, and the instance would not understand it.
    if let Some(path) = list_in(config, "config".to_owned()) {
        fields.refuse(path, "must not be a list");
    }
    if let Some(typed) = shape::take::<ApplicationConfig>(config, "config", fields) {
        bounds(&typed, fields);
    }
}

fn bounds(config: &ApplicationConfig, fields: &mut Fields) {
    let mut whole = |value: Option<u32>, low: u32, high: u32, path: &str| {
        let holds = value.is_none_or(|value| (low..=high).contains(&value));
        fields.require(
            holds,
            &format!("config.{path}"),
            &format!("must be from {low} to {high}"),
        );
    };
    if let Some(session) = &config.session {
        whole(session.max_active_sessions, 1, 1000, "session.max_active_sessions");
    }
    if let Some(password) = &config.password {
        whole(password.min_length, 8, 128, "password.min_length");
        whole(password.bcrypt_cost, 10, 15, "password.bcrypt_cost");
    }
    if let Some(limit) = &config.rate_limit {
        whole(limit.signin_limit, 1, 10_000, "rate_limit.signin_limit");
        whole(limit.signup_limit, 1, 10_000, "rate_limit.signup_limit");
        whole(limit.window_seconds, 1, 86_400, "rate_limit.window_seconds");
    }
    if let Some(lockout) = &config.lockout {
        whole(lockout.max_attempts, 1, 1000, "lockout.max_attempts");
        whole(
            lockout.lockout_duration_seconds,
            1,
            604_800,
            "lockout.lockout_duration_seconds",
        );
        whole(lockout.reset_after_seconds, 1, 604_800, "lockout.reset_after_seconds");
    }
    if let Some(session) = &config.session {
        let mut time = |value: &Option<String>, low: u64, high: u64, path: &str, expected: &str| {
            let holds = value
                .as_deref()
                .is_none_or(|text| seconds(text).is_some_and(|seconds| (low..=high).contains(&seconds)));
            fields.require(holds, path, expected);
        };
        let (token, refresh) = ("config.session.token_ttl", "config.session.refresh_token_ttl");
        time(
            &session.token_ttl,
            60,
            86_400,
            token,
            "must be a duration from 1m to 24h",
        );
        let year = 8_760 * 3_600;
        time(
            &session.refresh_token_ttl,
            3_600,
            year,
            refresh,
            "must be a duration from 1h to 8760h",
        );
    }
    let algorithm = config
        .password
        .as_ref()
        .and_then(|password| password.algorithm.as_deref());
    fields.require(
        algorithm.is_none_or(|name| matches!(name, "bcrypt" | "argon2id")),
        "config.password.algorithm",
        "must be bcrypt or argon2id",
    );
    if let Some(mailer) = &config.mailer {
        fields.require(
            mailer
                .provider
                .as_deref()
                .is_none_or(|name| matches!(name, "noop" | "smtp" | "resend")),
            "config.mailer.provider",
            "must be noop, smtp or resend",
        );
        let smtp = mailer.smtp.as_ref();
        fields.require(
            mailer.provider.as_deref() != Some("smtp") || smtp.is_some_and(|smtp| smtp.host.is_some()),
            "config.mailer.smtp.host",
            "is needed by the provider smtp",
        );
        let host = smtp.and_then(|smtp| smtp.host.as_deref());
        fields.require(
            host.is_none_or(|host| (1..=253).contains(&host.len())),
            "config.mailer.smtp.host",
            "must be from 1 to 253 characters long",
        );
        fields.require(
            host.is_none_or(|host| url::Host::parse(host).is_ok()),
            "config.mailer.smtp.host",
            "must be a host name or an address",
        );
        let username = smtp.and_then(|smtp| smtp.username.as_deref());
        fields.require(
            username.is_none_or(|name| (1..=320).contains(&name.len()) && !name.chars().any(char::is_control)),
            "config.mailer.smtp.username",
            "must be from 1 to 320 bytes long, without control characters",
        );
        // Instances write it into the head of their letters.
        for (from, path) in [
            (smtp.and_then(|smtp| smtp.from.as_deref()), "config.mailer.smtp.from"),
            (
                mailer.resend.as_ref().and_then(|resend| resend.from.as_deref()),
                "config.mailer.resend.from",
            ),
        ] {
            fields.require(
                from.is_none_or(is_sender),
                path,
                "must be an e-mail address, or a name with one in angle brackets",
            );
        }
        fields.require(
            smtp.and_then(|smtp| smtp.port) != Some(0),
            "config.mailer.smtp.port",
            "must be from 1 to 65535",
        );
    }
}

fn is_sender(text: &str) -> bool {
    text.len() <= 320 && !text.chars().any(char::is_control) && text.parse::<lettre::message::Mailbox>().is_ok()
}

/// `1h30m` in seconds: hours, minutes, seconds in this order, each at most once.
fn seconds(text: &str) -> Option<u64> {
    let (mut total, mut rest) = (0_u64, text);
    for (unit, weight) in [('h', 3_600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(weight)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

/// Where there is a list, if there is any. The schema has none.
fn list_in(value: &Value, path: String) -> Option<String> {
    match value {
        Value::Array(_) => Some(path),
        Value::Object(members) => members
            .iter()
            .find_map(|(name, value)| list_in(value, format!("{path}.{name}"))),
        _ => None,
    }
}

/// The one character that Postgres cannot keep in JSON.
pub(in crate::command) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(config: &Value) -> Vec<String> {
        let mut fields = Fields::new();
        check(config, &mut fields);
        match fields.finish() {
            Ok(()) => Vec::new(),
            Err(problem) => {
                let body = serde_json::to_value(problem.failure().to_body("req")).unwrap();
                body["error"]["details"]["fields"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .cloned()
                    .collect()
            }
        }
    }

    #[test]
    fn what_the_schema_has_is_accepted() {
        for config in [
            json!({}),
            json!({ "session": { "token_ttl": "1h30m", "refresh_token_ttl": "720h", "max_active_sessions": 5, "rotate_refresh_token": true } }),
            json!({ "password": { "min_length": 12, "algorithm": "argon2id", "check_breached": true } }),
            json!({ "mailer": { "provider": "smtp", "smtp": { "host": "mail.example", "port": 587, "tls": true, "username": "shop", "from": "Shop <no-reply@shop.example>" } } }),
            json!({ "lockout": { "enabled": false }, "rate_limit": { "signin_limit": 5 } }),
        ] {
            assert_eq!(refused(&config), Vec::<String>::new(), "{config}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_path() {
        for (config, path) in [
            (json!([]), "config"),
            (json!({ "sessions": {} }), "config.sessions"),
            (json!({ "session": { "ttl": "1h" } }), "config.session.ttl"),
            (json!({ "session": { "token_ttl": 3600 } }), "config.session.token_ttl"),
            (json!({ "session": { "token_ttl": "1d" } }), "config.session.token_ttl"),
            (json!({ "session": { "token_ttl": "" } }), "config.session.token_ttl"),
            (json!({ "session": { "token_ttl": "30s" } }), "config.session.token_ttl"),
            (
                json!({ "mailer": { "smtp": { "from": "a@shop.example\r\nBcc: b@x.example" } } }),
                "config.mailer.smtp.from",
            ),
            (
                json!({ "mailer": { "smtp": { "from": "nobody" } } }),
                "config.mailer.smtp.from",
            ),
            (
                json!({ "mailer": { "smtp": { "host": "a b\r\nx" } } }),
                "config.mailer.smtp.host",
            ),
            (
                json!({ "mailer": { "smtp": { "username": "a\r\nb" } } }),
                "config.mailer.smtp.username",
            ),
            (
                json!({ "mailer": { "resend": { "from": "x\n<a@b.example>" } } }),
                "config.mailer.resend.from",
            ),
            (
                json!({ "session": { "token_ttl": "99999999999999999999h" } }),
                "config.session.token_ttl",
            ),
            (json!({ "password": { "min_length": 4 } }), "config.password.min_length"),
            (
                json!({ "password": { "algorithm": "md5" } }),
                "config.password.algorithm",
            ),
            (json!({ "mailer": { "provider": "smtp" } }), "config.mailer.smtp.host"),
            (
                json!({ "mailer": { "smtp": { "password": "x" } } }),
                "config.mailer.smtp.password",
            ),
            (
                json!({ "mailer": { "resend": { "api_key": "x" } } }),
                "config.mailer.resend.api_key",
            ),
            (json!({ "a": "\u{0}" }), "config"),
            (json!({ "session": ["1h", null, null, null] }), "config.session"),
            (json!({ "mailer": { "smtp": ["mail.example"] } }), "config.mailer.smtp"),
        ] {
            assert!(
                refused(&config).contains(&path.to_owned()),
                "{config}: {:?}",
                refused(&config)
            );
        }
    }
}
