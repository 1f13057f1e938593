//! Webhooks asked over a real connection: a server on the loopback that answers by path.

use super::*;
use crate::chain::Chain;
use crate::testing::{Objects, Unserved, pods, with};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rutter_api::UserInfo;
use rutter_api::object::ObjectExt;
use std::convert::Infallible;
use tokio::net::TcpListener;

type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// What each webhook answers, without the uid.
fn response(path: &str, request: &Value) -> Value {
    let patch = |operations: Value| json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())});
    let label = |name: &str| json!([{"op": "add", "path": format!("/metadata/labels/{name}"), "value": "1"}]);
    match path {
        "/deny" => {
            json!({"allowed": false, "status": {"message": "not here", "code": 403, "reason": "Forbidden"}})
        }
        "/label-a" => patch(label("a")),
        "/label-b" if request["object"]["metadata"]["labels"].get("a").is_some() => patch(label("b")),
        "/unknown-field" => patch(json!([{"op": "add", "path": "/spec/nonsense", "value": 1}])),
        "/warn" => json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"k": "v"}}),
        _ => json!({"allowed": true}),
    }
}

/// A server of webhooks; its address, and what it is asked.
async fn serve() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let log = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let log = log.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        if path == "/silent" {
                            std::future::pending::<()>().await;
                        }
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let review: Value = serde_json::from_slice(&body).unwrap();
                        let mut answer = response(&path, &review["request"]);
                        answer.set("uid", review["request"]["uid"].clone());
                        log.lock().push((path, review["request"].clone()));
                        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": answer});
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(review.to_string()))))
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, seen)
}

fn webhook(url: &str, more: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{}.x.io", url.rsplit('/').next().unwrap_or_default()),
        "clientConfig": {"url": url}, "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 5,
        "failurePolicy": "Fail", "matchPolicy": "Equivalent",
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        webhook.set(key, value.clone());
    }
    webhook
}

/// What came of a write: the object, warnings, annotations.
type Outcome = Result<(Value, Vec<String>, Vec<(String, String)>), StatusError>;

/// Sends the creation of a pod through both phases of both plugins.
async fn create(objects: &Objects, dry_run: bool) -> Outcome {
    let with = with(objects);
    let mut chain = Chain::new(&[], &crate::chain::names(), &with).unwrap();
    let (reader, live) = (with.reader.clone(), with.live.clone());
    let (outbound, metrics) = (with.mutating_webhooks.clone(), with.webhook_metrics.clone());
    chain.insert(Arc::new(MutatingAdmissionWebhook::new(
        reader.clone(),
        live.clone(),
        with.authorizer.clone(),
        outbound.clone(),
        metrics.clone(),
    )));
    chain.insert(Arc::new(ValidatingAdmissionWebhook::new(
        reader,
        live,
        with.authorizer,
        outbound,
        metrics,
    )));
    let resource = Resource {
        schema: "io.k8s.api.core.v1.Pod".into(),
        ..pods()
    };
    let user = UserInfo {
        name: "jane".to_owned(),
        ..UserInfo::default()
    };
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"});
    let mut write = Attributes {
        operation: Operation::Create,
        resource: &resource,
        subresource: "",
        namespace: "n",
        name: "p",
        user: &user,
        dry_run,
        object: json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "labels": {}}, "spec": {"containers": []}}),
        old: &Value::Null,
        options: &options,
        warnings: Vec::new(),
        annotations: Vec::new(),
        versions: Unserved::get(),
        reinvocation: Default::default(),
    };
    chain.mutate(&mut write).await?;
    chain.validate(&mut write).await?;
    Ok((write.object, write.warnings, write.annotations))
}

fn configured(mutating: Vec<Value>, validating: Vec<Value>) -> Objects {
    let objects = Objects::default();
    objects.put(
        "namespaces",
        json!({"metadata": {"name": "n", "labels": {"team": "a"}}}),
    );
    for (plural, webhooks) in [
        ("mutatingwebhookconfigurations", mutating),
        ("validatingwebhookconfigurations", validating),
    ] {
        objects.put(
            plural,
            json!({"metadata": {"name": "hooks"}, "webhooks": webhooks}),
        );
    }
    objects
}

