//! A request that is answered from what is kept.

use http::HeaderValue;
use pingora::server::ShutdownWatch;

use super::{Job, Lane, question};
use crate::answer::Connection;
use crate::cache::Kept;
use crate::filter::lines::Lines;
use crate::filter::name;
use crate::filter::short::Short;

impl Lane {
    /// What is kept for the request, if that is simple.
    pub(super) fn kept(&self, job: &Job<'_>) -> Option<Kept> {
        let (cache, part) = (self.edge.cache.as_ref()?, job.ctx.part.as_ref()?);
        let admission = &job.ctx.forward.as_ref()?.admission;
        let key_id = || admission.key.as_ref().map(|key| key.record.id.text());
        cache.kept(part, &admission.app.record, &job.desk.request, key_id)
    }

    /// Answers with it.
    pub(super) async fn answer_kept(&self, job: &mut Job<'_>, kept: &Kept, stopping: &ShutdownWatch) {
        let status = kept.status();
        let lines = &mut job.desk.reply;
        lines.begin_with(kept.lines());
        lines.strike(&name::DATE);
        // All of it, so parts can be asked for.
        lines.put(&name::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        lines.put_text(&name::AGE, &Short::<20>::default().with_number(kept.age()));
        lines.say(&name::CACHE_STATUS, kept.cache_status().as_bytes());
        if let Some(cache) = &self.edge.cache {
            cache.sent_kept();
        }
        let question = question(&job.chosen, &job.desk.request, None);
        self.edge.to_client(&question, status, &mut job.desk.reply, &job.ctx);
        job.closes |= self.edge.probes.is_draining() || *stopping.borrow();
        self.answer(job, (status, kept.reason()), kept.body(), Connection::Keep)
            .await;
    }
}
