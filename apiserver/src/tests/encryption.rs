//! Encryption at rest as clients see it, and as the store has it.

use super::{World, world_over};
use crate::metrics::Metrics;
use rutter_encryption::Encryption;
use rutter_encryption::rules::Resource;
use rutter_storage::Engine;
use rutter_storage::engine::{MemoryEngine, TransformingEngine};
use serde_json::json;
use std::sync::Arc;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEY: &str = "/registry/secrets/default/a";

/// A server over `store` that encrypts secrets with these providers.
async fn encrypting(store: &Arc<MemoryEngine>, providers: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("encryption.yml");
    let config = format!(
        "{{kind: EncryptionConfiguration, apiVersion: apiserver.config.k8s.io/v1, resources: [{{resources: [secrets], providers: [{providers}]}}]}}"
    );
    std::fs::write(&file, config).unwrap();
    let folders = [("/registry/secrets".to_owned(), Resource::new("secrets", ""))].into();
    let metrics = rutter_encryption::metrics::Metrics::register(&Metrics::new().unwrap().registry);
    let encryption = Encryption::load(&file, folders, metrics.unwrap(), "server").await;
    let engine = TransformingEngine::new(store.clone(), Arc::new(encryption.unwrap()));
    world_over(Arc::new(engine), &[]).await
}

fn secretbox(name: &str, letter: &str) -> String {
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::STANDARD.encode(letter.repeat(32));
    format!("{{secretbox: {{keys: [{{name: {name}, secret: {secret}}}]}}}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_stored_encrypted_rotated_by_updates_and_missing_keys_are_told() {
    let store = Arc::new(MemoryEngine::new());
    let stored = async || store.get(KEY).await.unwrap().unwrap().value;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"k": "hidden"}});
    let plain = encrypting(&store, "{identity: {}}").await;
    let (code, _) = plain.admin("POST", SECRETS, secret).await;
    assert_eq!(code, 201);
    assert!(stored().await.starts_with(b"{"));
    drop(plain);

    let one = encrypting(&store, &format!("{}, {{identity: {{}}}}", secretbox("one", "a"))).await;
    let path = format!("{SECRETS}/a");
    let (code, read) = one.admin("GET", &path, json!(null)).await;
    assert_eq!((code, read["data"]["k"].as_str()), (200, Some("aGlkZGVu")));
    // An update that changes nothing writes all the same, for the value isn't stored as it would be now.
    let (code, _) = one.admin("PUT", &path, read.clone()).await;
    assert_eq!(code, 200);
    assert!(stored().await.starts_with(b"k8s:enc:secretbox:v1:one:"));
    let before = stored().await;
    let (_, read) = one.admin("GET", &path, json!(null)).await;
    one.admin("PUT", &path, read).await;
    assert_eq!(stored().await, before, "now it is");
    drop(one);

    let lost = encrypting(&store, &secretbox("two", "b")).await;
    let why = "Internal error occurred: unable to transform key \"/registry/secrets/default/a\": no matching key was found for the provided Secretbox transformer";
    for (method, path) in [("GET", path.as_str()), ("GET", SECRETS), ("DELETE", &path)] {
        let (code, status) = lost.admin(method, path, json!(null)).await;
        assert_eq!(
            (code, status["message"].as_str()),
            (500, Some(why)),
            "{method} {path}"
        );
        assert_eq!(status["reason"], "InternalError");
    }
    let (code, _) = lost
        .admin("GET", "/api/v1/namespaces/kube-system/secrets", json!(null))
        .await;
    assert_eq!(code, 200, "others are served");
    let (code, _) = lost.admin("GET", "/api/v1/configmaps", json!(null)).await;
    assert_eq!(code, 200);
}
