//! Tables over the plan: a small world of ReplicaSets that are stepped until nothing changes.

use super::plan::{
    Action, DESIRED_REPLICAS, MAX_REPLICAS, Plan, REVISION, REVISION_HISTORY, ROLLBACK_TO, Snapshot, plan,
};
use crate::common::owners::{annotation, name};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn deployment(replicas: i32, image: &str, more: Value) -> Deployment {
    let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 600,
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1}, "spec": spec})).unwrap()
}

/// A world in which every ReplicaSet gets the pods that it asks for.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    events: Vec<String>,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: Vec::new(),
            events: Vec::new(),
        }
    }

    fn step(&mut self) -> Plan {
        let none = |_: Option<&str>| false;
        let snapshot = Snapshot {
            deployment: &self.deployment,
            replica_sets: self.sets.clone(),
            old_pods_running: &none,
        };
        let plan = plan(snapshot, now());
        for action in &plan.actions {
            self.perform(action.clone());
        }
        plan
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Create(set) => {
                let mut set = *set;
                set.metadata.uid.clone_from(&set.metadata.name);
                let created = now() + SignedDuration::from_secs(self.sets.len() as i64);
                set.metadata.creation_timestamp = Some(crate::common::time::time(created));
                self.sets.push(set);
            }
            Action::Update(set) => {
                let slot = self
                    .sets
                    .iter_mut()
                    .find(|s| s.metadata.name == set.metadata.name)
                    .unwrap();
                *slot = *set;
            }
            Action::Delete(set) => self.sets.retain(|s| s.metadata.name != set.metadata.name),
            Action::UpdateDeployment(deployment) | Action::UpdateStatus(deployment) => {
                self.deployment = *deployment
            }
            Action::Event(_, reason, text) => self.events.push(format!("{reason}: {text}")),
        }
    }

    /// All pods that are asked for come to be, and become available where `healthy` says so.
    fn settle(&mut self, healthy: &dyn Fn(&str) -> bool) {
        for set in &mut self.sets {
            let size = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0);
            let status = set.status.get_or_insert_default();
            status.replicas = size;
            status.observed_generation = set.metadata.generation.or(Some(1));
            let image = set
                .spec
                .as_ref()
                .unwrap()
                .template
                .as_ref()
                .unwrap()
                .spec
                .as_ref()
                .unwrap()
                .containers[0]
                .image
                .clone()
                .unwrap();
            let good = if healthy(&image) { size } else { 0 };
            status.ready_replicas = Some(good);
            status.available_replicas = Some(good);
        }
    }

    fn run(&mut self, healthy: &dyn Fn(&str) -> bool) -> Vec<Vec<i32>> {
        let mut history = Vec::new();
        for _ in 0..50 {
            self.step();
            let sizes = self.sizes();
            if history.last() != Some(&sizes) {
                history.push(sizes);
            }
            self.settle(healthy);
        }
        history
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets
            .iter()
            .map(|s| s.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0))
            .collect()
    }

    fn image(&mut self, image: &str) {
        let template = &mut self.deployment.spec.as_mut().unwrap().template;
        template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|g| g + 1);
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let conditions = self
            .deployment
            .status
            .as_ref()
            .unwrap()
            .conditions
            .as_ref()
            .unwrap();
        let found = conditions.iter().find(|c| c.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone().unwrap_or_default())
    }
}

#[test]
fn a_rollout_never_exceeds_its_surge_nor_falls_below_its_minimum() {
    for (replicas, strategy) in [
        (4, json!({"maxSurge": 1, "maxUnavailable": 0})),
        (4, json!({"maxSurge": 0, "maxUnavailable": 1})),
        (10, json!({"maxSurge": "25%", "maxUnavailable": "25%"})),
        (1, json!({"maxSurge": "1%", "maxUnavailable": "1%"})),
    ] {
        let strategy = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": strategy}});
        let mut world = World::new(deployment(replicas, "one", strategy.clone()));
        world.run(&|_| true);
        assert_eq!(world.sizes(), [replicas]);
        let (surge, unavailable) = super::plan::surge_and_unavailable(&world.deployment);
        world.image("two");
        let history = world.run(&|_| true);
        assert_eq!(world.sizes(), [0, replicas], "{strategy}");
        for sizes in &history {
            let total: i32 = sizes.iter().sum();
            assert!(
                total <= replicas + surge && total >= replicas - unavailable,
                "{strategy}: {history:?}"
            );
        }
        assert_eq!(
            world.condition("Progressing"),
            ("True".to_owned(), "NewReplicaSetAvailable".to_owned())
        );
        assert_eq!(annotation(&world.deployment.metadata, REVISION), Some("2"));
    }
}

#[test]
fn a_broken_rollout_stops_and_going_back_recovers() {
    let mut world = World::new(deployment(10, "one", json!({})));
    world.run(&|_| true);
    world.image("broken");
    world.run(&|image| image != "broken");
    assert_eq!(
        world.sizes(),
        [8, 5],
        "as many old ones as must be available, as many new ones as there is room for"
    );
    world.image("one");
    world.run(&|image| image != "broken");
    assert_eq!(world.sizes(), [10, 0]);
    let first = &world.sets[0];
    assert_eq!(
        (
            annotation(&first.metadata, REVISION),
            annotation(&first.metadata, REVISION_HISTORY)
        ),
        (Some("3"), Some("1"))
    );
}

