//! Control and edges as processes, the servers they are told of, and a network between that can be cut.

use std::path::Path;
use std::time::Duration;

use authsome_testkit::{
    ChaosProxy, Mode, NatsServer, PostgresServer, Program, ProgramCommand, RedisServer, port, wait_for,
};

use crate::edge_world::{DATABASE, SOON};

/// Where a program finds its servers.
#[derive(Clone)]
pub(crate) struct Servers {
    pub(crate) database: String,
    pub(crate) redis: String,
    pub(crate) nats: String,
}

impl Servers {
    pub(crate) fn of(postgres: &PostgresServer, redis: &RedisServer, nats: &NatsServer) -> Self {
        Self {
            database: postgres.url(DATABASE),
            redis: redis.url(),
            nats: nats.url(),
        }
    }

    fn told_to(&self, command: ProgramCommand) -> ProgramCommand {
        command
            .env("DATABASE_URL", &self.database)
            .env("REDIS_URL", &self.redis)
            .env("NATS_URL", &self.nats)
    }
}

/// The way to each server.
pub(crate) struct Network {
    postgres: ChaosProxy,
    redis: ChaosProxy,
    nats: ChaosProxy,
}

impl Network {
    pub(crate) async fn between(postgres: &PostgresServer, redis: &RedisServer, nats: &NatsServer) -> Self {
        let way = async |address: String| ChaosProxy::start(address).await.unwrap();
        Self {
            postgres: way(postgres.address()).await,
            redis: way(redis.address()).await,
            nats: way(nats.address()).await,
        }
    }

    /// The same servers by way of this network.
    pub(crate) fn across(&self, servers: &Servers) -> Servers {
        Servers {
            database: self.postgres.in_place_of(&servers.database),
            redis: self.redis.in_place_of(&servers.redis),
            nats: self.nats.in_place_of(&servers.nats),
        }
    }

    pub(crate) async fn set(&self, mode: Mode) {
        for way in [&self.postgres, &self.redis, &self.nats] {
            way.set(mode).await;
        }
    }
}

pub(crate) struct ControlProcess {
    pub(crate) program: Program,
    /// Where the API begins.
    pub(crate) api: String,
    admin: String,
}

impl ControlProcess {
    pub(crate) async fn start(name: &str, directory: &Path, servers: &Servers) -> Self {
        let [api, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
        let command = ProgramCommand::new("authsome-control", directory.join(format!("{name}.log")))
            .unwrap()
            .env("JWT_SECRET", "a secret of the tests that is long enough")
            .env("AUTHSOME_LISTEN_API", &api)
            .env("AUTHSOME_LISTEN_ADMIN", &admin)
            .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
            .ready_at(&admin, "/readyz");
        Self {
            program: servers.told_to(command).start().await.unwrap(),
            api: format!("http://{api}/api/v1"),
            admin,
        }
    }

    /// Does its relay lead?
    pub(crate) async fn leads(&self) -> bool {
        metric(&self.admin, "authsome_relay_leader").await == Some(1.0)
    }
}

pub(crate) struct EdgeProcess {
    pub(crate) program: Program,
    pub(crate) address: String,
    admin: String,
}

impl EdgeProcess {
    pub(crate) async fn start(name: &str, directory: &Path, servers: &Servers) -> Self {
        let [address, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", port::free().unwrap()));
        let command = ProgramCommand::new("authsome-proxy", directory.join(format!("{name}.log")))
            .unwrap()
            .env("AUTHSOME_LIMITS_REFUSALS_PER_ADDRESS", "100000")
            .env("AUTHSOME_EDGE_NAME", name)
            .env("AUTHSOME_LISTEN_ADDRESS", &address)
            .env("AUTHSOME_LISTEN_ADMIN", &admin)
            .env("AUTHSOME_DATA_DIRECTORY", directory.join(name).display().to_string())
            .env("AUTHSOME_SHUTDOWN_LINGER", "0s")
            .env("AUTHSOME_SERVER_THREADS", "2")
            .ready_at(&admin, "/readyz");
        Self {
            program: servers.told_to(command).start().await.unwrap(),
            address,
            admin,
        }
    }

    /// A series of its metrics; `None` if it does not answer or has none.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        metric(&self.admin, series).await
    }

    /// Until its feed lives, or does not.
    pub(crate) async fn until_live(&self, live: bool) {
        wait_for(format!("feed_live {live}"), SOON, async || {
            let seen = self.metric("authsome_edge_routing_feed_live").await;
            (seen == Some(f64::from(u8::from(live)))).then_some(())
        })
        .await
        .unwrap();
    }
}

async fn metric(admin: &str, series: &str) -> Option<f64> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2));
    let asked = client.build().unwrap().get(format!("http://{admin}/metrics"));
    let text = asked.send().await.ok()?.text().await.ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}
