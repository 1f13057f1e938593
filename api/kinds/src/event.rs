//! Event, of the core group and of `events.k8s.io`: one stored kind in two shapes.

use crate::print;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::At;
use rutter_api::{Context, ErrorList, Strategy, Value, duration};
use std::time::Duration;

/// How long an event is kept.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);

const FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The same in the new shape's names, in the same order.
const NEW_FIELDS: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "source",
    "type",
];

const COLUMNS: &[Column] = &[
    print::text("Last Seen", "Time since it was seen last."),
    print::text("Type", "Normal or Warning."),
    print::text("Reason", "Why, in one word."),
    print::text("Object", "What it is about."),
    print::wide("Subobject", "The part that it is about."),
    print::wide("Source", "Who says so."),
    print::text("Message", "What happened."),
    print::wide("First Seen", "Time since it was seen first."),
    print::wide("Count", "How often it was seen."),
    Column {
        priority: 1,
        ..print::NAME
    },
];

/// Event of the core group, which is also what is stored.
pub(crate) struct Event;

/// Event of `events.k8s.io`.
pub(crate) struct NewEvent;

/// Fields of the core shape, with their names in the new one.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(
    mut object: Value,
    api_version: &str,
    names: impl Iterator<Item = (&'static str, &'static str)>,
) -> Value {
    if let Some(fields) = object.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
        fields.insert("apiVersion".to_owned(), Value::from(api_version));
    }
    object
}

fn field_values(event: &Value) -> Vec<String> {
    let text = |path: &str| event.str_at(path).to_owned();
    let mut values: Vec<String> = FIELDS.iter().map(|field| text(field)).collect();
    let source = match event.str_at("source.component") {
        "" => text("reportingComponent"),
        component => component.to_owned(),
    };
    if let Some(i) = FIELDS.iter().position(|field| *field == "source")
        && let Some(value) = values.get_mut(i)
    {
        *value = source;
    }
    values
}

fn row(event: &Value, cx: &Context<'_>) -> Vec<Value> {
    let first = match event.str_at("firstTimestamp") {
        "" => event.str_at("eventTime"),
        time => time,
    };
    let mut count = event.int_at("count").unwrap_or_default();
    let last = if !event.at("series").is_null() {
        count = event.int_at("series.count").unwrap_or_default();
        event.str_at("series.lastObservedTime")
    } else {
        count = count.max(1);
        match event.str_at("lastTimestamp") {
            "" => first,
            time => time,
        }
    };
    let kind = event.str_at("involvedObject.kind").to_lowercase();
    let target = match event.str_at("involvedObject.name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let or = |a: &str, b: &str| match event.str_at(a) {
        "" => event.str_at(b).to_owned(),
        text => text.to_owned(),
    };
    let component = or("source.component", "reportingComponent");
    let source = match or("source.host", "reportingInstance").as_str() {
        "" => component,
        host => format!("{component}, {host}"),
    };
    vec![
        Value::from(duration::age(last, cx.now)),
        Value::from(event.str_at("type")),
        Value::from(event.str_at("reason")),
        Value::from(target),
        Value::from(event.str_at("involvedObject.fieldPath")),
        Value::from(source),
        Value::from(event.str_at("message").trim()),
        Value::from(duration::age(first, cx.now)),
        Value::from(count),
        print::name(event),
    ]
}

fn to_core(event: &Value) -> Value {
    rename(event.clone(), "v1", RENAMED.iter().map(|(old, new)| (*new, *old)))
}

impl Strategy for Event {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        field_values(object)
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        row(object, cx)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn time_to_live(&self, _object: &Value) -> Option<Duration> {
        Some(TIME_TO_LIVE)
    }
}

impl Strategy for NewEvent {
    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_new(&to_core(object))
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        NEW_FIELDS
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        field_values(&to_core(object))
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        row(&to_core(object), cx)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn time_to_live(&self, _object: &Value) -> Option<Duration> {
        Some(TIME_TO_LIVE)
    }

    fn to_served(&self, object: Value) -> Value {
        rename(object, "events.k8s.io/v1", RENAMED.iter().copied())
    }

    fn to_stored(&self, object: Value) -> Value {
        rename(object, "v1", RENAMED.iter().map(|(old, new)| (*new, *old)))
    }

    fn served_is_stored(&self) -> bool {
        false
    }
}

/// An event is stored with what it is about.
fn validate(object: &Value) -> ErrorList {
    let root = At::root(object);
    let involved = root.child("involvedObject");
    let namespace = involved.child("namespace");
    let own = object.namespace();
    if namespace.is_empty() && own != "default" {
        return vec![namespace.invalid_as("", "does not match event.namespace")];
    }
    if !namespace.is_empty() && namespace.text() != own {
        return vec![namespace.invalid("does not match event.namespace")];
    }
    Vec::new()
}

/// An event of the new shape says when, who, what and why.
fn validate_new(object: &Value) -> ErrorList {
    let root = At::root(object);
    if root.child("eventTime").is_empty() {
        return validate(object);
    }
    let mut errors = validate(object);
    for (field, shown, max) in [
        ("reportingComponent", "reportingController", usize::MAX),
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
    ] {
        let at = root.field(shown, root.child(field).value);
        if at.is_empty() {
            errors.push(at.required(""));
        } else if at.text().len() > max {
            errors.push(at.invalid(format!("can have at most {max} characters")));
        }
    }
    if !matches!(object.str_at("type"), "Normal" | "Warning") {
        let kind = root.child("type");
        errors.push(kind.invalid_as("", format!("has invalid value: {}", kind.text())));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_two_shapes_turn_into_each_other() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "Started", "reportingController": "kubelet",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        });
        let stored = NewEvent.to_stored(new.clone());
        assert_eq!(stored.str_at("involvedObject.name"), "p");
        assert_eq!(stored.str_at("message"), "Started");
        assert_eq!(stored.str_at("reportingComponent"), "kubelet");
        assert_eq!(NewEvent.to_served(stored.clone()), new);
        let fields = Event.field_values(&stored);
        assert_eq!(fields.len(), FIELDS.len());
        assert_eq!(fields, NewEvent.field_values(&new));
        assert!(fields.contains(&"kubelet".to_owned()));
    }
}
