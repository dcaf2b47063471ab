//! Each server starts, answers, freezes, dies and comes back with its data.

use std::time::{Duration, Instant};

use authsome_testkit::postgres::PostgresServer;
use authsome_testkit::{
    Error, NatsOptions, NatsServer, PostgresOptions, RedisOptions, RedisServer, databases, wait_for,
};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn redis(server: &RedisServer, commands: &str) -> Result<String, String> {
    let ask = async {
        let mut stream = TcpStream::connect(server.address()).await?;
        let all = format!("AUTH default {}\r\n{commands}\r\nQUIT\r\n", server.password());
        stream.write_all(all.as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok::<_, std::io::Error>(reply)
    };
    let reply = tokio::time::timeout(Duration::from_secs(2), ask)
        .await
        .map_err(|_| "no answer")?;
    reply.map_err(|error| error.to_string())
}

#[tokio::test]
async fn postgres_keeps_its_data_over_a_kill_and_freezes_on_request() {
    let options = PostgresOptions {
        durable: true,
        ..PostgresOptions::default()
    };
    let mut server = PostgresServer::start(options).await.unwrap();
    let mut connection = PgConnection::connect(&server.admin_url()).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .execute(&mut connection)
        .await
        .unwrap();

    server.pause().unwrap();
    let frozen = sqlx::query("SELECT 1").execute(&mut connection);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), frozen).await.is_err(),
        "a paused server must not answer"
    );
    server.resume().unwrap();

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let mut connection = PgConnection::connect(&server.admin_url()).await.unwrap();
    let n: i32 = sqlx::query_scalar("SELECT n FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(n, 7);
}

#[tokio::test]
async fn postgres_demands_the_password() {
    let server = databases::shared_postgres().await.unwrap();
    let refused = PgConnection::connect(&server.url_as("authsome", "wrong", "postgres"))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("password authentication failed"),
        "{refused}"
    );
}

#[tokio::test]
async fn databases_of_two_tests_do_not_share_rows() {
    let (one, two) = (
        databases::empty_database().await.unwrap(),
        databases::empty_database().await.unwrap(),
    );
    let mut connection = PgConnection::connect(&one.url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE mine (n int)")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut other = PgConnection::connect(&two.url).await.unwrap();
    assert!(sqlx::raw_sql("SELECT * FROM mine").execute(&mut other).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_a_typed_error() {
    let first = RedisServer::start(RedisOptions::default()).await.unwrap();
    let options = RedisOptions {
        port: Some(first.port()),
        ..RedisOptions::default()
    };
    assert!(
        matches!(RedisServer::start(options).await.err(), Some(Error::PortTaken { port, .. }) if port == first.port())
    );
    let options = NatsOptions {
        port: Some(first.port()),
        ..NatsOptions::default()
    };
    assert!(matches!(
        NatsServer::start(options).await.err(),
        Some(Error::PortTaken { .. })
    ));
    let options = PostgresOptions {
        port: Some(first.port()),
        ..PostgresOptions::default()
    };
    assert!(matches!(
        PostgresServer::start(options).await.err(),
        Some(Error::PortTaken { .. })
    ));
}

#[tokio::test]
async fn redis_keeps_data_and_users_over_a_kill_when_asked_to() {
    let options = RedisOptions {
        append_only: true,
        ..RedisOptions::default()
    };
    let mut server = RedisServer::start(options).await.unwrap();
    redis(
        &server,
        "CONFIG SET appendfsync always\r\nSET a 1\r\nACL SETUSER tenant on >pw ~t:* +@all\r\nACL SAVE",
    )
    .await
    .unwrap();

    server.pause().unwrap();
    assert!(redis(&server, "PING").await.is_err(), "a paused server must not answer");
    server.resume().unwrap();

    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let reply = redis(&server, "GET a\r\nACL LIST").await.unwrap();
    assert!(reply.contains("$1\r\n1\r\n"), "{reply}");
    assert!(reply.contains("user tenant on"), "{reply}");
}

#[tokio::test]
async fn nats_keeps_streams_over_a_kill() {
    let mut server = NatsServer::start(NatsOptions::default()).await.unwrap();
    let jetstream = async_nats::jetstream::new(server.connect().await.unwrap());
    let config = async_nats::jetstream::stream::Config {
        name: "KEPT".into(),
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let jetstream = async_nats::jetstream::new(server.connect().await.unwrap());
    jetstream.get_stream("KEPT").await.unwrap();
}

#[tokio::test]
async fn an_early_end_carries_the_last_lines_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("users.acl"), "user default on >x nonsense-rule\n").unwrap();
    let options = RedisOptions {
        directory: Some(directory.path().to_owned()),
        ..RedisOptions::default()
    };
    match RedisServer::start(options).await.err() {
        Some(Error::ExitedEarly { log_tail, .. }) => assert!(log_tail.contains("ACL errors"), "{log_tail}"),
        other => panic!("expected an early end, got {other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_server_ends_and_takes_its_scratch_files_along() {
    let server = RedisServer::start(RedisOptions::default()).await.unwrap();
    let (address, files) = (
        server.address(),
        server.child().unwrap().log().parent().unwrap().to_owned(),
    );
    assert!(files.exists());
    drop(server);
    let gone = async || {
        if files.exists() {
            Err("the files are still there")
        } else {
            Ok(())
        }
    };
    wait_for("the scratch directory to go", Duration::from_secs(15), gone)
        .await
        .unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_wait_that_fails_says_for_what_and_what_it_saw() {
    let start = Instant::now();
    let error = wait_for("the impossible", Duration::from_millis(80), async || {
        Err::<(), _>("only the possible")
    })
    .await
    .unwrap_err()
    .to_string();
    assert_eq!(error, "waited 80ms for the impossible; last seen: only the possible");
    assert!(start.elapsed() < Duration::from_secs(5));
    let hangs = wait_for("a look that hangs", Duration::from_millis(50), async || {
        std::future::pending::<Option<()>>().await
    });
    assert!(hangs.await.is_err());
}
