//! DaemonSet.

use crate::fill::{absent, made, spec, text, text_of};
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{Context, Strategy, Value};

/// Counts the templates that a daemon set has had.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// DaemonSet.
pub(crate) struct DaemonSet;

impl Strategy for DaemonSet {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        absent(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = made(spec, "updateStrategy") {
            text(strategy, "type", "RollingUpdate");
            if text_of(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = made(strategy, "rollingUpdate")
            {
                absent(rolling, "maxUnavailable", 1);
                absent(rolling, "maxSurge", 0);
            }
        }
        default_template(spec, "template");
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        object.take_at("status");
        let generation = template_generation(object).max(1);
        set_template_generation(object, generation);
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        prepare_plain_update(object, old, cx);
        let changed = object.at("spec.template") != old.at("spec.template");
        set_template_generation(object, template_generation(old) + i64::from(changed));
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::integer("Desired", "How many nodes should run its pod."),
            print::integer("Current", "How many nodes run at least one."),
            print::integer("Ready", "How many nodes run one that is ready."),
            print::integer("Up-to-date", "How many nodes run one of the current template."),
            print::integer(
                "Available",
                "How many nodes run one that has been ready for long enough.",
            ),
            print::text("Node Selector", "Labels of the nodes it is for."),
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
            print::count(object, "status.desiredNumberScheduled"),
            print::count(object, "status.currentNumberScheduled"),
            print::count(object, "status.numberReady"),
            print::count(object, "status.updatedNumberScheduled"),
            print::count(object, "status.numberAvailable"),
            Value::from(print::labels(object.at("spec.template.spec.nodeSelector"))),
            print::age(object, cx),
            names,
            images,
            Value::from(print::selector(object.at("spec.selector"))),
        ]
    }
}

fn template_generation(object: &Value) -> i64 {
    object
        .annotation(TEMPLATE_GENERATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(annotations) = object
        .as_object_mut()
        .and_then(|fields| made(fields, "metadata"))
        .and_then(|metadata| made(metadata, "annotations"))
    {
        annotations.insert(
            TEMPLATE_GENERATION.to_owned(),
            Value::from(generation.to_string()),
        );
    }
}
