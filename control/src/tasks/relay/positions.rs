//! Gives positions and says so: after each notification of the outbox, and each half second in case one was lost.

use std::{convert::Infallible, time::Duration};

use sqlx::{
    PgConnection, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::leader::{TermError, bounded};
use crate::db::outbox::{self, Pulse};
use authsome_contract::wire::names;

/// The backstop for a lost notification, and the pace of pulses when nothing happens.
const TICK: Duration = Duration::from_millis(500);

/// Rows that get their positions in one statement: about 10 ms, so that its row lock is short.
const BATCH: i64 = 1_000;

/// Gives positions until the session fails. Each round ends with a pulse, which proves to its receivers that this process
/// still leads.
pub(super) async fn give(pool: &PgPool, session: &mut PgConnection, pulses: &watch::Sender<Pulse>) -> TermError {
    let woken = Notify::new();
    tokio::select! {
        Err(error) = give_on(session, pulses, &woken) => error,
        never = listen(pool, &woken) => match never {},
    }
}

async fn give_on(
    session: &mut PgConnection,
    pulses: &watch::Sender<Pulse>,
    woken: &Notify,
) -> Result<Infallible, TermError> {
    loop {
        while bounded(outbox::give_positions(session, BATCH)).await? == BATCH.unsigned_abs() {}
        pulses.send_replace(bounded(outbox::pulse(session)).await?);
        // Elapsed or woken: both mean another round.
        let _ = timeout(TICK, woken.notified()).await;
    }
}

/// Wakes on every notification. While its connection is away the tick does.
async fn listen(pool: &PgPool, woken: &Notify) -> Infallible {
    let own = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(3))
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with((*pool.connect_options()).clone());
    loop {
        let listened: Result<Infallible, sqlx::Error> = async {
            let mut listener = PgListener::connect_with(&own).await?;
            listener.listen(names::OUTBOX_CHANNEL).await?;
            loop {
                listener.recv().await?;
                woken.notify_one();
            }
        }
        .await;
        let Err(error) = listened;
        tracing::debug!(%error, "listening for outbox notifications ended; trying again");
        tokio::time::sleep(TICK).await;
    }
}
