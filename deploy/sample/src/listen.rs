//! From a configuration to a listening server, and to its end: SIGTERM, SIGINT, or the end of standard input.

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use secrecy::ExposeSecret;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::error::ApiError;
use crate::password::Passwords;
use crate::presence::Presence;
use crate::state::Instance;
use crate::{api, db};

/// How long requests in flight may take once the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the instance could not start or ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The operating system refused something.
    #[error("cannot {doing}")]
    Io {
        /// What.
        doing: String,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
    /// `DATABASE_URL` is not a Postgres URL. The URL itself is not repeated: it holds a password.
    #[error("DATABASE_URL is not a Postgres URL")]
    DatabaseUrl,
    /// `REDIS_URL` is not a Redis URL.
    #[error("REDIS_URL is not a Redis URL")]
    RedisUrl,
    /// Password hashing cannot be set up.
    #[error("cannot prepare password hashing: {0}")]
    Passwords(ApiError),
}

/// Serves until it is told to end.
pub(crate) async fn serve(config: Config) -> Result<(), ListenError> {
    let ended = end(config.exit_with_stdin)?;
    let address = SocketAddr::new(config.host, config.port);
    let io = |doing: String| move |source| ListenError::Io { doing, source };
    let listener = TcpListener::bind(address)
        .await
        .map_err(io(format!("listen on {address}")))?;
    let bound = listener.local_addr().map_err(io("learn the port".to_owned()))?;
    let instance = Arc::new(instance(&config)?);
    tokio::spawn(prepare(Arc::clone(&instance)));
    tracing::info!(address = %bound, app_id = config.app_id, "listening");

    let (stop, stopping) = oneshot::channel::<()>();
    let server = axum::serve(
        listener,
        api::router(Arc::clone(&instance)).into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(async { drop(stopping.await) });
    let server = tokio::spawn(server.into_future());
    ended.await;
    tracing::info!("stopping");
    drop(stop);
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::warn!(after = ?DRAIN, "requests in flight were cut off");
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), instance.pool.close()).await;
    Ok(())
}

fn instance(config: &Config) -> Result<Instance, ListenError> {
    let url = config.database_url.expose_secret();
    // The driver takes any scheme for its own.
    let postgres = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    let database = PgConnectOptions::from_str(url)
        .ok()
        .filter(|_| postgres)
        .ok_or(ListenError::DatabaseUrl)?
        .application_name("authsome-sample")
        .log_statements(tracing::log::LevelFilter::Debug);
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(Duration::from_mins(5))
        .connect_lazy_with(database);
    let entropy = Arc::new(SystemEntropy::new());
    Ok(Instance {
        pool,
        passwords: Passwords::new(&*entropy).map_err(ListenError::Passwords)?,
        presence: Presence::start(config.redis_url.as_ref(), &config.redis_key_prefix)
            .map_err(|_| ListenError::RedisUrl)?,
        clock: Arc::new(SystemClock),
        entropy,
        public_base_url: config.public_base_url.trim_end_matches('/').to_owned(),
        app_id: config.app_id.clone(),
        base_path: config.base_path.clone(),
        settings: config.settings.clone(),
        secrets: secrets_in(std::env::vars_os()),
        prepared: AtomicBool::new(false),
    })
}

/// Names of variables that hold secrets of the application, as the platform gives them.
fn secrets_in(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let kinds = ["MAILER_", "SMS_", "SOCIAL_", "SSO_", "CUSTOM_"];
    let names = environment.filter_map(|(name, _)| name.into_string().ok());
    let mut secrets: Vec<String> = names
        .filter(|name| kinds.iter().any(|kind| name.starts_with(kind)))
        .collect();
    secrets.sort_unstable();
    secrets
}

/// Creates the tables, again and again while the database is away. Until then every request but `echo` is a 503.
async fn prepare(instance: Arc<Instance>) {
    let mut pause = Duration::from_millis(100);
    loop {
        match db::prepare(&instance.pool).await {
            Ok(()) => {
                instance.prepared.store(true, Ordering::Release);
                tracing::info!("the database is ready");
                return;
            }
            Err(error) => tracing::warn!(%error, again_in = ?pause, "cannot prepare the database"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Completes when the process is to end.
fn end(with_stdin: bool) -> Result<impl Future<Output = ()>, ListenError> {
    let watch = |kind| {
        signal(kind).map_err(|source| ListenError::Io {
            doing: "watch for signals".to_owned(),
            source,
        })
    };
    let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let (closed, stdin_closed) = oneshot::channel();
    if with_stdin {
        // A plain thread: a blocking read cannot be cancelled, and a runtime would wait for it at its end.
        std::thread::spawn(move || {
            let (mut stdin, mut buffer) = (std::io::stdin().lock(), [0; 64]);
            while matches!(stdin.read(&mut buffer), Ok(1..)) {}
            let _ = closed.send(());
        });
    }
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = stdin_closed, if with_stdin => {}
        }
    })
}
