//! The programs' configuration files: one TOML file each, mode 0600, the same keys as in production.

use std::path::{Path, PathBuf};

use authsome_testkit::{NatsServer, PostgresServer, RedisServer, private_file, programs};

use crate::error::LocalError;
use crate::ports::Ports;
use crate::state::State;

/// The name of the control database.
pub(crate) const CONTROL_DATABASE: &str = "control";

/// Every name below `localhost` leads to this machine (RFC 6761, section 6.3); browsers and curl know that without a resolver.
const APPS_DOMAIN: &str = "apps.localhost";

/// Variables that the programs read besides `AUTHSOME_*`, and that would win over their files.
const SEED_VARIABLES: [&str; 6] = [
    "DATABASE_URL",
    "REDIS_URL",
    "NATS_URL",
    "JWT_SECRET",
    "ENCRYPTION_KEY",
    "LOG_LEVEL",
];

/// The written files.
pub(crate) struct Files {
    pub(crate) control: PathBuf,
    pub(crate) proxy: PathBuf,
    pub(crate) provisioner: PathBuf,
}

/// Names in our own environment that must not reach the programs: a developer's shell may well hold a `DATABASE_URL`.
pub(crate) fn foreign_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names
        .filter(|name| name.starts_with("AUTHSOME_") || SEED_VARIABLES.contains(&name.as_str()))
        .collect()
}

/// Writes all three.
///
/// # Errors
/// [`LocalError::Testkit`] when a file cannot be written or the sample instance is not built.
pub(crate) fn write(
    state: &State,
    ports: &Ports,
    postgres: &PostgresServer,
    redis: &RedisServer,
    nats: &NatsServer,
) -> Result<Files, LocalError> {
    let (database, redis_url, nats_url) = (postgres.url(CONTROL_DATABASE), redis.url(), nats.url());
    let edge_url = edge_url(ports);
    let dependencies = format!(
        "[database]\nurl = {}\n\n[redis]\nurl = {}\n\n[nats]\nurl = {}\n\n[log]\nformat = \"pretty\"\n\n",
        quoted(&database),
        quoted(&redis_url),
        quoted(&nats_url)
    );
    let secrets = &state.secrets;

    let control = format!(
        "regions = [\"local\"]\n\n[listen]\napi = {}\nadmin = {}\n\n{dependencies}[jwt]\nsecret = {}\n\n\
         [encryption]\nkey = {}\n\n[public]\napi = {}\nedge = {}\n\n[shutdown]\ndeadline = \"10s\"\n",
        address(ports.api),
        address(ports.control_admin),
        quoted(&secrets.jwt_secret),
        quoted(&secrets.encryption_key),
        quoted(&control_url(ports)),
        quoted(&edge_url),
    );
    let proxy = format!(
        "region = \"local\"\n\n[listen]\naddress = {}\nadmin = {}\n\n{dependencies}[public]\nedge = {}\n\
         apps_domain = {}\n\n[edge]\nname = \"local\"\n\n[data]\ndirectory = {}\n\n[encryption]\nedge_key = {}\n\n[shutdown]\nlinger = \"500ms\"\n\
         deadline = \"10s\"\n",
        address(ports.edge),
        address(ports.edge_admin),
        quoted(&edge_url),
        quoted(APPS_DOMAIN),
        path(&state.file("edge")),
        quoted(&secrets.edge_key),
    );
    let provisioner = format!(
        "runtime = \"local\"\nregion = \"local\"\n\n[database]\nurl = {}\n\n[nats]\nurl = {}\n\n[log]\n\
         format = \"pretty\"\n\n[tenants]\ndatabase_url = {}\nredis_url = {}\n\n[local]\nsample_binary = {}\n\
         log_dir = {}\n\n[encryption]\nkey = {}\nedge_key = {}\n\n[public]\nedge = {}\n\n\
         [listen]\nadmin = {}\n\n[shutdown]\ndeadline = \"10s\"\n",
        quoted(&database),
        quoted(&nats_url),
        quoted(&postgres.admin_url()),
        quoted(&redis_url),
        path(&programs::binary("authsome-sample")?),
        path(&state.file("logs/instances")),
        quoted(&secrets.encryption_key),
        quoted(&secrets.edge_key),
        quoted(&edge_url),
        address(ports.provisioner_admin),
    );

    let files = Files {
        control: state.file("config/control.toml"),
        proxy: state.file("config/proxy.toml"),
        provisioner: state.file("config/provisioner.toml"),
    };
    private_file::write(&files.control, &control)?;
    private_file::write(&files.proxy, &proxy)?;
    private_file::write(&files.provisioner, &provisioner)?;
    Ok(files)
}

/// Where the API and the dashboard are.
pub(crate) fn control_url(ports: &Ports) -> String {
    format!("http://127.0.0.1:{}", ports.api)
}

/// Where customers' requests go.
pub(crate) fn edge_url(ports: &Ports) -> String {
    format!("http://127.0.0.1:{}", ports.edge)
}

/// An application's own host, where no path stands before its own.
pub(crate) fn own_url(ports: &Ports, application_id: &str) -> String {
    let suffix = application_id
        .split_once('_')
        .map_or(application_id, |(_, suffix)| suffix);
    format!("http://{suffix}.{APPS_DOMAIN}:{}", ports.edge)
}

fn address(port: u16) -> String {
    format!("\"127.0.0.1:{port}\"")
}

fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A TOML basic string. JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
