//! What an instance is told at its start: the same environment variables that the platform gives to a real instance.

use std::net::IpAddr;
use std::time::Duration;

use clap::Parser;
use secrecy::SecretString;
use serde::Deserialize;

/// Stands in for an AuthSome instance on a developer's machine and in tests. Never a production component.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Config {
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 lets the system choose, and the log says which.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Prefix of every path, for example `/api/auth`; empty for none.
    #[arg(long, env = "BASE_PATH", default_value = "", value_parser = base_path)]
    pub(crate) base_path: String,
    /// URL of the Postgres database that is this instance's own.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: SecretString,
    /// URL of Redis with this instance's own user; without one, nobody remembers when a session was last seen.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub(crate) redis_url: Option<SecretString>,
    /// What every Redis key begins with; the Redis user may touch no other.
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "")]
    pub(crate) redis_key_prefix: String,
    /// Log filter: a level, or a list such as `info,authsome_sample=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub(crate) log_level: String,
    /// The address under which clients reach this instance, for what it says about itself.
    #[arg(long, env = "PUBLIC_BASE_URL", default_value = "")]
    pub(crate) public_base_url: String,
    /// The application that this is an instance of, for what it says about itself.
    #[arg(long, env = "APP_ID", default_value = "")]
    pub(crate) app_id: String,
    /// The whole configuration as JSON: what its team chose, and what the platform decides.
    #[arg(long, env = "CONFIG_JSON", default_value = "{}", hide_env_values = true, value_parser = settings)]
    pub(crate) settings: Settings,
    /// End when standard input is closed, so that an instance never outlives the process that started it.
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,
}

/// What this instance reads of its configuration; it ignores the rest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) session: SessionSettings,
    pub(crate) password: PasswordSettings,
    pub(crate) mailer: MailerSettings,
    pub(crate) oauth: OauthSettings,
    pub(crate) debug: bool,
}

/// How long sessions last.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SessionSettings {
    #[serde(deserialize_with = "duration")]
    pub(crate) token_ttl: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub(crate) refresh_token_ttl: Option<Duration>,
}

/// What passwords are accepted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PasswordSettings {
    pub(crate) min_length: Option<usize>,
}

/// Who sends mail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MailerSettings {
    pub(crate) provider: Option<String>,
}

/// Who it is towards applications.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct OauthSettings {
    pub(crate) issuer: String,
}

fn settings(text: &str) -> Result<Settings, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// `1h30m`, as the real server writes durations.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let (mut seconds, mut rest) = (Some(0_u64), text.as_str());
    for (unit, weight) in [('h', 3_600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(weight));
            seconds = seconds.zip(part).and_then(|(sum, part)| sum.checked_add(part));
            rest = after;
        }
    }
    match seconds {
        Some(seconds) if rest.is_empty() && !text.is_empty() => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(serde::de::Error::custom("a duration such as 1h30m is expected")),
    }
}

fn base_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let legal = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if path.is_empty() || (path.starts_with('/') && path.chars().all(legal)) {
        Ok(path.to_owned())
    } else {
        Err("must begin with / and hold only letters, digits and / - _ . ~".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_gives_is_understood_and_what_is_not_known_is_left_alone() {
        let read = settings(
            r#"{"session":{"token_ttl":"1h30m","max_active_sessions":3},"password":{"min_length":12},"base_path":"","bootstrap":{}}"#,
        )
        .unwrap();
        assert_eq!(read.session.token_ttl, Some(Duration::from_mins(90)));
        assert_eq!(
            (read.session.refresh_token_ttl, read.password.min_length),
            (None, Some(12))
        );
        assert!(settings(r#"{"session":{"token_ttl":"soon"}}"#).is_err());
        assert!(settings("{}").is_ok() && settings("[").is_err());
    }
}
