//! Tables over the plan.

use super::identity::{claims, new_pod, ordinal, owned_claim};
use super::plan::{Action, Plan, Revision, Snapshot, plan};
use crate::common::owners::name;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use serde_json::{Value, json};
use std::sync::Arc;

fn set(replicas: i32, more: Value) -> StatefulSet {
    let mut spec = json!({"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": {"spec": {"containers": []}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "default", "uid": "u", "generation": 1}, "spec": spec})).unwrap()
}

fn revision(name: &str) -> Revision {
    let template: PodTemplateSpec =
        serde_json::from_value(json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}}))
            .unwrap();
    Revision {
        name: name.to_owned(),
        template,
    }
}

fn pod(set: &StatefulSet, at: i32, of: &str, state: &str) -> Arc<Pod> {
    let mut pod = new_pod(set, &revision(of).template, of, at);
    pod.metadata.uid = Some(format!("uid-{at}"));
    let phase = if state == "failed" { "Failed" } else { "Running" };
    let ready = if state == "ready" { "True" } else { "False" };
    pod.status =
        serde_json::from_value(json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}))
            .unwrap();
    if state == "going" {
        pod.metadata.deletion_timestamp = Some(crate::common::time::time(Timestamp::UNIX_EPOCH));
    }
    Arc::new(pod)
}

fn step(set: &StatefulSet, pods: &[Arc<Pod>]) -> Plan {
    plan(
        &Snapshot {
            set,
            pods,
            current: &revision("old"),
            update: &revision("new"),
            collisions: None,
        },
        Timestamp::UNIX_EPOCH,
    )
}

fn told(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|a| match a {
            Action::Create(pod, _) => format!("+{}@{}", name(&pod.metadata), super::identity::revision(pod)),
            Action::Delete(pod, _) => format!("-{}", name(&pod.metadata)),
            Action::Update(pod, _) => format!("~{}", name(&pod.metadata)),
        })
        .collect()
}

#[test]
fn pods_come_one_after_the_other_or_all_at_once() {
    let ordered = set(3, json!({}));
    let parallel = set(3, json!({"podManagementPolicy": "Parallel"}));
    for (what, set, pods, want) in [
        ("none yet", &ordered, vec![], vec!["+db-0@new"]),
        ("the first starts", &ordered, vec![(0, "new", "starting")], vec![]),
        (
            "the first is ready",
            &ordered,
            vec![(0, "new", "ready")],
            vec!["+db-1@new"],
        ),
        (
            "one has failed",
            &ordered,
            vec![(0, "new", "failed")],
            vec!["-db-0"],
        ),
        (
            "none yet, parallel",
            &parallel,
            vec![],
            vec!["+db-0@new", "+db-1@new", "+db-2@new"],
        ),
        (
            "a gap, parallel",
            &parallel,
            vec![(0, "new", "starting"), (2, "new", "ready")],
            vec!["+db-1@new"],
        ),
    ] {
        let pods: Vec<_> = pods
            .into_iter()
            .map(|(at, of, state)| pod(set, at, of, state))
            .collect();
        assert_eq!(told(&step(set, &pods)), want, "{what}");
    }
}

#[test]
fn scaling_down_takes_the_highest_first_and_waits_for_its_end() {
    let set = set(1, json!({}));
    let pods = |last: &str| {
        [
            pod(&set, 0, "new", "ready"),
            pod(&set, 1, "new", "ready"),
            pod(&set, 2, "new", last),
        ]
    };
    assert_eq!(told(&step(&set, &pods("ready"))), ["-db-2"]);
    assert!(told(&step(&set, &pods("going"))).is_empty());
}

