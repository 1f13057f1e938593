//! JSON patch (RFC 6902).

use super::PatchError;
use crate::codec::MAX_DEPTH;
use serde_json::{Map, Value};

/// More operations than these aren't taken in one patch.
const MAX_OPERATIONS: usize = 10_000;
/// All `copy` operations of a patch together make at most this many bytes of JSON.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch. Operations are applied in order; when one fails, the patch fails.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let malformed = |text: &str| PatchError::Malformed(text.to_owned());
    let operations = patch
        .as_array()
        .ok_or_else(|| malformed("a JSON patch must be a list of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut document = document.clone();
    let mut copied = 0;
    for operation in operations {
        let operation = operation
            .as_object()
            .ok_or_else(|| malformed("a JSON patch operation must be an object"))?;
        apply(&mut document, operation, &mut copied)?;
    }
    Ok(document)
}

fn apply(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), PatchError> {
    let kind = text(operation, "op")?;
    let path = text(operation, "path")?;
    let fails = |what: &str| PatchError::Mismatch(format!("{kind} operation does not apply: {what}: {path}"));
    let value = || match operation.get("value") {
        Some(value) => Ok(value.clone()),
        None => Err(PatchError::Malformed(format!(
            "{kind} operation of {path:?} has no value"
        ))),
    };
    // Otherwise a few copies into themselves would make what nobody can walk over any more.
    let shallow = |value: Value| match parts(path).count() + depth(&value) <= MAX_DEPTH {
        true => Ok(value),
        false => Err(PatchError::TooLarge(format!(
            "Unable to complete the {kind}, the object would be nested deeper than {MAX_DEPTH}"
        ))),
    };
    match kind {
        "add" => add(document, path, shallow(value()?)?).map_err(fails),
        "remove" => remove(document, path).map(|_| ()).map_err(fails),
        "replace" => {
            *find_mut(document, path).ok_or_else(|| fails("doc is missing key"))? = shallow(value()?)?;
            Ok(())
        }
        "move" => {
            let from = text(operation, "from")?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(fails("a value can't be moved into itself"));
            }
            let moved = remove(document, from).map_err(fails)?;
            add(document, path, shallow(moved)?).map_err(fails)
        }
        "copy" => {
            let from = text(operation, "from")?;
            let value = find(document, from)
                .ok_or_else(|| fails("doc is missing from path"))?
                .clone();
            *copied += value.to_string().len();
            if *copied > MAX_COPIED {
                return Err(PatchError::TooLarge(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                )));
            }
            add(document, path, shallow(value)?).map_err(fails)
        }
        "test" => {
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            match find(document, path).unwrap_or(&Value::Null) == wanted {
                true => Ok(()),
                false => Err(PatchError::Test(format!(
                    "testing value {path} failed: test failed"
                ))),
            }
        }
        _ => Err(PatchError::Malformed(format!("Unexpected kind: {kind}"))),
    }
}

fn text<'a>(operation: &'a Map<String, Value>, name: &str) -> Result<&'a str, PatchError> {
    operation
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| PatchError::Malformed(format!("a JSON patch operation must have a text {name:?}")))
}

/// How many lists and maps lie in one another.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// The parts of a JSON pointer, unescaped.
fn parts(pointer: &str) -> impl Iterator<Item = String> {
    pointer
        .split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// An index into a list; negative ones count from the end.
fn index(part: &str, length: usize) -> Option<usize> {
    match part.strip_prefix('-') {
        Some(back) => length.checked_sub(back.parse().ok()?),
        None => part.parse().ok(),
    }
}

fn find<'v>(document: &'v Value, pointer: &str) -> Option<&'v Value> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    parts(pointer).try_fold(document, |value, part| match value {
        Value::Object(map) => map.get(&part),
        Value::Array(items) => items.get(index(&part, items.len())?),
        _ => None,
    })
}

fn find_mut<'v>(document: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    parts(pointer).try_fold(document, |value, part| match value {
        Value::Object(map) => map.get_mut(&part),
        Value::Array(items) => {
            let index = index(&part, items.len())?;
            items.get_mut(index)
        }
        _ => None,
    })
}

fn split(pointer: &str) -> Option<(&str, String)> {
    let (parent, last) = pointer.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(document: &mut Value, pointer: &str, value: Value) -> Result<(), &'static str> {
    if pointer.is_empty() {
        *document = value;
        return Ok(());
    }
    let (parent, last) = split(pointer).ok_or("no JSON pointer")?;
    match find_mut(document, parent).ok_or("doc is missing path")? {
        Value::Object(map) => {
            map.insert(last, value);
            Ok(())
        }
        Value::Array(items) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
            let at = index(&last, items.len())
                .filter(|at| *at <= items.len())
                .ok_or("invalid index")?;
            items.insert(at, value);
            Ok(())
        }
        _ => Err("doc is missing path"),
    }
}

