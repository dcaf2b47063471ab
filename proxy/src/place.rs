//! Which application a request addresses: by its host, or by its path on the shared host.
//!
//! Owns the order of the two. Names of the edge's own settings cost nothing; a custom domain is looked up in memory, and among the
//! sources only for a path that names no application, so that a request on the shared host under an unheard name costs no
//! query. If the sources do not answer, a name that memory does not know is a 503 there, never a 404.

use std::borrow::Cow;
use std::sync::Arc;

use authsome_core::id::ApplicationId;

use crate::edge::Edge;
use crate::error::Refusal;
use crate::filter::normalise::{self, BadHead, Target};
use crate::filter::own_host::Named;
use crate::routing::{HostEntry, Lookup};

/// An addressed application.
pub(crate) struct Place<'a> {
    /// Which, and the path below it.
    pub(crate) target: Target<'a>,
    /// Is the host its own?
    pub(crate) is_own_host: bool,
}

impl<'a> Place<'a> {
    fn own(target: &'a [u8], app: ApplicationId) -> Result<Self, Refusal> {
        Ok(Self {
            target: normalise::own_target(target, app).map_err(Refusal::Head)?,
            is_own_host: true,
        })
    }
}

impl Edge {
    /// Where a request leads, the form of whose head was checked.
    pub(crate) async fn find_place<'a>(&self, target: &'a [u8], host: &'a str) -> Result<Place<'a>, Refusal> {
        let name = match self.addresses.hosts.named(host) {
            Named::Own(app) => return Place::own(target, app),
            Named::Nobody => return Err(Refusal::Head(BadHead::NoApplication)),
            Named::Shared => None,
            Named::Other(name) => Some(lower(name)),
        };
        if let Some(Lookup::Hit(host)) = name.as_ref().map(|name| self.host(name)) {
            return Place::own(target, host.record.application_id);
        }
        match (normalise::target(target), name) {
            (Err(BadHead::NoApplication), Some(name)) => {
                let host = match self.host(&name) {
                    Lookup::Unknown => self
                        .routing
                        .resolve_host(&name)
                        .await
                        .map_err(|_| Refusal::TableUnavailable)?,
                    Lookup::Hit(_) | Lookup::Absent => None,
                };
                let host = host.ok_or(Refusal::Head(BadHead::NoApplication))?;
                Place::own(target, host.record.application_id)
            }
            (target, _) => Ok(Place {
                target: target.map_err(Refusal::Head)?,
                is_own_host: false,
            }),
        }
    }

    /// Is the host an application's own, as far as memory knows?
    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        match self.addresses.hosts.named(host) {
            Named::Own(_) => true,
            Named::Shared | Named::Nobody => false,
            Named::Other(name) => matches!(self.host(&lower(name)), Lookup::Hit(_)),
        }
    }

    fn host(&self, name: &str) -> Lookup<Arc<HostEntry>> {
        self.routing.host(name, self.clock.unix_millis())
    }
}

/// As names are kept. Clients hardly ever write them otherwise.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}
