//! What protects the server and its users: fair queueing, the audit log, bounds in time.

use super::*;

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
