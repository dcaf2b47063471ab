//! A fresh database for every test: one cluster per test process, one migrated template in it, cheap copies of that.
//!
//! The cluster is a process-wide static and is never dropped; its guard stops it and removes its files when the test
//! process ends, however that happens.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{Mutex, OnceCell};

use crate::db;
use crate::error::Error;
use crate::postgres::{PostgresOptions, PostgresServer};

static POSTGRES: OnceCell<PostgresServer> = OnceCell::const_new();
/// Template by digest of its migrations. Held across the migration, so that concurrent tests run it once.
static TEMPLATES: Mutex<Option<HashMap<u64, String>>> = Mutex::const_new(None);
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A database of its own for one test, on the process's cluster.
#[derive(Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// A superuser's URL of it. Holds a password: not for logs.
    pub url: String,
    /// The same as connection options.
    pub options: PgConnectOptions,
}

/// The cluster that all tests of this process share. Tests that stop or pause a server start one of their own instead.
///
/// # Errors
/// As [`PostgresServer::start`].
pub async fn shared_postgres() -> Result<&'static PostgresServer, Error> {
    POSTGRES
        .get_or_try_init(|| PostgresServer::start(PostgresOptions::default()))
        .await
}

/// A fresh copy of the database that `migrator` makes.
///
/// # Errors
/// As [`PostgresServer::start`], and [`Error::Migrate`].
pub async fn fresh_database(migrator: &Migrator) -> Result<Database, Error> {
    let server = shared_postgres().await?;
    let template = template(server, migrator).await?;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.create_database_from_template(&name, &template).await?;
    Ok(database(server, name))
}

/// A fresh database with nothing in it.
///
/// # Errors
/// As [`PostgresServer::start`].
pub async fn empty_database() -> Result<Database, Error> {
    let server = shared_postgres().await?;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.create_database(&name).await?;
    Ok(database(server, name))
}

fn database(server: &PostgresServer, name: String) -> Database {
    Database {
        url: server.url(&name),
        options: server.options(&name),
        name,
    }
}

async fn template(server: &PostgresServer, migrator: &Migrator) -> Result<String, Error> {
    let mut digest = DefaultHasher::new();
    for migration in migrator.iter() {
        (migration.version, &*migration.checksum).hash(&mut digest);
    }
    let digest = digest.finish();
    let mut templates = TEMPLATES.lock().await;
    let templates = templates.get_or_insert_default();
    if let Some(name) = templates.get(&digest) {
        return Ok(name.clone());
    }
    let name = format!("template_{digest:016x}");
    server.create_database(&name).await?;
    let connecting = Error::postgres(format!("connect to {name}"));
    let mut connection = db::connect(&server.options(&name)).await.map_err(connecting)?;
    migrator
        .run_direct(None, &mut connection, false)
        .await
        .map_err(|error| Error::Migrate(Box::new(error)))?;
    // A template with connections cannot be copied.
    connection
        .close()
        .await
        .map_err(Error::postgres(format!("close the connection to {name}")))?;
    templates.insert(digest, name.clone());
    Ok(name)
}
