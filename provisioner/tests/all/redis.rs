//! Tenants' keys are kept apart on one Redis server.

use std::time::Duration;

use authsome_contract::wire::names;
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::ApplicationId;
use authsome_core::secret::SecretUrl;
use authsome_provisioner::lease::Fence;
use authsome_provisioner::redis::{AclServer, RedisError, RedisStrategy, Tenant, user};
use authsome_testkit::{RedisOptions, RedisServer};
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use secrecy::SecretString;

use crate::captured::Captured;

struct App {
    id: ApplicationId,
    passwords: [SecretString; 2],
    fence: Fence,
}

impl App {
    fn new() -> Self {
        let id = ApplicationId::generate(&SystemClock, &SystemEntropy::new());
        let password = |slot: &str| SecretString::from(format!("pw-{slot}-{}", id.suffix()));
        Self {
            id,
            passwords: [password("a"), password("b")],
            fence: Fence::observer(id, Duration::from_mins(10)),
        }
    }

    fn tenant(&self) -> Tenant<'_> {
        Tenant {
            id: self.id,
            passwords: [Some(&self.passwords[0]), Some(&self.passwords[1])],
            site: None,
        }
    }

    async fn ensured(strategy: &AclServer) -> Self {
        let app = Self::new();
        strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
        app
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", names::redis_tenant_prefix(&self.id))
    }
}

async fn server() -> (RedisServer, AclServer) {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let strategy = AclServer::new(&SecretUrl::parse(&server.url()).unwrap(), None).unwrap();
    (server, strategy)
}

/// Connects as whoever the address says.
pub async fn connect(url: &str) -> Result<Client, fred::error::Error> {
    let mut config = Config::from_url_centralized(url)?;
    config.fail_fast = true;
    let client = Builder::from_config(config)
        .with_connection_config(|connection| connection.max_command_attempts = 1)
        .with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(2))
        .build()?;
    client.init().await?;
    Ok(client)
}

pub async fn send(client: &Client, command: &str) -> Result<Value, fred::error::Error> {
    let mut words = command.split(' ');
    let name = words.next().unwrap().to_owned();
    let command = CustomCommand::new(name, ClusterHash::Random, false);
    client
        .custom::<Value, String>(command, words.map(str::to_owned).collect())
        .await
}

async fn refused(client: &Client, command: &str) {
    match send(client, command).await {
        Ok(value) => panic!("{command} was answered: {value:?}"),
        Err(error) => {
            let details = error.details().to_owned();
            // To a script the server says it in other words, and DEBUG it refuses to everybody.
            let known = [
                "NOPERM",
                "permission",
                "can't access",
                "can't run",
                "DEBUG command not allowed",
            ];
            assert!(
                known.iter().any(|known| details.contains(known)),
                "{command}: {details}"
            );
        }
    }
}

