//! One request's way to an instance over the forwarding library: its permit, its attempts, its deadline.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::Error;
use pingora::upstreams::peer::HttpPeer;

use super::app::{Kind, Permit};
use super::endpoint::Attempt;
use super::fault;
use super::health::Outcome;
use super::patience::{Line, Patience};
use super::peer::{self, Carried, Purpose};
use super::registry::Upstreams;
use super::retry::{Failed, Next};
use super::set::Tried;
use super::tunnel::Hold;
use super::{Prepared, Stage};
use crate::error::Refusal;
use crate::trailers::Trailers;

/// From the decision to forward until the answer's end, which ends the request's place in the application's count.
#[derive(Debug)]
pub struct Way {
    /// `None`: it may yet be answered without the instance.
    permit: Option<Permit>,
    kind: Kind,
    began: Instant,
    attempt: Option<Attempt>,
    tried: Tried,
    tries: usize,
    /// The next attempt uses a connection of its own to the same endpoint.
    fresh: bool,
    /// The body was asked for, so the head is with the instance.
    head_sent: bool,
    /// The client asks for a tunnel.
    upgrades: bool,
    /// Of the present attempt, if it may become a tunnel or carries trailers.
    hold: Option<Arc<Hold>>,
    /// Those that are passed on.
    trailers: Option<Arc<Trailers>>,
    /// Of the present attempt.
    socket: Option<RawFd>,
    /// The answer of the present attempt has begun.
    answering: bool,
}

/// An attempt that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Where.
    pub address: SocketAddr,
    /// Over a connection of its own.
    pub fresh: bool,
    /// What is left of the time for the whole request.
    pub left: Duration,
}

impl Call {
    /// A connection for it that the library makes and nobody else uses.
    pub fn peer(&self, upstreams: &Upstreams, prepared: &Prepared) -> HttpPeer {
        let purpose = Purpose {
            group_key: prepared.group_key,
            server_name: prepared.server_name.as_deref(),
            streaming: false,
            fresh: None,
            hold: None,
            trailers: None,
            left: self.left,
        };
        peer::peer(self.address, &purpose, &upstreams.settings().timeouts, &upstreams.tls())
    }
}

/// What the request is like; asked for only when an attempt failed.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// May the method be repeated (RFC 9110, 9.2.2)?
    pub idempotent: bool,
    /// Is all of the body that was read still here?
    pub replayable: bool,
    /// Has a head been passed on to the client?
    pub answered: bool,
}

impl Way {
    /// Not open yet.
    pub fn new(kind: Kind, began: Instant) -> Self {
        Self {
            permit: None,
            kind,
            began,
            attempt: None,
            tried: Tried::default(),
            tries: 0,
            fresh: false,
            head_sent: false,
            upgrades: false,
            hold: None,
            trailers: None,
            socket: None,
            answering: false,
        }
    }

    /// The client asks for a tunnel.
    #[must_use]
    pub fn upgrading(self, upgrades: bool) -> Self {
        Self { upgrades, ..self }
    }

    /// Trailers are passed on, unless it may become a tunnel.
    pub fn carry(&mut self, trailers: Arc<Trailers>) {
        if !self.upgrades {
            self.trailers = Some(trailers);
        }
    }

    /// Those that are.
    pub fn carried(&self) -> Option<&Trailers> {
        self.trailers.as_deref()
    }

    /// Counts the request in, and finds out whether there is an endpoint. Done once.
    pub async fn open(&mut self, upstreams: &Upstreams, prepared: &Prepared) -> Result<(), Refusal> {
        if self.permit.is_some() {
            return Ok(());
        }
        // Before anything is waited for, so that a hanging application does not hold more of the edge than its part.
        let permit = upstreams
            .enter(prepared, self.kind, self.began)
            .ok_or(Refusal::TooManyInFlight)?;
        if !upstreams.has_endpoints(prepared).await {
            return Err(Refusal::NoInstance);
        }
        self.permit = Some(permit);
        Ok(())
    }

    /// Attempts so far.
    pub fn tries(&self) -> usize {
        self.tries
    }

    /// May the answer be silent for long?
    pub fn is_streaming(&self) -> bool {
        self.kind == Kind::Stream
    }

    /// The answer may go on for hours. False if the application has as many of those as it may.
    pub fn becomes_stream(&mut self, upstreams: &Upstreams, prepared: &Prepared) -> bool {
        if self.kind == Kind::Request {
            let Some(permit) = upstreams.enter(prepared, Kind::Stream, Instant::now()) else {
                return false;
            };
            self.permit = Some(permit);
            self.kind = Kind::Stream;
        }
        true
    }

    /// Is its time over?
    pub fn is_overdue(&self, upstreams: &Upstreams) -> bool {
        self.left(upstreams, Instant::now()).is_zero()
    }

    fn left(&self, upstreams: &Upstreams, now: Instant) -> Duration {
        match self.kind {
            Kind::Stream => Duration::MAX,
            Kind::Request => {
                let took = now.duration_since(self.began);
                upstreams.settings().timeouts.total.saturating_sub(took)
            }
        }
    }

