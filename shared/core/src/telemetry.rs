//! Logs and metrics: how every program writes them.
//!
//! Owns the process-wide subscriber and the metrics registry with what is the same everywhere. JSON goes to standard
//! output, one object a line, where collectors read; the form for people goes to standard error, so that it never mixes
//! with what a command prints. Writing is synchronous, so that a reader that stops reading stops the writer; a program that
//! must not stop writes through a bounded queue ([`init_queued`]), which loses lines instead and counts them. Lines that cannot be written are lost; nothing else happens.

mod queue;

use std::io::IsTerminal;
use std::str::FromStr;

use prometheus::{Encoder, IntCounter, IntGauge, Opts, Registry, TextEncoder};
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

pub use queue::{LineWriter, LogQueue};

use crate::config::Reader;

/// Libraries that handle credentials and, below `info`, may write what goes over the wire (sqlx: whole statements, and
/// `CREATE ROLE` holds a password): they are held at `info` whatever the filter says.
const NEVER_BELOW_INFO: [&str; 12] = [
    "async_nats",
    "fred",
    "h2",
    "hyper",
    "hyper_util",
    "lettre",
    "pingora_core",
    "pingora_proxy",
    "reqwest",
    "rustls",
    "sqlx",
    "tungstenite",
];

/// How log lines look, and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object a line on standard output; in production.
    #[default]
    Json,
    /// One line of text on standard error, coloured on a terminal; for people.
    Pretty,
}

/// A text is not the name of a [`Format`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected \"json\" or \"pretty\"")]
pub struct FormatError;

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(FormatError),
        }
    }
}

/// The settings of logging, the same in every program: `log.format` (`json`) and `log.level` (`info`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// How lines look, and where they go.
    pub format: Format,
    /// What is written: a level, or a list such as `info,authsome_proxy=debug`.
    pub filter: String,
}

impl Logging {
    /// Reads and checks the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let format = reader.or("log.format", Format::Json);
        let filter: String = reader.or("log.level", "info".to_owned());
        let usable = check_filter(&filter).is_ok();
        reader.check(
            "log.level",
            usable,
            "must be a level or a list such as info,authsome_proxy=debug",
        );
        Self { format, filter }
    }

    /// See [`init`].
    pub fn init(&self) -> Result<(), TelemetryError> {
        init(self.format, &self.filter)
    }
}

/// Why logs or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not of the form `info` or `info,authsome_proxy=debug`.
    #[error("bad log filter {filter:?}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process already has a subscriber.
    #[error("logging is already set up")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
    /// The thread that writes the log cannot be started.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] std::io::Error),
    /// A metric clashes with another of the same name.
    #[error("cannot register a metric")]
    Metric(#[from] prometheus::Error),
}

/// Sets up logging for the process, once. The filter is a level (`info`) or a list (`info,authsome_proxy=debug`).
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    match format {
        Format::Json => install(format, filter, std::io::stdout),
        Format::Pretty => install(format, filter, std::io::stderr),
    }
}

/// As [`init`], with lines written by a thread of their own: for a program whose work must not stop when nobody reads its log.
pub fn init_queued(format: Format, filter: &str) -> Result<LogQueue, TelemetryError> {
    let dropped = IntCounter::new("authsome_log_dropped_total", "Log lines that found the queue full")?;
    let queue = match format {
        Format::Json => LogQueue::start(std::io::stdout(), dropped),
        Format::Pretty => LogQueue::start(std::io::stderr(), dropped),
    }
    .map_err(TelemetryError::Thread)?;
    install(format, filter, queue.clone())?;
    Ok(queue)
}

