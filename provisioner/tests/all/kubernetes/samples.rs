//! An application and an installation as they could be.

use std::collections::BTreeMap;
use std::time::Duration;

use authsome_contract::model::{Environment, Plan};
use authsome_core::clock::SystemClock;
use authsome_core::entropy::SystemEntropy;
use authsome_core::id::{ApplicationId, WorkspaceId};
use authsome_core::secret::{SecretString, SecretUrl};
use authsome_provisioner::lease::Fence;
use authsome_provisioner::runtime::kubernetes::{
    Image, Monitoring, Pods, Secrets, Server, Settings, Vault, namespace_of,
};
use authsome_provisioner::runtime::{Patience, Site, Workload};

pub fn new_id() -> ApplicationId {
    ApplicationId::generate(&SystemClock, &SystemEntropy::new())
}

pub fn site(application: ApplicationId, generation: i64) -> Site {
    Site {
        application,
        workspace: WorkspaceId::from_uuid(uuid::Uuid::from_u128(7)),
        environment: Environment::Production,
        plan: Plan::Pro,
        namespace: namespace_of(application),
        generation,
        base_path: String::new(),
        cpu: "1000m".to_owned(),
        memory: "2Gi".to_owned(),
        storage: "20Gi".to_owned(),
        image: None,
        own_database: false,
        own_redis: false,
        fence: Fence::observer(application, Duration::from_mins(10)),
    }
}

pub fn workload(application: ApplicationId, generation: i64) -> Workload {
    Workload {
        site: site(application, generation),
        application,
        generation,
        base_path: String::new(),
        database_url: SecretUrl::parse("postgres://app_a:database-password@db.example/authsome_app").unwrap(),
        redis_url: SecretUrl::parse("redis://app:redis-password@cache.example").unwrap(),
        redis_prefix: "app:x:".to_owned(),
        public_base_url: format!("https://api.authsome.cloud/v1/{application}"),
        config: serde_json::json!({ "session": { "token_ttl": "1h" }, "bootstrap": { "initial_owner_count": 0 } }),
        secrets: [(
            "MAILER_SMTP_PASSWORD".parse().unwrap(),
            SecretString::from("mail-password"),
        )]
        .into_iter()
        .collect(),
        previous: Vec::new(),
    }
}

fn pods(namespace: &str, name: &str, value: &str) -> Pods {
    Pods {
        namespace: namespace.to_owned(),
        label: (name.to_owned(), value.to_owned()),
    }
}

pub fn settings() -> Settings {
    Settings {
        image: Image {
            reference: "ghcr.io/example/authsome:1.6.2".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secret: None,
            command: Vec::new(),
            port: 8080,
            health_path: "/v1/health".to_owned(),
            config_path: "/etc/authsome/config.yaml".to_owned(),
            migrate_command: Vec::new(),
            bootstrap_path: None,
            metrics_path: "/_/metrics".to_owned(),
            user: 10001,
        },
        cluster_domain: "cluster.local".to_owned(),
        grows: false,
        edge: pods("authsome-system", "app.kubernetes.io/name", "authsome-proxy"),
        provisioner: pods("authsome-system", "app.kubernetes.io/name", "authsome-provisioner"),
        dns: pods("kube-system", "k8s-app", "kube-dns"),
        database: Server::Shared {
            networks: vec!["10.20.0.0/24".parse().unwrap()],
            port: 5432,
        },
        database_ca: None,
        redis: Server::Shared {
            networks: vec!["10.21.0.5/32".parse().unwrap()],
            port: 6379,
        },
        own_database: None,
        own_redis: None,
        private_networks: Vec::new(),
        secrets: Secrets::Kubernetes,
        monitoring: Monitoring {
            enabled: true,
            namespace: "monitoring".to_owned(),
            labels: BTreeMap::from([("release".to_owned(), "prometheus".to_owned())]),
            scrapers: None,
            grafana: Some("https://grafana.example".to_owned()),
        },
    }
}

/// With everything in the applications' own namespaces or in Vault, a migration, and everything else that can be chosen.
pub fn elaborate() -> Settings {
    let mut settings = settings();
    let dedicated = |image: &str| Server::Dedicated {
        image: image.to_owned(),
        storage_class: Some("fast".to_owned()),
    };
    settings.database = dedicated("postgres:17");
    settings.redis = dedicated("redis:7.4");
    settings.image.migrate_command = vec!["/authsome".to_owned(), "migrate".to_owned()];
    settings.image.command = vec!["/authsome".to_owned(), "serve".to_owned()];
    settings.image.bootstrap_path = Some("/v1/admin/bootstrap".to_owned());
    settings.image.pull_secret = Some("registry".to_owned());
    settings.private_networks = vec!["203.0.112.0/24".parse().unwrap(), "2001:db9::/32".parse().unwrap()];
    settings.monitoring.scrapers = Some(pods("monitoring", "app.kubernetes.io/name", "prometheus"));
    settings.secrets = Secrets::Vault(Vault {
        address: "https://vault.example:8200".to_owned(),
        ca: None,
        token: SecretString::from("root"),
        mount: "secret".to_owned(),
        auth_mount: "kubernetes".to_owned(),
        networks: vec!["10.30.0.1/32".parse().unwrap()],
        port: 8200,
    });
    settings
}

/// As long as a test may wait.
pub fn patience() -> Patience {
    Patience {
        vanishing: Duration::from_secs(5),
        rollout: Duration::from_secs(20),
        failing: Duration::from_millis(200),
        look: Duration::from_millis(20),
    }
}
