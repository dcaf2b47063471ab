//! `authsome-sample` stands in for an AuthSome instance on a developer's machine and in tests. It is never a production
//! component.
//!
//! It serves the paths of the real server over real HTTP, with real rows in its own Postgres database and, when it is given
//! one, live session state under its own Redis user. Without Postgres it keeps running, answers 503 and recovers by
//! itself; without Redis it only forgets when a session was last seen.

mod api;
mod config;
mod db;
mod error;
mod id;
mod jwk;
mod listen;
mod password;
mod presence;
mod state;
mod token;

use std::process::ExitCode;

use clap::Parser;

use crate::config::Config;

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = authsome_core::telemetry::init(authsome_core::telemetry::Format::Json, &config.log_level) {
        return failed(&error);
    }
    // Only fails when a provider is installed already, which is then the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = runtime
        .map_err(|source| listen::ListenError::Io {
            doing: "start the runtime".to_owned(),
            source,
        })
        .and_then(|runtime| {
            let ended = runtime.block_on(listen::serve(config));
            // Hashing that a client no longer waits for must not hold up the end.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a program that cannot start says why where its starter looks"
)]
fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    eprintln!("authsome-sample: {text}");
    ExitCode::FAILURE
}
