//! Servers of an application's own: in order and ready before anybody uses them, and with the credentials that are recorded.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use authsome_contract::model::Step;
use authsome_core::id::ApplicationId;
use authsome_core::secret::{ExposeSecret, SecretString};
use authsome_provisioner::database::{self, Slot, names};
use authsome_provisioner::redis;
use authsome_provisioner::runtime::kubernetes::{Kind, KubernetesRuntime, Manifest, Server, Settings, Spec, manifest};
use authsome_provisioner::runtime::{OwnServers, Runtime, Site};
use authsome_testkit::{PostgresOptions, PostgresServer, wait_for};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::{Child, Command};

use super::life::{SOON, runtime};
use super::samples::{new_id, settings, site};
use crate::api_double::ApiDouble;

/// An installation where applications share servers, and some have their own.
pub fn mixed() -> Settings {
    let mut settings = settings();
    let own = |image: &str| {
        Some(Server::Dedicated {
            image: image.to_owned(),
            storage_class: None,
        })
    };
    settings.own_database = own("postgres:17");
    settings.own_redis = own("redis:7.4");
    settings
}

pub fn own_site(id: ApplicationId) -> Site {
    Site {
        own_database: true,
        own_redis: true,
        ..site(id, 1)
    }
}

pub fn passwords() -> [SecretString; 2] {
    ["first-password", "second-password"].map(SecretString::from)
}

pub fn database<'a>(site: &'a Site, passwords: [Option<&'a SecretString>; 2]) -> database::Tenant<'a> {
    database::Tenant {
        id: site.application,
        connection_limit: 20,
        passwords,
        site: Some(site),
    }
}

fn cache<'a>(site: &'a Site, passwords: [Option<&'a SecretString>; 2]) -> redis::Tenant<'a> {
    redis::Tenant {
        id: site.application,
        passwords,
        site: Some(site),
    }
}

/// Makes an application's own servers, and takes them away.
pub async fn with_own_servers(runtime: &KubernetesRuntime) {
    let own = runtime.own_servers();
    let (databases, caches) = (own.database.unwrap(), own.redis.unwrap());
    let site = own_site(new_id());
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let [a, b] = &passwords();
    databases
        .ensure(&database(&site, [Some(a), Some(b)]), &site.fence)
        .await
        .unwrap();
    caches
        .ensure(&cache(&site, [Some(a), Some(b)]), &site.fence)
        .await
        .unwrap();
    caches.remove(site.application, &site.fence).await.unwrap();
    databases.remove(site.application, &site.fence).await.unwrap();
}

#[tokio::test]
async fn a_server_of_its_own_is_there_once_its_pod_is_ready_and_not_before() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, mixed());
    runtime.check().await.unwrap();
    let OwnServers {
        database: Some(databases),
        redis: Some(caches),
    } = runtime.own_servers()
    else {
        panic!("images are configured for both")
    };
    let site = own_site(new_id());
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let quota = api.get(Kind::ResourceQuota, &site.namespace, "authsome").unwrap();
    assert_eq!(quota["spec"]["hard"]["persistentvolumeclaims"], "2");

    api.trouble(|trouble| {
        trouble.crashing.insert("postgres:17".to_owned());
    });
    let [a, b] = &passwords();
    let both = [Some(a), Some(b)];
    let tenant = database(&site, both);
    let ensuring = databases.ensure(&tenant, &site.fence);
    let meanwhile = async {
        wait_for("the server's objects", SOON, async || {
            api.get(Kind::StatefulSet, &site.namespace, "postgres")
        })
        .await
        .unwrap();
        wait_for("the watch to see that it is not ready", SOON, async || {
            let found = databases.differences(&tenant, &site.fence).await.unwrap();
            let unready = found.iter().any(|one| one.contains("is not ready"));
            unready.then_some(()).ok_or(format!("{found:?}"))
        })
        .await
        .unwrap();
    };
    tokio::pin!(ensuring);
    tokio::select! {
        outcome = &mut ensuring => panic!("not ready, and counted as such: {outcome:?}"),
        () = meanwhile => {}
    }
    // Credentials and scripts come before the pod that reads them.
    let made: Vec<String> = api
        .names(&site.namespace)
        .into_iter()
        .filter(|name| name.ends_with("/postgres"))
        .collect();
    assert_eq!(
        made,
        [
            "ConfigMap/postgres",
            "Secret/postgres",
            "Service/postgres",
            "StatefulSet/postgres"
        ]
    );
    api.trouble(|trouble| trouble.crashing.clear());
    // Its controllers look when something changes.
    api.edit(Kind::StatefulSet, &site.namespace, "postgres", |set| {
        set["metadata"]["annotations"]["team/note"] = "looked at".into();
    });
    tokio::time::timeout(SOON, ensuring).await.unwrap().unwrap();
    assert_eq!(
        databases.differences(&tenant, &site.fence).await.unwrap(),
        Vec::<String>::new()
    );
    assert!(databases.is_verified(&site));

    caches.ensure(&cache(&site, both), &site.fence).await.unwrap();
    assert_eq!(
        caches.differences(&cache(&site, both), &site.fence).await.unwrap(),
        Vec::<String>::new()
    );
    let (id, namespace) = (site.application, &site.namespace);
    assert_eq!(
        databases.url(id, Slot::A, a).expose(),
        format!(
            "postgres://{}:first-password@postgres.{namespace}.svc.cluster.local:5432/{}?sslmode=disable",
            names::login(id, Slot::A),
            names::database(id)
        )
    );
    assert_eq!(
        caches.url(id, b).expose(),
        format!(
            "redis://{}:second-password@redis.{namespace}.svc.cluster.local:6379",
            redis::user(id)
        )
    );
    assert!(api.unknown().is_empty(), "{:?}", api.unknown());
}

