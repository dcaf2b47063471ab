//! The wish to stop: Ctrl-C, SIGTERM, or the terminal going away. The first asks for an orderly end, the second ends at
//! once; the guards then clean up.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::LocalError;

/// Watches for the wish to stop.
pub(crate) struct Stop {
    signals: [Signal; 3],
}

impl Stop {
    /// Begins to watch.
    pub(crate) fn watch() -> Result<Self, LocalError> {
        let watch = |kind| signal(kind).map_err(LocalError::io("watch for signals"));
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(watch);
        Ok(Self {
            signals: [interrupt?, terminate?, hangup?],
        })
    }

    /// Completes at the next wish.
    pub(crate) async fn wished(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