fn remove(document: &mut Value, pointer: &str) -> Result<Value, &'static str> {
    let (parent, last) = split(pointer).ok_or("no JSON pointer")?;
    match find_mut(document, parent).ok_or("doc is missing path")? {
        Value::Object(map) => map.remove(&last).ok_or("unable to remove nonexistent key"),
        Value::Array(items) => {
            let at = index(&last, items.len())
                .filter(|at| *at < items.len())
                .ok_or("invalid index")?;
            Ok(items.remove(at))
        }
        _ => Err("doc is missing path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn operations_do_what_the_rfc_says() {
        let document = json!({"a": {"b": [1, 2]}, "c/d": 1, "e~f": 2});
        for (patch, want) in [
            (
                json!([{"op": "add", "path": "/a/x", "value": null}]),
                json!({"a": {"b": [1, 2], "x": null}, "c/d": 1, "e~f": 2}),
            ),
            (
                json!([{"op": "add", "path": "/a/b/-", "value": 3}, {"op": "add", "path": "/a/b/0", "value": 0}]),
                json!({"a": {"b": [0, 1, 2, 3]}, "c/d": 1, "e~f": 2}),
            ),
            (
                json!([{"op": "remove", "path": "/c~1d"}, {"op": "remove", "path": "/e~0f"}]),
                json!({"a": {"b": [1, 2]}}),
            ),
            (
                json!([{"op": "replace", "path": "/a/b/-1", "value": 9}]),
                json!({"a": {"b": [1, 9]}, "c/d": 1, "e~f": 2}),
            ),
            (
                json!([{"op": "move", "from": "/a/b", "path": "/b"}, {"op": "copy", "from": "/b/0", "path": "/a/y"}]),
                json!({"a": {"y": 1}, "b": [1, 2], "c/d": 1, "e~f": 2}),
            ),
            (
                json!([{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "test", "path": "/zz", "value": null}]),
                document.clone(),
            ),
            (json!([{"op": "replace", "path": "", "value": 1}]), json!(1)),
        ] {
            assert_eq!(json_patch(&document, &patch), Ok(want), "{patch}");
        }
    }

    #[test]
    fn operations_that_do_not_apply_are_refused() {
        let document = json!({"a": {"b": [1, 2]}});
        for (patch, code) in [
            (json!([{"op": "remove", "path": "/x"}]), 422),
            (json!([{"op": "replace", "path": "/x", "value": 1}]), 422),
            (json!([{"op": "add", "path": "/x/y", "value": 1}]), 422),
            (json!([{"op": "add", "path": "/a/b/5", "value": 1}]), 422),
            (json!([{"op": "test", "path": "/a/b/0", "value": 2}]), 422),
            (json!([{"op": "move", "from": "/a", "path": "/a/b"}]), 422),
            (json!([{"op": "remove", "path": "x"}]), 422),
            (json!([{"op": "frob", "path": "/a"}]), 400),
            (json!([{"op": "add", "path": "/a"}]), 400),
            (json!({"a": 1}), 400),
            (json!([1]), 400),
        ] {
            assert_eq!(
                json_patch(&document, &patch).unwrap_err().status().code,
                code,
                "{patch}"
            );
        }
    }

    #[test]
    fn nothing_is_nested_deeper_than_can_be_read() {
        // Each copy of the document into its innermost part doubles its depth.
        let double = |level: u32| json!({"op": "copy", "from": "/a", "path": "/a".repeat((1 << level) + 1)});
        let patch = |copies| Value::from((0..copies).map(double).collect::<Vec<_>>());
        let document = json!({"a": {}});
        let done = json_patch(&document, &patch(6)).unwrap();
        assert_eq!(depth(&done), 65);
        assert_eq!(json_patch(&document, &patch(8)).unwrap_err().status().code, 413);
        let mut deep = json!([]);
        for _ in 1..MAX_DEPTH {
            deep = json!([deep]);
        }
        let replace = |path| {
            json_patch(
                &document,
                &json!([{"op": "replace", "path": path, "value": deep}]),
            )
        };
        assert_eq!(replace("").as_ref(), Ok(&deep));
        assert_eq!(
            crate::codec::json::parse(deep.to_string().as_bytes()),
            Ok((deep.clone(), Vec::new()))
        );
        assert_eq!(replace("/a").unwrap_err().status().code, 413);
    }

    proptest! {
        #[test]
        fn no_patch_makes_it_panic(
            document in crate::codec::json::tests::tree(),
            operations in prop::collection::vec(("add|remove|replace|move|copy|test", "(/(a|b|0|1|-|-1|~0|~1|~)){0,3}", "(/[ab01]){0,2}"), 0..4),
        ) {
            let patch: Vec<Value> = operations
                .into_iter()
                .map(|(op, path, from)| json!({"op": op, "path": path, "from": from, "value": {"a": [1]}}))
                .collect();
            let _ = json_patch(&document, &Value::from(patch));
        }
    }
}
