//! Patches: they do what they say, in pieces as at once, and what was compared arrives.

use crate::make::Maker;
pub use crate::make::pointers as places;
use rutter_api::codec::{MAX_DEPTH, json};
use rutter_api::object::ObjectExt;
use rutter_api::patch::{PatchError, json_patch, merge_patch, merge_three_way, strategic};
use rutter_api::schema::{FieldValidation, builtin, decode};
use serde_json::{Map, Value, json};

/// JSON patches (RFC 6902).
pub fn json_operations(data: &[u8]) {
    let mut maker = Maker::new(data);
    let document = maker.tree();
    let mut places = places(&document);
    let mut operations = Vec::new();
    for _ in 0..maker.count(6) {
        let operation = operation(&mut maker, &places);
        let target = operation["path"].as_str().unwrap_or_default().to_owned();
        places.push(target);
        operations.push(operation);
    }
    let patch = Value::from(operations.as_slice());
    let whole = json_patch(&document, &patch);
    let one_by_one = operations
        .iter()
        .try_fold(document.clone(), |document, operation| {
            let done = json_patch(&document, &json!([operation]))?;
            check(&document, operation, &done);
            Ok::<_, PatchError>(done)
        });
    assert_eq!(whole, one_by_one, "in pieces it does something else");
    if let Ok(done) = whole {
        let bytes = json::to_vec(&done);
        assert_eq!(
            json::parse(&bytes).map(|read| read.0),
            Ok(done),
            "deeper than {MAX_DEPTH}"
        );
    }
}

fn operation(maker: &mut Maker<'_>, places: &[String]) -> Value {
    let place = |maker: &mut Maker<'_>| {
        let mut at = maker.pick(places);
        if maker.flip() {
            at.push('/');
            at.push_str(&match maker.below(6) {
                0 => "-".to_owned(),
                1 => maker.below(4).to_string(),
                2 => format!("-{}", maker.below(3)),
                _ => maker.word().replace('~', "~0").replace('/', "~1"),
            });
        }
        at
    };
    let kind = maker.pick(&["add", "remove", "replace", "move", "copy", "test"]);
    let path = place(maker);
    let mut operation = json!({"op": kind, "path": path});
    match kind {
        "move" | "copy" => operation["from"] = json!(place(maker)),
        "remove" => {}
        _ if maker.once_in(16) => {}
        _ => operation["value"] = maker.tree(),
    }
    operation
}

/// Whether what an operation did is what it says.
fn check(before: &Value, operation: &Value, after: &Value) {
    let text = |key: &str| operation[key].as_str().unwrap_or_default();
    let path = text("path");
    let last = path.rsplit('/').next().unwrap_or_default();
    let parent = path.rfind('/').map_or("", |at| &path[..at]);
    // Places in lists that are counted from the end are none of serde_json's.
    if pointer_counts_back(path) || pointer_counts_back(text("from")) {
        return;
    }
    let size = |tree: &Value, at: &str| tree.pointer(at).and_then(Value::as_array).map(Vec::len);
    match text("op") {
        "test" => assert_eq!(before, after),
        "replace" | "add" if last != "-" => {
            assert_eq!(
                after.pointer(path),
                Some(&operation["value"]),
                "{operation} of {before}"
            );
            if text("op") == "add"
                && let Some(length) = size(before, parent)
                && !path.is_empty()
            {
                assert_eq!(size(after, parent), Some(length + 1), "an element is inserted");
            }
        }
        "remove" => {
            if let Some(length) = size(before, parent) {
                assert_eq!(size(after, parent), Some(length - 1));
            } else {
                assert_eq!(after.pointer(path), None, "{operation} of {before}");
            }
        }
        "copy" if last != "-" => {
            assert_eq!(
                after.pointer(path),
                before.pointer(text("from")),
                "{operation} of {before}"
            );
        }
        "move" if last != "-" => {
            assert_eq!(
                after.pointer(path),
                before.pointer(text("from")),
                "{operation} of {before}"
            );
        }
        _ => {}
    }
}

fn pointer_counts_back(pointer: &str) -> bool {
    let odd = |part: &str| {
        part.starts_with('-') || part.starts_with('+') || (part.len() > 1 && part.starts_with('0'))
    };
    pointer.split('/').any(odd)
}

