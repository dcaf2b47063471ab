//! The routing table in Redis: a value for each record, written only by versions that are newer, and the mark that says how
//! far the table has come.
//!
//! The mark is what makes absence visible: it is set only after a whole table was written under the same token, and renewed
//! only where a mark that is not behind the last one still stands. A Redis that was wiped, restored from an older file or
//! failed over to a replica that lacked the last writes is so found out within a second, and written anew.

use authsome_contract::wire::{
    Mark,
    change::{REDIS_VERSION_LEN, redis_version},
    names,
};
use fred::{
    clients::Client,
    interfaces::{KeysInterface, LuaInterface},
    types::Value,
};
use futures::future::try_join_all;
use sqlx::PgPool;

use super::{
    Relay,
    delivery::{DeliveryError, Receiver},
    records::{Record, Table, announced},
};
use crate::db::outbox::{Entry, Pulse, Target};

/// Writes a record unless an equal or newer version stands. Bytes are compared one by one: Lua's `<` follows the server's
/// locale, and in some of them `dd` sorts after `de`.
const WRITE: &str = r"
local old = redis.call('GETRANGE', KEYS[1], 0, tonumber(ARGV[2]) - 1)
if #old == tonumber(ARGV[2]) then
  local newer = false
  for i = 1, #old do
    local a, b = ARGV[1]:byte(i), old:byte(i)
    if a ~= b then newer = a > b break end
  end
  if not newer then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1";

/// Renews the mark where one stands that is not behind (epoch, position); a mark that is further stays. 0: none stands.
const RENEW: &str = r"
local old = redis.call('GET', KEYS[1])
if not old then return 0 end
local mark = cjson.decode(old)
local epoch, least, position = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if mark.epoch ~= epoch or mark.position < least then return 0 end
if mark.position <= position then redis.call('SET', KEYS[1], ARGV[4]) end
return 1";

/// Deletes keys while the rewrite that the token names is still the one under way.
const CLEAR: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1";

/// Sets the first mark after a rewrite, if it is still the one under way.
const FINISH: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1";

/// Keys that one step of a scan looks at.
const SCAN: u32 = 1_000;

pub(super) struct Redis<'a> {
    relay: &'a Relay,
    pool: &'a PgPool,
    client: Client,
    scripts: Scripts,
    /// Position of the mark that this process last saw or set.
    marked: i64,
}

/// SHA-1 names under which the server holds the scripts.
#[derive(Default)]
struct Scripts {
    write: String,
    renew: String,
    clear: String,
    finish: String,
}

impl<'a> Redis<'a> {
    pub(super) fn new(relay: &'a Relay, pool: &'a PgPool) -> Self {
        Self {
            relay,
            pool,
            client: relay.redis.clone(),
            scripts: Scripts::default(),
            marked: 0,
        }
    }

    async fn write(&self, records: &[Record]) -> Result<(), DeliveryError> {
        // The client sends concurrent commands in one go.
        let writes = records.iter().filter_map(|record| {
            let (key, version) = (record.change.redis_key()?, record.change.version()?);
            let mut value = redis_version(version).into_bytes();
            value.extend_from_slice(&record.payload);
            let arguments: Vec<Value> = vec![value.as_slice().into(), REDIS_VERSION_LEN.to_string().into()];
            Some(
                self.client
                    .evalsha::<i64, _, _, _>(self.scripts.write.as_str(), key, arguments),
            )
        });
        try_join_all(writes).await?;
        Ok(())
    }

    async fn renew(&mut self, pulse: Pulse, position: i64) -> Result<(), DeliveryError> {
        let arguments = [
            pulse.epoch.to_string(),
            self.marked.to_string(),
            position.to_string(),
            mark(pulse, position)?,
        ];
        let renewed: i64 = self
            .client
            .evalsha(self.scripts.renew.as_str(), names::REDIS_MARK, arguments.to_vec())
            .await?;
        if renewed == 0 {
            return Err(DeliveryError::Lost("the mark is gone or went back"));
        }
        self.marked = position;
        Ok(())
    }

