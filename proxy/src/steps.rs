//! What happens to a request on its way, apart from its bytes: the steps that every forwarding path takes.
//!
//! Owns no state. Each path reads heads and moves bodies in its own way and calls these in the same order; a step that could
//! differ between paths belongs here. Nothing waits but for the way to an instance.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use authsome_core::id::RequestId;
use http::Method;
use pingora::Error;

use crate::abandoned::Unsettled;
use crate::cache::{Asked, CACHE_TAG, Part, Place};
use crate::ctx::{Ctx, Forwarding};
use crate::edge::Edge;
use crate::error::Refusal;
use crate::filter::client_address::Client;
use crate::filter::cors::Grant;
use crate::filter::headers::{self, Forward, Identity, Reply};
use crate::filter::lines::{Fields, Lines};
use crate::filter::name;
use crate::filter::shared_host;
use crate::live::Full;
use crate::meter::Tally;
use crate::metrics::By;
use crate::trace::Timeline;
use crate::upstream::{self, Blame, InstanceCredentials};

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// What is asked, as far as the later steps need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// The host that the client names.
    pub(crate) host: &'a [u8],
    /// `1.1`, `2`.
    pub(crate) protocol: &'static str,
    /// The status of what was answered so far.
    pub(crate) answered: Option<u16>,
    /// Who forwards it.
    pub(crate) by: By,
}

impl Edge {
    /// A request whose head is complete.
    pub(crate) fn begin(&self) -> Ctx {
        let began_ms = self.clock.unix_millis();
        let request_id = RequestId::at(began_ms, &*self.entropy);
        Ctx {
            request_id,
            request_id_text: request_id.text(),
            began_ms,
            began: Instant::now(),
            accepted: None,
            listing: None,
            entered: self.in_flight.enter(),
            is_probe: false,
            client: Client::default(),
            scheme: "http",
            app_id: None,
            app: None,
            own_host: false,
            cors: Grant::default(),
            path: String::new(),
            head_bytes: 0,
            refusal: None,
            failure: None,
            occupied: None,
            standing: None,
            timeline: Timeline::default(),
            unsettled: None,
            forward: None,
            part: None,
            in_background: false,
        }
    }

    /// What every answer to the request carries.
    pub(crate) fn identity<'a>(&'a self, ctx: &'a Ctx) -> Identity<'a> {
        Identity {
            app: ctx.app.as_ref().map(|app| &app.headers),
            request_id: &ctx.request_id_text,
            region: &self.region,
            cors: &ctx.cors,
            standing: ctx.standing.as_ref(),
        }
    }

    /// Where the request comes from, how, and to which trace it belongs: what trusted proxies and the client say of it, or
    /// what is seen here.
    pub(crate) fn find_client(&self, peer: Option<IpAddr>, is_tls: bool, headers: &impl Fields, ctx: &mut Ctx) {
        ctx.client = self.addresses.proxies.client(peer, headers);
        ctx.scheme = match (ctx.client.https, self.addresses.public_scheme) {
            (Some(true), _) => "https",
            (Some(false), _) => "http",
            (None, _) if is_tls => "https",
            (None, public) => public.unwrap_or("http"),
        };
        ctx.timeline.trace = Some(self.tracing.of(headers, ctx.request_id, &*self.entropy));
    }

    /// What the cache may do with a request that was admitted.
    pub(crate) fn part(&self, question: &Question<'_>, headers: &impl Fields, ctx: &Ctx) -> Option<Part> {
        let (cache, forward) = (self.cache.as_ref()?, ctx.forward.as_ref()?);
        if forward.way.is_streaming() {
            return None;
        }
        let asked = Asked {
            method: question.method,
            tail: forward.tail(),
            headers,
            has_key: forward.admission.key.is_some(),
            now_ms: ctx.began_ms,
        };
        cache.part(
            &forward.admission.app.record,
            &asked,
            &Self::place(question, forward, ctx),
        )
    }

    fn place<'a>(question: &Question<'a>, forward: &'a Forwarding, ctx: &Ctx) -> Place<'a> {
        let prepared = forward.prepared().filter(|_| !ctx.own_host);
        Place {
            scheme: ctx.scheme,
            host: question.host,
            prefix: prepared.map_or("", |prepared| &prepared.prefix),
            target: &forward.target,
        }
    }

    /// Lets an admitted request go on to its instance, or to the cache.
    pub(crate) async fn set_out(&self, ctx: &mut Ctx) -> Result<(), Refusal> {
        // What may be answered from the cache needs no instance yet.
        if let (None, Some(forward)) = (&ctx.part, &mut ctx.forward)
            && let Err(refusal) = forward.open_way(&self.upstreams).await
        {
            ctx.forward = None;
            return Err(refusal);
        }
        if let (Some(forward), false) = (&ctx.forward, ctx.in_background) {
            // Before anything is sent on: a killed edge has then billed whatever it answered.
            let usage = &forward.admission.app.usage;
            usage.count(ctx.began_ms, Tally::REQUEST);
        }
        Ok(())
    }

