//! DaemonSet.

use crate::check::not_negative;
use crate::fill::{absent, made, spec, text, text_of};
use crate::podcheck::Leniency;
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use crate::workload;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::validation::At;
use rutter_api::validation::label_selector;
use rutter_api::{Context, ErrorList, Strategy, Value};

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
            for (field, value) in status.entries() {
                if value.is_i64() {
                    not_negative(&status.child(field), &mut errors);
                }
            }
            workload::collisions(&status, old, &mut errors);
            return errors;
        }
        let spec = root.child("spec");
        crate::check::immutable(&spec.child("selector"), old.at("spec.selector"), &mut errors);
        validate_spec(&spec, Leniency::of(Some(old), "spec.template.spec"), &mut errors);
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "spec.template")
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

fn validate_spec(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    let selector = spec.child("selector");
    label_selector(&selector, false, errors);
    if selector.is_set()
        && selector.child("matchLabels").is_empty()
        && selector.child("matchExpressions").is_empty()
    {
        errors.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    workload::template(spec, lenient, "DaemonSet", errors);
    not_negative(&spec.child("minReadySeconds"), errors);
    let strategy = spec.child("updateStrategy");
    match strategy.child("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(&strategy.child("rollingUpdate"), errors),
        _ => errors.push(strategy.not_supported(&["RollingUpdate", "OnDelete"])),
    }
    not_negative(&spec.child("revisionHistoryLimit"), errors);
}

fn rolling_update(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (unavailable, surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    for part in [&unavailable, &surge] {
        workload::int_or_percent(part, errors);
    }
    for part in [&unavailable, &surge] {
        workload::at_most_all(part, errors);
    }
    match (
        workload::number(unavailable.value) != 0,
        workload::number(surge.value) != 0,
    ) {
        (true, true) => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
        (false, false) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}
