//! What a tenant's Redis user may do.
//!
//! The commands are listed by what they work on, not by what is forbidden: a command that a newer server or a module brings
//! (a search over all keys, say) is refused until somebody decides otherwise. Of the categories listed, these are taken out:
//! - `SCAN`, `KEYS`, `RANDOMKEY`, `DBSIZE`, `PUBSUB …` and `CLIENT TRACKING … BCAST` show names or numbers of others' keys and
//!   channels; the dangerous category (`FLUSHALL`, `MONITOR`, `CONFIG`, `SORT … BY`, …) does worse;
//! - functions are one namespace for all users, and `SCRIPT FLUSH`/`KILL` reach others' scripts. `EVAL` stays: each command of a
//!   script is checked against the user's own rules;
//! - `SELECT`, `MOVE`, `SWAPDB` and `COPY … DB` would put keys where removing the tenant does not look.

use authsome_contract::wire::names;
use authsome_core::id::ApplicationId;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};

/// The rules on commands, in order: a later one wins.
const COMMANDS: [&str; 38] = [
    "-@all",
    "+@keyspace",
    "+@string",
    "+@hash",
    "+@list",
    "+@set",
    "+@sortedset",
    "+@bitmap",
    "+@hyperloglog",
    "+@geo",
    "+@stream",
    "+@pubsub",
    "+@transaction",
    "+@scripting",
    "+@connection",
    "+time",
    "-@dangerous",
    "-@admin",
    "-scan",
    "-keys",
    "-randomkey",
    "-dbsize",
    "-pubsub",
    "-client|tracking",
    "-client|trackinginfo",
    "-client|caching",
    "-client|getredir",
    "-function",
    "-fcall",
    "-fcall_ro",
    "-script",
    "+script|load",
    "+script|exists",
    "-select",
    "-move",
    "-swapdb",
    "-copy",
    "-wait",
];

/// The user of an application: `app_<suffix>`.
pub fn user(id: ApplicationId) -> String {
    format!("app_{}", id.suffix())
}

/// SHA-256 of a password in hexadecimal, which is what the server keeps; so the password itself is never sent to set it.
fn password_hash(password: &SecretString) -> String {
    let hash = digest(&SHA256, password.expose_secret().as_bytes());
    hash.as_ref()
        .iter()
        .fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

/// The hashes of the passwords that open the user.
pub(crate) fn hashes(passwords: [Option<&SecretString>; 2]) -> Vec<String> {
    passwords.into_iter().flatten().map(password_hash).collect()
}

/// The pattern of keys and of channels: `~app:<suffix>:*`, `&app:<suffix>:*`.
pub(super) fn key_pattern(id: ApplicationId) -> String {
    format!("~{}*", names::redis_tenant_prefix(&id))
}

pub(super) fn channel_pattern(id: ApplicationId) -> String {
    format!("&{}*", names::redis_tenant_prefix(&id))
}

/// All rules for `ACL SETUSER`, which takes them together or not at all. Whatever the user was before is forgotten.
pub(crate) fn all(id: ApplicationId, hashes: &[String]) -> Vec<String> {
    let mut rules = vec!["reset".to_owned(), "on".to_owned()];
    rules.extend(hashes.iter().map(|hash| format!("#{hash}")));
    rules.extend([key_pattern(id), channel_pattern(id)]);
    rules.extend(COMMANDS.map(str::to_owned));
    rules
}

/// Commands by which a look tells that the rules are in force, and whether each must be allowed. `{}` is the tenant's prefix.
pub(super) const PROBES: [(bool, &[&str]); 22] = [
    (true, &["GET", "{}k"]),
    (true, &["SET", "{}k", "v"]),
    (true, &["DEL", "{}k"]),
    (true, &["XADD", "{}k", "*", "f", "v"]),
    (true, &["EVAL", "return 1", "0"]),
    (true, &["PUBLISH", "{}c", "m"]),
    (true, &["PING"]),
    (false, &["GET", "other"]),
    (false, &["SET", "edge:mark", "v"]),
    (false, &["PUBLISH", "other", "m"]),
    (false, &["SCAN", "0"]),
    (false, &["KEYS", "*"]),
    (false, &["RANDOMKEY"]),
    (false, &["DBSIZE"]),
    (false, &["PUBSUB", "CHANNELS"]),
    (false, &["CLIENT", "TRACKING", "ON"]),
    (false, &["FUNCTION", "LIST"]),
    (false, &["SCRIPT", "FLUSH"]),
    (false, &["SELECT", "1"]),
    (false, &["FLUSHALL"]),
    (false, &["CONFIG", "GET", "*"]),
    (false, &["ACL", "LIST"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_sent_as_its_hash_only() {
        let id = ApplicationId::from_uuid(uuid::Uuid::from_u128(7));
        let hashes = [password_hash(&"abc".into()), password_hash(&"xyz-secret".into())];
        assert_eq!(
            hashes[0],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let rules = all(id, &hashes).join(" ");
        assert!(rules.starts_with(&format!(
            "reset on #{} #{} ~app:{}:* &app:{}:* -@all ",
            hashes[0],
            hashes[1],
            id.suffix(),
            id.suffix()
        )));
        assert!(!rules.contains("xyz-secret") && !rules.contains("nopass"));
    }

    #[test]
    fn nothing_is_allowed_after_the_last_refusals_but_two_script_commands() {
        let dangerous = COMMANDS.iter().position(|rule| *rule == "-@dangerous").unwrap();
        let later: Vec<_> = COMMANDS[dangerous..]
            .iter()
            .filter(|rule| rule.starts_with('+'))
            .collect();
        assert_eq!(later, [&"+script|load", &"+script|exists"]);
    }
}
