//! The pods that run the image: hardened, probed, told where they are.

use serde_json::{Map, Value, json};

use super::super::settings::{Secrets, Vault};
use super::config::{CONFIG_FILE, DATABASE_CA_DIRECTORY, DATABASE_CA_FILE, VAULT_CA, VAULT_CA_PATH, database_ca};
use super::{CONFIG_HASH, Component, Environment, GENERATION, Limits, NAME, Spec, Unusable, hash, selector};
use crate::runtime::Workload;

/// A pod that was told to stop goes on serving for this long, since the edge asks for addresses only now and then.
const LINGER_SECONDS: u32 = 10;
/// Linger, the instance's own 30 s, and a little.
const GRACE_SECONDS: u32 = 45;
/// Where the Agent puts secrets.
const VAULT_DIRECTORY: &str = "/vault/secrets";
const DATABASE_CA: &str = "database-ca";
const INJECTOR: &str = "vault.hashicorp.com/";
const INJECT: &str = "agent-inject";
const VAULT_TOKEN: &str = "vault-token";

/// The pod template of a component that runs the image.
pub(super) fn template(spec: &Spec<'_>, workload: &Workload, component: Component) -> Result<Value, Unusable> {
    let image = &spec.settings.image;
    let environment = Environment::of(workload);
    let mut told = json!({ "config": workload.config, "secrets": environment.hash() });
    let mut volumes = vec![
        json!({ "name": "config", "configMap": { "name": NAME } }),
        json!({ "name": "tmp", "emptyDir": { "sizeLimit": "64Mi" } }),
    ];
    let mut mounts = vec![
        json!({ "name": "config", "mountPath": image.config_path, "subPath": CONFIG_FILE, "readOnly": true }),
        json!({ "name": "tmp", "mountPath": "/tmp" }),
    ];
    if let Some(authority) = database_ca(spec) {
        // Who reads it when it starts does not see the file change: another authority rolls.
        told["database_ca"] = authority.into();
        mounts.push(json!({ "name": DATABASE_CA, "mountPath": DATABASE_CA_DIRECTORY, "readOnly": true }));
        let items = json!([{ "key": DATABASE_CA_FILE, "path": DATABASE_CA_FILE }]);
        volumes.push(json!({ "name": DATABASE_CA, "configMap": { "name": NAME, "items": items } }));
    }
    let told = hash(&told);
    let mut annotations = Map::new();
    annotations.insert(CONFIG_HASH.to_owned(), told.into());
    annotations.insert(GENERATION.to_owned(), workload.generation.to_string().into());
    let mut env = told_openly(spec, workload);
    match &spec.settings.secrets {
        Secrets::Kubernetes => env.extend(
            environment
                .names()
                .map(|name| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": NAME, "key": name } } })),
        ),
        Secrets::Vault(vault) => {
            annotations.extend(injected(spec, vault, &environment));
            let value = |name: &str| format!("file://{VAULT_DIRECTORY}/{name}");
            env.extend(
                environment
                    .names()
                    .map(|name| json!({ "name": name, "value": value(name) })),
            );
            // The account's own token is nowhere; this one is for Vault alone, and for the Agent alone.
            volumes.push(json!({ "name": VAULT_TOKEN, "projected": { "sources": [
                { "serviceAccountToken": { "path": "token", "audience": "vault", "expirationSeconds": 3600 } },
            ]}}));
        }
    }
    let mut container = json!({
        "name": NAME,
        "image": spec.image()?,
        "imagePullPolicy": image.pull_policy,
        "env": env,
        "resources": resources(&Limits::of(spec.site)?),
        "securityContext": container_security(),
        "volumeMounts": mounts,
    });
    match component {
        Component::Migration => container["command"] = image.migrate_command.clone().into(),
        _ if !image.command.is_empty() => container["command"] = image.command.clone().into(),
        _ => {}
    }
    let mut pod = json!({
        "serviceAccountName": NAME,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": pod_security(image.user),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [],
        "volumes": volumes,
    });
    if component == Component::Instance {
        container["ports"] = json!([{ "name": "http", "containerPort": image.port, "protocol": "TCP" }]);
        container["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": LINGER_SECONDS } } });
        probes(&mut container, &format!("{}{}", workload.base_path, image.health_path));
        pod["topologySpreadConstraints"] = ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
            .map(|key| {
                json!({
                    "maxSkew": 1,
                    "topologyKey": key,
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": { "matchLabels": selector(Component::Instance) },
                })
            })
            .to_vec()
            .into();
    } else {
        pod["restartPolicy"] = "Never".into();
    }
    pod["containers"] = json!([container]);
    let metadata = json!({ "labels": spec.component_labels(component), "annotations": annotations });
    Ok(json!({ "metadata": metadata, "spec": pod }))
}

