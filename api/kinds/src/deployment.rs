//! Deployment.

use crate::fill::{absent, made, spec, text, text_of};
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

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
