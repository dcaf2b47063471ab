//! Where secrets are, and what changes with them.

use authsome_provisioner::runtime::Workload;
use authsome_provisioner::runtime::kubernetes::manifest;
use authsome_provisioner::runtime::kubernetes::{Kind, Secrets, Settings, Spec};

use super::{all, named};
use crate::kubernetes::samples::{elaborate, new_id, settings, workload};

#[test]
fn no_secret_is_anywhere_but_in_a_secret() {
    for settings in [settings(), elaborate()] {
        for manifest in all(&settings, &workload(new_id(), 1)) {
            let text = manifest.body.to_string();
            let found = ["database-password", "redis-password", "a-password", "b-password"]
                .iter()
                .any(|secret| text.contains(secret));
            assert!(!found, "{} holds a password in clear", manifest.what());
        }
    }
}

#[test]
fn with_vault_the_agent_writes_secrets_and_the_cluster_keeps_none() {
    let application = workload(new_id(), 1);
    let settings = elaborate();
    let spec = Spec {
        site: &application.site,
        settings: &settings,
    };
    let deployment = manifest::deployment(&spec, &application).unwrap();
    let template = &deployment.body["spec"]["template"];
    let annotations = &template["metadata"]["annotations"];
    let path = format!("secret/data/applications/{}", application.application);
    for (name, value) in [
        ("agent-inject", "true"),
        ("role", application.site.namespace.as_str()),
        ("agent-inject-secret-0", path.as_str()),
        ("agent-inject-file-0", "DATABASE_URL"),
        ("agent-inject-file-1", "MAILER_SMTP_PASSWORD"),
        ("agent-inject-file-2", "REDIS_URL"),
    ] {
        assert_eq!(annotations[format!("vault.hashicorp.com/{name}")], value, "{name}");
    }
    let env = template["spec"]["containers"][0]["env"].as_array().unwrap();
    assert!(
        env.iter()
            .any(|one| one["name"] == "DATABASE_URL" && one["value"] == "file:///vault/secrets/DATABASE_URL")
    );
    assert!(env.iter().all(|one| one.get("valueFrom").is_none()));
    assert!(
        template["spec"]["containers"][0]["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|m| m["name"] != "vault-token")
    );
}

#[test]
fn the_agent_is_given_the_authority_of_a_vault_that_no_system_knows() {
    let application = workload(new_id(), 1);
    let annotations = |settings: &Settings| {
        let spec = Spec {
            site: &application.site,
            settings,
        };
        let deployment = manifest::deployment(&spec, &application).unwrap();
        deployment.body["spec"]["template"]["metadata"]["annotations"].clone()
    };
    let (known, mut own) = (elaborate(), elaborate());
    let Secrets::Vault(vault) = &mut own.secrets else {
        panic!()
    };
    vault.ca = Some(b"-----BEGIN CERTIFICATE-----".to_vec());
    let spec = Spec {
        site: &application.site,
        settings: &own,
    };
    let Secrets::Vault(vault) = &own.secrets else { panic!() };
    let secret = manifest::vault_ca(&spec, vault).unwrap();
    assert_eq!(secret.kind, Kind::Secret);
    let told = annotations(&own);
    assert_eq!(told["vault.hashicorp.com/tls-secret"], secret.name.as_str());
    // The injector mounts that Secret at /vault/tls.
    let (file, _) = secret.body["data"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(told["vault.hashicorp.com/ca-cert"], format!("/vault/tls/{file}"));
    assert!(
        annotations(&known)
            .as_object()
            .unwrap()
            .keys()
            .all(|name| !name.contains("tls-secret"))
    );
}

#[test]
fn whatever_an_instance_is_told_rolls_it_and_nothing_else_does() {
    let application = workload(new_id(), 1);
    let (settings, id) = (settings(), application.application);
    let template = |workload: &Workload| {
        let spec = Spec {
            site: &workload.site,
            settings: &settings,
        };
        manifest::deployment(&spec, workload).unwrap().body["spec"]["template"].clone()
    };
    let before = template(&application);
    assert_eq!(template(&application.clone()), before);
    let changed = |change: &dyn Fn(&mut Workload)| {
        let mut other = workload(id, 1);
        change(&mut other);
        template(&other) != before
    };
    assert!(changed(&|w| w.config["session"]["token_ttl"] = "2h".into()));
    assert!(changed(
        &|w| w.database_url = authsome_core::secret::SecretUrl::parse("postgres://b:other@db/x").unwrap()
    ));
    assert!(changed(&|w| w.generation = 2));
    assert!(changed(&|w| w.site.cpu = "2".to_owned()));
    assert!(!changed(&|w| w.previous = vec!["10.0.0.1:80".parse().unwrap()]));
}

#[test]
fn the_authority_of_the_shared_postgres_is_where_its_address_says_and_another_one_rolls() {
    let mut settings = settings();
    let workload = workload(new_id(), 1);
    let hash = |settings: &Settings| {
        let all = all(settings, &workload);
        let pod = &named(&all, Kind::Deployment, "authsome")["spec"]["template"];
        pod["metadata"]["annotations"]["authsome.cloud/config-hash"].clone()
    };
    let without = hash(&settings);
    settings.database_ca = Some("-----BEGIN CERTIFICATE-----\nA\n".to_owned());
    let first = hash(&settings);
    assert!(first.is_string() && first != without);

    let made = all(&settings, &workload);
    let data = &named(&made, Kind::ConfigMap, "authsome")["data"];
    let (name, _) = data
        .as_object()
        .unwrap()
        .iter()
        .find(|(_, text)| text.as_str() == settings.database_ca.as_deref())
        .unwrap();
    let pod = &named(&made, Kind::Deployment, "authsome")["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes
        .iter()
        .find(|one| one["configMap"]["items"][0]["key"] == name.as_str())
        .unwrap();
    let file = volume["configMap"]["items"][0]["path"].as_str().unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|one| one["name"] == volume["name"]).unwrap();
    let place = format!("{}/{file}", mount["mountPath"].as_str().unwrap());
    assert_eq!(place, manifest::DATABASE_CA_PATH);

    settings.database_ca = Some("-----BEGIN CERTIFICATE-----\nB\n".to_owned());
    assert_ne!(hash(&settings), first);
    // A Postgres of an application's own is reached by its instances alone, and has no certificate.
    let mut own = super::super::dedicated::mixed();
    own.database_ca.clone_from(&settings.database_ca);
    let mut workload = workload;
    workload.site.own_database = true;
    assert!(named(&all(&own, &workload), Kind::ConfigMap, "authsome")["data"][name].is_null());
}