#[test]
fn recreating_ends_everything_old_before_anything_new_starts() {
    let mut world = World::new(deployment(3, "one", json!({"strategy": {"type": "Recreate"}})));
    world.run(&|_| true);
    world.image("two");
    assert_eq!(world.run(&|_| true), [vec![0], vec![0, 3]]);
}

#[test]
fn a_change_of_size_during_a_rollout_is_shared_in_proportion() {
    let mut world = World::new(deployment(10, "one", json!({})));
    world.run(&|_| true);
    world.image("broken");
    world.run(&|image| image != "broken");
    world.deployment.spec.as_mut().unwrap().replicas = Some(20);
    world.step();
    assert_eq!(world.sizes(), [15, 10]);
    let set = &world.sets[1].metadata;
    assert_eq!(
        (annotation(set, DESIRED_REPLICAS), annotation(set, MAX_REPLICAS)),
        (Some("20"), Some("25"))
    );
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll_out() {
    let mut world = World::new(deployment(3, "one", json!({})));
    world.run(&|_| true);
    world.image("two");
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.deployment.spec.as_mut().unwrap().replicas = Some(5);
    world.run(&|_| true);
    assert_eq!(world.sizes(), [5]);
    assert_eq!(
        world.condition("Progressing"),
        ("Unknown".to_owned(), "DeploymentPaused".to_owned())
    );
    world.deployment.spec.as_mut().unwrap().paused = Some(false);
    world.run(&|_| true);
    assert_eq!(world.sizes(), [0, 5]);
}

#[test]
fn old_replica_sets_beyond_the_limit_are_deleted() {
    let mut world = World::new(deployment(1, "v0", json!({"revisionHistoryLimit": 1})));
    world.run(&|_| true);
    for image in ["v1", "v2", "v3"] {
        world.image(image);
        world.run(&|_| true);
    }
    assert_eq!(world.sizes(), [0, 1]);
    assert_eq!(annotation(&world.deployment.metadata, REVISION), Some("4"));
}

#[test]
fn lack_of_progress_is_reported_after_the_deadline_and_looked_for_until_then() {
    let mut world = World::new(deployment(2, "broken", json!({"progressDeadlineSeconds": 60})));
    world.run(&|_| false);
    assert_eq!(world.step().again.map(|d| d.as_secs()), Some(61));
    let none = |_: Option<&str>| false;
    let snapshot = Snapshot {
        deployment: &world.deployment,
        replica_sets: world.sets.clone(),
        old_pods_running: &none,
    };
    for action in plan(snapshot, now() + SignedDuration::from_secs(61)).actions {
        world.perform(action);
    }
    assert_eq!(
        world.condition("Progressing"),
        ("False".to_owned(), "ProgressDeadlineExceeded".to_owned())
    );
    assert_eq!(
        world.condition("Available"),
        ("False".to_owned(), "MinimumReplicasUnavailable".to_owned())
    );
}

#[test]
fn a_rollback_takes_the_template_of_the_asked_or_the_last_revision() {
    for (target, want) in [
        ("0", Ok("one")),
        ("1", Ok("one")),
        ("2", Err("TemplateUnchanged")),
        ("9", Err("RevisionNotFound")),
    ] {
        let mut world = World::new(deployment(1, "one", json!({})));
        world.run(&|_| true);
        world.image("two");
        world.run(&|_| true);
        world
            .deployment
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(ROLLBACK_TO.to_owned(), target.to_owned());
        world.step();
        let image = world
            .deployment
            .spec
            .as_ref()
            .unwrap()
            .template
            .spec
            .as_ref()
            .unwrap()
            .containers[0]
            .image
            .clone()
            .unwrap();
        match want {
            Ok(wanted) => assert_eq!(image, wanted, "{target}"),
            Err(reason) => assert!(
                image == "two" && world.events.iter().any(|e| e.contains(reason)),
                "{target}: {:?}",
                world.events
            ),
        }
        assert_eq!(annotation(&world.deployment.metadata, ROLLBACK_TO), None);
    }
}

#[test]
fn a_replica_set_of_another_implementation_is_carried_on() {
    let mut world = World::new(deployment(3, "one", json!({})));
    world.run(&|_| true);
    let foreign = "web-6f7c8d9b5d".to_owned();
    world.sets[0].metadata.name = Some(foreign.clone());
    world.run(&|_| true);
    assert_eq!(
        world
            .sets
            .iter()
            .map(|s| name(&s.metadata).to_owned())
            .collect::<Vec<_>>(),
        [foreign]
    );
}

#[test]
fn a_settled_deployment_is_left_alone() {
    let mut world = World::new(deployment(3, "one", json!({})));
    world.run(&|_| true);
    assert_eq!(world.step().actions, []);
}
