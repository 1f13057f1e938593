//! Admission policies and their bindings, validating and mutating.

use super::webhook::{default_match, default_rules};
use crate::fill::{Fields, absent, inside, spec};
use crate::print::{self, AGE, NAME, UNSET};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, ErrorList, Strategy, Value};

/// ValidatingAdmissionPolicy and MutatingAdmissionPolicy.
pub(crate) struct AdmissionPolicy {
    /// Whether it may change objects.
    pub(crate) mutating: bool,
}

/// ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding.
pub(crate) struct AdmissionPolicyBinding {
    /// Whether it binds a policy that may change objects.
    pub(crate) mutating: bool,
}

fn default_match_resources(fields: &mut Fields, name: &str) {
    if let Some(resources) = inside(fields, name) {
        default_match(resources);
        default_rules(resources, "resourceRules");
        default_rules(resources, "excludeResourceRules");
    }
}

impl Strategy for AdmissionPolicy {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        absent(spec, "failurePolicy", "Fail");
        default_match_resources(spec, "matchConstraints");
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        super::check::policy(object, self.mutating)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" || !super::check::spec_changed(object, old) {
            return ErrorList::new();
        }
        super::check::policy(object, self.mutating)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const VALIDATING: &[Column] = &[
            NAME,
            print::integer("Validations", "How many validations it has."),
            print::text("ParamKind", "The kind of its parameters."),
            AGE,
        ];
        const MUTATING: &[Column] = &[
            NAME,
            print::integer("Mutations", "How many mutations it has."),
            print::text("ParamKind", "The kind of its parameters."),
            AGE,
        ];
        if self.mutating { MUTATING } else { VALIDATING }
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let list = if self.mutating {
            "spec.mutations"
        } else {
            "spec.validations"
        };
        let parameters = match object.at("spec.paramKind") {
            Value::Null => UNSET.to_owned(),
            kind => format!("{}/{}", kind.str_at("apiVersion"), kind.str_at("kind")),
        };
        vec![
            print::name(object),
            Value::from(object.list_at(list).len()),
            Value::from(parameters),
            print::age(object, cx),
        ]
    }
}

impl Strategy for AdmissionPolicyBinding {
    fn default_object(&self, object: &mut Value) {
        if let Some(spec) = spec(object) {
            default_match_resources(spec, "matchResources");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        super::check::binding(object, self.mutating)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        if cx.subresource == "status" || !super::check::spec_changed(object, old) {
            return ErrorList::new();
        }
        super::check::binding(object, self.mutating)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("PolicyName", "The policy it binds."),
            print::text("ParamRef", "The parameters it binds it with."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let reference = object.at("spec.paramRef");
        let text = match (reference.str_at("name"), reference.str_at("namespace")) {
            ("", _) if reference.at("selector").is_null() => UNSET.to_owned(),
            ("", _) => print::selector_struct(reference.at("selector")),
            (name, "") => format!("*/{name}"),
            (name, namespace) => format!("{namespace}/{name}"),
        };
        vec![
            print::name(object),
            Value::from(object.str_at("spec.policyName")),
            Value::from(text),
            print::age(object, cx),
        ]
    }
}
