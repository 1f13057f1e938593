//! Several managers write an object in any way and order: what they own after each write, shown on random objects.
//!
//! What must hold is said in [`ownership`](super::ownership).

use super::ownership::{Write, check};
use super::{ApplyError, Manager, apply, reset_fields, update_managed};
use crate::crd;
use crate::object::ObjectExt;
use crate::patch::{json_patch, merge_patch, strategic};
use crate::schema::sample::{KINDS, Sampler};
use crate::schema::{FieldValidation, Types, builtin, decode};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A way to write.
#[derive(Clone, Copy, Debug)]
enum How {
    Update,
    Json,
    Merge,
    Strategic,
    Nothing,
    Apply,
    Force,
}

const HOWS: [How; 7] = [
    How::Update,
    How::Json,
    How::Merge,
    How::Strategic,
    How::Nothing,
    How::Apply,
    How::Force,
];

/// A custom resource with a list and a map of each kind, free-form parts and a default.
static CUSTOM: LazyLock<(Value, Types)> = LazyLock::new(|| {
    let text = json!({"type": "string"});
    let pair = json!({"type": "object", "required": ["name"], "properties": {
        "name": text, "port": {"type": "integer", "default": 80}, "x": text}});
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "map": {"type": "array", "items": pair, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "port"]},
        "atomic": {"type": "array", "items": text},
        "labels": {"type": "object", "additionalProperties": text},
        "whole": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
        "inner": {"type": "object", "properties": {"a": text, "b": {"type": "integer", "nullable": true}}},
        "defaulted": {"type": "string", "default": "d"},
    }});
    let types = crd::types("custom", &schema, false);
    (schema, types)
});

struct Session<'a> {
    types: &'a Types,
    name: &'a str,
    schema: Option<&'a Value>,
    live: Option<Value>,
    seconds: i64,
}

impl Session<'_> {
    fn manager<'m>(&self, name: &'m str) -> Manager<'m> {
        let now = Timestamp::from_second(self.seconds).unwrap();
        Manager {
            name,
            api_version: "g/v1",
            subresource: "",
            now,
        }
    }

    /// As the server brings an object into the form of its schema.
    fn normal(&self, object: Value) -> Option<Value> {
        let mut object = decode(self.types, self.name, object, FieldValidation::Ignore)
            .ok()?
            .value;
        if let Some(schema) = self.schema {
            crd::apply_defaults(schema, &mut object);
        }
        object.set("metadata.name", "n");
        Some(object)
    }

    fn sample(&self, seed: u64) -> Value {
        let mut object = Sampler::new(self.types, seed).object(self.name);
        for (path, value) in [("apiVersion", "g/v1"), ("kind", "K"), ("metadata.name", "n")] {
            object.set(path, value);
        }
        object
    }

    /// What a write makes of the object; none when it doesn't apply to it.
    fn written(&self, how: How, seed: u64) -> Option<Value> {
        let sample = self.sample(seed);
        let Some(live) = &self.live else {
            return Some(sample);
        };
        let members = |object: &Value| {
            object
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>())
        };
        let new = match how {
            How::Json => {
                let keys: Vec<String> = members(&sample)?
                    .into_iter()
                    .filter(|key| key != "metadata")
                    .collect();
                let key = &keys[seed as usize % keys.len()];
                let operation = match seed % 3 {
                    0 => json!({"op": "remove", "path": format!("/{key}")}),
                    _ => json!({"op": "add", "path": format!("/{key}"), "value": sample[key]}),
                };
                json_patch(live, &json!([operation])).ok()?
            }
            How::Merge => merge_patch(live.clone(), &sample),
            How::Strategic => {
                let mut wanted = sample;
                wanted.set(
                    "metadata.managedFields",
                    live.at("metadata.managedFields").clone(),
                );
                let patch = strategic::create_two_way(self.types, self.name, live, &wanted).ok()?;
                strategic::merge(self.types, self.name, live.clone(), patch).ok()?
            }
            How::Nothing => live.clone(),
            _ => sample,
        };
        Some(new).filter(Value::is_object)
    }

    fn check(&self, manager: &str, applied: Option<&Value>, after: &Value) {
        check(&Write {
            types: self.types,
            type_name: self.name,
            manager,
            version: "g/v1",
            subresource: "",
            applied,
            before: self.live.as_ref(),
            after,
        });
    }

    fn write(&mut self, who: &str, how: How, seed: u64) {
        let Some(mut new) = self.written(how, seed).and_then(|new| self.normal(new)) else {
            return;
        };
        let none = reset_fields(&[]);
        update_managed(
            self.types,
            self.name,
            self.live.as_ref(),
            &mut new,
            &self.manager(who),
            &none,
        );
        self.check(who, None, &new);
        let mut again = new.clone();
        self.seconds += 1;
        update_managed(
            self.types,
            self.name,
            Some(&new),
            &mut again,
            &self.manager("idle"),
            &none,
        );
        assert_eq!(again, new, "who changes nothing owns nothing");
        self.live = Some(new);
    }

    fn apply(&mut self, who: &str, force: bool, seed: u64) {
        let patch = self.sample(seed);
        let none = reset_fields(&[]);
        let by = |live: Option<&Value>, force: bool, session: &Self| {
            apply(
                session.types,
                session.name,
                live,
                &patch,
                &session.manager(who),
                force,
                &none,
            )
        };
        let merged = match by(self.live.as_ref(), force, self) {
            Ok(merged) => merged,
            Err(ApplyError::Conflicts(conflicts)) => {
                assert!(!force && !conflicts.is_empty());
                by(self.live.as_ref(), true, self).unwrap()
            }
            Err(_) => return,
        };
        let Some(new) = self.normal(merged) else { return };
        self.check(who, Some(&patch), &new);
        self.seconds += 1;
        match by(Some(&new), false, self) {
            Ok(again) => {
                let again = without_times(self.normal(again).unwrap());
                assert_eq!(
                    again,
                    without_times(new.clone()),
                    "an apply that was made has nothing left to do"
                );
            }
            Err(ApplyError::Conflicts(conflicts)) => {
                // Somebody may still own a map that was emptied, and isn't printed any more.
                let gone =
                    |field: &str| field.contains('[') || new.at(field.trim_start_matches('.')).is_null();
                assert!(
                    conflicts.iter().all(|conflict| gone(&conflict.field)),
                    "{conflicts:?}"
                );
            }
            Err(other) => panic!("{other}"),
        }
        self.live = Some(new);
    }
}

fn without_times(mut object: Value) -> Value {
    for entry in object.list_at_mut("metadata.managedFields").into_iter().flatten() {
        entry.take_at("time");
    }
    object
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn owners_follow_every_write_of_any_kind_in_any_order(
        kind in 0..=KINDS.len(),
        writes in prop::collection::vec((0..3usize, prop::sample::select(&HOWS[..]), any::<u64>()), 1..8),
    ) {
        let (schema, types) = &*CUSTOM;
        let mut session = match KINDS.get(kind) {
            Some(name) => Session { types: builtin(), name, schema: None, live: None, seconds: 0 },
            None => Session { types, name: "custom", schema: Some(schema), live: None, seconds: 0 },
        };
        for (who, how, seed) in writes {
            let who = ["a", "b", "c"][who];
            session.seconds += 1;
            match how {
                How::Apply | How::Force => session.apply(who, matches!(how, How::Force), seed),
                how => session.write(who, how, seed),
            }
        }
    }
}
