//! TLS and the logins of NATS, with real brokers.

use std::{fs, path::Path, process::Command};

use kakehi_fleet::{Fleet, FleetError, Signer};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Broker, Worker, servers};

/// A folder with `ca.pem`, `broker.pem` and `broker.key`, for 127.0.0.1. `None`: no openssl.
fn certificates() -> Option<TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output =
            Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output();
        let output = output.ok()?;
        assert!(output.status.success(), "{arguments}: {output:?}");
        Some(())
    };
    fs::write(folder.path().join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let made = openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"))
        .and_then(|()| {
            openssl(&format!("req {key} -keyout broker.key -out broker.csr -subj /CN=b"))
        })
        .and_then(|()| {
            let ca = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
            openssl(&format!("x509 -req -in broker.csr -out broker.pem {ca}"))
        });
    if made.is_none() {
        assert!(std::env::var_os("KAKEHI_REQUIRE_TOOLS").is_none(), "no openssl");
        eprintln!("\n*** SKIPPED: no openssl ***\n");
    }
    made.map(|()| folder)
}

async fn broker(server: &std::path::PathBuf, folder: &Path, authorization: &str) -> Broker {
    let file = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}\n{authorization}\n",
        file("broker.pem"),
        file("broker.key")
    );
    let config = folder.join("nats.conf");
    fs::write(&config, text).unwrap();
    Broker::with_config(server, Some(config)).await
}

/// Calls a node; both connect by `make`.
async fn call(make: &dyn Fn() -> kakehi_fleet::Broker) -> Result<String, FleetError> {
    let fleet = Fleet::connect(make()).await?;
    let keys = kakehi_fleet::Keys::default().unsigned(true);
    let node = kakehi_fleet::Node::connect(make(), "web-1").keys(keys);
    let node = tokio::spawn(node.serve(Worker::default()));
    while fleet.nodes(std::time::Duration::from_millis(100)).await?.is_empty() {}
    let response = fleet.node("web-1").unwrap().request("hello").await.unwrap();
    node.abort();
    Ok(response.message)
}

#[tokio::test]
async fn a_broker_with_tls_needs_its_certificate_authority() {
    let Some(folder) = certificates() else { return };
    for server in servers() {
        let broker = broker(&server, folder.path(), "").await;
        let url = broker.url().replace("nats://", "tls://");
        let trusting = || {
            kakehi_fleet::Broker::new(url.clone()).root_certificates(folder.path().join("ca.pem"))
        };
        assert_eq!(call(&trusting).await.unwrap(), "hello");
        let untrusting = || kakehi_fleet::Broker::new(url.clone());
        let error = call(&untrusting).await.unwrap_err().to_string();
        assert!(error.contains("UnknownIssuer"), "{error}");
        let absent = || kakehi_fleet::Broker::new(url.clone()).root_certificates("/absent.pem");
        let error = call(&absent).await.unwrap_err().to_string();
        assert!(error.contains("certificates /absent.pem: No such file"), "{error}");
    }
}

#[tokio::test]
async fn an_nkey_logs_in_and_another_one_does_not() {
    let Some(folder) = certificates() else { return };
    for server in servers() {
        let (anna, eve) = (Signer::generate(), Signer::generate());
        let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}", anna.public_key());
        let broker = broker(&server, folder.path(), &users).await;
        let url = broker.url().replace("nats://", "tls://");
        let login = |signer: &Signer, name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("{}\n", signer.seed().unwrap())).unwrap();
            let broker = kakehi_fleet::Broker::new(url.clone());
            broker.root_certificates(folder.path().join("ca.pem")).nkey(path)
        };
        assert_eq!(call(&|| login(&anna, "anna")).await.unwrap(), "hello");
        let error = Fleet::connect(login(&eve, "eve")).await.unwrap_err().to_string();
        assert!(error.contains("authorization violation"), "{error}");
        let absent = kakehi_fleet::Broker::new(url.clone()).nkey("/absent.nkey");
        let error = Fleet::connect(absent).await.unwrap_err().to_string();
        assert!(error.contains("nkey /absent.nkey: No such file"), "{error}");
    }
}

/// A JWT of NATS, made by hand: the claims of `subject`, signed by `issuer`.
fn jwt(issuer: &nkeys::KeyPair, subject: &str, nats: &Value) -> String {
    use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
    use sha2::{Digest, Sha256};
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = |id: &str| {
        serde_json::json!({
            "jti": id, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": subject,
            "sub": subject, "nats": nats,
        })
    };
    let id = BASE32_NOPAD.encode(&Sha256::digest(claims("").to_string()));
    let claims = claims(&id);
    let head = serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let text = format!("{}.{}", encode(&head), encode(&claims));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(text.as_bytes()).unwrap());
    format!("{text}.{signature}")
}

#[tokio::test]
async fn a_credentials_file_logs_in() {
    let Some(folder) = certificates() else { return };
    let (operator, account) = (nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account());
    let user = nkeys::KeyPair::new_user();
    let (o, a) = (operator.public_key(), account.public_key());
    let kind = |kind: &str| serde_json::json!({ "type": kind, "version": 2 });
    let limits = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1,
        "exports": -1, "wildcards": true,
    });
    let mut account_claims = kind("account");
    account_claims["limits"] = limits;
    let mut user_claims = kind("user");
    for name in ["subs", "data", "payload"] {
        user_claims[name] = (-1).into();
    }
    let operator_jwt = jwt(&operator, &o, &kind("operator"));
    let account_jwt = jwt(&operator, &a, &account_claims);
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        jwt(&account, &user.public_key(), &user_claims),
        user.seed().unwrap(),
    );
    let path = folder.path().join("node.creds");
    fs::write(&path, creds).unwrap();
    for server in servers() {
        let resolver = format!(
            "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {a}: {account_jwt} }}"
        );
        let broker = broker(&server, folder.path(), &resolver).await;
        let url = broker.url().replace("nats://", "tls://");
        let ca = folder.path().join("ca.pem");
        let with = |path: &Path| {
            let broker = kakehi_fleet::Broker::new(url.clone()).root_certificates(&ca);
            broker.credentials(path)
        };
        assert_eq!(call(&|| with(&path)).await.unwrap(), "hello");
        let without = kakehi_fleet::Broker::new(url.clone()).root_certificates(&ca);
        let error = Fleet::connect(without).await.unwrap_err().to_string();
        assert!(error.contains("authorization violation"), "{error}");
    }
}
