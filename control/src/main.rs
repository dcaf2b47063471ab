//! The command line of the control plane.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use authsome_control::audit::verify::Head;
use authsome_control::command::routing::{self, Works, Written};
use authsome_control::command::user::{self, Office};
use authsome_control::command::{audit_trail, staff_suspension};
use authsome_control::config::{Config, CopiesConfig, DatabaseConfig};
use authsome_control::identity::Passwords;
use authsome_control::tasks::connect;
use authsome_control::tasks::relay::{Relay, RelayMetrics};
use authsome_control::{api, start};
use authsome_core::clock::SystemClock;
use authsome_core::config::ConfigArgs;
use authsome_core::entropy::{self, SystemEntropy};
use authsome_core::error::Chain;
use authsome_core::id::IdError;
use authsome_core::secret::SecretString;
use authsome_core::telemetry::{self, Format};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Args, Parser, Subcommand};
use prometheus::Registry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The control plane of AuthSome Cloud: REST API, dashboard, outbox relay, usage aggregation.
///
/// Configuration is one TOML file with AUTHSOME_* environment variables over it (`database.url` is
/// AUTHSOME_DATABASE_URL). DATABASE_URL, REDIS_URL, NATS_URL, JWT_SECRET and LOG_LEVEL are honoured as well.
#[derive(Parser)]
#[command(name = "authsome-control", version)]
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
    /// Bring the database schema up to date and end.
    Migrate,
    /// Print the OpenAPI document and end.
    Openapi,
    /// Operators' tools.
    #[command(subcommand)]
    Admin(Admin),
    /// The audit trail.
    #[command(subcommand)]
    Audit(Audit),
}

#[derive(Subcommand)]
enum Audit {
    /// Compute every hash of the trail again and compare; prints JSON.
    ///
    /// Finds any event that was altered, removed or put in, by the chain itself, by its signed checkpoints, and by heads that were
    /// kept elsewhere. Reads the database and changes nothing.
    ///
    /// Exit code 0: nothing was found. 1: `findings` says what, or the database could not be read.
    Verify(VerifyAudit),
    /// Print the heads of all chains, a line of JSON each, to be kept elsewhere for `verify --head`.
    Heads,
}

#[derive(Args)]
struct VerifyAudit {
    /// Only this chain: a workspace id, or `platform`.
    #[arg(long, value_name = "CHAIN")]
    chain: Option<String>,
    /// A file of heads, as `heads` or the API printed them, a line of JSON each.
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// The public key of checkpoints, 32 bytes in base64; any that fits where it is left out.
    #[arg(long, value_name = "BASE64")]
    public_key: Vec<String>,
}

#[derive(Subcommand)]
enum Admin {
    /// Stop an application in the name of staff; its team reads the reason and cannot start it.
    SuspendApplication(SuspendApplication),
    /// Take back `suspend-application`. The application stays stopped until its team starts it.
    ReleaseApplication(ReleaseApplication),
    /// Create a person who may sign in; prints JSON.
    CreateUser(CreateUser),
    /// Write the edges' copies of the routing table (Redis and the stream) anew from Postgres; prints JSON.
    ///
    /// For copies that are suspected to be wrong. Edges go on serving: meanwhile they decide by what they hold and by
    /// Postgres, then they load the new stream. The leading relay does the work; if none runs, this command leads for as
    /// long as it takes. Progress goes to standard error. Needs database.url, redis.url and nats.url.
    ///
    /// Exit code 0: both copies are written. 1: not in time, or not at all; a request that was made stands, and the relay
    /// fulfils it when it can.
    RebuildRouting(Patience),
    /// Tell the platform that its database was restored to an earlier point; prints JSON.
    ///
    /// Run it once after each such restore, as soon as the database is back. It raises the restore epoch, stamps every
    /// application and key with it, so that they win over anything that a cache remembers from after the backup, and writes
    /// both copies anew. Edges go on serving, and converge to the restored state within seconds: what was created after the
    /// backup is refused, what was changed after it is as it was. See docs/runbooks/restore-postgres.md.
    ///
    /// Exit codes as for rebuild-routing. Running it again does no harm.
    Restored(Patience),
}