    /// Puts the connection on the list of those that are closed with their key.
    pub(crate) fn list(&self, question: &Question<'_>, ctx: &mut Ctx) -> Result<(), Full> {
        if let (None, Some(accepted), Some(forward)) = (&ctx.listing, &ctx.accepted, &ctx.forward) {
            ctx.listing = Some(self.live.list((&forward.admission).into(), Arc::clone(accepted))?);
            self.may_be_abandoned(question, ctx);
            // It has its place among the streams, and may be there for hours.
            ctx.occupied = None;
        }
        Ok(())
    }

    /// Counts a request among its application's streams; false if it has as many as it may.
    fn streams(&self, ctx: &mut Ctx) -> bool {
        ctx.forward
            .as_mut()
            .is_none_or(|forward| forward.becomes_stream(&self.upstreams))
    }

    /// The request's stream may be taken away at any time.
    pub(crate) fn may_be_abandoned(&self, question: &Question<'_>, ctx: &mut Ctx) {
        ctx.unsettled.get_or_insert_with(|| {
            Box::new(Unsettled {
                books: Arc::clone(&self.books),
                method: question.method.as_str().to_owned(),
                protocol: question.protocol,
                status: question.answered,
                bytes_out: 0,
                by: question.by,
            })
        });
    }

    /// Makes the head for the instance out of the client's; the target that it is asked for. `None`: it was not admitted.
    pub(crate) fn to_instance<'a>(request: &mut impl Lines, ctx: &'a Ctx) -> Option<&'a str> {
        let forward = ctx.forward.as_ref()?;
        let prepared = forward.prepared()?;
        let none = InstanceCredentials::default();
        let key = forward.admission.key.as_ref().map(|key| key.record.headers());
        headers::to_instance(
            request,
            &Forward {
                app: &forward.admission.app.headers,
                key: forward.key_type().zip(key.as_ref()),
                prefix: (!ctx.own_host).then_some(&prepared.prefix_value),
                instance: prepared.instance.as_ref().unwrap_or(&none),
                request_id: &ctx.request_id_text,
                trace: ctx.timeline.trace.as_ref(),
                client: ctx.client.address,
                scheme: ctx.scheme,
                keys_in: forward.keys_in,
            },
        );
        Some(&forward.target)
    }

    /// The head of the instance's answer is there now, as it was sent.
    pub(crate) fn answer_begins(
        &self,
        question: &Question<'_>,
        status: u16,
        answer: &impl Fields,
        ctx: &mut Ctx,
        now: Instant,
    ) -> Result<(), Full> {
        ctx.timeline.answered(status, now);
        // Whatever was asked for: this answer may go on for hours.
        if is_event_stream(answer) {
            self.list(question, ctx)?;
            if !self.streams(ctx) {
                return Err(Full);
            }
        }
        Ok(())
    }

    /// Makes the head for the client out of the instance's.
    pub(crate) fn to_client(&self, question: &Question<'_>, status: u16, answer: &mut impl Lines, ctx: &Ctx) {
        if let (Some(cache), Some(forward)) = (&self.cache, &ctx.forward) {
            if ctx.part.is_none() && !question.method.is_safe() {
                cache.invalidate(
                    &forward.admission.app.record.id,
                    &Self::place(question, forward, ctx),
                    status,
                    answer,
                );
            }
            answer.strike(&CACHE_TAG);
        }
        let identity = self.identity(ctx);
        let Some((forward, prepared)) = ctx
            .forward
            .as_ref()
            .and_then(|forward| Some((forward, forward.prepared()?)))
        else {
            return headers::identify(answer, &identity);
        };
        let record = &forward.admission.app.record;
        let is_internal = |authority: &str| prepared.is_internal(authority);
        let shared = (!ctx.own_host).then(|| shared_host::Place {
            prefix: &prepared.prefix,
            base_path: &record.base_path,
            host: question.host,
            is_internal: &is_internal,
        });
        let dropped = headers::to_client(answer, &Reply { identity, shared });
        if dropped > 0 {
            self.metrics.cookies_dropped.inc_by(dropped as u64);
            prepared.warn_of_dropped_cookie(ctx.app_id);
        }
    }

    /// Forwarding failed: notes why, and says what the client is told if it has no answer yet and is still there.
    pub(crate) fn failed(&self, error: &Error, ctx: &mut Ctx) -> Option<Refusal> {
        let accepted = ctx.accepted.as_ref();
        let fault = accepted.and_then(|accepted| accepted.exchange.body_fault());
        let (blame, refusal) = upstream::refusal_of(error, fault);
        self.metrics.failed(blame);
        let answerable = matches!(
            refusal,
            Some(Refusal::TooLarge | Refusal::TooManyStreams | Refusal::RequestTimeout)
        );
        if let (Blame::Client, false, Some(accepted)) = (blame, answerable, accepted) {
            accepted.client_left();
        }
        let closed = accepted.is_some_and(|accepted| accepted.switch.is_thrown());
        ctx.failure = Some(if closed {
            "NoLongerAllowed"
        } else {
            error.etype().as_str()
        });
        if blame == Blame::Edge {
            tracing::error!(request_id = %ctx.request_id, error = %error.etype().as_str(), "a request failed inside the edge");
        }
        ctx.forward.as_ref().and_then(|forward| forward.refusal).or(refusal)
    }
}

fn is_event_stream(answer: &impl Fields) -> bool {
    answer
        .first(&name::CONTENT_TYPE)
        .and_then(|value| value.get(..EVENT_STREAM.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}
