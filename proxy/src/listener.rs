//! The traffic port: what happens to a connection that was accepted.
//!
//! Owns the choice of the protocol and what a connection shares with the requests on it.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use crate::config::Limits;
use crate::edge::Edge;
use crate::http1::{Door, Exchange, Http1};
use crate::live::KillSwitch;

/// What an accepted stream shares with the requests on it.
#[derive(Debug, Default)]
pub struct Accepted {
    /// The request that is on it.
    pub exchange: Exchange,
    /// Ends it.
    pub switch: KillSwitch,
    door: Option<Arc<Door>>,
}

impl Accepted {
    /// Of a connection whose bad heads are answered there.
    pub fn new(door: Arc<Door>) -> Self {
        Self {
            door: Some(door),
            ..Self::default()
        }
    }

    /// What is sent in place of an answer that is not the platform's.
    pub(crate) fn refusal_of_last_resort(&self) -> Vec<u8> {
        self.door.as_ref().map_or_else(Vec::new, |door| door.last_resort())
    }
}

/// The application on the traffic port: hands each connection to what speaks its protocol.
pub struct Front {
    proxy: Arc<HttpProxy<Edge>>,
    http1: Http1,
}

impl Front {
    /// In front of this proxy, whose modules are set up.
    pub fn new(proxy: HttpProxy<Edge>, door: Door, limits: Limits) -> Self {
        let proxy = Arc::new(proxy);
        Self {
            http1: Http1::new(Arc::clone(&proxy), Arc::new(door), limits),
            proxy,
        }
    }
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.http1.serve(stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