#[test]
fn a_rollout_goes_from_the_highest_down_to_the_partition() {
    let partitioned = set(
        3,
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}),
    );
    let all = set(3, json!({}));
    let two = set(
        3,
        json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}}),
    );
    let on_delete = set(3, json!({"updateStrategy": {"type": "OnDelete"}}));
    let ready = |set: &StatefulSet, revisions: [&str; 3]| -> Vec<Arc<Pod>> {
        (0..3)
            .zip(revisions)
            .map(|(at, of)| pod(set, at, of, "ready"))
            .collect()
    };
    for (what, set, revisions, want) in [
        ("all old", &all, ["old", "old", "old"], vec!["-db-2"]),
        ("one new", &all, ["old", "old", "new"], vec!["-db-1"]),
        ("done", &all, ["new", "new", "new"], vec![]),
        ("two at once", &two, ["old", "old", "old"], vec!["-db-2", "-db-1"]),
        ("partitioned", &partitioned, ["old", "old", "old"], vec!["-db-2"]),
        ("partition reached", &partitioned, ["old", "old", "new"], vec![]),
        ("by hand", &on_delete, ["old", "old", "old"], vec![]),
    ] {
        assert_eq!(told(&step(set, &ready(set, revisions))), want, "{what}");
    }
    let mut below = ready(&partitioned, ["old", "old", "new"]);
    below.remove(1);
    assert_eq!(
        told(&step(&partitioned, &below)),
        ["+db-1@old"],
        "below the partition the old revision is kept"
    );
}

#[test]
fn a_finished_rollout_makes_its_revision_the_current_one() {
    let set = set(2, json!({}));
    let half = step(
        &set,
        &[pod(&set, 0, "old", "ready"), pod(&set, 1, "new", "ready")],
    )
    .status;
    assert_eq!(
        (
            half.current_revision.as_deref(),
            half.current_replicas,
            half.updated_replicas
        ),
        (Some("old"), Some(1), Some(1))
    );
    let done = step(
        &set,
        &[pod(&set, 0, "new", "ready"), pod(&set, 1, "new", "ready")],
    )
    .status;
    assert_eq!(
        (done.current_revision.as_deref(), done.current_replicas),
        (Some("new"), Some(2))
    );
}

#[test]
fn pods_have_stable_names_hosts_and_claims() {
    let set = set(
        1,
        json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}),
    );
    let pod = new_pod(&set, &revision("new").template, "new", 0);
    let spec = pod.spec.unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-0"), Some("db"))
    );
    assert_eq!(
        spec.volumes.unwrap()[0]
            .persistent_volume_claim
            .as_ref()
            .unwrap()
            .claim_name,
        "data-db-0"
    );
    let claim = &claims(&set, 0)[0];
    assert_eq!(
        (
            claim.metadata.name.as_deref(),
            claim.metadata.labels.as_ref().unwrap()["app"].as_str()
        ),
        (Some("data-db-0"), "db")
    );
    for (pod, want) in [
        ("db-0", Some(0)),
        ("db-10", Some(10)),
        ("db-01", None),
        ("db-x", None),
        ("dbx-1", None),
    ] {
        assert_eq!(ordinal("db", pod), want, "{pod}");
    }
}

#[test]
fn claims_belong_to_whom_the_retention_policy_says() {
    let policy = |deleted: &str, scaled: &str| {
        let policy = json!({"whenDeleted": deleted, "whenScaled": scaled});
        set(
            1,
            json!({"persistentVolumeClaimRetentionPolicy": policy, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}),
        )
    };
    for (deleted, scaled, condemned, want) in [
        ("Retain", "Retain", false, None),
        ("Delete", "Retain", false, Some("StatefulSet")),
        ("Delete", "Retain", true, Some("StatefulSet")),
        ("Retain", "Delete", false, None),
        ("Retain", "Delete", true, Some("Pod")),
        ("Delete", "Delete", true, Some("Pod")),
    ] {
        let set = policy(deleted, scaled);
        let pod = pod(&set, 0, "new", "ready");
        let claim = claims(&set, 0).remove(0);
        let owner = owned_claim(&set, &pod, condemned, &claim).and_then(|c| {
            c.metadata
                .owner_references
                .unwrap()
                .first()
                .map(|r| r.kind.clone())
        });
        assert_eq!(owner.as_deref(), want, "{deleted} {scaled} {condemned}");
    }
}
