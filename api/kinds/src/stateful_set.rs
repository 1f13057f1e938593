//! StatefulSet.

use crate::fill::{absent, each, inside, made, spec, text, text_of};
use crate::persistent_volume_claim::default_claim_spec;
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Map, Strategy, Value};

/// StatefulSet.
pub(crate) struct StatefulSet;

impl Strategy for StatefulSet {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        text(spec, "podManagementPolicy", "OrderedReady");
        if let Some(strategy) = made(spec, "updateStrategy") {
            if text_of(strategy, "type").is_empty() {
                text(strategy, "type", "RollingUpdate");
                absent(strategy, "rollingUpdate", Map::new());
            }
            if text_of(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = inside(strategy, "rollingUpdate")
            {
                absent(rolling, "partition", 0);
                absent(rolling, "maxUnavailable", 1);
            }
        }
        if let Some(policy) = made(spec, "persistentVolumeClaimRetentionPolicy") {
            text(policy, "whenDeleted", "Retain");
            text(policy, "whenScaled", "Retain");
        }
        absent(spec, "replicas", 1);
        absent(spec, "revisionHistoryLimit", 10);
        default_template(spec, "template");
        for claim in each(spec, "volumeClaimTemplates") {
            absent(claim, "apiVersion", "v1");
            absent(claim, "kind", "PersistentVolumeClaim");
            if let Some(claim_spec) = made(claim, "spec") {
                default_claim_spec(claim_spec);
            }
            if let Some(status) = made(claim, "status") {
                text(status, "phase", "Pending");
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Ready", "Pods that are ready, of those there should be."),
            AGE,
            CONTAINERS,
            IMAGES,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let [names, images] = print::containers(object.at("spec.template.spec"));
        vec![
            print::name(object),
            print::of(object, "status.readyReplicas", "spec.replicas"),
            print::age(object, cx),
            names,
            images,
        ]
    }
}
