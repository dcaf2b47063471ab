use authsome_core::config::Environment;
use url::Url;

use super::*;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn complete() -> Vec<(&'static str, &'static str)> {
    vec![
        ("DATABASE_URL", "postgres://u:secret@db/control"),
        ("NATS_URL", "nats://u:secret@a:4222,nats://b:4222"),
        ("AUTHSOME_TENANTS_DATABASE_URL", "postgres://u:secret@db/postgres"),
        ("AUTHSOME_REDIS_ADMIN_URL", "redis://u:secret@cache:6379"),
        ("AUTHSOME_LOCAL_SAMPLE_BINARY", "/bin/authsome-sample"),
        ("AUTHSOME_LOCAL_LOG_DIR", "/logs"),
        ("ENCRYPTION_KEY", KEY),
        ("AUTHSOME_ENCRYPTION_EDGE_KEY", KEY),
        ("AUTHSOME_PUBLIC_EDGE", "https://api.authsome.cloud/"),
    ]
}

fn read(variables: Vec<(&str, &str)>) -> Result<Config, String> {
    let environment: Environment = variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Reader::new(None, environment)
        .finish(Config::read)
        .map_err(|errors| errors.to_string())
}

#[test]
fn the_environment_alone_is_enough() {
    let config = read(complete()).unwrap();
    assert_eq!((config.concurrency, config.region.as_str()), (4, "local"));
    assert_eq!(config.public_url, "https://api.authsome.cloud");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9082");
    assert_eq!(config.tenants.redis_strategy.of(Plan::Free), RedisChoice::Acl);
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn a_cluster_needs_an_image_and_networks_and_no_local_settings() {
    let mut variables = complete();
    variables.retain(|(name, _)| !name.starts_with("AUTHSOME_LOCAL"));
    variables.push(("AUTHSOME_RUNTIME", "kubernetes"));
    let problems = read(variables.clone()).unwrap_err();
    for key in ["kubernetes.image: required", "kubernetes.database_networks: required"] {
        assert!(problems.contains(key), "{key} is missing in:\n{problems}");
    }
    variables.extend([
        ("AUTHSOME_KUBERNETES_IMAGE", "registry.example/authsome:1"),
        ("AUTHSOME_KUBERNETES_DATABASE_NETWORKS", "10.1.0.0/16"),
        ("AUTHSOME_KUBERNETES_REDIS_NETWORKS", "10.2.0.7/24"),
        ("AUTHSOME_KUBERNETES_CLUSTERS", "eu=/etc/eu.yaml,us=in-cluster"),
    ]);
    let kubernetes = read(variables).unwrap().kubernetes.unwrap();
    assert_eq!(kubernetes.clusters.keys().collect::<Vec<_>>(), ["eu", "us"]);
    assert!(format!("{:?}", kubernetes.settings.redis).contains("10.2.0.0/24"));
}

#[test]
fn in_a_cluster_the_authority_of_the_tenants_postgres_goes_along_with_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.crt");
    let url = format!(
        "postgres://u:secret@10.1.0.1/postgres?sslmode=verify-full&sslrootcert={}",
        file.display()
    );
    let mut variables = complete();
    variables.retain(|(name, _)| !name.starts_with("AUTHSOME_LOCAL") && *name != "AUTHSOME_TENANTS_DATABASE_URL");
    variables.extend([
        ("AUTHSOME_TENANTS_DATABASE_URL", url.as_str()),
        ("AUTHSOME_RUNTIME", "kubernetes"),
        ("AUTHSOME_KUBERNETES_IMAGE", "registry.example/authsome:1"),
        ("AUTHSOME_KUBERNETES_REDIS_NETWORKS", "10.2.0.7/24"),
    ]);
    let problems = read(variables.clone()).unwrap_err();
    assert!(
        problems.contains("tenants.database_url: the file of sslrootcert cannot be read"),
        "{problems}"
    );
    std::fs::write(&file, "nothing").unwrap();
    let problems = read(variables.clone()).unwrap_err();
    assert!(
        problems.contains("holds no certificate") && !problems.contains("secret"),
        "{problems}"
    );

    let pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    std::fs::write(&file, pem).unwrap();
    let config = read(variables).unwrap();
    assert_eq!(config.kubernetes.unwrap().settings.database_ca.as_deref(), Some(pem));
    let tenants = config.tenants;
    assert!(
        tenants
            .database_url
            .unwrap()
            .expose()
            .contains(&file.display().to_string()),
        "the provisioner's own"
    );
    let given = Url::parse(tenants.database_instance_url.unwrap().expose()).unwrap();
    let given: Vec<_> = given.query_pairs().into_owned().collect();
    assert_eq!(
        given,
        [
            ("sslmode", "verify-full"),
            ("sslrootcert", crate::runtime::kubernetes::manifest::DATABASE_CA_PATH)
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn strategies_are_chosen_by_plan_and_dedicated_servers_need_a_cluster() {
    let mut variables = complete();
    variables.push(("AUTHSOME_TENANTS_DATABASE_STRATEGY", "schema"));
    variables.push(("AUTHSOME_TENANTS_DATABASE_STRATEGY_BY_PLAN", "pro=database"));
    let tenants = read(variables.clone()).unwrap().tenants;
    assert_eq!(tenants.database_strategy.of(Plan::Free), DatabaseChoice::Schema);
    assert_eq!(tenants.database_strategy.of(Plan::Pro), DatabaseChoice::Database);

    variables.push(("AUTHSOME_TENANTS_REDIS_STRATEGY_BY_PLAN", "enterprise=dedicated"));
    let problems = read(variables.clone()).unwrap_err();
    assert!(
        problems.contains("tenants.redis_strategy: dedicated needs the runtime kubernetes"),
        "{problems}"
    );
    variables.retain(|(name, _)| !name.starts_with("AUTHSOME_LOCAL"));
    variables.extend([
        ("AUTHSOME_RUNTIME", "kubernetes"),
        ("AUTHSOME_KUBERNETES_IMAGE", "registry.example/authsome:1"),
        ("AUTHSOME_KUBERNETES_DATABASE_NETWORKS", "10.1.0.0/16"),
        ("AUTHSOME_KUBERNETES_REDIS_NETWORKS", "10.2.0.7/24"),
    ]);
    let problems = read(variables.clone()).unwrap_err();
    assert!(problems.contains("kubernetes.redis_image: required"), "{problems}");
    variables.push(("AUTHSOME_KUBERNETES_REDIS_IMAGE", "redis:7.4"));
    let settings = read(variables).unwrap().kubernetes.unwrap().settings;
    assert!(settings.own_redis.is_some() && settings.own_database.is_none());
}

#[test]
fn every_problem_is_named_at_once() {
    let mut variables = complete();
    variables.retain(|(name, _)| *name != "DATABASE_URL");
    variables.extend([
        ("AUTHSOME_TENANTS_DATABASE_URL", "mysql://u:secret@db"),
        ("AUTHSOME_TENANTS_REDIS_INSTANCE_URL", "http://cache:6379"),
        ("AUTHSOME_RUNTIME", "mainframe"),
        ("AUTHSOME_REGION", "EU"),
        ("AUTHSOME_CONCURRENCY", "0"),
        ("AUTHSOME_PUBLIC_EDGE", "api.authsome.cloud"),
        ("AUTHSOME_LOG_LEVEL", "info,x=loud"),
    ]);
    let problems = read(variables).unwrap_err();
    for key in [
        "database.url: required",
        "tenants.database_url: must begin with postgres://",
        "tenants.redis_instance_url: must begin with redis://",
        "runtime: \"mainframe\" is not \"kubernetes\" or \"local\"",
        "region: must be a label",
        "concurrency: must be from 1",
        "public.edge: must be http://",
        "log.level: must be a level",
    ] {
        assert!(problems.contains(key), "{key} is missing in:\n{problems}");
    }
    assert_eq!(problems.lines().count(), 8, "{problems}");
    assert!(!problems.contains("secret"));
}