    async fn fill(&mut self, pulse: Pulse) -> Result<(), DeliveryError> {
        tracing::info!("writing the whole routing table to Redis");
        let token = format!("{:016x}", self.relay.entropy.next_u64());
        self.client
            .set::<(), _, _>(names::REDIS_FILLING, token.as_str(), None, None, false)
            .await?;
        self.client.del::<(), _>(names::REDIS_MARK).await?;
        self.clear(&token).await?;
        let mut table = Table::new(self.pool, &self.relay.metrics, pulse, Target::Redis);
        let mut records = 0;
        while let Some(page) = table.next_page().await? {
            records += page.len();
            self.write(&page).await?;
        }
        let keys = vec![names::REDIS_FILLING, names::REDIS_MARK];
        let finished: i64 = self
            .client
            .evalsha(
                self.scripts.finish.as_str(),
                keys,
                vec![token, mark(pulse, pulse.last)?],
            )
            .await?;
        if finished == 0 {
            return Err(DeliveryError::Lost(
                "another rewrite began, or Redis was wiped during this one",
            ));
        }
        self.marked = pulse.last;
        self.relay.metrics.filled(Target::Redis);
        tracing::info!(records, position = pulse.last, "Redis holds the whole routing table");
        Ok(())
    }

    /// Deletes what an earlier table left: its versions may belong to rows that are gone, or to another epoch.
    async fn clear(&self, token: &str) -> Result<(), DeliveryError> {
        let mut cursor = "0".to_owned();
        loop {
            let (next, found): (String, Vec<String>) = self
                .client
                .scan_page(cursor, names::REDIS_EDGE_PATTERN, Some(SCAN), None)
                .await?;
            let mut keys = vec![names::REDIS_FILLING.to_owned()];
            keys.extend(
                found
                    .into_iter()
                    .filter(|key| key != names::REDIS_FILLING && key != names::REDIS_MARK),
            );
            if keys.len() > 1 {
                let cleared: i64 = self.client.evalsha(self.scripts.clear.as_str(), keys, token).await?;
                if cleared == 0 {
                    return Err(DeliveryError::Lost("another rewrite began"));
                }
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl Receiver for Redis<'_> {
    const TARGET: Target = Target::Redis;

    async fn prepare(&mut self, pulse: Pulse, cursor: i64) -> Result<i64, DeliveryError> {
        self.scripts = Scripts {
            write: self.client.script_load(WRITE).await?,
            renew: self.client.script_load(RENEW).await?,
            clear: self.client.script_load(CLEAR).await?,
            finish: self.client.script_load(FINISH).await?,
        };
        let mark: Option<String> = self.client.get(names::REDIS_MARK).await?;
        let mark: Option<Mark> = mark.and_then(|text| serde_json::from_str(&text).ok());
        let stands = mark.map(|mark| (mark.epoch.cast_signed(), mark.position.cast_signed()));
        match stands {
            // The mark is set before the cursor moves, so it is never behind a Redis that kept everything.
            Some((epoch, position))
                if pulse.rebuild(Target::Redis).is_none()
                    && epoch == pulse.epoch
                    && (cursor..=pulse.last).contains(&position) =>
            {
                self.marked = self.marked.max(position);
                Ok(cursor)
            }
            _ => {
                self.fill(pulse).await?;
                Ok(pulse.last)
            }
        }
    }

    async fn deliver(&mut self, entries: &[Entry], pulse: Pulse) -> Result<(), DeliveryError> {
        let records = announced(self.pool, entries, &self.relay.metrics).await?;
        self.write(&records).await?;
        // Only now: the mark vouches for every record before it.
        match entries.last() {
            Some(last) => self.renew(pulse, last.position).await,
            None => Ok(()),
        }
    }

    async fn beat(&mut self, pulse: Pulse, position: i64) -> Result<(), DeliveryError> {
        self.renew(pulse, position).await
    }
}

fn mark(pulse: Pulse, position: i64) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Mark {
        epoch: pulse.epoch.unsigned_abs(),
        position: position.unsigned_abs(),
        renewed_at_ms: pulse.database_time_ms,
    })
}