fn install(
    format: Format,
    filter: &str,
    output: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Result<(), TelemetryError> {
    let filter = check_filter(filter)?;
    let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let lines = match format {
        Format::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(output)
            .boxed(),
        Format::Pretty => fmt::layer()
            .compact()
            .with_writer(output)
            .with_ansi(std::io::stderr().is_terminal())
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(ceiling())
        .with(lines.with_filter(filter))
        .try_init()?;
    // Libraries that log by the other interface ask this before anything else. With two filters the subscriber cannot tell what
    // the most is, and each `debug!` of the forwarding library would go through both of them only to be dropped: 8,000
    // instructions a request.
    log::set_max_level(as_log(most));
    Ok(())
}

fn as_log(level: LevelFilter) -> log::LevelFilter {
    match level.into_level() {
        None => log::LevelFilter::Off,
        Some(Level::ERROR) => log::LevelFilter::Error,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(Level::DEBUG) => log::LevelFilter::Debug,
        Some(Level::TRACE) => log::LevelFilter::Trace,
    }
}

/// Whether a log filter can be used, without using it: for `--check-config`.
pub fn check_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

fn ceiling() -> Targets {
    Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(NEVER_BELOW_INFO.map(|target| (target, LevelFilter::INFO)))
}

/// A registry with what every program exports: `process_*` (on Linux) and `authsome_build_info{program,version}`.
pub fn registry(program: &str, version: &str) -> Result<Registry, TelemetryError> {
    let registry = Registry::new();
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    let build = IntGauge::with_opts(
        Opts::new("authsome_build_info", "Always 1; the labels say what is running")
            .const_label("program", program)
            .const_label("version", version),
    )?;
    build.set(1);
    registry.register(Box::new(build))?;
    Ok(registry)
}

/// The content type of what [`encode`] returns.
pub const METRICS_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics in the text format of Prometheus. A family that cannot be written is left out and logged.
pub fn encode(registry: &Registry) -> String {
    let encoder = TextEncoder::new();
    let mut out = Vec::new();
    for family in registry.gather() {
        let before = out.len();
        if let Err(error) = encoder.encode(std::slice::from_ref(&family), &mut out) {
            out.truncate(before);
            tracing::error!(metric = family.name(), %error, "cannot write a metric");
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let error = check_filter("info,authsome=loud").unwrap_err();
        assert_eq!(error.to_string(), "bad log filter \"info,authsome=loud\"");
        assert!(check_filter("info,authsome_proxy=debug").is_ok());
    }

    #[test]
    fn the_settings_are_checked_before_they_are_used() {
        use crate::config::Environment;
        let read = |level| {
            Reader::new(None, Environment::from([("LOG_LEVEL", level)])).finish(|reader| Some(Logging::read(reader)))
        };
        assert_eq!(
            read("debug").unwrap(),
            Logging {
                format: Format::Json,
                filter: "debug".to_owned()
            }
        );
        assert!(
            read("info,authsome=loud")
                .unwrap_err()
                .to_string()
                .starts_with("log.level: must be a level")
        );
    }

    #[test]
    fn libraries_that_write_the_wire_stay_at_info() {
        let ceiling = ceiling();
        assert!(!ceiling.would_enable("hyper::proto", &tracing::Level::TRACE));
        assert!(!ceiling.would_enable("sqlx::query", &tracing::Level::DEBUG));
        assert!(!ceiling.would_enable("fred::router", &tracing::Level::DEBUG));
        assert!(ceiling.would_enable("hyper::proto", &tracing::Level::INFO));
        assert!(ceiling.would_enable("authsome_proxy::edge", &tracing::Level::TRACE));
    }

    #[test]
    fn every_program_exports_its_build() {
        let registry = registry("authsome-proxy", "1.2.3").unwrap();
        let text = encode(&registry);
        assert!(
            text.contains(r#"authsome_build_info{program="authsome-proxy",version="1.2.3"} 1"#),
            "{text}"
        );
        #[cfg(target_os = "linux")]
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }

    #[test]
    fn the_names_of_formats_are_closed() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("pretty".parse(), Ok(Format::Pretty));
        assert_eq!("JSON".parse::<Format>(), Err(FormatError));
    }
}
