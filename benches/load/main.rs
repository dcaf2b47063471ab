//! The load suite: what one request costs at the edge, beside what people use today, in one run on one machine.
//!
//! It starts a small upstream and, in front of it, each contender as a process of its own; a generator in this process
//! drives them in turn, round after round, so that what else the machine does falls on all alike. CPU comes from the
//! kernel's accounting of the contender's processes, latency from an open loop at a fixed rate. `--help` says the rest.
//!
//! The upstream, the bare Pingora and (unless `AUTHSOME_BENCH_EDGE` names a binary) the edge are this same executable in
//! another role, so that they share one build profile.
#![expect(
    clippy::unwrap_used,
    reason = "a bench ends where it cannot be set up or does not see what it must"
)]
#![expect(clippy::cast_precision_loss, reason = "counts and bytes of a run are far below 2^52")]
#![expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]

mod accounting;
mod contenders;
mod cores;
mod curves;
mod fleet;
mod generator;
mod instructions;
mod measure;
mod options;
mod plan;
mod platform;
mod report;
mod role;
mod scenario;
mod soak;
mod suite;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match role::asked() {
        Some(role) => role.play(),
        None => match options::read(std::env::args().skip(1)) {
            Ok(options) => suite::run(&options),
            Err(text) => {
                println!("{text}");
                ExitCode::from(2)
            }
        },
    }
}
