//! From one version of a CustomResourceDefinition to the same descriptor that built-in kinds have.

use super::definition::{Custom, Definition, apply_defaults, type_name};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, prepare_plain_update};
use rutter_api::{
    Context, ErrorList, FieldError, GroupVersion, GroupVersionKind, LabelSelector, Path, Resource, Strategy,
    Subresource, Value, crd, duration,
};
use std::borrow::Cow;
use std::sync::Arc;

impl Strategy for Custom {
    fn default_object(&self, object: &mut Value) {
        if let Some(made) = self.made() {
            apply_defaults(&made.schema, object);
        }
    }

    fn prepare_create(&self, object: &mut Value, _cx: &Context<'_>) {
        if self.has_status() {
            object.take_at("status");
        }
    }

    fn prepare_update(&self, object: &mut Value, old: &Value, cx: &Context<'_>) {
        if self.has_status() {
            prepare_plain_update(object, old, cx);
        }
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        self.validate(object, None)
    }

    fn validate_update(&self, object: &Value, old: &Value, _cx: &Context<'_>) -> ErrorList {
        self.validate(object, Some(old))
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        // Only what was there before can be wrong and let pass.
        let rules = old.and_then(|_| self.made()?.rules());
        rules.map_or_else(Vec::new, |rules| rules.judge(object, old).warnings)
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        if self.selectable_fields().is_empty() {
            return Vec::new();
        }
        let paths = self
            .made()
            .map(|made| made.field_paths.as_slice())
            .unwrap_or_default();
        let values = paths.iter().map(|path| {
            let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
            found.first().map(|value| text(value)).unwrap_or_default()
        });
        values.collect()
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        self.version().map(|version| version.fields).unwrap_or_default()
    }

    fn columns(&self) -> &'static [Column] {
        self.made().map(|made| made.columns).unwrap_or_default()
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let mut row = vec![Value::from(object.name())];
        let Some(made) = self.made() else {
            return row;
        };
        for (column, path) in made.columns.iter().skip(1).zip(&made.cells) {
            let found = path.as_ref().map(|path| path.find(object)).unwrap_or_default();
            row.push(cell(column.kind, &found, cx));
        }
        row
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status_counts(&self) -> bool {
        !self.has_status()
    }

    fn served_is_stored(&self) -> bool {
        let definition = &self.definition;
        let name = self.version().map(|version| version.name.as_str());
        name == Some(definition.storage.as_str())
            && (!definition.conversion.is_webhook()
                || definition
                    .stored
                    .iter()
                    .all(|stored| *stored == definition.storage))
    }

    fn repairs(&self) -> bool {
        true
    }

    fn repair(&self, object: Value) -> Value {
        self.definition.repair(object)
    }

    fn to_served(&self, object: Value) -> Value {
        self.prune(object)
    }

    fn to_stored(&self, object: Value) -> Value {
        self.prune_for_store(object)
    }
}

impl Custom {
    fn has_status(&self) -> bool {
        self.version().is_some_and(|version| version.has_status)
    }

    fn validate(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        let Some(made) = self.made() else {
            return ErrorList::new();
        };
        let mut errors = crd::validate(&made.schema, object, old);
        if let Some(rules) = made.rules() {
            // Rules may rely on what the schema says.
            let blocked = errors.iter().any(|error| {
                use rutter_api::field::ErrorType::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
                matches!(
                    error.kind,
                    NotSupported | Required | TooLong | TooMany | TypeInvalid
                )
            });
            if blocked {
                let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
                errors.push(FieldError::invalid(&Path::new("<nil>"), Value::Null, detail));
            } else {
                errors.extend(rules.judge(object, old).errors);
            }
        }
        if let Some(scale) = &made.scale {
            for path in [&scale.spec, &scale.status] {
                replicas(object, path, &mut errors);
            }
            if let Some(path) = &scale.selector
                && let Some(text) = object.at(path).as_str()
                && let Err(error) = LabelSelector::parse(text)
            {
                let shown = Path::new(&format!(".{path}"));
                errors.push(FieldError::invalid(&shown, text, error.to_string()));
            }
        }
        errors
    }
}

