//! How many requests a caller may send: decided in Redis, so that all replicas count together.
//!
//! Owns the rates of the plans (a minute and a day) and of those who are not signed in. When Redis is away, or does not answer
//! at once, each replica decides by itself, by the same rates: a caller may then send as many to each of them. That is said in
//! the log and counted. Nothing is refused for want of Redis.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use authsome_contract::model::Plan;
use authsome_contract::wire::names;
use authsome_core::clock::Clock;
use authsome_core::id::{TokenId, UserId};
use fred::clients::Client;
use fred::interfaces::{ClientLike, LuaInterface};
use ipnet::IpNet;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::gcra::{Rate, Verdict};

/// How long Redis has to answer before this replica decides by itself.
const ANSWER: Duration = Duration::from_millis(100);
/// Callers that a replica remembers; past them it forgets those that have rested.
const REMEMBERED: usize = 50_000;
/// For how long the plan of a caller is believed.
const PLAN_KEPT: i64 = 60_000_000;

/// As [`Rate::decide`], for both rates at once and only if both allow it, by the clock of Redis.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers, arrivals = {}, {}
local allowed = 1
for i = 1, #KEYS do
  local interval, burst = tonumber(ARGV[i * 2 - 1]), tonumber(ARGV[i * 2])
  local window = interval * burst
  local due = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), now)
  local following = due + interval
  if following - window > now then
    allowed = 0
    answers[i] = {0, 0, due - now, following - window - now}
  else
    answers[i] = {1, math.floor((window - (following - now)) / interval), following - now, 0}
  end
  arrivals[i] = following
end
if allowed == 1 then
  for i = 1, #KEYS do
    redis.call('SET', KEYS[i], string.format('%.0f', arrivals[i]), 'PX', math.ceil((arrivals[i] - now) / 1000) + 1)
  end
end
local flat = {}
for i = 1, #KEYS do
  for j = 1, 4 do flat[#flat + 1] = answers[i][j] end
end
return flat
";

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Somebody who is signed in.
    User(UserId),
    /// A service token, apart from whoever made it.
    Token(TokenId),
    /// Somebody who is not signed in.
    Network(IpNet),
}

impl Sender {
    fn name(self) -> String {
        match self {
            Self::User(user) => user.to_string(),
            Self::Token(token) => token.to_string(),
            Self::Network(network) => network.to_string(),
        }
    }
}

/// The rates of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// For bursts.
    pub minute: Rate,
    /// For the long run.
    pub day: Rate,
}

const DAY: i64 = 86_400;

impl Rates {
    /// What a plan allows.
    pub const fn of(plan: Plan) -> Self {
        match plan {
            Plan::Free => Self::new(100, 10_000),
            Plan::Pro => Self::new(1_000, 100_000),
            Plan::Enterprise => Self::new(5_000, 1_000_000),
        }
    }

    /// What an address may send without signing in.
    pub const ANONYMOUS: Self = Self::new(60, 5_000);

    const fn new(minute: i64, day: i64) -> Self {
        Self {
            minute: Rate::per(minute, 60),
            day: Rate::per(day, DAY),
        }
    }
}

/// What a sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// It may pass.
    pub allowed: bool,
    /// Requests of the window that is nearer to its end.
    pub limit: i64,
    /// Of it.
    pub remaining: i64,
    /// Seconds until it is whole again.
    pub reset: i64,
    /// Seconds until the next request may pass.
    pub retry: i64,
}

impl Decision {
    fn of(rates: &Rates, minute: Verdict, day: Verdict) -> Self {
        let day_counts = !day.allowed || (minute.allowed && day.remaining < minute.remaining);
        let (rate, told) = if day_counts {
            (rates.day, day)
        } else {
            (rates.minute, minute)
        };
        let seconds = |micros: i64| (micros + 999_999) / 1_000_000;
        Self {
            allowed: minute.allowed && day.allowed,
            limit: rate.burst,
            remaining: told.remaining,
            reset: seconds(told.reset),
            retry: seconds(minute.retry.max(day.retry)),
        }
    }
}

/// Counts requests. Clones are the same.
#[derive(Clone)]
pub struct Limiter(Arc<Inner>);

struct Inner {
    redis: Option<Client>,
    script: String,
    clock: Arc<dyn Clock>,
    /// Arrival times by the minute and the day, where Redis does not decide.
    own: Mutex<HashMap<Sender, (i64, i64)>>,
    plans: Mutex<HashMap<Sender, (Plan, i64)>>,
    metrics: LimiterMetrics,
    generous: bool,
}

/// What is counted.
#[derive(Debug, Clone)]
pub struct LimiterMetrics {
    refused: IntCounterVec,
    alone: IntCounter,
}

impl LimiterMetrics {
    /// Registers everything once.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let refused = IntCounterVec::new(
            Opts::new(
                "authsome_control_rate_limited_total",
                "Requests refused by rate, by kind of sender",
            ),
            &["sender"],
        )?;
        let alone = IntCounter::new(
            "authsome_control_rate_limit_without_redis_total",
            "Requests whose rate this replica decided by itself, for want of Redis",
        )?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(alone.clone()))?;
        Ok(Self { refused, alone })
    }
}

