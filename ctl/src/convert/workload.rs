//! Deployments, ReplicaSets, DaemonSets, StatefulSets and CronJobs.

use super::fields::{Edit, get, put};
use super::pod;
use serde_json::{Value, json};

const TEMPLATE: [&str; 2] = ["spec", "template"];

/// Once every object selected the pods of its own template; now it has to say so.
fn selector(edit: &mut Edit) {
    if !get(&edit.object, &["spec", "selector"]).is_null() {
        return;
    }
    let labels = get(&edit.object, &["spec", "template", "metadata", "labels"]).clone();
    if labels.as_object().is_some_and(|l| !l.is_empty()) {
        edit.note("spec.selector", "taken from spec.template.metadata.labels");
        put(&mut edit.object, &["spec", "selector", "matchLabels"], labels);
    } else {
        edit.note(
            "spec.selector",
            "is required, and spec.template.metadata.labels says nothing to select by",
        );
    }
}

pub(super) fn deployment(edit: &mut Edit) {
    selector(edit);
    edit.drop(
        &["spec", "rollbackTo"],
        "a rollback is asked for by `rollout undo`",
    );
    let rolling = get(&edit.object, &["spec", "strategy", "type"])
        .as_str()
        .is_none_or(|t| t == "RollingUpdate");
    match edit.from.as_str() {
        "extensions/v1beta1" => {
            if rolling {
                for field in ["maxSurge", "maxUnavailable"] {
                    edit.keep_default(&["spec", "strategy", "rollingUpdate", field], json!(1));
                }
            }
            for field in ["revisionHistoryLimit", "progressDeadlineSeconds"] {
                edit.keep_default(&["spec", field], json!(i32::MAX));
            }
        }
        "apps/v1beta1" => edit.keep_default(&["spec", "revisionHistoryLimit"], json!(2)),
        _ => {}
    }
    pod::template(edit, &TEMPLATE);
}

pub(super) fn replica_set(edit: &mut Edit) {
    selector(edit);
    pod::template(edit, &TEMPLATE);
}

pub(super) fn daemon_set(edit: &mut Edit) {
    selector(edit);
    edit.drop(
        &["spec", "templateGeneration"],
        "revisions of the template are counted by ControllerRevisions",
    );
    if edit.from == "extensions/v1beta1" {
        edit.keep_default(&["spec", "updateStrategy", "type"], json!("OnDelete"));
    }
    pod::template(edit, &TEMPLATE);
}

pub(super) fn stateful_set(edit: &mut Edit) {
    selector(edit);
    if edit.from == "apps/v1beta1" {
        edit.keep_default(&["spec", "updateStrategy", "type"], json!("OnDelete"));
    }
    if get(&edit.object, &["spec", "serviceName"])
        .as_str()
        .is_none_or(str::is_empty)
    {
        edit.note(
            "spec.serviceName",
            "is missing: pods get no names of their own in DNS",
        );
    }
    pod::template(edit, &TEMPLATE);
}

pub(super) fn cron_job(edit: &mut Edit) {
    const TEMPLATE: [&str; 4] = ["spec", "jobTemplate", "spec", "template"];
    let policy: &Value = get(
        &edit.object,
        &["spec", "jobTemplate", "spec", "template", "spec", "restartPolicy"],
    );
    if policy.as_str().is_none_or(|p| p == "Always") {
        edit.note(
            "spec.jobTemplate.spec.template.spec.restartPolicy",
            "has to be OnFailure or Never",
        );
    }
    pod::template(edit, &TEMPLATE);
}