    /// The connection for the next attempt. `None`: there is no endpoint, or no time.
    pub fn next(&mut self, upstreams: &Upstreams, prepared: &Prepared) -> Option<HttpPeer> {
        let call = self.call(upstreams, prepared, Instant::now())?;
        let is_watched = self.upgrades || self.trailers.is_some();
        self.hold = is_watched.then(Arc::default);
        if let Some(trailers) = &self.trailers {
            trailers.again();
        }
        let purpose = Purpose {
            group_key: prepared.group_key,
            server_name: prepared.server_name.as_deref(),
            streaming: self.is_streaming(),
            fresh: (call.fresh || is_watched).then(|| upstreams.salt()),
            hold: self.hold.as_ref(),
            trailers: self.trailers.as_ref().map(|trailers| Carried {
                trailers,
                secure: prepared.server_name.is_some().then(|| upstreams.secure()),
            }),
            left: call.left,
        };
        Some(peer::peer(
            call.address,
            &purpose,
            &upstreams.settings().timeouts,
            &upstreams.tls(),
        ))
    }

    /// Where the next attempt goes, at this moment. `None`: there is no endpoint, or no time.
    pub fn call(&mut self, upstreams: &Upstreams, prepared: &Prepared, now: Instant) -> Option<Call> {
        let left = self.left(upstreams, now);
        if left.is_zero() {
            return None;
        }
        if self.tries == 0 {
            upstreams.began(prepared);
        }
        let fresh = std::mem::take(&mut self.fresh);
        // The same endpoint was not at fault, so for a fresh connection it is not one that was tried.
        let attempt = match self.attempt.take() {
            Some(former) if fresh => former.again(),
            _ => upstreams.attempt(prepared, &self.tried, now)?,
        };
        let address = attempt.endpoint().address();
        self.attempt = Some(attempt);
        self.tries += 1;
        self.head_sent = false;
        self.answering = false;
        Some(Call { address, fresh, left })
    }

    /// A connection was made, and the head is about to be sent.
    pub fn connected(&mut self, socket: RawFd) {
        self.socket = Some(socket);
        if let Some(hold) = self.hold.as_ref().filter(|_| self.upgrades) {
            hold.begin();
        }
    }

    /// The last of the request is about to be sent; the answer must begin soon.
    pub fn request_ends(&self, upstreams: &Upstreams, patience: Option<&Patience>) {
        if let Some(hold) = &self.hold {
            hold.end();
        }
        if self.answering {
            // Before it had all of the request; or the request is the end of a tunnel.
            return;
        }
        let timeouts = &upstreams.settings().timeouts;
        let allowed = match self.kind {
            Kind::Request if timeouts.first_byte < timeouts.read => timeouts.first_byte,
            Kind::Stream if self.upgrades => timeouts.first_byte,
            // The library's own bound is the same; event streams may begin late, as they may be silent later.
            _ => return,
        };
        let line = match (&self.hold, self.socket) {
            (Some(hold), _) => Line::Held(Arc::clone(hold)),
            (None, Some(socket)) => Line::Socket(socket),
            (None, None) => return,
        };
        if let Some(patience) = patience {
            patience.wait(allowed, line);
        }
    }

    /// The instance has the head, and the body follows.
    pub fn head_is_sent(&mut self) {
        self.head_sent = true;
    }

    /// The instance answers with this status.
    pub fn answered(&mut self, upstreams: &Upstreams, prepared: &Prepared, status: u16) {
        self.answering = true;
        if let Some(attempt) = &mut self.attempt {
            upstreams.settle(prepared, attempt, upstreams.outcome_of(status));
        }
    }

    /// No connection was made. Is there to be another attempt?
    pub fn not_connected(&mut self, upstreams: &Upstreams, prepared: &Prepared, error: &Error, replay: Replay) -> bool {
        let outcome = if fault::is_ours(error) {
            Outcome::Unknown
        } else {
            Outcome::Failed
        };
        self.failed(upstreams, prepared, outcome, Stage::Connect, replay)
    }

    /// The attempt failed after a connection was made. Is there to be another?
    pub fn broken(
        &mut self,
        upstreams: &Upstreams,
        prepared: &Prepared,
        error: &Error,
        reused: bool,
        replay: Replay,
    ) -> bool {
        let Some(stage) = fault::stage_of(error, reused, !self.head_sent) else {
            // The client's or the edge's own failure.
            return self.failed(upstreams, prepared, Outcome::Unknown, Stage::Answer, replay);
        };
        let outcome = match stage {
            // It may have been closed long before the request came.
            Stage::Broken { reused: true, .. } => Outcome::Unknown,
            _ => Outcome::Failed,
        };
        self.failed(upstreams, prepared, outcome, stage, replay)
    }

    fn failed(
        &mut self,
        upstreams: &Upstreams,
        prepared: &Prepared,
        outcome: Outcome,
        stage: Stage,
        replay: Replay,
    ) -> bool {
        if let Some(attempt) = &mut self.attempt {
            upstreams.settle(prepared, attempt, outcome);
        }
        if self.is_overdue(upstreams) {
            return false;
        }
        let failed = Failed {
            stage,
            idempotent: replay.idempotent,
            replayable: replay.replayable,
            answered: replay.answered,
            tries: self.tries,
        };
        match upstreams.retry(prepared, &failed) {
            Some(next) => {
                self.fresh = next == Next::Fresh;
                if next == Next::Elsewhere
                    && let Some(attempt) = &self.attempt
                {
                    self.tried.add(attempt.endpoint().address());
                }
                true
            }
            None => false,
        }
    }
}
