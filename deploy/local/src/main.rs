//! `authsome-local` runs the whole platform on one machine from the same binaries that production runs.
//!
//! It owns a state directory (`.local` by default): generated secrets, chosen ports, configuration files, logs and the
//! servers' data. Every process it starts hangs under a guard, so nothing outlives it, however it ends; starting again
//! continues with the same data.

mod bringup;
mod configuration;
mod console;
mod control_api;
mod db;
mod demo;
mod error;
mod ports;
mod progress;
mod reset;
mod servers;
mod service;
mod state;
mod stop;
mod with_database;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Runs AuthSome Cloud on this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything, make sure that a demo application exists, print how to use it, and run until Ctrl-C.
    Up(Up),
    /// Remove the data and everything else that `up` made.
    Reset(Reset),
    /// Run a command with DATABASE_URL naming a migrated Postgres that lives as long as the command.
    WithDatabase(WithDatabase),
}

/// How to run the platform.
#[derive(Debug, Args)]
struct Up {
    /// Where secrets, configuration, logs and data are kept.
    #[arg(long, default_value = ".local")]
    state_dir: PathBuf,
    /// Use whatever ports are free instead of 8080, 8081, 9080, 9081 and 9082, for a second platform beside a first.
    #[arg(long)]
    any_ports: bool,
}

/// What to remove.
#[derive(Debug, Args)]
struct Reset {
    /// The directory that was given to `up`.
    #[arg(long, default_value = ".local")]
    state_dir: PathBuf,
}

/// A command and the schema it needs.
#[derive(Debug, Args)]
struct WithDatabase {
    /// The directory of migrations to apply.
    #[arg(long, default_value = "migrations")]
    migrations: PathBuf,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            console::complain(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = match arguments.command {
        Command::Up(up) => runtime.block_on(bringup::up(&up.state_dir, up.any_ports)),
        Command::Reset(reset) => runtime.block_on(reset::reset(&reset.state_dir)),
        Command::WithDatabase(with) => runtime.block_on(with_database::run(&with.migrations, &with.command)),
    };
    ended.unwrap_or_else(|error| {
        console::complain(&console::chain(&error));
        ExitCode::FAILURE
    })
}