#[tokio::test]
async fn what_is_removed_by_hand_is_noticed_and_made_again_and_a_volume_never_changes() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, mixed());
    runtime.check().await.unwrap();
    let databases = runtime.own_servers().database.unwrap();
    let mut site = own_site(new_id());
    runtime.settle(Step::Namespace, &site).await.unwrap();
    let [a, b] = &passwords();
    let both = [Some(a), Some(b)];
    databases.ensure(&database(&site, both), &site.fence).await.unwrap();
    databases
        .differences(&database(&site, both), &site.fence)
        .await
        .unwrap();
    for kind in [Kind::Secret, Kind::Service, Kind::ConfigMap, Kind::StatefulSet] {
        assert!(databases.is_verified(&site), "{kind:?}");
        api.delete(kind, &site.namespace, "postgres");
        wait_for("the watch to see it", SOON, async || {
            (!databases.is_verified(&site)).then_some(())
        })
        .await
        .unwrap();
        let found = databases
            .differences(&database(&site, both), &site.fence)
            .await
            .unwrap();
        assert!(!found.is_empty(), "{kind:?}");
        databases.ensure(&database(&site, both), &site.fence).await.unwrap();
        wait_for("nothing left to do", SOON, async || {
            let left = databases
                .differences(&database(&site, both), &site.fence)
                .await
                .unwrap();
            left.is_empty().then_some(())
        })
        .await
        .unwrap();
    }
    // A larger plan: the claim of a StatefulSet cannot be changed, and a change would be refused.
    let before = api.get(Kind::StatefulSet, &site.namespace, "postgres").unwrap();
    site.storage = "100Gi".to_owned();
    databases.ensure(&database(&site, both), &site.fence).await.unwrap();
    let after = api.get(Kind::StatefulSet, &site.namespace, "postgres").unwrap();
    assert_eq!(
        before["spec"]["volumeClaimTemplates"],
        after["spec"]["volumeClaimTemplates"]
    );

    // Another password rolls nothing: the server goes on, and is told.
    databases
        .ensure(&database(&site, [None, Some(b)]), &site.fence)
        .await
        .unwrap();
    let rotated = api.get(Kind::StatefulSet, &site.namespace, "postgres").unwrap();
    assert_eq!(after["spec"]["template"], rotated["spec"]["template"]);
    let secret = api.get(Kind::Secret, &site.namespace, "postgres").unwrap();
    let text =
        |name: &str| String::from_utf8(STANDARD.decode(secret["data"][name].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((text("a").as_str(), text("b").as_str()), ("", "second-password"));

    for _ in 0..2 {
        databases.remove(site.application, &site.fence).await.unwrap();
    }
    wait_for("its absence", SOON, async || {
        let absent = databases.is_absent(site.application, &site.fence).await.unwrap();
        absent.then_some(())
    })
    .await
    .unwrap();
    assert!(
        api.names(&site.namespace)
            .iter()
            .all(|name| !name.ends_with("/postgres"))
    );
}

#[tokio::test]
async fn an_application_that_shares_has_no_server_of_its_own_beside_one_that_does() {
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, mixed());
    runtime.check().await.unwrap();
    let sharing = site(new_id(), 1);
    runtime.settle(Step::Namespace, &sharing).await.unwrap();
    let quota = api.get(Kind::ResourceQuota, &sharing.namespace, "authsome").unwrap();
    assert_eq!(quota["spec"]["hard"]["persistentvolumeclaims"], "0");
    let policy = api
        .get(Kind::NetworkPolicy, &sharing.namespace, "allow-postgres")
        .unwrap();
    assert_eq!(policy["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"], "10.20.0.0/24");
}

