//! The plans of the statements that a program really sends, as Postgres tells them (`auto_explain`, part of every distribution's
//! Postgres): nothing has to be written twice, and a statement that is prepared is seen with the plan that it is given then.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::PgConnectOptions;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, registry};

/// Connections that tell the plan of each statement to their client. `analyze`: with what it really took.
#[must_use]
pub fn telling(options: PgConnectOptions, analyze: bool) -> PgConnectOptions {
    let analyze = if analyze { "on" } else { "off" };
    options.options([
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_level", "notice"),
        ("auto_explain.log_analyze", analyze),
        ("auto_explain.log_buffers", analyze),
    ])
}

/// The plans of this thread's statements, in their order, for as long as it lives.
pub struct Plans {
    told: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Plans {
    /// Listens from now on. Takes the place of this thread's subscriber.
    #[must_use]
    pub fn listen() -> Self {
        crate::ask_every_subscriber();
        let told = Arc::new(Mutex::new(Vec::new()));
        let guard = tracing::subscriber::set_default(registry().with(Listener(Arc::clone(&told))));
        Self { told, _guard: guard }
    }

    /// Those since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        if let Some((_, plan)) = message.0.split_once("plan:") {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(plan.trim().to_owned());
        }
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }
}
