//! One request to a customer's server: resolve, refuse what is inside, connect to the very address that was looked at, send.
//!
//! HTTP/1.1, a connection for each request, no redirects, so that nothing the server says leads anywhere else. Everything is
//! bounded: the time, and how much of an answer is read (its head).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Response, header};
use hyper::body::Incoming;
use ipnet::IpNet;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::address::{is_allowed, is_within};
use crate::dns::{Dns, DnsError};
use crate::outbound::{self, ExchangeError};

/// For a whole attempt.
const ATTEMPT: Duration = Duration::from_secs(15);
/// For one connection, of several addresses.
const CONNECT: Duration = Duration::from_secs(5);
/// The most addresses of a name that are tried.
const ADDRESSES: usize = 3;

/// Why an attempt failed. Fit for the customer: it names nothing of the inside.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The URL cannot be used any more.
    #[error("the URL is not an https address")]
    Url,
    /// The DNS did not answer.
    #[error("the name could not be resolved")]
    Dns(#[source] DnsError),
    /// There is no such name.
    #[error("the name has no address")]
    NoAddress,
    /// An internal address.
    #[error("the name leads to an address that is not public")]
    Internal,
    /// Without TLS to where the operator has not allowed it.
    #[error("the URL begins with http://, and the name leads outside of the networks that the operator allows it for")]
    Plain,
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection brought no answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// Too slow.
    #[error("no answer within 15 seconds")]
    Silent,
}

/// How servers of customers are reached.
#[derive(Clone)]
pub struct WebhookClient {
    dns: Dns,
    /// `webhooks.allowed_networks`: beside public addresses, and without TLS if need be.
    allowed: Vec<IpNet>,
    tls: Arc<ClientConfig>,
}

impl WebhookClient {
    /// A client that asks this name server, may go to these networks as well, and believes the certificates that `tls` does.
    pub fn new(dns: Dns, allowed: Vec<IpNet>, tls: Arc<ClientConfig>) -> Self {
        Self { dns, allowed, tls }
    }

    /// Is this a URL that requests may be sent to? Names are not resolved for it: where one leads is looked at for each request.
    pub fn accepts(&self, text: &str) -> Result<(), &'static str> {
        // The reader of URLs would leave them out, and what is kept would not be what was meant.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("must be a URL without spaces and line breaks");
        }
        let url = Url::parse(text).map_err(|_| "must be a URL")?;
        if text.len() > 2048 || !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("must be at most 2048 bytes long, without user, password and fragment");
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err("must name a host"),
        };
        if literal.is_some_and(|address| !is_allowed(address, &self.allowed)) {
            return Err("must not be an internal address");
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if !self.allowed.is_empty() && literal.is_none_or(|address| is_within(address, &self.allowed)) => {
                Ok(())
            }
            _ => Err("must begin with https://"),
        }
    }

    /// Sends, and returns the status of the answer.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<u16, DeliveryError> {
        tokio::time::timeout(ATTEMPT, self.attempt(url, headers, body))
            .await
            .unwrap_or(Err(DeliveryError::Silent))
    }

    async fn attempt(
        &self,
        text: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<u16, DeliveryError> {
        self.accepts(text).map_err(|_| DeliveryError::Url)?;
        let url = Url::parse(text).map_err(|_| DeliveryError::Url)?;
        let port = url.port_or_known_default().ok_or(DeliveryError::Url)?;
        let addresses = match url.host().ok_or(DeliveryError::Url)? {
            Host::Domain(name) => self.dns.addresses(name).await.map_err(DeliveryError::Dns)?,
            Host::Ipv4(address) => vec![IpAddr::V4(address)],
            Host::Ipv6(address) => vec![IpAddr::V6(address)],
        };
        if addresses.is_empty() {
            return Err(DeliveryError::NoAddress);
        }
        // One that leads inside makes the whole name suspect.
        if !addresses.iter().all(|address| is_allowed(*address, &self.allowed)) {
            return Err(DeliveryError::Internal);
        }
        if url.scheme() == "http" && !addresses.iter().all(|address| is_within(*address, &self.allowed)) {
            return Err(DeliveryError::Plain);
        }
        let stream = connect(&addresses, port).await?;
        let mut request = http::Request::post(outbound::target(&url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("AuthSome-Webhooks/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let status = async |answer: Response<Incoming>| Ok(answer.status().as_u16());
        outbound::exchange(&self.tls, stream, &url, request, Body::from(body), status).await
    }
}

async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, DeliveryError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for address in addresses.iter().take(ADDRESSES) {
        match tokio::time::timeout(CONNECT, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DeliveryError::Connect(last))
}