impl Limiter {
    /// Decides in Redis, and by itself where there is none.
    pub fn new(redis: Option<Client>, clock: Arc<dyn Clock>, metrics: LimiterMetrics) -> Self {
        Self::with(redis, clock, metrics, false)
    }

    /// Counts, and refuses nobody.
    pub fn counting_only(clock: Arc<dyn Clock>, metrics: LimiterMetrics) -> Self {
        Self::with(None, clock, metrics, true)
    }

    fn with(redis: Option<Client>, clock: Arc<dyn Clock>, metrics: LimiterMetrics, generous: bool) -> Self {
        Self(Arc::new(Inner {
            redis,
            script: sha1(SCRIPT),
            clock,
            own: Mutex::default(),
            plans: Mutex::default(),
            metrics,
            generous,
        }))
    }

    /// The plan of a sender, if it was looked up lately.
    pub fn known_plan(&self, sender: Sender) -> Option<Plan> {
        let now = self.now();
        let plans = self.0.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans
            .get(&sender)
            .filter(|(_, until)| *until > now)
            .map(|(plan, _)| *plan)
    }

    /// Remembers it for a minute.
    pub fn learn_plan(&self, sender: Sender, plan: Plan) {
        let now = self.now();
        let mut plans = self.0.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= REMEMBERED {
            plans.retain(|_, (_, until)| *until > now);
        }
        if plans.len() < REMEMBERED {
            plans.insert(sender, (plan, now + PLAN_KEPT));
        }
    }

    /// Forgets that of a person, since it may be another now. The other replicas believe it for the rest of the minute.
    pub fn forget_plan(&self, user: UserId) {
        self.0
            .plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&Sender::User(user));
    }

    /// Counts a request of this sender.
    pub async fn decide(&self, sender: Sender, rates: &Rates) -> Decision {
        let decided = match &self.0.redis {
            Some(redis) => {
                let decided = self.in_redis(redis, sender, rates).await;
                if decided.is_none() {
                    self.0.metrics.alone.inc();
                }
                decided
            }
            None => None,
        };
        let decision = decided.unwrap_or_else(|| self.alone(sender, rates));
        if decision.allowed || self.0.generous {
            return Decision {
                allowed: true,
                ..decision
            };
        }
        let kind = match sender {
            Sender::User(_) => "user",
            Sender::Token(_) => "token",
            Sender::Network(_) => "address",
        };
        self.0.metrics.refused.with_label_values(&[kind]).inc();
        decision
    }

    async fn in_redis(&self, redis: &Client, sender: Sender, rates: &Rates) -> Option<Decision> {
        if !redis.is_connected() {
            return None;
        }
        let name = sender.name();
        let keys = vec![names::api_limit(&name, "minute"), names::api_limit(&name, "day")];
        let arguments = vec![
            rates.minute.interval,
            rates.minute.burst,
            rates.day.interval,
            rates.day.burst,
        ];
        let deciding = async {
            match redis
                .evalsha::<Vec<i64>, _, _, _>(self.0.script.as_str(), keys.clone(), arguments.clone())
                .await
            {
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    redis.eval::<Vec<i64>, _, _, _>(SCRIPT, keys, arguments).await
                }
                decided => decided,
            }
        };
        let answer = match tokio::time::timeout(ANSWER, deciding).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!(%error, "rates are decided without Redis");
                return None;
            }
            Err(_) => return None,
        };
        let verdict = |at: usize| {
            Some(Verdict {
                allowed: *answer.get(at)? == 1,
                remaining: *answer.get(at + 1)?,
                reset: *answer.get(at + 2)?,
                retry: *answer.get(at + 3)?,
            })
        };
        Some(Decision::of(rates, verdict(0)?, verdict(4)?))
    }

    fn alone(&self, sender: Sender, rates: &Rates) -> Decision {
        let now = self.now();
        let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.len() >= REMEMBERED {
            own.retain(|_, (minute, day)| *minute > now || *day > now);
            if own.len() >= REMEMBERED {
                // More senders than can be remembered: whom to forget is as good as chance.
                own.clear();
            }
        }
        let arrivals = own.entry(sender).or_insert((0, 0));
        let (mut minute_arrival, mut day_arrival) = *arrivals;
        let minute = rates.minute.decide(&mut minute_arrival, now);
        let day = rates.day.decide(&mut day_arrival, now);
        if minute.allowed && day.allowed {
            *arrivals = (minute_arrival, day_arrival);
        }
        Decision::of(rates, minute, day)
    }

    fn now(&self) -> i64 {
        i64::try_from(self.0.clock.now().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
    }
}

/// The name by which Redis knows a script.
fn sha1(text: &str) -> String {
    crate::audit::verify::hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}