/// A count of replicas is a number that Scale can show.
fn replicas(object: &Value, path: &str, errors: &mut ErrorList) {
    let shown = Path::new(&format!(".{path}"));
    match object.at(path) {
        Value::Null => {}
        value => match value.as_i64() {
            None => {
                let detail = format!("{shown} accessor error: {value} is of the wrong type, expected int64");
                errors.push(FieldError::invalid(&shown, 0, detail));
            }
            Some(number) if number < 0 => {
                errors.push(FieldError::invalid(
                    &shown,
                    number,
                    "should be a non-negative integer",
                ));
            }
            Some(number) if i32::try_from(number).is_err() => {
                let detail = format!("should be less than or equal to {}", i32::MAX);
                errors.push(FieldError::invalid(&shown, number, detail));
            }
            Some(_) => {}
        },
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn cell(kind: &str, found: &[&Value], cx: &Context<'_>) -> Value {
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match kind {
        "date" => Value::from(
            first
                .as_str()
                .map_or_else(|| "<invalid>".to_owned(), |time| duration::age(time, cx.now)),
        ),
        "integer" => first.as_i64().map_or_else(
            || {
                first
                    .as_f64()
                    .map_or(Value::Null, |number| Value::from(number as i64))
            },
            Value::from,
        ),
        "number" => first.as_f64().map_or(Value::Null, Value::from),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        _ => {
            let all: Vec<String> = found.iter().map(|value| text(value)).collect();
            Value::from(all.join(","))
        }
    }
}

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const SUB_VERBS: &[Cow<'static, str>] = &[
    Cow::Borrowed("get"),
    Cow::Borrowed("patch"),
    Cow::Borrowed("update"),
];

/// A served version: its descriptor, and what else is known of it.
pub(super) type Served = (Arc<Resource>, Custom);

/// All served versions of a definition that is `made` of the object.
pub(super) fn resources(object: &Value, made: &Arc<Definition>) -> Vec<Served> {
    let names = object.at("status.acceptedNames");
    let texts = |field: &str| -> Vec<Cow<'static, str>> {
        let list = names.list_at(field).iter().filter_map(Value::as_str);
        list.map(|text| Cow::Owned(text.to_owned())).collect()
    };
    let owned = |text: &str| Cow::Owned(text.to_owned());
    let group = &*made.group;
    let served = made
        .versions
        .iter()
        .enumerate()
        .filter(|(_, version)| version.served);
    served
        .map(|(index, version)| {
            let custom = Custom {
                definition: made.clone(),
                index,
            };
            let mut subresources = Vec::new();
            if version.has_status {
                subresources.push(sub("status", None));
            }
            if version.has_scale {
                let scale = GroupVersionKind::new("autoscaling", "v1", "Scale");
                subresources.push(sub("scale", Some(scale)));
            }
            let plural = names.str_at("plural");
            let resource = Resource {
                group_version: GroupVersion::new(group, &*version.name),
                kind: owned(names.str_at("kind")),
                list_kind: owned(names.str_at("listKind")),
                plural: owned(plural),
                singular: owned(names.str_at("singular")),
                short_names: texts("shortNames"),
                categories: texts("categories"),
                namespaced: object.str_at("spec.scope") == "Namespaced",
                verbs: VERBS.iter().map(|verb| Cow::Borrowed(*verb)).collect(),
                subresources,
                storage_prefix: Some(Cow::Owned(format!("/registry/{group}/{plural}"))),
                storage_version: GroupVersion::new(group, &*made.storage),
                schema: Cow::Owned(type_name(group, &version.name, &made.kind)),
                strategy: Arc::new(custom.clone()),
            };
            (Arc::new(resource), custom)
        })
        .collect()
}

fn sub(name: &'static str, kind: Option<GroupVersionKind>) -> Subresource {
    Subresource {
        name: Cow::Borrowed(name),
        kind,
        verbs: Cow::Borrowed(SUB_VERBS),
    }
}
