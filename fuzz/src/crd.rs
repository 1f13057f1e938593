//! Schemas of custom resources: what they make of objects is made once.

use crate::make::Maker;
use rutter_api::crd;
use rutter_api::crd::{
    SchemaRules, apply_defaults, check_schema, prune, strip, types, unsupported, validate,
};
use rutter_api::{Path, Value};
use serde_json::{Map, json};

/// A structural schema's root.
pub fn structural(maker: &mut Maker<'_>) -> Value {
    let mut schema = object(maker, 0);
    schema["properties"]["metadata"] = json!({"type": "object"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema
}

fn object(maker: &mut Maker<'_>, depth: usize) -> Value {
    let mut properties = Map::new();
    for name in ["a", "b", "c", "name", "port"].into_iter().take(maker.count(5)) {
        properties.insert(name.to_owned(), part(maker, depth + 1));
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if maker.once_in(4) {
        schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    if maker.once_in(8) {
        schema["x-kubernetes-map-type"] = json!(maker.pick(&["atomic", "granular"]));
    }
    if maker.once_in(8) {
        schema["required"] = json!(["name"]);
    }
    schema
}

fn part(maker: &mut Maker<'_>, depth: usize) -> Value {
    let mut schema = match maker.below(if depth < 4 { 11 } else { 6 }) {
        0 => json!({"type": "string"}),
        1 => json!({"type": "integer"}),
        2 => json!({"type": "boolean"}),
        3 => json!({"type": "number"}),
        4 => json!({"x-kubernetes-int-or-string": true}),
        5 => json!({"x-kubernetes-preserve-unknown-fields": true}),
        6 => object(maker, depth),
        7 => {
            let mut schema = json!({"type": "object", "additionalProperties": part(maker, depth + 1)});
            if maker.once_in(4) {
                schema["x-kubernetes-map-type"] = json!("atomic");
            }
            schema
        }
        8 => json!({"type": "array", "items": part(maker, depth + 1)}),
        9 => {
            let items = json!({"type": maker.pick(&["string", "integer"])});
            json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"})
        }
        _ => list_map(maker, depth),
    };
    if maker.once_in(8) {
        schema["nullable"] = json!(true);
    }
    if maker.once_in(4) {
        let default = default_of(maker, &schema);
        schema["default"] = default;
    }
    schema
}

fn list_map(maker: &mut Maker<'_>, depth: usize) -> Value {
    let mut items = object(maker, depth + 1);
    items["properties"]["name"] = json!({"type": "string"});
    items["properties"]["port"] = json!({"type": "integer"});
    let (keys, required) = match maker.below(3) {
        0 => (json!(["name"]), json!(["name"])),
        1 => (json!(["name", "port"]), json!(["name", "port"])),
        _ => {
            items["properties"]["port"]["default"] = json!(80);
            (json!(["port", "name"]), json!(["name"]))
        }
    };
    items["required"] = required;
    if let Some(items) = items.as_object_mut() {
        items.remove("x-kubernetes-map-type");
    }
    json!({"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})
}

fn default_of(maker: &mut Maker<'_>, schema: &Value) -> Value {
    match schema["type"].as_str().unwrap_or_default() {
        "string" => json!("d"),
        "integer" => json!(7),
        "boolean" => json!(true),
        "number" => json!(0.5),
        "array" => json!([]),
        "object" if maker.flip() => json!({"a": maker.tree()}),
        "object" => json!({}),
        _ => json!(1),
    }
}

/// What a schema makes of objects, it makes once; a schema that is none is refused.
pub fn schemas(data: &[u8]) {
    let mut maker = Maker::new(data);
    let schema = match maker.below(4) {
        0 => maker.tree(),
        1 => disturbed(&mut maker),
        _ => structural(&mut maker),
    };
    let path = Path::new("schema");
    let _ = check_schema(&schema, true, SchemaRules::ALL, &path);
    let mut stripped = schema.clone();
    strip(&mut stripped);
    let mut twice = stripped.clone();
    strip(&mut twice);
    assert_eq!(twice, stripped);
    if unsupported(&schema).is_some() || !crd::structural(&schema, &path).is_empty() {
        return;
    }
    let built = types("custom", &schema, false);
    let made = match maker.flip() {
        true => maker.sample(&built, "custom"),
        false => json!({"a": maker.tree(), "b": maker.tree(), "c": maker.tree()}),
    };
    let pruned = prune(&built, "custom", made.clone());
    assert_eq!(prune(&built, "custom", pruned.clone()), pruned, "pruned twice");
    let mut defaulted = pruned.clone();
    apply_defaults(&schema, &mut defaulted);
    let mut again = defaulted.clone();
    apply_defaults(&schema, &mut again);
    assert_eq!(again, defaulted, "given defaults twice");
    if check_schema(&schema, false, SchemaRules::ALL, &path).is_empty() {
        assert_eq!(
            prune(&built, "custom", defaulted.clone()),
            defaulted,
            "defaults of a good schema are pruned"
        );
    }
    let errors = validate(&schema, &defaulted, None);
    let passed = validate(&schema, &defaulted, Some(&defaulted));
    assert!(
        passed.len() <= errors.len(),
        "more is wrong with what hasn't changed: {passed:?}"
    );
}

/// A structural schema with something wrong in it.
fn disturbed(maker: &mut Maker<'_>) -> Value {
    let mut schema = structural(maker);
    let places = crate::patch::places(&schema);
    let keywords = [
        "type",
        "default",
        "items",
        "properties",
        "additionalProperties",
        "allOf",
        "not",
        "nullable",
        "required",
        "enum",
        "pattern",
        "format",
        "minimum",
        "maxLength",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    ];
    for _ in 0..maker.count(3) {
        let (at, value) = (maker.pick(&places), maker.tree());
        let keyword = maker.pick(&keywords);
        if let Some(Value::Object(map)) = schema.pointer_mut(&at) {
            map.insert(keyword.to_owned(), value);
        }
    }
    schema
}
