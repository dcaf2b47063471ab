//! Postgres and Redis of an application's own, in its namespace: nobody but its instances reaches them.
//!
//! Credentials are files of a Secret. A second container beside each server (the keeper) notices when they change and tells
//! the server over a local socket, so that a password is replaced without a restart and nobody outside needs a way in.

use authsome_contract::wire::names;
use authsome_core::secret::{ExposeSecret, SecretString};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::kind::Kind;
use super::super::quantity::Quantity;
use super::namespace::{DATA_CPU, DATA_MEMORY};
use super::network::{POSTGRES_PORT, REDIS_PORT};
use super::template::{container_security, pod_security};
use super::{Component, Limits, Manifest, POSTGRES, REDIS, Spec, Unusable, selector};
use crate::database::{Slot, names as database};
use crate::redis;

/// The user of the `postgres` and `redis` images.
const USER: u32 = 999;
const KEEP_POSTGRES: &str = include_str!("data/keep-postgres.sh");
const KEEP_REDIS: &str = include_str!("data/keep-redis.sh");
const ROLES: &str = include_str!("data/roles.sql");

/// What tells the two servers apart.
struct Server<'a> {
    component: Component,
    name: &'static str,
    image: &'a str,
    storage_class: Option<&'a str>,
    port: u16,
    data: &'static str,
    command: Option<Value>,
    env: Value,
    probe: Value,
    keeper: Value,
    keeper_env: Value,
    sockets: &'static str,
}

/// The application's own Postgres, with both login roles.
pub fn postgres(
    spec: &Spec<'_>,
    image: &str,
    storage_class: Option<&str>,
    passwords: [Option<&SecretString>; 2],
) -> Result<Vec<Manifest>, Unusable> {
    let id = spec.site.application;
    let connections = spec.site.plan.resources().database_connections;
    // A role whose file is empty is closed.
    let file =
        |password: Option<&SecretString>| password.map_or_else(String::new, |one| one.expose_secret().to_owned());
    let first = file(passwords[0].or(passwords[1]));
    let files = [("a", file(passwords[0])), ("b", file(passwords[1])), ("first", first)];
    let scripts = json!({ "keep.sh": KEEP_POSTGRES, "roles.sql": ROLES });
    let names = json!([
        { "name": "OWNER", "value": database::owner(id) },
        { "name": "LOGIN_A", "value": database::login(id, Slot::A) },
        { "name": "LOGIN_B", "value": database::login(id, Slot::B) },
        { "name": "TENANT_DATABASE", "value": database::database(id) },
        { "name": "CONNECTIONS", "value": connections.to_string() },
        { "name": "PGHOST", "value": "/var/run/postgresql" },
        { "name": "PGUSER", "value": "postgres" },
    ]);
    let server = Server {
        component: Component::Postgres,
        name: POSTGRES,
        image,
        storage_class,
        port: POSTGRES_PORT,
        data: "/var/lib/postgresql/data",
        // Room for the superuser beside the tenant.
        command: Some(json!([
            "docker-entrypoint.sh",
            "postgres",
            "-c",
            format!("max_connections={}", connections + 10)
        ])),
        env: json!([
            { "name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata" },
            // Only while the first start initialises the server: the keeper takes it away, and the superuser is then
            // reachable over the socket alone.
            { "name": "POSTGRES_PASSWORD_FILE", "value": "/credentials/first" },
        ]),
        probe: json!(["pg_isready", "--quiet", "--username=postgres"]),
        keeper: json!(["sh", "/scripts/keep.sh"]),
        keeper_env: names,
        sockets: "/var/run/postgresql",
    };
    objects(spec, &server, &files, &scripts)
}

/// The application's own Redis, with its one user and both passwords.
pub fn redis(
    spec: &Spec<'_>,
    image: &str,
    storage_class: Option<&str>,
    passwords: [Option<&SecretString>; 2],
) -> Result<Vec<Manifest>, Unusable> {
    let id = spec.site.application;
    let hashes = redis::hashes(passwords);
    let rules = redis::rules(id, &hashes).join(" ");
    // The keeper may say that the file changed, and nothing else; it comes by the socket, which no other pod has.
    let users = format!(
        "user default on nopass resetkeys resetchannels -@all +ping +acl|load\nuser {} {rules}\n",
        redis::user(id)
    );
    let config = format!(
        "port {REDIS_PORT}\nbind * -::*\nprotected-mode no\nunixsocket /var/run/redis/redis.sock\nunixsocketperm 770\n\
         dir /data\nappendonly yes\naclfile /credentials/users.acl\nmaxmemory-policy noeviction\nmaxmemory 768mb\n"
    );
    let files = [("users.acl", users)];
    let scripts = json!({ "keep.sh": KEEP_REDIS, "redis.conf": config });
    let server = Server {
        component: Component::Redis,
        name: REDIS,
        image,
        storage_class,
        port: REDIS_PORT,
        data: "/data",
        command: Some(json!(["redis-server", "/scripts/redis.conf"])),
        env: json!([{ "name": "REDIS_PREFIX", "value": names::redis_tenant_prefix(&id) }]),
        probe: json!(["redis-cli", "-s", "/var/run/redis/redis.sock", "ping"]),
        keeper: json!(["sh", "/scripts/keep.sh"]),
        keeper_env: json!([]),
        sockets: "/var/run/redis",
    };
    objects(spec, &server, &files, &scripts)
}