#[derive(Args)]
struct SuspendApplication {
    /// The application.
    #[arg(long, value_name = "ID")]
    id: String,
    /// Why, in words for its team: 1 to 500 characters.
    #[arg(long)]
    reason: String,
}

#[derive(Args)]
struct ReleaseApplication {
    /// The application.
    #[arg(long, value_name = "ID")]
    id: String,
}

#[derive(Args)]
struct Patience {
    /// Seconds until the command gives up waiting for the copies.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
}

#[derive(Args)]
struct CreateUser {
    /// The e-mail address to sign in with.
    #[arg(long)]
    email: String,
    /// The name to show.
    #[arg(long)]
    name: String,
    /// Read the password from standard input. Without it, one is made up and printed.
    #[arg(long)]
    password_stdin: bool,
    /// Succeed, and change nothing, if the address has an account.
    #[arg(long)]
    if_absent: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Refused only if some library came first with the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let line = CommandLine::parse();
    let args = ConfigArgs {
        file: line.config,
        check: line.check_config,
    };
    let done = match line.command.unwrap_or(Verb::Serve) {
        Verb::Serve => serve(&args).await,
        Verb::Migrate => migrate(&args).await,
        Verb::Openapi => Ok(print(&api::document())),
        Verb::Audit(Audit::Verify(what)) => verify_audit(&args, what).await,
        Verb::Audit(Audit::Heads) => audit_heads(&args).await,
        Verb::Admin(Admin::SuspendApplication(what)) => staff(&args, &what.id, Some(&what.reason)).await,
        Verb::Admin(Admin::ReleaseApplication(what)) => staff(&args, &what.id, None).await,
        Verb::Admin(Admin::CreateUser(user)) => create_user(&args, user).await,
        Verb::Admin(Admin::RebuildRouting(patience)) => routing_table(&args, &patience, false).await,
        Verb::Admin(Admin::Restored(patience)) => routing_table(&args, &patience, true).await,
    };
    done.unwrap_or_else(|code| code)
}

/// Both ways out carry the exit code; `Err` is the early one.
type Exit = Result<ExitCode, ExitCode>;

async fn serve(args: &ConfigArgs) -> Exit {
    let config = args.load(Config::read)?;
    start::log(&config).map_err(|error| complain(&error))?;
    Ok(start::run(config).await)
}

async fn migrate(args: &ConfigArgs) -> Exit {
    let config = database(args)?;
    start::migrate_only(&config.url)
        .await
        .map_err(|error| complain(&error))?;
    Ok(ExitCode::SUCCESS)
}

async fn create_user(args: &ConfigArgs, new: CreateUser) -> Exit {
    let config = database(args)?;
    let (clock, entropy) = (SystemClock, SystemEntropy::new());
    let pool = start::pool(&config.url, 2).map_err(|error| complain(&error))?;
    let passwords = Passwords::new(&entropy).map_err(|error| complain(&error))?;
    let given = if new.password_stdin {
        Some(password_from_stdin().map_err(|error| complain(&error))?)
    } else {
        None
    };
    if new.if_absent
        && let Some(id) = user::find(&pool, &new.email)
            .await
            .map_err(|problem| complain(problem.failure()))?
    {
        return Ok(print(&format!(
            "{}\n",
            serde_json::json!({ "id": id, "email": new.email, "created": false })
        )));
    }
    let made_up = given
        .is_none()
        .then(|| URL_SAFE_NO_PAD.encode(entropy::bytes::<18>(&entropy)));
    let password = given
        .or_else(|| made_up.clone().map(SecretString::from))
        .unwrap_or_default();
    let office = Office {
        pool: &pool,
        clock: &clock,
        entropy: &entropy,
        passwords: &passwords,
    };
    let id = user::create(&office, &new.email, &new.name, password)
        .await
        .map_err(|problem| complain(problem.failure()))?;
    let mut answer = serde_json::json!({ "id": id, "email": new.email, "created": true });
    if let Some(password) = made_up {
        answer["password"] = password.into();
    }
    Ok(print(&format!("{answer}\n")))
}

