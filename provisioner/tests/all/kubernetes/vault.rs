//! Secrets in a real OpenBao server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use authsome_contract::model::Step;
use authsome_core::error::Chain;
use authsome_core::secret::{SecretString, SecretUrl};
use authsome_provisioner::runtime::Runtime;
use authsome_provisioner::runtime::kubernetes::{Kind, Secrets, Settings, Vault};
use authsome_testkit::{port, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::life::{SOON, build, runtime};
use super::samples::{elaborate, new_id, workload};
use crate::api_double::ApiDouble;

const TOKEN: &str = "root-token-of-this-test";

/// Where `./dev test` puts the server, or the one on the path.
fn program() -> Option<PathBuf> {
    let target = std::env::current_exe().ok()?;
    let own = target
        .ancestors()
        .map(|place| place.join("vault/bin/bao"))
        .find(|path| path.is_file());
    let path = std::env::var_os("PATH")?;
    own.or_else(|| {
        std::env::split_paths(&path)
            .map(|place| place.join("bao"))
            .find(|path| path.is_file())
    })
}

/// A server in development mode: in memory, unsealed, KV version 2 at `secret`.
struct Bao {
    address: String,
    http: reqwest::Client,
    _child: tokio::process::Child,
    _home: tempfile::TempDir,
}

impl Bao {
    /// `None` where it is not installed; where everything must be, that is a failure.
    async fn start() -> Option<Self> {
        let Some(program) = program() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "bao is not installed; ./dev test installs it"
            );
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{}", port::free().unwrap());
        let child = tokio::process::Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={TOKEN}"))
            .arg(format!("-dev-listen-address={listen}"))
            .env("HOME", home.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let bao = Self {
            address: format!("http://{listen}"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            _child: child,
            _home: home,
        };
        wait_for("the server", SOON, async || {
            let health = bao.http.get(format!("{}/v1/sys/health", bao.address)).send().await;
            health.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await
        .unwrap();
        bao.write("sys/auth/kubernetes", json!({ "type": "kubernetes" })).await;
        Some(bao)
    }

    async fn write(&self, path: &str, body: Value) {
        let request = self
            .http
            .post(format!("{}/v1/{path}", self.address))
            .header("X-Vault-Token", TOKEN);
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    async fn read_as(&self, token: &str, path: &str) -> (u16, Value) {
        let request = self
            .http
            .get(format!("{}/v1/{path}", self.address))
            .header("X-Vault-Token", token);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn read(&self, path: &str) -> (u16, Value) {
        self.read_as(TOKEN, path).await
    }

    fn settings(&self) -> Settings {
        Settings {
            secrets: Secrets::Vault(Vault {
                address: self.address.clone(),
                ca: None,
                token: SecretString::from(TOKEN),
                mount: "secret".to_owned(),
                auth_mount: "kubernetes".to_owned(),
                networks: vec!["127.0.0.1/32".parse().unwrap()],
                port: 8200,
            }),
            ..super::samples::settings()
        }
    }
}

#[tokio::test]
async fn secrets_are_kept_in_vault_under_a_policy_of_their_own_and_go_with_the_application() {
    let Some(bao) = Bao::start().await else { return };
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, bao.settings());
    runtime.check().await.unwrap();
    let mut workload = workload(new_id(), 1);
    let (id, namespace) = (workload.application, workload.site.namespace.clone());
    build(&runtime, &workload).await;
    assert!(
        api.get(Kind::Secret, &namespace, "authsome").is_none(),
        "the cluster keeps none"
    );

    let path = format!("secret/data/applications/{id}");
    let (status, kept) = bao.read(&path).await;
    assert_eq!(
        (status, &kept["data"]["data"]["DATABASE_URL"]),
        (200, &workload.database_url.expose().into())
    );
    let (_, role) = bao.read(&format!("auth/kubernetes/role/{namespace}")).await;
    assert_eq!(role["data"]["bound_service_account_namespaces"], json!([namespace]));
    assert_eq!(role["data"]["token_policies"], json!([namespace]));

    // What the policy allows, and what it does not.
    let create = bao
        .http
        .post(format!("{}/v1/auth/token/create", bao.address))
        .header("X-Vault-Token", TOKEN)
        .json(&json!({ "policies": [namespace], "no_default_policy": true }))
        .send()
        .await
        .unwrap();
    let created: Value = create.json().await.unwrap();
    let token = created["auth"]["client_token"].as_str().unwrap();
    assert_eq!(bao.read_as(token, &path).await.0, 200);
    let other = super::samples::workload(new_id(), 1);
    build(&runtime, &other).await;
    assert_eq!(
        bao.read_as(token, &format!("secret/data/applications/{}", other.application))
            .await
            .0,
        403
    );
    assert_eq!(bao.read_as(token, "secret/metadata/applications").await.0, 403);

    // Written once while nothing changes; a change is another version, and rolls.
    build(&runtime, &workload).await;
    assert_eq!(bao.read(&path).await.1["data"]["metadata"]["version"], 1);
    assert!(runtime.differences(&workload).await.unwrap().is_empty());
    workload.database_url = SecretUrl::parse("postgres://app_b:rotated@db.example/authsome_app").unwrap();
    assert!(!runtime.differences(&workload).await.unwrap().is_empty());
    (workload.generation, workload.site.generation) = (2, 2);
    build(&runtime, &workload).await;
    assert_eq!(bao.read(&path).await.1["data"]["metadata"]["version"], 2);

    for _ in 0..2 {
        runtime.unsettle(Step::Namespace, &workload.site).await.unwrap();
    }
    for gone in [
        path,
        format!("secret/metadata/applications/{id}"),
        format!("auth/kubernetes/role/{namespace}"),
        format!("sys/policies/acl/{namespace}"),
    ] {
        assert_eq!(bao.read(&gone).await.0, 404, "{gone}");
    }
}

#[tokio::test]
async fn an_installation_that_goes_over_to_vault_takes_its_secrets_out_of_the_cluster_once_nobody_reads_them() {
    let Some(bao) = Bao::start().await else { return };
    let api = ApiDouble::start().await;
    let workload = workload(new_id(), 1);
    let namespace = &workload.site.namespace;
    let before = runtime(&api, super::samples::settings());
    build(&before, &workload).await;
    before.shutdown().await;
    let secret = || api.get(Kind::Secret, namespace, "authsome");
    assert!(secret().is_some());

    let after = runtime(&api, bao.settings());
    // The newer instances do not come up: the older ones may start anew at any time, and read it.
    api.trouble(|trouble| trouble.full = true);
    after.ensure(&workload).await.unwrap();
    after.ensure(&workload).await.unwrap();
    assert!(secret().is_some());
    api.trouble(|trouble| trouble.full = false);
    for pod in api.list(Kind::Pod, namespace) {
        api.delete(Kind::Pod, namespace, pod["metadata"]["name"].as_str().unwrap());
    }
    wait_for("nobody to read it", SOON, async || {
        let found = after.differences(&workload).await.unwrap();
        found
            .iter()
            .any(|one| one.contains("secrets that are in Vault"))
            .then_some(())
    })
    .await
    .unwrap();
    after.ensure(&workload).await.unwrap();
    assert!(secret().is_none());
    wait_for("everything as it should be", SOON, async || {
        after.differences(&workload).await.unwrap().is_empty().then_some(())
    })
    .await
    .unwrap();
    assert_eq!(api.unknown(), Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_removes_or_changes_in_vault_is_noticed_and_put_right() {
    let Some(bao) = Bao::start().await else { return };
    let api = ApiDouble::start().await;
    let runtime = runtime(&api, bao.settings());
    let workload = workload(new_id(), 1);
    let (id, namespace) = (workload.application, &workload.site.namespace);
    build(&runtime, &workload).await;
    let policy = format!("sys/policies/acl/{namespace}");
    let role = format!("auth/kubernetes/role/{namespace}");
    let delete = async |path: &str| {
        let request = bao.http.delete(format!("{}/v1/{path}", bao.address));
        let answer = request.header("X-Vault-Token", TOKEN).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}");
    };
    let state = async || {
        let (policy, role) = (bao.read(&policy).await.1, bao.read(&role).await.1);
        let document = bao.read(&format!("secret/data/applications/{id}")).await.1;
        let (policy, role) = (policy["data"]["policy"].clone(), role["data"].clone());
        (policy, role, document["data"]["data"].clone())
    };
    let before = state().await;
    let found_and_put_right = async |what: &str| {
        let lacking = runtime.differences(&workload).await.unwrap();
        assert!(lacking.len() == 1 && lacking[0].contains(what), "{lacking:?}");
        runtime.ensure(&workload).await.unwrap();
        assert!(runtime.differences(&workload).await.unwrap().is_empty());
        assert_eq!(state().await, before);
    };
    assert!(runtime.differences(&workload).await.unwrap().is_empty());
    bao.write(
        &policy,
        json!({ "policy": "path \"secret/*\" { capabilities = [\"read\"] }" }),
    )
    .await;
    found_and_put_right("policy").await;
    bao.write(
        &role,
        json!({ "bound_service_account_namespaces": ["*"], "token_policies": ["root"] }),
    )
    .await;
    found_and_put_right("login role").await;
    bao.write(
        &format!("secret/data/applications/{id}"),
        json!({ "data": { "DATABASE_URL": "x" } }),
    )
    .await;
    found_and_put_right("secrets").await;

    // Without anybody asking for it: nothing of the cluster changes.
    assert!(runtime.is_verified(Step::Instance, &workload.site));
    delete(&role).await;
    wait_for("the doubt", Duration::from_mins(1), async || {
        (!runtime.is_verified(Step::Instance, &workload.site)).then_some(())
    })
    .await
    .unwrap();
    found_and_put_right("login role").await;
}

#[tokio::test]
async fn a_vault_that_is_away_or_refuses_is_told_apart() {
    let api = ApiDouble::start().await;
    let mut settings = elaborate();
    let Secrets::Vault(vault) = &mut settings.secrets else {
        panic!()
    };
    vault.address = format!("http://127.0.0.1:{}", port::free().unwrap());
    let runtime_without = runtime(&api, settings);
    let error = runtime_without.check().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(!format!("{error:?}").contains("root"), "the token is in no error");

    let Some(bao) = Bao::start().await else { return };
    let mut settings = bao.settings();
    let Secrets::Vault(vault) = &mut settings.secrets else {
        panic!()
    };
    vault.token = SecretString::from("not-the-token");
    let refused = runtime(&api, settings).check().await.unwrap_err();
    assert!(!refused.is_transient(), "{refused}");
}

/// Speaks TLS in front of a server, with a certificate that nobody's system trusts. Its address, and the PEM of its authority.
async fn behind_tls(server: &str) -> (String, Vec<u8>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let server = server.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, authority.as_ref().pem().into_bytes())
}

#[tokio::test]
async fn a_vault_with_tls_is_used_where_its_authority_is_trusted_and_refused_in_words_where_it_is_not() {
    let Some(bao) = Bao::start().await else { return };
    let api = ApiDouble::start().await;
    let (address, ca) = behind_tls(&bao.address).await;
    let settings = |ca: Option<Vec<u8>>| {
        let mut settings = bao.settings();
        let Secrets::Vault(vault) = &mut settings.secrets else {
            panic!()
        };
        (vault.address, vault.ca) = (address.clone(), ca);
        settings
    };
    let error = runtime(&api, settings(None)).check().await.unwrap_err();
    assert!(!error.is_transient(), "nobody but an operator changes that: {error}");
    let said = Chain(&error).to_string();
    assert!(said.contains("its certificate is not trusted"), "{said}");

    let runtime = runtime(&api, settings(Some(ca)));
    runtime.check().await.unwrap();
    let workload = workload(new_id(), 1);
    build(&runtime, &workload).await;
    let (status, kept) = bao
        .read(&format!("secret/data/applications/{}", workload.application))
        .await;
    assert_eq!(
        (status, &kept["data"]["data"]["DATABASE_URL"]),
        (200, &workload.database_url.expose().into())
    );
}
