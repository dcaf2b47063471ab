//! The strategy `acl`: a user for each application on one shared server, confined to a key prefix.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use authsome_contract::wire::names;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use fred::types::config::Config;
use fred::types::{FromValue, Value};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::rules::{self, PROBES};
use super::session::Session;
use super::{RedisError, RedisStrategy, Tenant};
use crate::lease::Fence;

/// Rules on subcommands and `ACL DRYRUN` came with 7.0.
const OLDEST_MAJOR: u32 = 7;

/// Keys asked for at once while a tenant's are looked for.
const SCAN_COUNT: &str = "1000";

/// An address is not that of a Redis server. Does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form redis://[user:password@]host[:port]")]
pub struct ServerUrlError;

/// A Redis server that tenants share.
pub struct AclServer {
    admin: Config,
    /// The address for instances, without user, password and path.
    tenants: Url,
}

impl AclServer {
    /// The server at `admin`, whose user may manage users. `tenants` is the address by which instances reach it, if that
    /// is another one; of its user, password and path nothing is used. Tenants live in database 0.
    pub fn new(admin: &SecretUrl, tenants: Option<&SecretUrl>) -> Result<Self, ServerUrlError> {
        let mut config = Config::from_url_centralized(admin.expose()).map_err(|_| ServerUrlError)?;
        config.database = None;
        let mut address = Url::parse(tenants.unwrap_or(admin).expose()).map_err(|_| ServerUrlError)?;
        if !address.has_host() {
            return Err(ServerUrlError);
        }
        address.set_query(None);
        address.set_path("");
        Ok(Self {
            admin: config,
            tenants: address,
        })
    }

    /// What differs, found by asking for the user and by asking the server what it would let the user do.
    async fn look(&self, session: &Session<'_>, tenant: &Tenant<'_>) -> Result<Vec<String>, RedisError> {
        let user = rules::user(tenant.id);
        let reply = session
            .send("ask for a user", "ACL", vec!["GETUSER".to_owned(), user.clone()])
            .await?;
        let Some(seen) = SeenUser::read(reply)? else {
            return Ok(vec!["create the user".to_owned()]);
        };
        let mut differences = Vec::new();
        if !seen.flags.iter().any(|flag| flag == "on")
            || seen
                .flags
                .iter()
                .any(|flag| matches!(flag.as_str(), "nopass" | "allkeys" | "allcommands" | "allchannels"))
        {
            differences.push("take rights from the user".to_owned());
        }
        let mut wanted = rules::hashes(tenant.passwords);
        let mut passwords = seen.passwords;
        wanted.sort();
        passwords.sort();
        if wanted != passwords {
            differences.push("set the passwords".to_owned());
        }
        if seen.keys != rules::key_pattern(tenant.id)
            || seen.channels != rules::channel_pattern(tenant.id)
            || seen.has_selectors
        {
            differences.push("confine the user to its prefix".to_owned());
        }
        let prefix = names::redis_tenant_prefix(&tenant.id);
        for (allowed, probe) in PROBES {
            let mut arguments = vec!["DRYRUN".to_owned(), user.clone()];
            arguments.extend(probe.iter().map(|part| part.replace("{}", &prefix)));
            let reply = session.send("ask what a user may do", "ACL", arguments).await?;
            if (reply.as_str().as_deref() == Some("OK")) != allowed {
                differences.push(format!("{} {}", if allowed { "allow" } else { "forbid" }, probe[0]));
            }
        }
        Ok(differences)
    }