/// A directory with the files of a server's Secret and ConfigMap, as its pod has them.
struct Files(tempfile::TempDir);

impl Files {
    fn of(manifests: &[Manifest]) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(manifests);
        files
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What the manifests hold, with the pod's places turned into places here.
    fn write(&self, manifests: &[Manifest]) {
        let here = |place: &str| self.path().join(place).display().to_string();
        let data = |kind| {
            let found = manifests.iter().find(|one| one.kind == kind).unwrap();
            found.body["data"].as_object().unwrap().clone()
        };
        for (place, text) in [("credentials", true), ("scripts", false)] {
            std::fs::create_dir_all(self.path().join(place)).unwrap();
            let kind = if text { Kind::Secret } else { Kind::ConfigMap };
            for (name, value) in data(kind) {
                let value = match (&value, text) {
                    (Value::String(value), true) => String::from_utf8(STANDARD.decode(value).unwrap()).unwrap(),
                    (Value::String(value), false) => value.clone(),
                    other => panic!("{other:?}"),
                };
                let value = value
                    .replace("/credentials/", &format!("{}/", here("credentials")))
                    .replace("/scripts/", &format!("{}/", here("scripts")))
                    .replace("/tmp/kept", &here("kept"))
                    .replace("/var/run/redis/", &format!("{}/", self.path().display()))
                    .replace("dir /data", &format!("dir {}", self.path().display()))
                    .replace("port 6379", "port 0");
                std::fs::write(self.path().join(place).join(name), value).unwrap();
            }
        }
    }

