//! StatefulSet.

use crate::check::{enumerated, not_negative};
use crate::fill::{absent, each, inside, made, spec, text, text_of};
use crate::persistent_volume_claim::default_claim_spec;
use crate::pod::{copy, same};
use crate::podcheck::{self, Leniency};
use crate::podspec::default_template;
use crate::print::{self, AGE, CONTAINERS, IMAGES, NAME};
use crate::workload;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::strategy::NameRule;
use rutter_api::validation::At;
use rutter_api::validation::dns_label;
use rutter_api::{Context, ErrorList, Map, Strategy, Value};

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
                rolling.remove("maxUnavailable");
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

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        let spec = root.child("spec");
        for claim in spec.child("volumeClaimTemplates").items() {
            crate::persistent_volume_claim::claim_spec(&claim.child("spec"), &mut errors);
        }
        if !spec.child("serviceName").is_empty() {
            let name = spec.child("serviceName");
            name.all(&mut errors, dns_label(name.text()));
        }
        validate_spec(&spec, Leniency::default(), &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let mut errors = ErrorList::new();
        let root = At::root(object);
        if cx.subresource == "status" {
            let status = root.child("status");
            let limited = &[
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ];
            let texts = [
                workload::GREATER[0],
                "cannot be greater than status.readyReplicas",
            ];
            workload::status_counts(&status, COUNTS, limited, texts, &mut errors);
            workload::collisions(&status, old, &mut errors);
            return errors;
        }
        let spec = root.child("spec");
        validate_spec(&spec, Leniency::of(Some(old), "spec.template.spec"), &mut errors);
        let mut allowed = old.at("spec").clone();
        for field in CHANGEABLE {
            copy(&mut allowed, spec.value, field);
        }
        if !same(&allowed, spec.value) {
            errors.push(spec.forbidden("updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"));
        }
        errors
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        crate::podcheck::warnings::template(object, old, "spec.template")
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

const COUNTS: &[&str] = &[
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
];

const CHANGEABLE: &[&str] = &[
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

fn validate_spec(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    let management = spec.child("podManagementPolicy");
    if !matches!(management.text(), "OrderedReady" | "Parallel") {
        errors.push(management.invalid("must be 'OrderedReady' or 'Parallel'"));
    }
    let strategy = spec.child("updateStrategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.child("type").text() {
        "" => errors.push(strategy.required("")),
        "OnDelete" => {
            if rolling.is_set() {
                errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
            }
        }
        "RollingUpdate" => {
            not_negative(&rolling.child("partition"), errors);
            let unavailable = rolling.child("maxUnavailable");
            if unavailable.is_set() {
                workload::int_or_percent(&unavailable, errors);
                if workload::number(unavailable.value) == 0 {
                    errors.push(unavailable.invalid("cannot be 0"));
                }
                workload::at_most_all(&unavailable, errors);
            }
        }
        _ => errors.push(strategy.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        if retention.is_set() {
            enumerated(&retention.child(field), &["Retain", "Delete"], errors);
        }
    }
    for field in ["replicas", "minReadySeconds", "ordinals.start"] {
        not_negative(&spec.child(field), errors);
    }
    workload::selector(spec, "statefulset", errors);
    workload::selected(spec, errors);
    let template = with_claims(spec.value);
    let shown = spec.field("template", &template);
    podcheck::template(&shown, lenient, errors);
    workload::always_restarts(&spec.child("template"), "StatefulSet", errors);
}

/// The template as its pods will be: with the volumes of the claims, and named by the set.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec.at("template").clone();
    let claims: Vec<&str> = spec
        .list_at("volumeClaimTemplates")
        .iter()
        .map(ObjectExt::name)
        .collect();
    template.take_at("spec.subdomain");
    template.take_at("spec.hostname");
    if !claims.is_empty() {
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|name| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        let own = template
            .at("spec")
            .list_at("volumes")
            .iter()
            .filter(|v| !claims.contains(&v.str_at("name")));
        volumes.extend(own.cloned());
        template.set("spec.volumes", volumes);
    }
    template
}
