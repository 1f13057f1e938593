//! What protects the server and its users: fair queueing, the audit log, bounds in time.

use super::*;
use crate::loopback::{Ca, Loopback, Seen};
use rutter_storage::{Commit, KeyValue, Outcome, RangeRequest, RangeResponse, Revision, StoreError, Watch};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_which_flow_they_were_counted_to() {
    let world = world().await;
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let level = format!("{group}/prioritylevelconfigurations/exempt");
    while world.admin("GET", &level, json!(null)).await.0 != 200 {
        tokio::task::yield_now().await;
    }
    let (_, level) = world.admin("GET", &level, json!(null)).await;
    let schema = format!("{group}/flowschemas/exempt");
    let schema = loop {
        let (_, schema) = world.admin("GET", &schema, json!(null)).await;
        if schema
            .list_at("status.conditions")
            .iter()
            .any(|c| c.str_at("reason") == "Found")
        {
            break schema;
        }
        tokio::task::yield_now().await;
    };
    // What is stored is in force a moment later.
    loop {
        let response = world.send(&world.admin, "GET", MAPS, json!(null)).await;
        let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
        let found = (
            header("x-kubernetes-pf-flowschema-uid"),
            header("x-kubernetes-pf-prioritylevel-uid"),
        );
        if found == (schema.uid().to_owned(), level.uid().to_owned()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (status, text) = world
        .admin(
            "GET",
            "/debug/api_priority_and_fairness/dump_priority_levels",
            json!(null),
        )
        .await;
    assert_eq!(status, 200);
    let text = text.as_str().unwrap_or_default();
    assert!(
        text.starts_with("PriorityLevelName,") && text.contains("workload-low,"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what_and_why_they_might() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "RequestResponse", "verbs": ["create"], "resources": [{"group": "", "resources": ["configmaps"]}]},
            {"level": "Metadata", "resources": [{"group": "", "resources": ["pods"]}]},
            {"level": "None"},
        ],
    });
    std::fs::write(path("policy.yaml"), policy.to_string()).unwrap();
    let flags = [
        format!("--audit-policy-file={}", path("policy.yaml")),
        format!("--audit-log-path={}", path("audit.log")),
    ];
    let world = world_with(&flags).await;
    assert_eq!(world.admin("POST", MAPS, map("a")).await.0, 201);
    assert_eq!(world.admin("GET", MAPS, json!(null)).await.0, 200);
    let refused = world
        .send(&world.nobody, "GET", "/api/v1/pods", json!(null))
        .await;
    let id = refused
        .headers()
        .get("audit-id")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let text = std::fs::read_to_string(path("audit.log")).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [created, refused] = records.as_slice() else {
        panic!("two records: {text}")
    };
    let said = |record: &Value, path: &str| record.at(path).clone();
    for (path, want) in [
        ("stage", json!("ResponseComplete")),
        ("level", json!("RequestResponse")),
        ("verb", json!("create")),
        ("user.username", json!("admin")),
        (
            "objectRef",
            json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"}),
        ),
        ("requestObject.data.k", json!("v")),
        ("responseObject.metadata.name", json!("a")),
        ("responseStatus.code", json!(201)),
        ("sourceIPs", json!(["192.0.2.9"])),
    ] {
        assert_eq!(said(created, path), want, "{path}");
    }
    let allowed = created.at("annotations").get("authorization.k8s.io/decision");
    assert_eq!(allowed, Some(&json!("allow")));
    assert_eq!(said(refused, "auditID"), json!(id));
    assert_eq!(said(refused, "user.username"), json!("system:anonymous"));
    assert_eq!(said(refused, "responseStatus.code"), json!(403));
    assert_eq!(said(refused, "responseStatus.reason"), json!("Forbidden"));
    assert!(said(refused, "requestObject").is_null());
    let decision = refused.at("annotations").get("authorization.k8s.io/decision");
    assert_eq!(decision, Some(&json!("forbid")));
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_records_reach_a_webhook_that_is_down_at_first_and_losses_are_counted() {
    let ca = Ca::new();
    let refusals = Arc::new(AtomicUsize::new(1));
    let left = refusals.clone();
    let answer = move |_: &Seen| match left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => (503, json!({})),
        Err(_) => (200, json!({})),
    };
    let hook = Loopback::serve(&ca, &["127.0.0.1"], None, Arc::new(answer)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["pods"]}]}, {"level": "None"}],
    });
    let ca_file = file("ca.crt", ca.pem.clone());
    let config = json!({
        "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{}/log", hook.port), "certificate-authority": ca_file}}],
    });
    let world = world_with(&[
        format!("--audit-policy-file={}", file("policy.yaml", policy.to_string())),
        format!(
            "--audit-webhook-config-file={}",
            file("hook.yaml", config.to_string())
        ),
        "--audit-webhook-initial-backoff=10ms".to_owned(),
        "--audit-webhook-mode=blocking-strict".to_owned(),
    ])
    .await;
    let (status, _) = world.admin("GET", "/api/v1/pods", json!(null)).await;
    assert_eq!(status, 200);
    let stages: Vec<String> = hook
        .seen
        .lock()
        .iter()
        .map(|seen| {
            assert_eq!(
                (seen.path.as_str(), seen.body.str_at("kind")),
                ("/log", "EventList")
            );
            let record = &seen.body.list_at("items")[0];
            assert_eq!(record.str_at("objectRef.resource"), "pods");
            record.str_at("stage").to_owned()
        })
        .collect();
    assert_eq!(
        stages,
        ["RequestReceived", "RequestReceived", "ResponseComplete"],
        "sent again"
    );
    refusals.store(usize::MAX, SeqCst);
    let (status, why) = world.admin("GET", "/api/v1/pods", json!(null)).await;
    assert_eq!(
        (status, why.str_at("message")),
        (500, "Internal error occurred: failed to process audit event")
    );
    let text = world.server.metrics.text();
    for line in [
        "apiserver_audit_requests_rejected_total 1",
        "apiserver_audit_level_total{level=\"Metadata\"} 2",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert!(
        text.contains("apiserver_audit_error_total{plugin=\"webhook\"}"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_bound_its_own_time() {
    let world = world().await;
    let (status, value) = world
        .admin("GET", &format!("{MAPS}?timeout=x"), json!(null))
        .await;
    assert_eq!(status, 400, "{value}");
    assert!(
        value
            .str_at("message")
            .starts_with("invalid timeout specified in the request URL")
    );
    assert_eq!(
        world
            .admin("GET", &format!("{MAPS}?timeout=30s"), json!(null))
            .await
            .0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shuts_down_says_so_step_by_step() {
    let world = world().await;
    let get = async |path: &str| world.admin("GET", path, json!(null)).await.0;
    assert_eq!((get("/readyz").await, get("/livez").await), (200, 200));
    let watch = format!("{MAPS}?watch=1&resourceVersion=0");
    let watching = world.send(&world.admin, "GET", &watch, json!(null)).await;
    world.server.health.drain();
    assert_eq!(
        (
            get("/readyz").await,
            get("/readyz/shutdown").await,
            get("/livez").await
        ),
        (500, 500, 200)
    );
    assert_eq!(get("/readyz?exclude=shutdown").await, 200);
    assert_eq!(get(MAPS).await, 200, "it goes on serving");
    world.server.health.refuse();
    let refused = world.send(&world.admin, "GET", MAPS, json!(null)).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(get("/livez").await, 200);
    world.server.health.served().await;
    world.server.health.stop();
    watching.into_body().collect().await.unwrap();
}

/// A store that may die.
struct Mortal(MemoryEngine, AtomicUsize);

#[async_trait::async_trait]
impl Engine for Mortal {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.0.get(key).await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.0.range(request).await
    }

    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.0.commit(commit).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.0.watch(prefix, from).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        match self.1.load(SeqCst) {
            0 => self.0.revision().await,
            _ => Err(StoreError::Unavailable("it is dead".to_owned())),
        }
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.0.compact(at).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_sees_a_dead_store() {
    let store = Arc::new(Mortal(MemoryEngine::new(), AtomicUsize::new(0)));
    let world = world_over(store.clone(), &[]).await;
    let text = async |path: &str| {
        let response = world.send(&world.admin, "GET", path, json!(null)).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, verbose) = text("/livez?verbose").await;
    assert_eq!(status, 200);
    assert!(
        verbose.contains("[+]etcd ok\n") && verbose.ends_with("livez check passed\n"),
        "{verbose}"
    );
    store.1.store(1, SeqCst);
    while text("/livez").await.0 == 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for kind in ["livez", "readyz", "healthz"] {
        let (status, said) = text(&format!("/{kind}")).await;
        assert_eq!(status, 500);
        assert!(said.contains("[-]etcd failed: reason withheld\n"), "{said}");
        assert!(said.ends_with(&format!("{kind} check failed\n")), "{said}");
    }
    assert!(text("/livez/etcd").await.1.contains("it is dead"));
    assert_eq!(text("/livez/ping").await, (200, "ok".to_owned()));
    let (status, said) = text("/livez?exclude=etcd&exclude=nothing&verbose").await;
    assert_eq!(status, 200);
    assert!(said.contains("[+]etcd excluded: ok\n"), "{said}");
    assert!(said.contains("no matches for \"nothing\""), "{said}");
}