async fn routing_table(args: &ConfigArgs, patience: &Patience, restored: bool) -> Exit {
    let config = args.load(CopiesConfig::read)?;
    telemetry::init(Format::Pretty, &config.log_filter).map_err(|error| complain(&error))?;
    let entropy = Arc::new(SystemEntropy::new());
    let pool = start::pool(&config.database_url, 2).map_err(|error| complain(&error))?;
    let relay = Relay {
        pool: pool.clone(),
        redis: connect::redis(&config.redis_url).map_err(|error| complain(&error))?,
        nats: connect::nats(&config.nats_url, "authsome-control admin")
            .await
            .map_err(|error| complain(&error))?,
        entropy: entropy.clone(),
        metrics: RelayMetrics::register(&Registry::new()).map_err(|error| complain(&error))?,
    };
    let works = Works {
        pool: &pool,
        clock: &SystemClock,
        entropy: &*entropy,
        patience: Duration::from_secs(patience.timeout),
    };
    let answer = if restored {
        let restored = routing::restored(&works, relay)
            .await
            .map_err(|error| complain(&error))?;
        let mut answer = written(&restored.written);
        answer["epoch"] = restored.epoch.into();
        answer["stamped"] = restored.stamped.into();
        answer
    } else {
        let done = routing::rebuild(&works, relay)
            .await
            .map_err(|error| complain(&error))?;
        written(&done)
    };
    Ok(print(&format!("{answer}\n")))
}

async fn verify_audit(args: &ConfigArgs, what: VerifyAudit) -> Exit {
    let config = database(args)?;
    let known = match &what.head {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| complain(&error))?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            let heads: Result<Vec<Head>, _> = lines.map(serde_json::from_str).collect();
            heads.map_err(|error| complain(&error))?
        }
    };
    let keys: Result<Vec<Vec<u8>>, _> = what.public_key.iter().map(|key| STANDARD.decode(key)).collect();
    let keys = keys.map_err(|error| complain(&error))?;
    let pool = start::pool(&config.url, 2).map_err(|error| complain(&error))?;
    let report = audit_trail::report(&pool, what.chain.as_deref(), &known, &keys)
        .await
        .map_err(|error| complain(&error))?;
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    print(&format!("{text}\n"));
    Ok(if report.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn audit_heads(args: &ConfigArgs) -> Exit {
    let config = database(args)?;
    let pool = start::pool(&config.url, 2).map_err(|error| complain(&error))?;
    let heads = audit_trail::heads(&pool).await.map_err(|error| complain(&error))?;
    let lines: String = heads
        .iter()
        .map(|head| serde_json::to_string(head).unwrap_or_default() + "\n")
        .collect();
    Ok(print(&lines))
}

async fn staff(args: &ConfigArgs, id: &str, reason: Option<&str>) -> Exit {
    let config = database(args)?;
    let id = id.parse().map_err(|error: IdError| complain(&error))?;
    let pool = start::pool(&config.url, 2).map_err(|error| complain(&error))?;
    let entropy = SystemEntropy::new();
    staff_suspension::set(&pool, &SystemClock, &entropy, id, reason)
        .await
        .map_err(|problem| complain(problem.failure()))?;
    Ok(print(&format!(
        "{}\n",
        serde_json::json!({ "id": id, "suspendedByStaff": reason.is_some() })
    )))
}

fn written(written: &Written) -> serde_json::Value {
    serde_json::json!({ "redis": { "records": written.redis }, "stream": { "records": written.stream } })
}

fn database(args: &ConfigArgs) -> Result<DatabaseConfig, ExitCode> {
    let config = args.load(DatabaseConfig::read)?;
    // Standard output is for the result.
    telemetry::init(Format::Pretty, &config.log_filter).map_err(|error| complain(&error))?;
    Ok(config)
}

/// Without the newline that a shell puts at its end.
fn password_from_stdin() -> std::io::Result<SecretString> {
    let mut line = String::new();
    std::io::stdin().lock().take(2048).read_to_string(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned().into())
}

fn print(text: &str) -> ExitCode {
    // A closed pipe is a reader that has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "error: {}", Chain(error));
    ExitCode::FAILURE
}
