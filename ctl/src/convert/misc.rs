//! Kinds of which little changed.

use super::fields::{Edit, get, items_mut, put, rename, take};
use serde_json::{Value, json};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn disruption_budget(edit: &mut Edit) {
    // Once an empty selector meant no pod; now it means all.
    if get(&edit.object, &["spec", "selector"])
        .as_object()
        .is_some_and(serde_json::Map::is_empty)
    {
        put(
            &mut edit.object,
            &["spec", "selector"],
            json!({"matchExpressions": [{
                "key": "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match",
                "operator": "Exists",
            }]}),
        );
        edit.note(
            "spec.selector",
            "was empty, which selected no pods; in policy/v1 it would select all, so it selects by a label that none has",
        );
    }
    edit.drop(&["status"], "the server says it");
}

pub(super) fn role(edit: &mut Edit) {
    let old: Vec<usize> = edit.object["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, rule)| {
            rule["apiGroups"]
                .as_array()
                .is_some_and(|g| g.contains(&json!("extensions")))
        })
        .map(|(at, _)| at)
        .collect();
    for at in old {
        edit.note(
            format!("rules[{at}].apiGroups"),
            "the group extensions serves nothing any more: name apps, networking.k8s.io or policy",
        );
    }
}

pub(super) fn role_binding(edit: &mut Edit) {
    if !edit.object["roleRef"].is_null() && edit.object["roleRef"]["apiGroup"].is_null() {
        put(&mut edit.object, &["roleRef", "apiGroup"], json!(RBAC));
    }
    if edit.from != format!("{RBAC}/v1alpha1") {
        return;
    }
    let mut everyone = Vec::new();
    for (at, subject) in items_mut(&mut edit.object, &["subjects"]).enumerate() {
        // Subjects said their version; now they say their group alone.
        take(subject, &["apiVersion"]);
        if subject["kind"] == "User" && subject["name"] == "*" {
            *subject = json!({"kind": "Group", "name": "system:authenticated"});
            everyone.push(at);
        }
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) && subject["apiGroup"].is_null() {
            put(subject, &["apiGroup"], json!(RBAC));
        }
    }
    for at in everyone {
        edit.note(
            format!("subjects[{at}]"),
            "the user * is written as the group system:authenticated",
        );
    }
}

pub(super) fn signing_request(edit: &mut Edit) {
    match edit.object["spec"]["signerName"].as_str() {
        None | Some("") => edit.note(
            "spec.signerName",
            "is required: kubernetes.io/kube-apiserver-client, kubernetes.io/kube-apiserver-client-kubelet, kubernetes.io/kubelet-serving or a signer of your own",
        ),
        Some("kubernetes.io/legacy-unknown") => edit.note(
            "spec.signerName",
            "kubernetes.io/legacy-unknown is refused by certificates.k8s.io/v1: name the signer that is meant",
        ),
        Some(_) => {}
    }
    edit.keep_default(
        &["spec", "usages"],
        json!(["digital signature", "key encipherment"]),
    );
    edit.drop(&["status"], "the server says it");
}

pub(super) fn event(edit: &mut Edit) {
    edit.drop(&["series", "state"], "a series has no state any more");
    for field in [
        "action",
        "reason",
        "reportingController",
        "reportingInstance",
        "eventTime",
    ] {
        if edit.object[field].is_null() {
            edit.note(field, "is required");
        }
    }
}

pub(super) fn runtime_class(edit: &mut Edit) {
    let Some(mut spec) = take(&mut edit.object, &["spec"]) else {
        return;
    };
    rename(&mut spec, "runtimeHandler", "handler");
    if let Value::Object(spec) = spec {
        for (key, value) in spec {
            put(&mut edit.object, &[&key], value);
        }
    }
}

pub(super) fn priority_level(edit: &mut Edit) {
    const SHARES: [&str; 3] = ["spec", "limited", "nominalConcurrencyShares"];
    const PRESERVE: [&str; 3] = [
        "metadata",
        "annotations",
        "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares",
    ];
    if let Some(shares) = take(&mut edit.object, &["spec", "limited", "assuredConcurrencyShares"]) {
        put(&mut edit.object, &SHARES, shares);
    }
    let meant = take(&mut edit.object, &PRESERVE).is_some();
    if get(&edit.object, &SHARES) == &json!(0) && !meant {
        put(&mut edit.object, &SHARES, json!(30));
        edit.note(
            SHARES.join("."),
            format!("0 stood for the default, 30, in {}; it is written out", edit.from),
        );
    }
    edit.drop(&["status"], "the server says it");
}

pub(super) fn access_review(edit: &mut Edit) {
    if let Some(spec) = edit.object.get_mut("spec") {
        rename(spec, "group", "groups");
    }
}
