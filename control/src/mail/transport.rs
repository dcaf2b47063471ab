//! The way to the mail server: SMTP by `lettre`, with TLS by rustls and ring.
//!
//! Without TLS only where the operator says so, for a server on the same machine or network; then no password is ever sent.

use std::time::Duration;

use authsome_core::secret::SecretUrl;
use lettre::address::AddressError;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use super::{Content, message_id};
use crate::outbound::Roots;

/// For each step of the conversation.
const STEP: Duration = Duration::from_secs(15);
/// For a whole letter.
const WHOLE: Duration = Duration::from_mins(1);

/// Answers that mean this letter, and not the connection or the account: the mailbox does not exist, is full, or its name is
/// not allowed (RFC 5321, 4.2.3).
const REFUSALS: [&str; 4] = ["550", "551", "552", "553"];

/// Whether a connection must be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// From its beginning (`smtps`), or by STARTTLS before anything is said (`smtp`).
    Required,
    /// Never. For a relay on the same machine.
    None,
}

/// A way to the mail server that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// Of the configured address.
    #[error("the address of the mail server names no host")]
    Host,
    /// A password that everybody on the way could read.
    #[error("the address of the mail server has a password, which is not sent without TLS")]
    Password,
    /// TLS.
    #[error("TLS to the mail server cannot be set up: {0}")]
    Tls(#[source] smtp::Error),
}

/// A letter that did not go out.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It never will: the address or the server's answer says so.
    #[error("refused for good: {0}")]
    Refused(String),
    /// It may, later.
    #[error("{0}")]
    Later(String),
}

impl From<AddressError> for SendError {
    fn from(error: AddressError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The mail server.
#[derive(Clone)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Smtp {
    /// The server at `smtps://[user:password@]host[:465]` or `smtp://[user:password@]host[:587]`. Connects to nothing yet.
    pub fn new(address: &SecretUrl, security: Security, from: Mailbox, roots: &Roots) -> Result<Self, SmtpError> {
        // `SecretUrl` parsed it before.
        let url = Url::parse(address.expose()).map_err(|_| SmtpError::Host)?;
        let host = url.host_str().ok_or(SmtpError::Host)?.to_owned();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host).timeout(Some(STEP));
        let implicit = url.scheme() == "smtps";
        let (tls, port) = match security {
            Security::None if !implicit => (Tls::None, 25),
            _ => {
                let mut parameters = TlsParameters::builder(host);
                for root in roots.extra() {
                    let root = Certificate::from_der(root.to_vec()).map_err(SmtpError::Tls)?;
                    parameters = parameters.add_root_certificate(root);
                }
                let parameters = parameters.build().map_err(SmtpError::Tls)?;
                if implicit {
                    (Tls::Wrapper(parameters), 465)
                } else {
                    (Tls::Required(parameters), 587)
                }
            }
        };
        let plain = matches!(tls, Tls::None);
        builder = builder.tls(tls).port(url.port().unwrap_or(port));
        if let Some(password) = url.password() {
            if plain {
                return Err(SmtpError::Password);
            }
            let text = |part: &str| {
                percent_encoding::percent_decode_str(part)
                    .decode_utf8_lossy()
                    .into_owned()
            };
            builder = builder.credentials(Credentials::new(text(url.username()), text(password)));
        }
        Ok(Self {
            transport: builder.build(),
            from,
        })
    }

    /// Sends a letter, as text and as HTML.
    pub async fn send(&self, id: Uuid, to: &str, at: OffsetDateTime, content: Content) -> Result<(), SendError> {
        let to = Mailbox::new(None, to.parse()?);
        let domain = self.from.email.domain().to_owned();
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(content.subject)
            .date(at.into())
            .message_id(Some(message_id(id, &domain)))
            .multipart(MultiPart::alternative_plain_html(content.text, content.html))
            .map_err(|error| SendError::Refused(error.to_string()))?;
        match tokio::time::timeout(WHOLE, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(judge(&error)),
            Err(_) => Err(SendError::Later(format!("no answer within {} s", WHOLE.as_secs()))),
        }
    }
}

fn judge(error: &smtp::Error) -> SendError {
    let text = authsome_core::error::Chain(error).to_string();
    let code = error.status().map(|code| code.to_string());
    match code {
        Some(code) if REFUSALS.contains(&code.as_str()) => SendError::Refused(text),
        _ => SendError::Later(text),
    }
}