/// Merge patches (RFC 7386), and those that compare three documents.
pub fn merge(data: &[u8]) {
    let mut maker = Maker::new(data);
    let (original, modified, current, patch) = (maker.tree(), maker.tree(), maker.tree(), maker.tree());
    let once = merge_patch(original.clone(), &patch);
    assert_eq!(once, reference(&original, &patch));
    assert_eq!(
        merge_patch(once.clone(), &patch),
        once,
        "a merge patch does nothing the second time"
    );
    let objects = original.is_object() && modified.is_object();
    if let (true, Ok(two_way)) = (objects, merge_three_way(&original, &modified, &original)) {
        let arrived = merge_patch(original.clone(), &two_way);
        let left = merge_three_way(&arrived, &modified, &arrived).unwrap_or_default();
        assert_eq!(
            merge_patch(arrived.clone(), &left),
            arrived,
            "{two_way} leaves {left}"
        );
    }
    if let Ok(patch) = merge_three_way(&original, &modified, &current) {
        let merged = merge_patch(current, &patch);
        if let Ok(again) = merge_three_way(&original, &modified, &merged) {
            assert_eq!(merge_patch(merged.clone(), &again), merged);
        }
        for (key, value) in modified.as_object().into_iter().flatten() {
            if !value.is_null() && !value.is_object() {
                assert_eq!(merged.get(key), Some(value), "what was modified arrives");
            }
        }
    }
}

/// The pseudocode of the RFC.
fn reference(target: &Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else {
        return patch.clone();
    };
    let mut target = target.as_object().cloned().unwrap_or_else(Map::new);
    for (name, value) in changes {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.get(name).cloned().unwrap_or_default();
            target.insert(name.clone(), reference(&old, value));
        }
    }
    Value::Object(target)
}

/// Strategic merge patches: what was compared arrives, and conflicts are refused.
pub fn strategically(data: &[u8]) {
    let mut maker = Maker::new(data);
    let (kind, original) = maker.object();
    let name = kind.1.as_str();
    let (mut modified, mut current) = (maker.object_of(kind), maker.object_of(kind));
    for other in [&mut modified, &mut current] {
        other.take_at("metadata.name");
        if !original.at("metadata.name").is_null() {
            other.set("metadata.name", original.name());
        }
    }
    assert_eq!(
        strategic::create_two_way(builtin(), name, &original, &original),
        Ok(json!({}))
    );
    assert_eq!(
        strategic::merge(builtin(), name, original.clone(), json!({})),
        Ok(original.clone())
    );
    // Lists may fall apart by a patch's key where the schema's keys hold together; those patches are refused.
    if let Ok(patch) = strategic::create_two_way(builtin(), name, &original, &modified)
        && let Ok(merged) = strategic::merge(builtin(), name, original.clone(), patch.clone())
    {
        let left = strategic::create_two_way(builtin(), name, &merged, &modified);
        assert_eq!(left, Ok(json!({})), "{patch}");
    }
    let three =
        |overwrite| strategic::create_three_way(builtin(), name, &original, &modified, &current, overwrite);
    match (three(false), three(true)) {
        (Ok(careful), overwriting) => assert_eq!(Ok(careful), overwriting, "without a conflict they are one"),
        (Err(PatchError::Conflict(_)), Ok(patch)) => {
            let _ = strategic::merge(builtin(), name, current.clone(), patch);
        }
        (Err(PatchError::Conflict(_)), Err(_)) => {}
        (Err(error), overwriting) => assert_eq!(Err(error), overwriting),
    }
    if maker.is_done() {
        return;
    }
    let patch = directives(&mut maker, &original, 0);
    if let Ok(merged) = strategic::merge(builtin(), name, original, patch) {
        let _ = decode(builtin(), name, merged, FieldValidation::Warn);
    }
}

/// A patch that names parts of an object, with directives among them.
fn directives(maker: &mut Maker<'_>, object: &Value, depth: usize) -> Value {
    let Some(map) = object.as_object() else {
        return maker.tree();
    };
    let mut patch = Map::new();
    for (key, value) in map {
        if maker.is_done() {
            break;
        }
        match maker.below(8) {
            0 => drop(patch.insert(key.clone(), Value::Null)),
            1 => drop(patch.insert(format!("$setElementOrder/{key}"), maker.tree())),
            2 => drop(patch.insert(format!("$deleteFromPrimitiveList/{key}"), maker.tree())),
            3 => drop(patch.insert(key.clone(), maker.tree())),
            4 if value.is_array() => {
                let items = value.as_array().into_iter().flatten();
                let items = items.map(|item| directives(maker, item, depth + 1)).collect();
                patch.insert(key.clone(), Value::Array(items));
            }
            _ if value.is_object() => drop(patch.insert(key.clone(), directives(maker, value, depth + 1))),
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    if maker.once_in(4) {
        patch.insert(
            "$patch".to_owned(),
            json!(maker.pick(&["merge", "replace", "delete", "x"])),
        );
    }
    if maker.once_in(4) {
        let kept: Vec<&String> = map.keys().filter(|key| key.len() % 2 == 0).collect();
        patch.insert("$retainKeys".to_owned(), json!(kept));
    }
    Value::Object(patch)
}