/// What an instance is told that everybody may know. The same names as every runtime uses.
fn told_openly(spec: &Spec<'_>, workload: &Workload) -> Vec<Value> {
    [
        ("HOST", "0.0.0.0".to_owned()),
        ("PORT", spec.settings.image.port.to_string()),
        ("APP_ID", workload.application.to_string()),
        ("BASE_PATH", workload.base_path.clone()),
        ("PUBLIC_BASE_URL", workload.public_base_url.clone()),
        ("REDIS_KEY_PREFIX", workload.redis_prefix.clone()),
        ("AUTHSOME_CONFIG", spec.settings.image.config_path.clone()),
    ]
    .map(|(name, value)| json!({ "name": name, "value": value }))
    .to_vec()
}

/// Does a pod get its secrets from Vault?
pub(in crate::runtime::kubernetes) fn is_injected(pod: &Value) -> bool {
    pod["metadata"]["annotations"][format!("{INJECTOR}{INJECT}")] == "true"
}

/// The Agent injector's annotations: one file for each secret, written before the instance starts.
/// (<https://developer.hashicorp.com/vault/docs/platform/k8s/injector/annotations>)
fn injected(spec: &Spec<'_>, vault: &Vault, environment: &Environment) -> Map<String, Value> {
    let path = format!("{}/data/applications/{}", vault.mount, spec.site.application);
    let mut annotations: Map<String, Value> = [
        (INJECT, "true".to_owned()),
        ("agent-pre-populate-only", "true".to_owned()),
        ("agent-service-account-token-volume-name", VAULT_TOKEN.to_owned()),
        ("agent-run-as-user", spec.settings.image.user.to_string()),
        ("agent-run-as-group", spec.settings.image.user.to_string()),
        ("agent-set-security-context", "true".to_owned()),
        ("auth-path", format!("auth/{}", vault.auth_mount)),
        ("role", spec.site.namespace.clone()),
        ("service", vault.address.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (format!("{INJECTOR}{name}"), value.into()))
    .collect();
    if vault.ca.is_some() {
        for (name, value) in [("tls-secret", VAULT_CA), ("ca-cert", VAULT_CA_PATH)] {
            annotations.insert(format!("{INJECTOR}{name}"), value.into());
        }
    }
    for (number, name) in environment.names().enumerate() {
        let template =
            format!("{{{{- with secret \"{path}\" -}}}}{{{{- index .Data.data \"{name}\" -}}}}{{{{- end -}}}}");
        // Numbered: the name of an annotation is shorter than a secret's may be.
        annotations.insert(
            format!("vault.hashicorp.com/agent-inject-secret-{number}"),
            path.clone().into(),
        );
        annotations.insert(
            format!("vault.hashicorp.com/agent-inject-template-{number}"),
            template.into(),
        );
        annotations.insert(format!("vault.hashicorp.com/agent-inject-file-{number}"), name.into());
    }
    annotations
}

pub(super) fn resources(limits: &Limits) -> Value {
    json!({
        "limits": { "cpu": limits.cpu.to_string(), "memory": limits.memory.to_string() },
        "requests": { "cpu": limits.cpu.half().to_string(), "memory": limits.memory.half().to_string() },
    })
}

/// What Pod Security `restricted` asks of a pod, and an owner for its volumes.
pub(super) fn pod_security(user: u32) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// What Pod Security `restricted` asks of a container, and a root file system that nobody can write to.
pub(super) fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "capabilities": { "drop": ["ALL"] },
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// Started within two minutes; out of service after half a minute of failures; restarted only after two minutes of them,
/// since the health check needs the database and a restart brings none back.
fn probes(container: &mut Value, path: &str) {
    let probe = |period: u32, failures: u32, timeout: u32| {
        json!({
            "httpGet": { "path": path, "port": "http" },
            "periodSeconds": period,
            "failureThreshold": failures,
            "timeoutSeconds": timeout,
        })
    };
    container["startupProbe"] = probe(2, 60, 2);
    container["readinessProbe"] = probe(5, 6, 3);
    container["livenessProbe"] = probe(10, 12, 5);
}
