//! Lists in strategic merge: which elements are the same, and the order they come in.

use super::{DIRECTIVE, PatchError};
use serde_json::Value;

/// The value that tells an element apart.
pub(super) fn key_of<'v>(item: &'v Value, key: &str) -> Result<&'v Value, PatchError> {
    item.get(key).ok_or_else(|| {
        PatchError::Malformed(format!("map: {item} does not contain declared merge key: {key}"))
    })
}

fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() {
        a == b
    } else {
        a.get(key).is_some() && a.get(key) == b.get(key)
    }
}

fn position(order: &[Value], item: &Value, key: &str) -> Option<usize> {
    order.iter().position(|other| same(other, item, key))
}

/// Applies the elements with a `$patch` directive; gives the original and what is left of the patch.
pub(super) fn special_elements(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        match item.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
            None => plain.push(item),
            Some("delete") => {
                let gone = key_of(&item, key)?;
                original.retain(|old| old.get(key) != Some(gone));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(PatchError::Malformed(format!(
                    "delete, replace or no directive expected in a list's element, not merge: {item}"
                )));
            }
            Some(other) => {
                return Err(PatchError::Malformed(format!(
                    "Unknown patch type: {other} in map: {item}"
                )));
            }
        }
    }
    Ok(if replace {
        (plain, Vec::new())
    } else {
        (original, plain)
    })
}

/// Splits into what `order` names and what it doesn't.
pub(super) fn partition(items: Vec<Value>, order: &[Value], key: &str) -> (Vec<Value>, Vec<Value>) {
    items
        .into_iter()
        .partition(|item| position(order, item, key).is_some())
}

/// Puts the elements named by the patch in its order, and the others between them as near to where they were as that
/// order allows.
pub(super) fn weave(
    mut ordered: Vec<Value>,
    mut server_only: Vec<Value>,
    order: &[Value],
    server_order: &[Value],
    key: &str,
) -> Vec<Value> {
    ordered.sort_by_key(|item| position(order, item, key));
    server_only.sort_by_key(|item| position(server_order, item, key));
    let mut woven = Vec::with_capacity(ordered.len() + server_only.len());
    let mut left = server_only.into_iter().peekable();
    let mut right = ordered.into_iter().peekable();
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return woven,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => match (position(server_order, l, key), position(server_order, r, key)) {
                (Some(l), Some(r)) => l < r,
                _ => false,
            },
        };
        woven.extend(if take_left { left.next() } else { right.next() });
    }
}

/// The elements of a patch must come in the order that the patch gives.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    let mut last = 0;
    for item in patch {
        if item.get(DIRECTIVE).is_some() {
            continue;
        }
        if !key.is_empty() {
            key_of(item, key)?;
        }
        match position(order, item, key) {
            Some(at) if at >= last => last = at,
            _ => {
                return Err(PatchError::Malformed(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    Value::from(patch),
                    Value::from(order)
                )));
            }
        }
    }
    Ok(())
}
