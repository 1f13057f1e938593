//! ReplicaSet.

use crate::check::not_negative;
use crate::fill::{absent, spec};
use crate::podcheck::Leniency;
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME, SELECTOR};
use crate::workload;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// ReplicaSet.
pub(crate) struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        absent(spec, "replicas", 1);
        default_template(spec, "template");
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.int_at("status.replicas").unwrap_or_default().to_string()]
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
            replica_status(&root.child("status"), &mut errors);
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
        REPLICA_COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        replica_row(object, cx, print::selector(object.at("spec.selector")))
    }
}

/// The columns of replica sets and replication controllers.
pub(crate) const REPLICA_COLUMNS: &[Column] = &[
    NAME,
    print::integer("Desired", "How many pods there should be."),
    print::integer("Current", "How many pods there are."),
    print::integer("Ready", "How many pods are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

/// The cells of replica sets and replication controllers, which differ in how their selector reads.
pub(crate) fn replica_row(object: &Value, cx: &Context<'_>, selector: String) -> Vec<Value> {
    let [names, images] = print::containers(object.at("spec.template.spec"));
    vec![
        print::name(object),
        print::count(object, "spec.replicas"),
        print::count(object, "status.replicas"),
        print::count(object, "status.readyReplicas"),
        print::age(object, cx),
        names,
        images,
        Value::from(selector),
    ]
}

fn validate_spec(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    not_negative(&spec.child("replicas"), errors);
    not_negative(&spec.child("minReadySeconds"), errors);
    workload::selector(spec, "deployment", errors);
    workload::template(spec, lenient, "ReplicaSet", errors);
}

/// The status of replica sets and replication controllers.
pub(crate) fn replica_status(status: &At<'_, '_>, errors: &mut ErrorList) {
    const COUNTS: &[&str] = &[
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "terminatingReplicas",
        "observedGeneration",
    ];
    let limited = &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::status_counts(status, COUNTS, limited, workload::GREATER, errors);
}
