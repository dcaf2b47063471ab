//! From a request to its application and key: the gate's questions, answered by the routing table.
//!
//! The warm path ([`warm`]) answers from memory and never waits. What memory does not know is resolved under the table's
//! deadline ([`admit`]); if nobody answers in time the request gets an uncached 503, never a 401.

use std::sync::Arc;

use authsome_core::key::KeyType;

use crate::error::Refusal;
use crate::gate::{Answer, Ask, Known, Request, Step, decide};
use crate::routing::{AppEntry, KeyEntry, Lookup, Routing};

/// A request that may pass, and on whose behalf.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The application.
    pub app: Arc<AppEntry>,
    /// The key that counts; `None` is nobody, on an open path.
    pub key: Option<Arc<KeyEntry>>,
}

/// A request that may not pass.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why not.
    pub refusal: Refusal,
    /// Its application, if the answer may show that there is one.
    pub app: Option<Arc<AppEntry>>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, app: None }
    }
}

/// What was looked up for one request.
#[derive(Debug, Default)]
pub struct Gathered {
    secret: Answer<Arc<KeyEntry>>,
    public: Answer<Arc<KeyEntry>>,
    app: Answer<Arc<AppEntry>>,
}

impl Gathered {
    fn decide(&self, request: &Request<'_>) -> Step {
        decide(
            request,
            &Known {
                secret: self.secret.as_ref().map(|entry| &entry.record),
                public: self.public.as_ref().map(|entry| &entry.record),
                app: self.app.as_ref().map(|entry| &entry.record),
            },
        )
    }

    fn put_key(&mut self, ask: Ask, entry: Option<Arc<KeyEntry>>) {
        // Every key leads to its application; one look-up is enough for both.
        if let (Answer::Unasked, Some(app)) = (&self.app, entry.as_ref().and_then(|entry| entry.app.load())) {
            self.app = Answer::Found(app);
        }
        let answer = entry.map_or(Answer::Absent, Answer::Found);
        match ask {
            Ask::Secret(_) => self.secret = answer,
            Ask::Public(_) | Ask::App(_) => self.public = answer,
        }
    }

    fn put_app(&mut self, entry: Option<Arc<AppEntry>>) {
        self.app = entry.map_or(Answer::Absent, Answer::Found);
    }

    fn refused(self, refusal: Refusal) -> Refused {
        let app = match self.app {
            Answer::Found(app) if refusal.tells_of_application() => Some(app),
            _ => None,
        };
        Refused { refusal, app }
    }

    fn admitted(self, by: Option<KeyType>) -> Result<Admission, Refused> {
        let key = match by {
            Some(KeyType::Secret) => self.secret,
            Some(KeyType::Public) => self.public,
            None => Answer::Absent,
        };
        match (self.app, by.is_some(), key) {
            (Answer::Found(app), true, Answer::Found(key)) => Ok(Admission { app, key: Some(key) }),
            (Answer::Found(app), false, _) => Ok(Admission { app, key: None }),
            // The gate admits nobody without having seen both.
            _ => Err(Refusal::Internal.into()),
        }
    }
}

/// Decides from memory; gives back what is missing, and what was found so far, if memory is not enough.
pub fn warm(routing: &Routing, request: &Request<'_>) -> Result<Result<Admission, Refused>, (Ask, Gathered)> {
    let mut gathered = Gathered::default();
    loop {
        match gathered.decide(request) {
            Step::Admit(by) => return Ok(gathered.admitted(by)),
            Step::Refuse(refusal) => return Ok(Err(gathered.refused(refusal))),
            Step::Ask(ask) => {
                if !peek(routing, request, ask, &mut gathered) {
                    return Err((ask, gathered));
                }
            }
        }
    }
}

/// Answers a question from memory, if memory knows.
fn peek(routing: &Routing, request: &Request<'_>, ask: Ask, gathered: &mut Gathered) -> bool {
    match ask {
        Ask::Secret(digest) | Ask::Public(digest) => match routing.key(&digest, request.now_ms) {
            Lookup::Hit(entry) => gathered.put_key(ask, Some(entry)),
            Lookup::Absent => gathered.put_key(ask, None),
            Lookup::Unknown => return false,
        },
        Ask::App(id) => match routing.app(&id, request.now_ms) {
            Lookup::Hit(entry) => gathered.put_app(Some(entry)),
            Lookup::Absent => gathered.put_app(None),
            Lookup::Unknown => return false,
        },
    }
    true
}

/// Decides, waiting for what memory does not know.
pub async fn admit(routing: &Routing, request: &Request<'_>) -> Result<Admission, Refused> {
    match warm(routing, request) {
        Ok(verdict) => verdict,
        // Boxed: every request would carry the space that few need.
        Err((ask, gathered)) => Box::pin(resolve(routing, request, ask, gathered)).await,
    }
}

/// Goes on where memory did not know.
async fn resolve(
    routing: &Routing,
    request: &Request<'_>,
    mut ask: Ask,
    mut gathered: Gathered,
) -> Result<Admission, Refused> {
    loop {
        match ask {
            Ask::Secret(digest) | Ask::Public(digest) => {
                let entry = routing
                    .resolve_key(digest)
                    .await
                    .map_err(|_| Refusal::TableUnavailable)?;
                gathered.put_key(ask, entry);
            }
            Ask::App(id) => {
                let entry = routing.resolve_app(id).await.map_err(|_| Refusal::TableUnavailable)?;
                gathered.put_app(entry);
            }
        }
        ask = loop {
            match gathered.decide(request) {
                Step::Admit(by) => return gathered.admitted(by),
                Step::Refuse(refusal) => return Err(gathered.refused(refusal)),
                Step::Ask(next) => {
                    if !peek(routing, request, next, &mut gathered) {
                        break next;
                    }
                }
            }
        };
    }
}