#[tokio::test]
async fn mutating_webhooks_see_what_those_before_made_and_are_asked_again_where_they_want() {
    let (url, seen) = serve().await;
    let of = |path: &str, more: Value| webhook(&format!("{url}{path}"), more);
    let mutating = vec![
        of("/label-b", json!({"reinvocationPolicy": "IfNeeded"})),
        of("/label-a", json!({})),
        of("/unknown-field", json!({})),
    ];
    let (object, _, annotations) = create(&configured(mutating, vec![]), false).await.unwrap();
    assert_eq!(object["metadata"]["labels"], json!({"a": "1", "b": "1"}));
    assert!(
        object["spec"].get("nonsense").is_none(),
        "what the schema doesn't know goes"
    );
    let paths: Vec<String> = seen.lock().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/label-b", "/label-a", "/unknown-field", "/label-b"]);
    let key = "mutation.webhook.admission.k8s.io/round_1_index_0";
    let note = annotations
        .iter()
        .find(|(found, _)| found == key)
        .map(|(_, value)| value.as_str());
    assert_eq!(
        note,
        Some(r#"{"configuration":"hooks","mutated":true,"webhook":"label-b.x.io"}"#)
    );
    let request = seen.lock()[1].1.clone();
    assert_eq!(request["userInfo"]["username"], "jane");
    assert_eq!(
        request["resource"],
        json!({"group": "", "version": "v1", "resource": "pods"})
    );
    assert_eq!(
        request["requestKind"],
        json!({"group": "", "version": "v1", "kind": "Pod"})
    );
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    assert!(request["oldObject"].is_null() && request["dryRun"] == json!(false));
}

#[tokio::test]
async fn refusals_and_failures_name_the_webhook() {
    let (url, _) = serve().await;
    let of = |path: &str, more: Value| webhook(&format!("{url}{path}"), more);
    let denied = create(
        &configured(vec![], vec![of("/warn", json!({})), of("/deny", json!({}))]),
        false,
    )
    .await;
    let denied = denied.unwrap_err();
    assert_eq!(
        denied.message,
        "admission webhook \"deny.x.io\" denied the request: not here"
    );
    assert_eq!(denied.code, 403);
    let silent = |policy: &str| {
        vec![of(
            "/silent",
            json!({"timeoutSeconds": 1, "failurePolicy": policy}),
        )]
    };
    let failed = create(&configured(vec![], silent("Fail")), false)
        .await
        .unwrap_err();
    assert_eq!(
        failed.message,
        format!(
            "Internal error occurred: failed calling webhook \"silent.x.io\": failed to call webhook: Post \"{url}/silent?timeout=1s\": context deadline exceeded (configured by ValidatingWebhookConfiguration \"hooks\")"
        )
    );
    let (_, _, annotations) = create(&configured(vec![], silent("Ignore")), false)
        .await
        .unwrap();
    assert_eq!(annotations[0].1, "silent.x.io");
    let (_, warnings, annotations) = create(&configured(vec![], vec![of("/warn", json!({}))]), false)
        .await
        .unwrap();
    assert_eq!(warnings, ["careful"]);
    assert_eq!(annotations, [("warn.x.io/k".to_owned(), "v".to_owned())]);
    let effects = of("/ok", json!({"sideEffects": "Unknown"}));
    let refused = create(&configured(vec![], vec![effects]), true)
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        "admission webhook \"ok.x.io\" does not support dry run"
    );
}

#[tokio::test]
async fn webhooks_are_asked_about_what_their_rules_and_selectors_name() {
    let (url, seen) = serve().await;
    let of = |more: Value| webhook(&format!("{url}/ok"), more);
    let rule = |resources: &str, scope: &str| json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resources], "scope": scope}]});
    for (more, asked) in [
        (json!({}), true),
        (rule("*", "Namespaced"), true),
        (rule("pods/*", "*"), true),
        (rule("pods/exec", "*"), false),
        (rule("*", "Cluster"), false),
        (json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}), true),
        (
            json!({"namespaceSelector": {"matchLabels": {"team": "b"}}}),
            false,
        ),
        (json!({"objectSelector": {"matchLabels": {"x": "y"}}}), false),
        (
            json!({"objectSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}),
            true,
        ),
    ] {
        seen.lock().clear();
        create(&configured(vec![], vec![of(more.clone())]), false)
            .await
            .unwrap();
        assert_eq!(!seen.lock().is_empty(), asked, "{more}");
    }
}
