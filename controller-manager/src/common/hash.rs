//! A stable hash of an object's content, short enough for names and labels.
//!
//! It depends on the canonical JSON alone, with empty fields left out, so that two spellings of one object agree.

use serde_json::Value;
use sha2::{Digest, Sha256};

// Without vowels and look-alikes, so that no words appear.
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Hashes an object, and a count of collisions when there were any, to at most ten safe characters.
pub fn of<T: serde::Serialize>(object: &T, collisions: Option<i32>) -> String {
    let mut hasher = Sha256::new();
    hasher.update(canonical(object).to_string());
    if let Some(count) = collisions {
        hasher.update(count.to_le_bytes());
    }
    let digest = hasher.finalize();
    let number = digest
        .iter()
        .take(4)
        .fold(0_u32, |n, byte| (n << 8) | u32::from(*byte));
    safe(&number.to_string())
}

/// Replaces each character by a safe one.
fn safe(text: &str) -> String {
    text.bytes()
        .map(|b| char::from(SAFE.get(usize::from(b) % SAFE.len()).copied().unwrap_or(b'x')))
        .collect()
}

/// Some safe characters from a random number.
pub fn suffix(mut random: u64) -> String {
    let mut text = String::with_capacity(5);
    let base = SAFE.len() as u64;
    for _ in 0..5 {
        let at = usize::try_from(random % base).unwrap_or(0);
        text.push(char::from(SAFE.get(at).copied().unwrap_or(b'x')));
        random /= base;
    }
    text
}

/// The object as a tree without nulls and without empty lists, maps and strings.
pub fn canonical<T: serde::Serialize>(object: &T) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or(Value::Null);
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            // An empty object may say something, as in `emptyDir: {}`, so objects stay where a list or text would not.
            map.retain(|_, v| {
                !matches!(v, Value::Null)
                    && !v.as_array().is_some_and(Vec::is_empty)
                    && v.as_str() != Some("")
            });
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spelling_does_not_matter_but_content_and_collisions_do() {
        let a = of(&json!({"a": 1, "b": []}), None);
        assert_eq!(a, of(&json!({"b": null, "a": 1}), None));
        assert_ne!(a, of(&json!({"a": 2}), None));
        assert_ne!(a, of(&json!({"a": 1}), Some(1)));
        assert!(a.len() <= 10 && a.bytes().all(|b| SAFE.contains(&b)), "{a}");
    }

    #[test]
    fn suffixes_have_five_safe_characters() {
        for random in [0, 1, u64::MAX] {
            let text = suffix(random);
            assert!(
                text.len() == 5 && text.bytes().all(|b| SAFE.contains(&b)),
                "{text}"
            );
        }
    }
}