    fn keeper(&self, environment: &[(&str, String)]) -> Child {
        Command::new("sh")
            .arg(self.path().join("scripts/keep.sh"))
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}

type Make = fn(&Spec<'_>, &str, Option<&str>, [Option<&SecretString>; 2]) -> Result<Vec<Manifest>, manifest::Unusable>;

fn manifests(site: &Site, passwords: [Option<&SecretString>; 2], of: Make) -> Vec<Manifest> {
    let settings = mixed();
    let spec = Spec {
        site,
        settings: &settings,
    };
    of(&spec, "image", None, passwords).unwrap()
}

#[tokio::test]
async fn the_keeper_tells_a_real_postgres_which_login_roles_are_open_and_which_are_not() {
    let server = PostgresServer::start(PostgresOptions::default()).await.unwrap();
    let mut admin = PgConnection::connect(&server.admin_url()).await.unwrap();
    // The image's own superuser.
    sqlx::raw_sql("CREATE ROLE postgres SUPERUSER LOGIN PASSWORD 'initial'")
        .execute(&mut admin)
        .await
        .unwrap();
    let site = own_site(new_id());
    let [a, b] = &passwords();
    let files = Files::of(&manifests(&site, [Some(a), Some(b)], manifest::postgres));
    let set = manifests(&site, [Some(a), Some(b)], manifest::postgres);
    let set = set.iter().find(|one| one.kind == Kind::StatefulSet).unwrap();
    let address = url::Url::parse(&server.admin_url()).unwrap();
    let mut environment: Vec<(&str, String)> = vec![
        ("PGHOST", address.host_str().unwrap().to_owned()),
        ("PGPORT", address.port().unwrap().to_string()),
        ("PGUSER", address.username().to_owned()),
        ("PGPASSWORD", address.password().unwrap().to_owned()),
    ];
    for name in ["OWNER", "LOGIN_A", "LOGIN_B", "TENANT_DATABASE", "CONNECTIONS"] {
        let given = set.body["spec"]["template"]["spec"]["containers"][1]["env"]
            .as_array()
            .unwrap();
        let value = given.iter().find(|one| one["name"] == name).unwrap()["value"]
            .as_str()
            .unwrap();
        environment.push((name, value.to_owned()));
    }
    let _keeper = files.keeper(&environment);
    let id = site.application;
    let enter = async |slot, password: &SecretString| {
        let url = server.url_as(&names::login(id, slot), password.expose_secret(), &names::database(id));
        PgConnection::connect(&url).await
    };
    let opens = async |slot, password: &SecretString, wanted: bool| {
        wait_for(format!("{slot:?} to be open: {wanted}"), SOON, async || {
            let outcome = enter(slot, password).await;
            (outcome.is_ok() == wanted)
                .then_some(())
                .ok_or(format!("{:?}", outcome.err()))
        })
        .await
        .unwrap();
    };
    opens(Slot::A, a, true).await;
    opens(Slot::B, b, true).await;
    let mut session = enter(Slot::A, a).await.unwrap();
    let run = async |connection: &mut PgConnection, sql: &str| {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(connection)
            .await
            .map(|_| ())
    };
    run(&mut session, "CREATE TABLE users (id integer)").await.unwrap();
    run(
        &mut enter(Slot::B, b).await.unwrap(),
        "DROP TABLE users; CREATE TABLE users (id integer)",
    )
    .await
    .unwrap();
    let superuser = server.url_as("postgres", "initial", "postgres");
    assert!(PgConnection::connect(&superuser).await.is_err(), "by the socket only");

    // A is closed, with the session that somebody has.
    files.write(&manifests(&site, [None, Some(b)], manifest::postgres));
    opens(Slot::A, a, false).await;
    wait_for("its session to end", SOON, async || {
        run(&mut session, "SELECT 1").await.err()
    })
    .await
    .unwrap();
    opens(Slot::B, b, true).await;
    // And opens again with another password, while B serves.
    let third = SecretString::from("third-password");
    files.write(&manifests(&site, [Some(&third), Some(b)], manifest::postgres));
    opens(Slot::A, &third, true).await;
    opens(Slot::A, a, false).await;
    run(&mut enter(Slot::B, b).await.unwrap(), "SELECT * FROM users")
        .await
        .unwrap();
}

#[tokio::test]
async fn the_keeper_tells_a_real_redis_which_passwords_are_good() {
    let site = own_site(new_id());
    let [a, b] = &passwords();
    let files = Files::of(&manifests(&site, [Some(a), Some(b)], manifest::redis));
    let server = authsome_testkit::installed::find("redis-server").unwrap();
    let _server = Command::new(server)
        .arg(files.path().join("scripts/redis.conf"))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let socket = files.path().join("redis.sock").display().to_string();
    let user = redis::user(site.application);
    let ask = async |password: &SecretString, command: &[&str]| {
        let output = Command::new("redis-cli")
            .args([
                "-s",
                &socket,
                "--user",
                &user,
                "--pass",
                password.expose_secret(),
                "--no-auth-warning",
            ])
            .args(command)
            .output()
            .await
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let key = format!(
        "{}k",
        authsome_contract::wire::names::redis_tenant_prefix(&site.application)
    );
    let answers = async |password: &SecretString, wanted: &str| {
        wait_for(format!("the answer {wanted}"), SOON, async || {
            let seen = ask(password, &["SET", &key, "v"]).await;
            (seen == wanted).then_some(()).ok_or(seen)
        })
        .await
        .unwrap();
    };
    answers(a, "OK").await;
    answers(b, "OK").await;
    for refused in [
        &["SET", "other", "v"][..],
        &["KEYS", "*"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
    ] {
        assert!(ask(a, refused).await.starts_with("NOPERM"), "{refused:?}");
    }
    // Without a password one may ask whether it is alive, and no more.
    let anybody = Command::new("redis-cli")
        .args(["-s", &socket, "GET", &key])
        .output()
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&anybody.stdout).starts_with("NOPERM"));

    let _keeper = files.keeper(&[]);
    wait_for("the keeper", Duration::from_secs(30), async || {
        files.path().join("kept").exists().then_some(())
    })
    .await
    .unwrap();
    files.write(&manifests(&site, [None, Some(b)], manifest::redis));
    wait_for("the old password to be refused", SOON, async || {
        let seen = ask(a, &["GET", &key]).await;
        (seen != "v").then_some(()).ok_or(seen)
    })
    .await
    .unwrap();
    answers(b, "OK").await;
}
