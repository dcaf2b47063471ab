//! The command line of the provisioner.

use std::path::PathBuf;
use std::process::ExitCode;

use authsome_core::config::ConfigArgs;
use authsome_provisioner::config::Config;
use authsome_provisioner::start;
use authsome_provisioner::upgrade;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The provisioner of AuthSome Cloud: makes databases, Redis users and running instances match what Postgres says.
///
/// Configuration is one TOML file with AUTHSOME_* environment variables over it (`database.url` is
/// AUTHSOME_DATABASE_URL). DATABASE_URL, NATS_URL, ENCRYPTION_KEY and LOG_LEVEL are honoured as well. SIGTERM and SIGINT
/// stop it once the present steps are done.
#[derive(Parser)]
#[command(name = "authsome-provisioner", version)]
struct CommandLine {
    /// The configuration file.
    #[arg(long, global = true, env = "AUTHSOME_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say whether the configuration is right, and end: exit code 2 lists every problem.
    #[arg(long, global = true)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the service (the default).
    Serve,
    /// Upgrades of the instance image over all applications of a region, in waves.
    ///
    /// Needs the configuration of the provisioners that carry them out. Prints JSON. Exit code 1: nothing was changed.
    #[command(subcommand)]
    Upgrade(upgrade::line::Line),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Refused only if some library came first with the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let line = CommandLine::parse();
    let config = match (ConfigArgs {
        file: line.config,
        check: line.check_config,
    })
    .load(Config::read)
    {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Some(Verb::Upgrade(line)) = line.command {
        return upgrade::line::run(line, &config).await;
    }
    match start::log(&config) {
        Ok(()) => start::run(config).await,
        Err(error) => start::complain(&error),
    }
}
