//! Requests that go on while something happens: every answer that is not 200 is remembered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authsome_core::key::ApiKey;
use authsome_testkit::wait_for;
use tokio::task::JoinHandle;

use crate::db::App;
use crate::edge::{Edge, key, request};
use crate::routing_fixture::SOON;
use crate::wire::Wire;

/// Connections at once.
const CONNECTIONS: usize = 2;
/// Between two requests of one: the point is that requests are under way, not how many, and a key of the pro plan has a
/// hundred a second.
const PAUSE: Duration = Duration::from_millis(25);

/// Requests under way. Dropping it stops them.
pub(crate) struct Load {
    tasks: Vec<JoinHandle<()>>,
    answered: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Load {
    /// Asks the edge with this key of the application.
    pub(crate) fn start(edge: &Edge, app: &App, by: &ApiKey) -> Self {
        let (answered, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let asked = request("GET", &format!("/v1/{}/users", app.id), &key(by), "");
        let tasks = (0..CONNECTIONS).map(|_| {
            let (answered, failures) = (Arc::clone(&answered), Arc::clone(&failures));
            let (address, asked) = (edge.address.clone(), asked.clone());
            tokio::spawn(async move {
                let mut wire = Wire::connect(&address).await;
                loop {
                    wire.send(&asked).await;
                    match wire.receive().await {
                        Some(answer) if answer.status() == 200 => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        other => {
                            failures.lock().unwrap().push(format!("{other:?}"));
                            wire = Wire::connect(&address).await;
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        Self {
            tasks: tasks.collect(),
            answered,
            failures,
        }
    }

    /// Until there were so many more answers.
    pub(crate) async fn more(&self, answers: u64) {
        let enough = self.answered.load(Ordering::Relaxed) + answers;
        wait_for("more answers", SOON, async || {
            let answered = self.answered.load(Ordering::Relaxed);
            if answered >= enough { Ok(()) } else { Err(answered) }
        })
        .await
        .unwrap();
    }

    /// Stops, and fails unless every request was answered 200.
    pub(crate) fn had_no_failure(self) {
        let failures = self.failures.lock().unwrap().clone();
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} beside {answered}: {:#?}",
            failures.len(),
            failures.first()
        );
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
