//! The command line of upgrades. Every command prints a report as JSON.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_db::pool::{self, PoolOptions};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::command::{self, CommandError, Plan, Report, Verb};
use super::pin::{self, Pinned};
use super::wave::{self, Wave};
use crate::config::Config;
use crate::start::complain;

/// Upgrades of the instance image over all applications of a region.
#[derive(Subcommand)]
pub enum Line {
    /// Begin one. The provisioners of the region carry it out, wave by wave, and halt it when too many applications fail.
    ///
    /// An application that fails gets its former image back. Those that are pinned to an image of their own are left alone, those
    /// that are stopped start with the new image. When it has gone through, new applications get the image, too.
    Begin(Begin),
    /// What the last one has come to.
    Status(Where),
    /// Begin no further application; what is under way ends.
    Pause(Where),
    /// Go on after a pause or a halt. Failures so far are accepted.
    Resume(Where),
    /// Give every application its former image back.
    TakeBack(Where),
    /// End it where it stands: applications keep the image that they have.
    Abort(Where),
    /// Give one application an image of its own, now. Upgrades leave it alone until it is let go with `unpin`.
    Pin(Pin),
    /// Let an application follow the fleet again: it gets the image of its region, now.
    Unpin(Which),
}

/// Which application.
#[derive(Args)]
pub struct Which {
    /// Its id, `app_…`.
    #[arg(long)]
    application: ApplicationId,
}

/// Which application, and its image.
#[derive(Args)]
pub struct Pin {
    #[command(flatten)]
    which: Which,
    /// The image: `registry.example/authsome:1.7.0`, or with a digest.
    #[arg(long)]
    image: String,
}

/// What a command prints.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Upgrade(Report),
    Pinned(Pinned),
}

/// Which region's.
#[derive(Args)]
pub struct Where {
    /// The region; not needed where the configuration has one.
    #[arg(long)]
    region: Option<String>,
}

/// What is to be done, and how carefully.
#[derive(Args)]
pub struct Begin {
    #[command(flatten)]
    place: Where,
    /// The new image: `registry.example/authsome:1.7.0`, or with a digest.
    #[arg(long)]
    image: String,
    /// How many applications have it after each wave: numbers, or shares of all. The last must be 100%.
    #[arg(long, default_value = "1,5%,25%,100%", value_parser = waves)]
    waves: Waves,
    /// Seconds for which a wave is watched before the next one begins.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    soak: u32,
    /// Applications at a time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// How many applications may fail after the first wave without a halt. In the first wave none may.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    max_failures: u32,
}

/// The sizes of waves.
#[derive(Clone)]
struct Waves(Vec<Wave>);

fn waves(text: &str) -> Result<Waves, wave::BadWaves> {
    wave::parse(text).map(Waves)
}

/// Does it. Exit code 0: the report is on standard output. 1: nothing was changed, and standard error says why.
pub async fn run(line: Line, config: &Config) -> ExitCode {
    match act(line, config).await {
        Ok(report) => {
            let text = serde_json::to_string_pretty(&report).unwrap_or_default();
            // A closed pipe is a reader that has seen enough.
            let _ = writeln!(std::io::stdout().lock(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => complain(&*error),
    }
}

async fn act(line: Line, config: &Config) -> Result<Told, Box<dyn std::error::Error>> {
    let options = PoolOptions {
        max_connections: 2,
        ..PoolOptions::new("authsome-provisioner upgrade")
    };
    let pool = pool::lazy(&config.database_url, &options)?;
    let (clock, entropy) = (SystemClock, SystemEntropy::new());
    let verb = |place: &Where, verb| {
        let region = region(place, config);
        let (pool, entropy) = (&pool, &entropy);
        async move { command::act(pool, &clock, entropy, &region?, verb).await }
    };
    let pin = async |which: &Which, image| pin::pin(&pool, (&clock, &entropy), which.application, image).await;
    let report = match line {
        Line::Pin(line) => return Ok(Told::Pinned(pin(&line.which, Some(&line.image)).await?)),
        Line::Unpin(which) => return Ok(Told::Pinned(pin(&which, None).await?)),
        Line::Begin(begin) => {
            let kubernetes = config.kubernetes.as_ref();
            let plan = Plan {
                region: &region(&begin.place, config)?,
                image: &begin.image,
                own: kubernetes.map(|kubernetes| kubernetes.settings.image.reference.as_str()),
                waves: &begin.waves.0,
                soak: Duration::from_secs(u64::from(begin.soak)),
                parallel: begin.parallel,
                max_failures: begin.max_failures,
            };
            command::begin(&pool, &clock, &entropy, &plan).await?
        }
        Line::Status(place) => command::report(&pool, &region(&place, config)?).await?,
        Line::Pause(place) => verb(&place, Verb::Pause).await?,
        Line::Resume(place) => verb(&place, Verb::Resume).await?,
        Line::TakeBack(place) => verb(&place, Verb::TakeBack).await?,
        Line::Abort(place) => verb(&place, Verb::Abort).await?,
    };
    Ok(Told::Upgrade(report))
}

/// The region that is named, or the only one that the configuration has.
fn region(place: &Where, config: &Config) -> Result<String, CommandError> {
    let regions: Vec<&String> = match &config.kubernetes {
        Some(kubernetes) => kubernetes.clusters.keys().collect(),
        None => vec![&config.region],
    };
    match (&place.region, regions.as_slice()) {
        (Some(named), _) if regions.contains(&named) => Ok(named.clone()),
        (None, [only]) => Ok((*only).clone()),
        (named, _) => {
            let known: Vec<&str> = regions.iter().map(|region| region.as_str()).collect();
            Err(CommandError::Region {
                named: named.clone().unwrap_or_default(),
                known: known.join(", "),
            })
        }
    }
}
