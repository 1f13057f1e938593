//! Properties that hold for every object of every kind, shown on random ones.

use super::sample::{KINDS, sample};
use super::{FieldValidation, builtin, decode};
use crate::apply::{Manager, apply, reset_fields, update_managed};
use crate::codec::{json, protobuf};
use crate::meta::GroupVersionKind;
use crate::object::ObjectExt;
use crate::patch::{merge_patch, merge_three_way, strategic};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json as object};

/// Protobuf has no empty lists and maps.
fn without_empties(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, without_empties(value)));
            Value::Object(kept.filter(|(_, v)| !is_empty(v)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_empties).collect()),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn decoding_what_was_decoded_changes_nothing(name in select(KINDS), seed: u64) {
        let object = sample(builtin(), name, seed);
        let again = decode(builtin(), name, object.clone(), FieldValidation::Strict).unwrap().value;
        prop_assert_eq!(&again, &object);
        prop_assert_eq!(json::parse(&json::to_vec(&object)).unwrap().0, object);
    }

    #[test]
    fn protobuf_carries_every_field(name in select(KINDS), seed: u64) {
        let mut object = sample(builtin(), name, seed);
        let gvk = GroupVersionKind::new("g", "v1", "K");
        object.set("apiVersion", "g/v1");
        object.set("kind", "K");
        let bytes = protobuf::encode(builtin(), &gvk, name, &object);
        let (read, back) = protobuf::decode(builtin(), &bytes, |_| Some(name.to_owned())).unwrap();
        prop_assert_eq!(read, gvk);
        prop_assert_eq!(without_empties(back), without_empties(object));
    }

    #[test]
    fn any_json_is_decoded_or_refused(name in select(KINDS), tree in json::tests::tree(), spec in json::tests::tree()) {
        let _ = decode(builtin(), name, tree, FieldValidation::Warn);
        let _ = decode(builtin(), name, object!({"spec": spec}), FieldValidation::Strict);
    }

    #[test]
    fn a_two_way_strategic_patch_arrives(name in select(KINDS), from: u64, to: u64) {
        let (original, modified) = (sample(builtin(), name, from), sample(builtin(), name, to));
        let mut modified = modified;
        for path in ["apiVersion", "kind", "metadata.name"] {
            modified.take_at(path);
            if !original.at(path).is_null() {
                modified.set(path, original.at(path).clone());
            }
        }
        // Lists may fall apart by a patch's key where the schema's keys hold together; those patches are refused.
        let Ok(patch) = strategic::create_two_way(builtin(), name, &original, &modified) else { return Ok(()) };
        let Ok(merged) = strategic::merge(builtin(), name, original.clone(), patch.clone()) else { return Ok(()) };
        let left = strategic::create_two_way(builtin(), name, &merged, &modified).unwrap();
        prop_assert_eq!(&left, &object!({}), "{}", patch);
        let json_patch = merge_three_way(&original, &modified, &original).unwrap();
        let merged = merge_patch(original, &json_patch);
        prop_assert_eq!(decode(builtin(), name, merged, FieldValidation::Ignore).unwrap().value, modified);
    }

    #[test]
    fn managed_fields_follow_every_write(name in select(KINDS), seeds in prop::collection::vec(any::<u64>(), 1..5)) {
        let manager = |name| Manager { name, api_version: "g/v1", subresource: "", now: Timestamp::UNIX_EPOCH };
        let reset = reset_fields(&[]);
        let mut old: Option<Value> = None;
        for (index, seed) in seeds.iter().enumerate() {
            let mut new = sample(builtin(), name, *seed);
            let who = ["a", "b"][index % 2];
            update_managed(builtin(), name, old.as_ref(), &mut new, &manager(who), &reset);
            let kept = new.clone();
            update_managed(builtin(), name, Some(&kept), &mut new, &manager("idle"), &reset);
            prop_assert_eq!(&new, &kept, "who changes nothing owns nothing");
            old = Some(new);
        }
        let mut patch = sample(builtin(), name, seeds[0] ^ 0x5555);
        patch.set("apiVersion", "g/v1");
        if let Ok(merged) = apply(builtin(), name, old.as_ref(), &patch, &manager("applier"), true, &reset) {
            let again = apply(builtin(), name, Some(&merged), &patch, &manager("applier"), false, &reset).unwrap();
            prop_assert_eq!(again, merged, "an apply that was made has nothing left to do");
        }
    }
}