#[tokio::test]
async fn a_tenant_uses_its_own_keys_with_either_password() {
    let (_server, strategy) = server().await;
    let app = App::ensured(&strategy).await;
    for password in &app.passwords {
        let client = connect(strategy.url(app.id, password).expose()).await.unwrap();
        for command in [
            format!("SET {} v EX 60", app.key("s")),
            format!("GET {}", app.key("s")),
            format!("HSET {} f v", app.key("h")),
            format!("LPUSH {} v", app.key("l")),
            format!("ZADD {} 1 m", app.key("z")),
            format!("XADD {} * f v", app.key("x")),
            format!("PFADD {} v", app.key("p")),
            format!("SETBIT {} 7 1", app.key("b")),
            format!("RENAME {} {}", app.key("l"), app.key("l2")),
            format!("HSCAN {} 0", app.key("h")),
            format!("EXPIRE {} 60", app.key("h")),
            format!("TTL {}", app.key("h")),
            format!("UNLINK {}", app.key("z")),
            format!("PUBLISH {} m", app.key("c")),
            "PING".to_owned(),
            "TIME".to_owned(),
            "EVAL return(redis.call('SET',KEYS[1],'v')) 1 ".to_owned() + &app.key("e"),
        ] {
            send(&client, &command)
                .await
                .unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }
    let error = connect(strategy.url(app.id, &"wrong".into()).expose())
        .await
        .err()
        .unwrap();
    assert!(!error.to_string().contains("wrong-"));
}

#[tokio::test]
async fn a_tenant_can_neither_reach_nor_list_nor_disturb_another() {
    let (server, strategy) = server().await;
    let (a, b) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let theirs = connect(strategy.url(b.id, &b.passwords[0]).expose()).await.unwrap();
    send(&theirs, &format!("SET {} secret", b.key("k"))).await.unwrap();
    let admin = connect(&server.url()).await.unwrap();
    send(&admin, "SET edge:mark platform").await.unwrap();

    let client = connect(strategy.url(a.id, &a.passwords[0]).expose()).await.unwrap();
    send(&client, &format!("SET {} mine", a.key("k"))).await.unwrap();
    let (other, mine) = (b.key("k"), a.key("k"));
    for command in [
        // Reading and writing.
        format!("GET {other}"),
        format!("SET {other} v"),
        format!("DEL {other}"),
        format!("DUMP {other}"),
        format!("RENAME {other} {mine}"),
        format!("RENAME {mine} {other}"),
        format!("COPY {other} {mine}"),
        format!("COPY {mine} {other}"),
        format!("SUNIONSTORE {mine} {other}"),
        format!("BITOP AND {mine} {other}"),
        format!("LMOVE {other} {mine} LEFT LEFT"),
        format!("SORT {mine} GET {other}"),
        format!("OBJECT ENCODING {other}"),
        format!("MEMORY USAGE {other}"),
        format!("MIGRATE 127.0.0.1 1 {other} 0 10"),
        format!("RESTORE {other} 0 x"),
        format!("WATCH {other}"),
        "GET edge:mark".to_owned(),
        "SET edge:mark v".to_owned(),
        format!("EVAL return(redis.call('GET',KEYS[1])) 1 {other}"),
        format!("EVAL return(redis.call('GET','{other}')) 0"),
        "EVAL return(redis.call('SCAN','0')) 0".to_owned(),
        "EVAL return(redis.call('SELECT','1')) 0".to_owned(),
        // Listing.
        "SCAN 0".to_owned(),
        format!("SCAN 0 MATCH {}", a.key("*")),
        "KEYS *".to_owned(),
        "RANDOMKEY".to_owned(),
        "DBSIZE".to_owned(),
        "INFO".to_owned(),
        "MONITOR".to_owned(),
        "CLIENT LIST".to_owned(),
        "CLIENT TRACKING ON BCAST".to_owned(),
        "CLIENT CACHING YES".to_owned(),
        "PUBSUB CHANNELS".to_owned(),
        "PSUBSCRIBE *".to_owned(),
        "PSUBSCRIBE __key*__:*".to_owned(),
        format!("SUBSCRIBE {}", b.key("c")),
        format!("SSUBSCRIBE {}", b.key("c")),
        format!("PUBLISH {} m", b.key("c")),
        "SLOWLOG GET".to_owned(),
        "LATENCY LATEST".to_owned(),
        "MEMORY STATS".to_owned(),
        "MODULE LIST".to_owned(),
        "ACL LIST".to_owned(),
        "ACL USERS".to_owned(),
        format!("ACL GETUSER {}", user(b.id)),
        "ACL WHOAMI".to_owned(),
        // Disturbing.
        "FLUSHALL".to_owned(),
        "FLUSHDB".to_owned(),
        "SWAPDB 0 1".to_owned(),
        "SELECT 1".to_owned(),
        format!("MOVE {mine} 1"),
        "CONFIG GET *".to_owned(),
        "CONFIG SET maxmemory 1".to_owned(),
        "SHUTDOWN NOSAVE".to_owned(),
        "DEBUG SLEEP 0".to_owned(),
        "SAVE".to_owned(),
        "REPLICAOF NO ONE".to_owned(),
        "CLIENT KILL TYPE normal".to_owned(),
        "CLIENT PAUSE 1".to_owned(),
        "SCRIPT FLUSH".to_owned(),
        "SCRIPT KILL".to_owned(),
        "FUNCTION LIST".to_owned(),
        "FUNCTION FLUSH".to_owned(),
        "FCALL f 0".to_owned(),
        format!("ACL SETUSER {} allkeys", user(a.id)),
        "ACL DELUSER default".to_owned(),
        "CLUSTER NODES".to_owned(),
    ] {
        refused(&client, &command).await;
    }
    assert_eq!(
        send(&theirs, &format!("GET {other}"))
            .await
            .unwrap()
            .as_str()
            .as_deref(),
        Some("secret")
    );
    assert_eq!(
        send(&admin, "GET edge:mark").await.unwrap().as_str().as_deref(),
        Some("platform")
    );
}

#[tokio::test]
async fn ensuring_twice_changes_nothing_and_tampering_is_mended() {
    let (server, strategy) = server().await;
    let app = App::ensured(&strategy).await;
    let admin = connect(&server.url()).await.unwrap();
    let none = Vec::<String>::new();
    let state = async || {
        let users: Vec<String> = send(&admin, "ACL LIST").await.unwrap().convert().unwrap();
        let mut rules: Vec<String> = users.concat().split(' ').map(str::to_owned).collect();
        // The server lists the subcommands of one command in any order.
        rules.sort();
        rules
    };
    let before = state().await;
    assert_eq!(strategy.differences(&app.tenant(), &app.fence).await.unwrap(), none);
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
    assert_eq!(state().await, before);

    for tampering in [
        "nopass",
        "allkeys",
        "allchannels",
        "+@all",
        "+scan",
        "off",
        ">another",
        "resetkeys",
        "(~* +get)",
        "-set",
    ] {
        let words = vec!["SETUSER".to_owned(), user(app.id), tampering.to_owned()];
        let command = CustomCommand::new("ACL", ClusterHash::Random, false);
        admin.custom::<Value, String>(command, words).await.unwrap();
        assert_ne!(
            strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
            none,
            "{tampering}"
        );
        strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
        assert_eq!(
            strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
            none,
            "{tampering}"
        );
    }
}

#[tokio::test]
async fn users_survive_a_restart_of_the_server() {
    let (mut server, strategy) = server().await;
    let app = App::ensured(&strategy).await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(
        strategy.differences(&app.tenant(), &app.fence).await.unwrap(),
        Vec::<String>::new()
    );
    connect(strategy.url(app.id, &app.passwords[0]).expose()).await.unwrap();
}

#[tokio::test]
async fn removing_takes_the_user_its_sessions_and_its_keys_and_nothing_else_and_twice_is_once() {
    let (server, strategy) = server().await;
    let (app, other) = (App::ensured(&strategy).await, App::ensured(&strategy).await);
    let client = connect(strategy.url(app.id, &app.passwords[0]).expose()).await.unwrap();
    for number in 0..1500 {
        send(&client, &format!("SET {} v", app.key(&number.to_string())))
            .await
            .unwrap();
    }
    let admin = connect(&server.url()).await.unwrap();
    send(&admin, &format!("SET {} v", other.key("k"))).await.unwrap();
    send(&admin, "SET edge:mark v").await.unwrap();
    for _ in 0..2 {
        strategy.remove(app.id, &app.fence).await.unwrap();
        strategy.remove_keys(app.id, &app.fence).await.unwrap();
        assert!(strategy.is_absent(app.id, &app.fence).await.unwrap());
        assert_eq!(send(&admin, "DBSIZE").await.unwrap().as_i64(), Some(2));
    }
    assert!(send(&client, "PING").await.is_err());
    assert!(connect(strategy.url(app.id, &app.passwords[0]).expose()).await.is_err());
}

#[tokio::test]
async fn passwords_are_sent_and_logged_by_nobody() {
    let (captured, guard) = Captured::begin();
    let (server, strategy) = server().await;
    let app = App::ensured(&strategy).await;
    strategy.check(&app.fence).await.unwrap();
    drop(guard);
    let text = captured.text();
    for password in app.passwords.iter().map(secrecy::ExposeSecret::expose_secret) {
        assert!(!text.contains(password));
    }
    assert!(!text.contains(server.password()));
    let file = std::fs::read_dir(server.child().unwrap().log().parent().unwrap())
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path()).ok())
        .any(|bytes| String::from_utf8_lossy(&bytes).contains("pw-a-"));
    assert!(!file, "the server never saw the password");
}

#[tokio::test]
async fn a_server_that_hangs_or_is_away_is_given_up_and_may_be_tried_again() {
    let (mut server, strategy) = server().await;
    let app = App::new();
    server.pause().unwrap();
    let begun = tokio::time::Instant::now();
    let error = strategy.ensure(&app.tenant(), &app.fence).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    server.resume().unwrap();
    strategy.ensure(&app.tenant(), &app.fence).await.unwrap();
    server.stop().await.unwrap();
    let error = strategy.ensure(&app.tenant(), &app.fence).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let short = Fence::observer(app.id, Duration::from_secs(1));
    assert!(matches!(
        strategy.ensure(&app.tenant(), &short).await,
        Err(RedisError::Fenced(_))
    ));
}
