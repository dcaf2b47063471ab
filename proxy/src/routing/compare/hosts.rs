//! The comparison of hosts: few enough to be remembered at once.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Comparison, Difference, PAGE};
use crate::routing::postgres::PostgresError;

impl Comparison {
    pub(super) async fn hosts(&self) -> Result<(), PostgresError> {
        let table = &self.shared().table;
        let held = table.host_names();
        let mut seen: HashSet<Arc<str>> = HashSet::with_capacity(held.len());
        let mut suspects = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.postgres.host_versions(&after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (host, version) in page {
                let host: Arc<str> = host.into();
                if Difference::between(table.host_version(&host), Some(version), table.has_overflowed()).is_some() {
                    suspects.push((Arc::clone(&host), Some(version)));
                }
                seen.insert(host);
            }
        }
        suspects.extend(
            held.into_iter()
                .filter(|host| !seen.contains(host))
                .map(|host| (host, None)),
        );
        if suspects.is_empty() {
            return Ok(());
        }
        self.on_its_way().await;
        for (host, truth) in suspects {
            let before = table.host_version(&host);
            let Some(difference) = Difference::between(before, truth, table.has_overflowed()) else {
                continue;
            };
            if self.filler.host_from_postgres(&host).await.is_ok() && table.host_version(&host) != before {
                self.repaired("host", difference, &host);
            }
        }
        Ok(())
    }
}
