use super::*;
use crate::testing::{Objects, admit, pods, resource};
use serde_json::json;

fn reasons(spec: Value, level: Level, minor: u32) -> Vec<String> {
    let found = evaluate(
        &json!({}),
        &spec,
        LevelVersion {
            level,
            minor: Some(minor),
        },
    );
    found
        .into_iter()
        .map(|finding| format!("{} ({})", finding.reason, finding.detail))
        .collect()
}

fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
    })
}

#[test]
fn a_hardened_pod_passes_and_a_plain_one_is_told_what_it_lacks() {
    assert!(reasons(good(), Level::Restricted, 36).is_empty());
    let plain = json!({"containers": [{"name": "c"}]});
    assert!(reasons(plain.clone(), Level::Baseline, 36).is_empty());
    let mut got = reasons(plain, Level::Restricted, 36);
    got.sort();
    assert_eq!(
        got,
        [
            r#"allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)"#,
            r#"runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)"#,
            r#"seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
            r#"unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])"#,
        ]
    );
}

#[test]
fn each_check_of_the_baseline_finds_its_fault() {
    let container = |fields: Value| {
        let mut container = json!({"name": "c"});
        for (key, value) in fields.as_object().unwrap() {
            container[key] = value.clone();
        }
        json!({"containers": [container]})
    };
    for (spec, want) in [
        (
            json!({"hostNetwork": true, "hostPID": true}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            container(json!({"ports": [{"hostPort": 80}]})),
            r#"hostPort (container "c" uses hostPort 80)"#,
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            r#"hostPath volumes (volume "v")"#,
        ),
        (
            container(json!({"securityContext": {"privileged": true}})),
            r#"privileged (container "c" must not set securityContext.privileged=true)"#,
        ),
        (
            container(json!({"securityContext": {"procMount": "Unmasked"}})),
            r#"procMount (container "c" must not set securityContext.procMount to "Unmasked")"#,
        ),
        (
            container(json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}}})),
            r#"non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)"#,
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}}}),
            r#"seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)"#,
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
        (
            container(json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}})),
            r#"forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")"#,
        ),
        (
            container(json!({"livenessProbe": {"httpGet": {"host": "x"}}})),
            r#"probe or lifecycle host (container "c" uses probe or lifecycle host "x")"#,
        ),
    ] {
        assert_eq!(reasons(spec, Level::Baseline, 36), [want]);
    }
}

#[test]
fn versions_change_what_is_checked() {
    let mut engine = good();
    engine["securityContext"]["seLinuxOptions"] = json!({"type": "container_engine_t"});
    assert_eq!(reasons(engine.clone(), Level::Restricted, 30).len(), 1);
    assert!(reasons(engine, Level::Restricted, 31).is_empty());
    let root = json!({"hostUsers": false, "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]});
    assert_eq!(reasons(root.clone(), Level::Restricted, 34).len(), 2);
    assert!(reasons(root, Level::Restricted, 35).is_empty());
    for (text, want) in [
        ("latest", Some(None)),
        ("v1.5", Some(Some(5))),
        ("1.5", None),
        ("v1.05", None),
        ("v2.1", None),
    ] {
        assert_eq!(parse_version(text), want, "{text}");
    }
}

#[tokio::test]
async fn namespaces_say_what_is_enforced_and_warned() {
    let objects = Objects::default();
    let namespace = |labels: Value| json!({"metadata": {"name": "a", "labels": labels}});
    let plugin = PodSecurity::new(
        Arc::new(objects.clone()),
        Arc::new(objects.clone()),
        Configuration::default(),
    );
    let pod = |spec: Value| json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec});
    let bad = json!({"containers": [{"name": "c"}], "hostPID": true});
    objects.put(
        "namespaces",
        namespace(json!({"pod-security.kubernetes.io/enforce": "baseline"})),
    );
    let create = Operation::Create;
    let error = admit(&plugin, create, &pods(), "", pod(bad.clone()), Value::Null)
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        r#"pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)"#
    );
    let deployments = resource("apps", "deployments", "Deployment", true);
    let deployment =
        json!({"metadata": {"name": "d", "namespace": "a"}, "spec": {"template": {"spec": bad}}});
    let (_, warnings) = admit(&plugin, create, &deployments, "", deployment, Value::Null)
        .await
        .unwrap();
    assert_eq!(
        warnings,
        [r#"would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)"#]
    );
    objects.put(
        "pods",
        pod(json!({"hostPID": true, "containers": [{"name": "c"}]})),
    );
    let namespaces = resource("", "namespaces", "Namespace", false);
    let (old, new) = (
        namespace(json!({})),
        namespace(json!({"pod-security.kubernetes.io/enforce": "baseline"})),
    );
    let (_, warnings) = admit(&plugin, Operation::Update, &namespaces, "", new, old)
        .await
        .unwrap();
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[1], "p: host namespaces");
    let wrong = namespace(json!({"pod-security.kubernetes.io/enforce": "strict"}));
    assert_eq!(
        admit(&plugin, create, &namespaces, "", wrong, Value::Null)
            .await
            .unwrap_err()
            .code,
        422
    );
}
