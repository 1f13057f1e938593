//! Columns and cells as `kubectl get` shows them.

use rutter_api::object::ObjectExt;
use rutter_api::strategy::{Column, Context};
use rutter_api::{Value, duration};

/// What stands for nothing.
pub(crate) const NONE: &str = "<none>";
/// What stands for a field that isn't set.
pub(crate) const UNSET: &str = "<unset>";
/// The object's name.
pub(crate) const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "The object's name.",
    priority: 0,
};
/// Its age.
pub(crate) const AGE: Column = text("Age", "Time since the object was created.");
/// Names of containers, wide.
pub(crate) const CONTAINERS: Column = wide("Containers", "Names of the template's containers.");
/// Images of containers, wide.
pub(crate) const IMAGES: Column = wide("Images", "Images of the template's containers.");
/// A selector, wide.
pub(crate) const SELECTOR: Column = wide("Selector", "The labels by which its pods are found.");

/// A column of text.
pub(crate) const fn text(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 0,
    }
}

/// A column of whole numbers.
pub(crate) const fn integer(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "integer",
        format: "",
        description,
        priority: 0,
    }
}

/// A column of yes and no.
pub(crate) const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "boolean",
        format: "",
        description,
        priority: 0,
    }
}

/// A column of text shown with `-o wide` only.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description,
        priority: 1,
    }
}

/// The cell of [`NAME`].
pub(crate) fn name(object: &Value) -> Value {
    Value::from(object.name())
}

/// The cell of [`AGE`].
pub(crate) fn age(object: &Value, cx: &Context<'_>) -> Value {
    since(object, "metadata.creationTimestamp", cx)
}

/// Time since the timestamp at a path.
pub(crate) fn since(object: &Value, path: &str, cx: &Context<'_>) -> Value {
    Value::from(duration::age(object.str_at(path), cx.now))
}

/// The text at a path, or else `other`.
pub(crate) fn text_or(object: &Value, path: &str, other: &str) -> Value {
    match object.str_at(path) {
        "" => Value::from(other),
        text => Value::from(text),
    }
}

/// The number at a path, 0 when absent.
pub(crate) fn count(object: &Value, path: &str) -> Value {
    Value::from(object.int_at(path).unwrap_or_default())
}

/// `k=v,k=v`, or `<none>`.
pub(crate) fn labels(map: &Value) -> String {
    match map.as_object() {
        Some(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(","),
        _ => NONE.to_owned(),
    }
}

/// A label selector as people write one; `<none>` when it selects everything, empty without one.
pub(crate) fn selector(selector: &Value) -> String {
    let text = selector_text(selector);
    if selector.is_null() || text.is_empty() {
        NONE.to_owned()
    } else {
        text
    }
}

/// A label selector as people write one.
pub(crate) fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.map_at("matchLabels").into_iter().flatten() {
        parts.push((
            key.clone(),
            format!("{key}={}", value.as_str().unwrap_or_default()),
        ));
    }
    for expression in selector.list_at("matchExpressions") {
        let key = expression.str_at("key");
        let mut values: Vec<&str> = expression
            .list_at("values")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression.str_at("operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            other => return format!("<error: {other:?} is not a valid label selector operator>"),
        };
        parts.push((key.to_owned(), text));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts
        .into_iter()
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join(",")
}

/// The cells of [`CONTAINERS`] and [`IMAGES`] of a pod spec.
pub(crate) fn containers(pod_spec: &Value) -> [Value; 2] {
    let join = |field: &str| {
        let texts: Vec<&str> = pod_spec
            .list_at("containers")
            .iter()
            .map(|c| c.str_at(field))
            .collect();
        Value::from(texts.join(","))
    };
    [join("name"), join("image")]
}

/// Strings of a list, joined by commas.
pub(crate) fn joined(list: &[Value]) -> String {
    list.iter()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(",")
}

/// An int-or-string as text.
pub(crate) fn int_or_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A list cut after `max` elements, saying how many are left out.
pub(crate) fn cut(list: &[String], max: usize) -> String {
    match list.get(..max) {
        Some(head) if list.len() > max => format!("{} + {} more...", head.join(","), list.len() - max),
        _ if list.is_empty() => UNSET.to_owned(),
        _ => list.join(","),
    }
}

/// A time as objects carry it, to the second.
pub(crate) fn rfc3339(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

/// The columns of kinds without columns of their own.
pub(crate) const CREATED_AT: &[Column] = &[
    NAME,
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        description: "When it was created.",
        priority: 0,
    },
];

/// The cells of [`CREATED_AT`].
pub(crate) fn created_at(object: &Value, _cx: &Context<'_>) -> Vec<Value> {
    vec![name(object), object.at("metadata.creationTimestamp").clone()]
}

/// `done/wanted`, from the numbers at two paths.
pub(crate) fn of(object: &Value, done: &str, wanted: &str) -> Value {
    let number = |path: &str| object.int_at(path).unwrap_or_default();
    Value::from(format!("{}/{}", number(done), number(wanted)))
}

/// A label selector as the tables of admission policy bindings show it: field by field.
pub(crate) fn selector_struct(selector: &Value) -> String {
    let labels: Vec<String> = selector
        .map_at("matchLabels")
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    let expressions: Vec<String> = selector
        .list_at("matchExpressions")
        .iter()
        .map(|e| {
            let values: Vec<&str> = e.list_at("values").iter().filter_map(Value::as_str).collect();
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
                e.str_at("key"),
                e.str_at("operator"),
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.join(""),
        expressions.join("")
    )
}
