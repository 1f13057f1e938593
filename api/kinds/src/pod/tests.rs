use super::*;

fn cx(subresource: &str) -> Context<'_> {
    Context {
        now: jiff::Timestamp::UNIX_EPOCH,
        user: "u",
        subresource,
        dry_run: false,
    }
}

#[test]
fn a_small_pod_is_filled_in() {
    let mut pod = json!({
        "metadata": {"name": "web"},
        "spec": {
            "containers": [{
                "name": "c",
                "image": "nginx",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80}},
            }],
            "volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}],
        },
    });
    Pod.default_object(&mut pod);
    let once = pod.clone();
    Pod.default_object(&mut pod);
    assert_eq!(once, pod, "defaulting twice is defaulting once");
    let spec = pod.at("spec");
    for (path, want) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
    ] {
        assert_eq!(spec.at(path), &want, "{path}");
    }
    let container = &spec.list_at("containers")[0];
    for (path, want) in [
        ("imagePullPolicy", json!("Always")),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources.requests.cpu", json!("1")),
        ("livenessProbe.httpGet.path", json!("/")),
        ("livenessProbe.httpGet.scheme", json!("HTTP")),
        ("livenessProbe.periodSeconds", json!(10)),
        ("livenessProbe.failureThreshold", json!(3)),
    ] {
        assert_eq!(container.at(path), &want, "{path}");
    }
    assert_eq!(container.list_at("ports")[0].str_at("protocol"), "TCP");
    assert_eq!(spec.list_at("volumes")[0], json!({"name": "v", "emptyDir": {}}));
    assert_eq!(spec.list_at("volumes")[1].int_at("secret.defaultMode"), Some(420));
}

#[test]
fn a_new_pod_is_pending_and_has_its_class() {
    let mut pod = json!({"spec": {"containers": [{"name": "c"}], "schedulingGates": [{"name": "g"}]},
        "status": {"phase": "Running"}});
    Pod.prepare_create(&mut pod, &cx(""));
    assert_eq!(pod.str_at("status.phase"), "Pending");
    assert_eq!(pod.str_at("status.qosClass"), "BestEffort");
    assert_eq!(
        pod.list_at("status.conditions")[0].str_at("reason"),
        "SchedulingGated"
    );
}

#[test]
fn each_subresource_changes_its_own_part() {
    let old = json!({"metadata": {"name": "p", "labels": {"a": "1"}}, "status": {"phase": "Running", "qosClass": "Burstable"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "a", "resources": {}}]}});
    let new = json!({"metadata": {"name": "p", "labels": {"a": "2"}}, "status": {"phase": "Failed"},
        "spec": {"nodeName": "m", "containers": [{"name": "c", "image": "b", "resources": {"limits": {"cpu": "1"}}}],
            "ephemeralContainers": [{"name": "e"}]}});
    for (subresource, phase, image, cpu, ephemeral, label) in [
        ("", "Running", "b", "1", 1, "2"),
        ("status", "Failed", "a", "", 0, "2"),
        ("ephemeralcontainers", "Running", "a", "", 1, "1"),
        ("resize", "Running", "a", "1", 0, "1"),
    ] {
        let mut pod = new.clone();
        Pod.prepare_update(&mut pod, &old, &cx(subresource));
        let container = &pod.list_at("spec.containers")[0];
        assert_eq!(pod.str_at("status.phase"), phase, "{subresource}");
        assert_eq!(container.str_at("image"), image, "{subresource}");
        assert_eq!(container.str_at("resources.limits.cpu"), cpu, "{subresource}");
        assert_eq!(
            pod.list_at("spec.ephemeralContainers").len(),
            ephemeral,
            "{subresource}"
        );
        assert_eq!(pod.label("a"), Some(label), "{subresource}");
        assert_eq!(pod.str_at("status.qosClass"), "Burstable", "{subresource}");
    }
}

#[test]
fn grace_is_for_pods_that_a_kubelet_runs() {
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
    for (node, phase, asked, want) in [
        ("n", "Running", None, 30),
        ("n", "Running", Some(5), 5),
        ("n", "Running", Some(-1), 1),
        ("", "Pending", None, 0),
        ("n", "Succeeded", Some(9), 0),
    ] {
        assert_eq!(
            Pod.grace(&pod(node, phase), asked),
            Grace::Seconds(want),
            "{node} {phase} {asked:?}"
        );
    }
}
