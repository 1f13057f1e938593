//! What a namespace allows: how privileged its pods may be, and how much they may use together.

use super::{MAPS, MERGE, World, map, read, world, world_over, world_with};
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use rutter_storage::engine::{EmbeddedEngine, EmbeddedOptions};
use serde_json::json;
use std::sync::Arc;

/// Makes a namespace with labels, and waits until admission sees it.
async fn namespace(world: &World, name: &str, labels: Value) {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let (status, answer) = world.admin("POST", "/api/v1/namespaces", namespace).await;
    assert_eq!(status, 201, "{answer}");
    world.server.cache.consistent().await.unwrap();
}

fn pod(name: &str, security: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
        {"name": "a", "image": "a", "securityContext": security}]}})
}

fn hardened() -> Value {
    json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_says_how_privileged_its_pods_may_be() {
    let world = world().await;
    namespace(&world, "open", json!({})).await;
    for level in ["baseline", "restricted"] {
        namespace(
            &world,
            level,
            json!({"pod-security.kubernetes.io/enforce": level}),
        )
        .await;
    }
    for (namespace, name, security, status) in [
        ("open", "privileged", json!({"privileged": true}), 201),
        ("baseline", "plain", json!({}), 201),
        ("baseline", "privileged", json!({"privileged": true}), 403),
        ("restricted", "plain", json!({}), 403),
        ("restricted", "hardened", hardened(), 201),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (got, answer) = world.admin("POST", &path, pod(name, security)).await;
        assert_eq!(got, status, "{name} in {namespace}: {answer}");
        if got == 403 {
            let why = answer.str_at("message");
            let said = format!("pods {name:?} is forbidden: violates PodSecurity \"{namespace}:latest\": ");
            assert!(why.starts_with(&said), "{why}");
        }
    }
    let refused = world
        .admin(
            "POST",
            "/api/v1/namespaces/restricted/pods",
            pod("plain", json!({})),
        )
        .await
        .1;
    for part in [
        "allowPrivilegeEscalation != false",
        "unrestricted capabilities",
        "runAsNonRoot != true",
        "seccompProfile",
    ] {
        assert!(refused.str_at("message").contains(part), "{part}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_is_raised_names_the_pods_that_it_would_refuse_and_one_that_is_unknown_is_refused() {
    let world = world().await;
    namespace(&world, "open", json!({})).await;
    let made = world
        .admin(
            "POST",
            "/api/v1/namespaces/open/pods",
            pod("loud", json!({"privileged": true})),
        )
        .await;
    assert_eq!(made.0, 201, "{}", made.1);
    world.server.cache.consistent().await.unwrap();
    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let raised = world
        .send(&world.admin, MERGE, "/api/v1/namespaces/open", label("baseline"))
        .await;
    let warnings: Vec<&str> = raised
        .headers()
        .get_all("warning")
        .iter()
        .map(|text| text.to_str().unwrap())
        .collect();
    assert_eq!(raised.status(), 200);
    assert!(
        warnings.iter().any(|text| text.contains("loud: privileged")),
        "{warnings:?}"
    );
    let (status, refused) = world
        .admin(MERGE, "/api/v1/namespaces/open", label("strict"))
        .await;
    assert_eq!(status, 422, "{refused}");
    assert!(
        refused
            .str_at("message")
            .contains("must be one of privileged, baseline, restricted"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_creators_at_once_get_exactly_what_the_quota_has() {
    // A store that takes its time, so that creators do meet.
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedEngine::open(&folder.path().join("store"), EmbeddedOptions::default()).unwrap();
    let world = Arc::new(world_over(Arc::new(store), &[]).await);
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let hard = json!({"count/configmaps": "30"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}});
    assert_eq!(world.admin("POST", quotas, quota.clone()).await.0, 201);
    world.server.cache.consistent().await.unwrap();
    let (status, early) = world.admin("POST", MAPS, map("early")).await;
    assert_eq!(status, 403, "{early}");
    assert!(
        early.str_at("message").contains("status unknown for quota: few"),
        "{early}"
    );
    // What the quota's controller does.
    let counted = json!({"status": {"hard": hard, "used": {"count/configmaps": "0"}}});
    assert_eq!(
        world
            .admin(MERGE, &format!("{quotas}/few/status"), counted)
            .await
            .0,
        200
    );
    world.server.cache.consistent().await.unwrap();
    let creators = (0..50).map(|n| {
        let world = world.clone();
        tokio::spawn(async move { world.admin("POST", MAPS, map(&format!("m{n}"))).await })
    });
    let mut made = 0;
    for creator in creators.collect::<Vec<_>>() {
        match creator.await.unwrap() {
            (201, _) => made += 1,
            (status, refused) => {
                assert_eq!(status, 403, "{refused}");
                let want = "exceeded quota: few, requested: count/configmaps=1, used: count/configmaps=30, limited: count/configmaps=30";
                assert!(refused.str_at("message").ends_with(want), "{refused}");
            }
        }
    }
    assert_eq!(made, 30);
    let (_, quota) = world.admin("GET", &format!("{quotas}/few"), json!(null)).await;
    assert_eq!(quota.at("status.used"), &json!({"count/configmaps": "30"}));
    let (_, list) = world.admin("GET", MAPS, json!(null)).await;
    assert_eq!(list.list_at("items").len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_take_turns_where_their_memory_is_bounded_and_leave_nothing_held() {
    let flags = ["--max-requests-memory-mb=8", "--request-timeout=2s"];
    let world = world_with(&flags.map(str::to_owned)).await;
    let large = |n: usize| {
        let mut large = map(&format!("large-{n}"));
        large.set("data", json!({"k": "x".repeat(900 << 10)}));
        large
    };
    let all = (0..20).map(|n| world.admin("POST", MAPS, large(n)));
    for (status, answer) in futures::future::join_all(all).await {
        assert!([201, 429].contains(&status), "{answer}");
    }
    let (status, made) = world.admin("POST", MAPS, large(20)).await;
    assert_eq!(status, 201, "{made}");

    // An answer that nobody takes holds what another one needs; a small request needs none of it.
    let list = |path: &'static str| world.send(&world.admin, "GET", path, json!(null));
    let wide = "/api/v1/configmaps?pretty=true";
    let held = list(wide).await;
    assert_eq!(held.status(), 200);
    let (status, refused) = read(list(wide).await).await;
    assert_eq!(
        (status, refused.str_at("reason")),
        (429, "TooManyRequests"),
        "{refused}"
    );
    assert_eq!(world.admin("POST", MAPS, map("small")).await.0, 201);
    let (status, whole) = read(held).await;
    assert_eq!(status, 200);
    let large = |item: &&Value| item.name().starts_with("large-");
    assert!(whole.list_at("items").iter().filter(large).count() > 0);
    assert_eq!(read(list(wide).await).await.0, 200);
    let held =
        |line: &str| line.starts_with("rutter_apiserver_requests_memory_bytes") && !line.ends_with(" 0");
    let left: Vec<String> = world
        .server
        .metrics
        .text()
        .lines()
        .filter(|line| held(line))
        .map(str::to_owned)
        .collect();
    assert_eq!(left, Vec::<String>::new());
}
