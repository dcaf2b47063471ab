//! What an instance is told at its start: the same environment variables that the platform gives to a real instance.

use std::net::IpAddr;

use clap::Parser;
use secrecy::SecretString;

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
    /// End when standard input is closed, so that an instance never outlives the process that started it.
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,
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
