//! The OpenAPI v2 documents of aggregated servers within our own: their paths, and the definitions that those need.

use rutter_api::{GroupVersion, Value};
use serde_json::{Map, json};
use std::collections::{BTreeMap, BTreeSet};

const DEFINITIONS: &str = "#/definitions/";

/// A server's part for a group version: the paths below it, and the definitions that they reach.
pub fn part_of(document: &Value, group_version: &GroupVersion) -> Value {
    let prefix = format!("/apis/{}/{}/", group_version.group, group_version.version);
    let paths: Map<String, Value> = document
        .get("paths")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(path, _)| path.starts_with(&prefix))
        .map(|(path, value)| (path.clone(), value.clone()))
        .collect();
    let empty = Map::new();
    let all = document
        .get("definitions")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut wanted: Vec<String> = Vec::new();
    paths.values().for_each(|path| references(path, &mut wanted));
    let mut definitions = Map::new();
    while let Some(name) = wanted.pop() {
        if let (false, Some(found)) = (definitions.contains_key(&name), all.get(&name)) {
            references(found, &mut wanted);
            definitions.insert(name, found.clone());
        }
    }
    json!({"paths": paths, "definitions": definitions})
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref")
                && let Some(name) = reference.strip_prefix(DEFINITIONS)
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

/// Adds a part to a document. A definition that the document has already and that differs is given another name.
pub fn add(document: &mut Value, part: &Value) {
    let empty = Map::new();
    let object = |value: &Value, key: &str| value.get(key).and_then(Value::as_object).cloned();
    let (paths, definitions) = (object(part, "paths"), object(part, "definitions"));
    let (paths, definitions) = (paths.unwrap_or_default(), definitions.unwrap_or_default());
    let taken = document
        .get("definitions")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let names = new_names(taken, &definitions);
    let renamed = |value: &Value| {
        let mut value = value.clone();
        rename(&mut value, &names);
        value
    };
    for (key, values) in [("paths", paths), ("definitions", definitions)] {
        let Some(into) = document.get_mut(key).and_then(Value::as_object_mut) else {
            continue;
        };
        for (name, value) in &values {
            let name = names.get(name).filter(|_| key == "definitions").unwrap_or(name);
            into.entry(name.clone()).or_insert_with(|| renamed(value));
        }
    }
}

/// The definitions that must have another name, and which. Whoever refers to a renamed one differs too.
fn new_names(taken: &Map<String, Value>, added: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut differing: BTreeSet<&String> = BTreeSet::new();
    loop {
        let before = differing.len();
        for (name, definition) in added {
            let Some(same) = taken.get(name) else { continue };
            let mut used = Vec::new();
            references(definition, &mut used);
            if same != definition || used.iter().any(|used| differing.contains(used)) {
                differing.insert(name);
            }
        }
        if differing.len() == before {
            break;
        }
    }
    let free = |name: &String| {
        let mut number = 2;
        while taken.contains_key(&format!("{name}_v{number}")) {
            number += 1;
        }
        format!("{name}_v{number}")
    };
    differing
        .into_iter()
        .map(|name| (name.clone(), free(name)))
        .collect()
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(new) = reference
                    .strip_prefix(DEFINITIONS)
                    .and_then(|name| names.get(name))
            {
                *reference = format!("{DEFINITIONS}{new}");
            }
            map.values_mut().for_each(|inner| rename(inner, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| rename(inner, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_paths_and_what_they_need_and_takes_no_name_from_others() {
        let reference = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        let server = json!({
            "paths": {
                "/apis/a/v1/things": {"get": {"schema": reference("Thing")}},
                "/apis/b/v1/others": {"get": {"schema": reference("Other")}},
            },
            "definitions": {
                "Thing": {"properties": {"metadata": reference("Meta"), "time": reference("Time")}},
                "Meta": {"description": "theirs"}, "Time": {"type": "string"}, "Other": {},
            },
        });
        let part = part_of(&server, &GroupVersion::new("a", "v1"));
        let names: Vec<&String> = part["definitions"].as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(part["paths"].get("/apis/b/v1/others").is_none());
        let mut document = json!({
            "paths": {"/api/v1/pods": {}},
            "definitions": {"Meta": {"description": "ours"}, "Time": {"type": "string"}},
        });
        add(&mut document, &part);
        assert_eq!(document["definitions"]["Meta"]["description"], "ours");
        assert_eq!(document["definitions"]["Meta_v2"]["description"], "theirs");
        let thing = &document["definitions"]["Thing"]["properties"];
        assert_eq!(thing["metadata"], reference("Meta_v2"));
        assert_eq!(thing["time"], reference("Time"));
        assert_eq!(document["paths"].as_object().unwrap().len(), 2);
    }
}