    /// Writes the users to the server's file, so that they survive its restart; without such a file they do not, and are
    /// made again when they are next found missing.
    async fn save(&self, session: &Session<'_>) -> Result<bool, RedisError> {
        match session.send("save the users", "ACL", vec!["SAVE".to_owned()]).await {
            Ok(_) => Ok(true),
            Err(RedisError::Refused { source, .. })
                if source.details().contains("not configured to use an ACL file") =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn unlink_keys(&self, session: &Session<'_>, id: ApplicationId) -> Result<(), RedisError> {
        let pattern = format!("{}*", names::redis_tenant_prefix(&id));
        let mut cursor = "0".to_owned();
        loop {
            let arguments = [&cursor, "MATCH", &pattern, "COUNT", SCAN_COUNT]
                .map(|part: &str| part.to_owned())
                .to_vec();
            let reply = session.send("look for a tenant's keys", "SCAN", arguments).await?;
            let (next, keys): (String, Vec<Value>) = read("SCAN", reply)?;
            for batch in keys.chunks(500) {
                session.send("remove a tenant's keys", "UNLINK", batch.to_vec()).await?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// What `ACL GETUSER` says.
struct SeenUser {
    flags: Vec<String>,
    passwords: Vec<String>,
    keys: String,
    channels: String,
    has_selectors: bool,
}

impl SeenUser {
    fn read(reply: Value) -> Result<Option<Self>, RedisError> {
        if reply.is_null() {
            return Ok(None);
        }
        let mut fields: HashMap<String, Value> = read("ACL GETUSER", reply)?;
        let mut field = |name: &str| fields.remove(name).unwrap_or(Value::Null);
        Ok(Some(Self {
            flags: read("ACL GETUSER", field("flags"))?,
            passwords: read("ACL GETUSER", field("passwords"))?,
            keys: read("ACL GETUSER", field("keys"))?,
            channels: read("ACL GETUSER", field("channels"))?,
            has_selectors: field("selectors").array_len().is_some_and(|length| length > 0),
        }))
    }
}

/// The ids of a user's sessions that are older than `age`, from what `CLIENT LIST` says. Its ages are in whole seconds: one
/// that began in the same second is left alone.
fn older_sessions<'a>(clients: &'a str, user: &str, age: Duration) -> Vec<&'a str> {
    let field = |line: &'a str, name: &str| {
        line.split(' ')
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    clients
        .lines()
        .filter(|line| field(line, "user") == Some(user))
        .filter(|line| {
            let seconds = field(line, "age").and_then(|text| text.parse::<u64>().ok());
            seconds.is_some_and(|seconds| seconds > age.as_secs())
        })
        .filter_map(|line| field(line, "id"))
        .collect()
}

fn read<T: FromValue>(command: &str, reply: Value) -> Result<T, RedisError> {
    T::from_value(reply)
        .map_err(|error| RedisError::Unsuitable(format!("{command} answered something unknown: {error}")))
}

#[async_trait]
impl RedisStrategy for AclServer {
    fn name(&self) -> &'static str {
        "acl"
    }

    async fn check(&self, fence: &Fence) -> Result<Vec<String>, RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        let info: String = read(
            "INFO",
            session
                .send("ask for the version", "INFO", vec!["server".to_owned()])
                .await?,
        )?;
        let version = info
            .lines()
            .find_map(|line| line.strip_prefix("redis_version:"))
            .unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < OLDEST_MAJOR) {
            return Err(RedisError::Unsuitable(format!(
                "version {version:?} is older than {OLDEST_MAJOR}"
            )));
        }
        let saved = self.save(&session).await?;
        session.close().await;
        Ok(if saved {
            Vec::new()
        } else {
            vec!["it keeps no file of users: a restart of it forgets them".to_owned()]
        })
    }

    async fn differences(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<Vec<String>, RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        let differences = self.look(&session, tenant).await?;
        session.close().await;
        Ok(differences)
    }

    async fn ensure(&self, tenant: &Tenant<'_>, fence: &Fence) -> Result<(), RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        if !self.look(&session, tenant).await?.is_empty() {
            let mut arguments = vec!["SETUSER".to_owned(), rules::user(tenant.id)];
            arguments.extend(rules::all(tenant.id, &rules::hashes(tenant.passwords)));
            session.send("set a user", "ACL", arguments).await?;
            let left = self.look(&session, tenant).await?;
            if !left.is_empty() {
                return Err(RedisError::Unsuitable(format!(
                    "does not keep a user as set: {}",
                    left.join(", ")
                )));
            }
        }
        // Also when nothing changed: whoever changed it may have died before it was saved.
        self.save(&session).await?;
        session.close().await;
        Ok(())
    }

    async fn is_absent(&self, id: ApplicationId, fence: &Fence) -> Result<bool, RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        let reply = session
            .send("ask for a user", "ACL", vec!["GETUSER".to_owned(), rules::user(id)])
            .await?;
        session.close().await;
        Ok(reply.is_null())
    }

    async fn remove(&self, id: ApplicationId, fence: &Fence) -> Result<(), RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        session
            .send("remove a user", "ACL", vec!["DELUSER".to_owned(), rules::user(id)])
            .await?;
        self.save(&session).await?;
        session.close().await;
        Ok(())
    }

    async fn end_sessions(&self, id: ApplicationId, age: Duration, fence: &Fence) -> Result<(), RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        let clients: String = read(
            "CLIENT LIST",
            session
                .send("look for sessions", "CLIENT", vec!["LIST".to_owned()])
                .await?,
        )?;
        for client in older_sessions(&clients, &rules::user(id), age) {
            let arguments = ["KILL", "ID", client].map(str::to_owned).to_vec();
            session.send("end a session", "CLIENT", arguments).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn remove_keys(&self, id: ApplicationId, fence: &Fence) -> Result<(), RedisError> {
        let session = Session::open(&self.admin, fence).await?;
        self.unlink_keys(&session, id).await?;
        session.close().await;
        Ok(())
    }

    fn url(&self, id: ApplicationId, password: &SecretString) -> SecretUrl {
        let mut url = self.tenants.clone();
        // A host is there, so both succeed.
        let _ = url.set_username(&rules::user(id));
        let _ = url.set_password(Some(password.expose_secret()));
        match SecretUrl::parse(url.as_str()) {
            Ok(url) => url,
            Err(_) => unreachable!("the text of a URL with a host has a scheme and no blanks"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_the_user_that_are_older_are_found_and_no_others() {
        let clients = "id=3 addr=127.0.0.1:1 laddr=127.0.0.1:6379 fd=8 name= age=90 idle=0 user=app_1 lib-name=\n\
                       id=4 addr=127.0.0.1:2 name=age=99 age=10 idle=0 user=app_1\n\
                       id=5 addr=127.0.0.1:3 name= age=90 idle=0 user=app_12\n\
                       id=6 addr=127.0.0.1:4 name= age=60 idle=0 user=app_1\n";
        assert_eq!(older_sessions(clients, "app_1", Duration::from_mins(1)), ["3"]);
        assert_eq!(
            older_sessions(clients, "app_1", Duration::from_secs(5)),
            ["3", "4", "6"]
        );
        assert!(older_sessions("", "app_1", Duration::ZERO).is_empty());
    }
}
