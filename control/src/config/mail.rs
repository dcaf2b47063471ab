//! `mail.*`: the server that letters go out by.

use authsome_core::config::Reader;
use authsome_core::secret::SecretUrl;
use lettre::message::Mailbox;

use crate::mail::{Security, Smtp};
use crate::outbound::Roots;

/// Without `mail.url` there is no server, and letters wait.
pub(super) fn read(reader: &mut Reader, roots: &Roots) -> Option<Smtp> {
    let url: Option<SecretUrl> = reader.optional("mail.url");
    let from: Option<String> = reader.optional("mail.from");
    let tls: String = reader.or("mail.tls", "required".to_owned());
    let scheme = url.as_ref().is_none_or(|url| matches!(url.scheme(), "smtp" | "smtps"));
    reader.check("mail.url", scheme, "must begin with smtp:// or smtps://");
    reader.check(
        "mail.tls",
        matches!(tls.as_str(), "required" | "none"),
        "must be required or none",
    );
    let url = url?;
    let from: Option<Mailbox> = from.as_deref().unwrap_or_default().parse().ok();
    reader.check(
        "mail.from",
        from.is_some(),
        "must be an address such as AuthSome <noreply@example.com> where mail.url is set",
    );
    let security = if tls == "none" {
        Security::None
    } else {
        Security::Required
    };
    match Smtp::new(&url, security, from?, roots) {
        Ok(server) => Some(server),
        Err(error) => {
            reader.check("mail.url", false, &error.to_string());
            None
        }
    }
}
