//! Deployment.

use crate::check::not_negative;
use crate::fill::{absent, made, spec, text, text_of};
use crate::podcheck::Leniency;
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use crate::workload;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// Deployment.
pub(crate) struct Deployment;

impl Strategy for Deployment {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        absent(spec, "replicas", 1);
        absent(spec, "revisionHistoryLimit", 10);
        absent(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = made(spec, "strategy") {
            text(strategy, "type", "RollingUpdate");
            if text_of(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                absent(rolling, "maxUnavailable", "25%");
                absent(rolling, "maxSurge", "25%");
            }
        }
        default_template(spec, "template");
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        validate_spec(&At::root(object).child("spec"), Leniency::default(), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        if cx.subresource == "status" {
            let status = root.child("status");
            let limited = &["updatedReplicas", "readyReplicas", "availableReplicas"];
            workload::status_counts(&status, COUNTS, limited, workload::GREATER, &mut errors);
            workload::collisions(&status, old, &mut errors);
            return errors;
        }
        let spec = root.child("spec");
        validate_spec(&spec, Leniency::of(Some(old), "spec.template.spec"), &mut errors);
        crate::check::immutable(&spec.child("selector"), old.at("spec.selector"), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "spec.template")
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Ready", "Pods that are ready, of those there should be."),
            print::text("Up-to-date", "Pods of the current template."),
            print::text("Available", "Pods that have been ready for long enough."),
            AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let [names, images] = print::containers(object.at("spec.template.spec"));
        vec![
            print::name(object),
            print::of(object, "status.readyReplicas", "spec.replicas"),
            print::count(object, "status.updatedReplicas"),
            print::count(object, "status.availableReplicas"),
            print::age(object, cx),
            names,
            images,
            Value::from(print::selector_text(object.at("spec.selector"))),
        ]
    }
}

/// Counts of the status.
const COUNTS: &[&str] = &[
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
];

fn validate_spec(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    not_negative(&spec.child("replicas"), errors);
    workload::selector(spec, "deployment", errors);
    workload::template(spec, lenient, "ReplicaSet", errors);
    let strategy = spec.child("strategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.child("type").text() {
        "Recreate" => {
            if rolling.is_set() {
                errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
            }
        }
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.push(strategy.not_supported(&["Recreate", "RollingUpdate"])),
    }
    for field in [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        not_negative(&spec.child(field), errors);
    }
    let deadline = spec.child("progressDeadlineSeconds");
    let ready = spec.child("minReadySeconds").int().unwrap_or_default();
    if deadline.int().is_some_and(|seconds| seconds <= ready) {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
}

fn rolling_update(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    workload::int_or_percent(&unavailable, errors);
    workload::int_or_percent(&surge, errors);
    if workload::number(unavailable.value) == 0 && workload::number(surge.value) == 0 {
        errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    workload::at_most_all(&unavailable, errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_deployment_rolls_by_a_quarter() {
        let mut object = json!({"spec": {"template": {"spec": {"containers": []}}}});
        Deployment.default_object(&mut object);
        assert_eq!(
            object.at("spec.strategy"),
            &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(object.int_at("spec.replicas"), Some(1));
        assert_eq!(object.str_at("spec.template.spec.restartPolicy"), "Always");
        let mut recreate = json!({"spec": {"strategy": {"type": "Recreate"}}});
        Deployment.default_object(&mut recreate);
        assert!(recreate.at("spec.strategy.rollingUpdate").is_null());
    }
}