fn objects(
    spec: &Spec<'_>,
    server: &Server<'_>,
    files: &[(&str, String)],
    scripts: &Value,
) -> Result<Vec<Manifest>, Unusable> {
    let limits = Limits::of(spec.site)?;
    let data: serde_json::Map<String, Value> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), STANDARD.encode(text).into()))
        .collect();
    let secret = json!({ "type": "Opaque", "data": data });
    let service = json!({ "spec": {
        "type": "ClusterIP",
        "clusterIP": "None",
        "selector": selector(server.component),
        "ports": [{ "name": server.name, "protocol": "TCP", "port": server.port, "targetPort": server.name }],
    }});
    Ok(vec![
        spec.component(
            Kind::ConfigMap,
            server.name,
            server.component,
            json!({ "data": scripts }),
        ),
        spec.component(Kind::Secret, server.name, server.component, secret),
        spec.component(Kind::Service, server.name, server.component, service),
        spec.component(
            Kind::StatefulSet,
            server.name,
            server.component,
            stateful_set(spec, server, &limits)?,
        ),
    ])
}

fn stateful_set(spec: &Spec<'_>, server: &Server<'_>, limits: &Limits) -> Result<Value, Unusable> {
    let amount = |text| {
        Quantity::parse(text).map_err(|source| Unusable::Limit {
            limit: "dedicated",
            source,
        })
    };
    let (cpu, memory) = (amount(DATA_CPU)?, amount(DATA_MEMORY)?);
    let mut main = json!({
        "name": server.name,
        "image": server.image,
        "env": server.env,
        "ports": [{ "name": server.name, "containerPort": server.port, "protocol": "TCP" }],
        "resources": {
            // A sixteenth is the keeper's.
            "limits": { "cpu": "900m", "memory": "960Mi" },
            "requests": { "cpu": cpu.half().half().to_string(), "memory": memory.half().half().to_string() },
        },
        "securityContext": container_security(),
        "volumeMounts": [
            { "name": "data", "mountPath": server.data },
            { "name": "sockets", "mountPath": server.sockets },
            { "name": "tmp", "mountPath": "/tmp" },
            { "name": "credentials", "mountPath": "/credentials", "readOnly": true },
            { "name": "scripts", "mountPath": "/scripts", "readOnly": true },
        ],
    });
    if let Some(command) = &server.command {
        main["command"] = command.clone();
    }
    for (probe, period, failures) in [
        ("startupProbe", 2, 150),
        ("readinessProbe", 5, 3),
        ("livenessProbe", 10, 6),
    ] {
        main[probe] = json!({
            "exec": { "command": server.probe },
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": 3,
        });
    }
    let keeper = json!({
        "name": "keeper",
        "image": server.image,
        "command": server.keeper,
        "env": server.keeper_env,
        "resources": {
            "limits": { "cpu": "100m", "memory": "64Mi" },
            "requests": { "cpu": "10m", "memory": "16Mi" },
        },
        // Ready once the server knows the credentials that are there.
        "readinessProbe": {
            "exec": { "command": ["test", "-e", "/tmp/kept"] },
            "periodSeconds": 2,
            "failureThreshold": 3,
            "timeoutSeconds": 3,
        },
        "securityContext": container_security(),
        "volumeMounts": [
            { "name": "sockets", "mountPath": server.sockets },
            { "name": "keeper-tmp", "mountPath": "/tmp" },
            { "name": "credentials", "mountPath": "/credentials", "readOnly": true },
            { "name": "scripts", "mountPath": "/scripts", "readOnly": true },
        ],
    });
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": "data", "labels": selector(server.component) },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": limits.storage.to_string() } },
        },
    });
    if let Some(class) = server.storage_class {
        claim["spec"]["storageClassName"] = class.into();
    }
    Ok(json!({ "spec": {
        "replicas": 1,
        "serviceName": server.name,
        "selector": { "matchLabels": selector(server.component) },
        "template": {
            "metadata": { "labels": spec.component_labels(server.component) },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "serviceAccountName": super::NAME,
                "terminationGracePeriodSeconds": 60,
                "securityContext": pod_security(USER),
                "containers": [main, keeper],
                "volumes": [
                    { "name": "sockets", "emptyDir": { "sizeLimit": "1Mi" } },
                    { "name": "tmp", "emptyDir": { "sizeLimit": "64Mi" } },
                    { "name": "keeper-tmp", "emptyDir": { "sizeLimit": "1Mi" } },
                    // Readable by the server's own group only.
                    { "name": "credentials", "secret": { "secretName": server.name, "defaultMode": 288 } },
                    { "name": "scripts", "configMap": { "name": server.name } },
                ],
            },
        },
        "volumeClaimTemplates": [claim],
    }}))
}
