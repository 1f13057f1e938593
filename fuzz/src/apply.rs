//! Server-side apply: objects that several managers write in any way and order, and what they own after each write.

use crate::make::Maker;
use crate::patch;
use crate::tell;
use jiff::Timestamp;
use rutter_api::apply::{self, ApplyError, Manager, reset_fields, update_managed};
use rutter_api::crd;
use rutter_api::object::ObjectExt;
use rutter_api::patch::{json_patch, merge_patch, strategic};
use rutter_api::schema::{FieldValidation, Types, builtin, decode};
use serde_json::{Value, json};

#[path = "../../api/src/apply/ownership.rs"]
mod ownership;

/// Writes to an object of a built-in kind.
pub fn of_kinds(data: &[u8]) {
    let mut maker = Maker::new(data);
    let kind = &crate::make::OBJECT_KINDS[maker.below(crate::make::OBJECT_KINDS.len())];
    let version = kind.0.api_version();
    let mut session = Session {
        types: builtin(),
        name: &kind.1,
        version: &version,
        kind: &kind.0.kind,
        schema: None,
        live: None,
        seconds: 0,
    };
    session.run(&mut maker);
}

/// Writes to a custom resource, of a schema made for it.
pub fn of_custom(data: &[u8]) {
    let mut maker = Maker::new(data);
    let schema = crate::crd::structural(&mut maker);
    let path = rutter_api::Path::new("schema");
    let wrong = crd::structural(&schema, &path).len()
        + crd::check_schema(&schema, false, crd::SchemaRules::ALL, &path).len();
    if wrong > 0 {
        return;
    }
    tell(|| format!("schema {schema}"));
    let types = crd::types("custom", &schema, false);
    let mut session = Session {
        types: &types,
        name: "custom",
        version: "example.com/v1",
        kind: "Custom",
        schema: Some(&schema),
        live: None,
        seconds: 0,
    };
    session.run(&mut maker);
}

/// An object and the time.
struct Session<'a> {
    types: &'a Types,
    name: &'a str,
    version: &'a str,
    kind: &'a str,
    /// Of a custom resource.
    schema: Option<&'a Value>,
    live: Option<Value>,
    seconds: i64,
}

impl Session<'_> {
    fn run(&mut self, maker: &mut Maker<'_>) {
        for _ in 0..6 {
            if maker.is_done() {
                return;
            }
            self.seconds += 1;
            let who = maker.pick(&["a", "b", "c", "kubectl"]);
            match maker.below(3) {
                0 => self.apply(maker, who),
                _ => self.write(maker, who),
            }
        }
    }

    fn manager<'m>(&'m self, name: &'m str) -> Manager<'m> {
        let now = Timestamp::from_second(self.seconds).expect("a small number of seconds");
        Manager {
            name,
            api_version: self.version,
            subresource: "",
            now,
        }
    }

    /// As the server brings an object into the form of its schema.
    fn normal(&self, object: Value) -> Option<Value> {
        let decoded = decode(self.types, self.name, object, FieldValidation::Ignore).ok()?;
        let mut object = decoded.value;
        if let Some(schema) = self.schema {
            crd::apply_defaults(schema, &mut object);
        }
        Some(object)
    }

    fn sample(&self, maker: &mut Maker<'_>) -> Value {
        let mut object = maker.sample(self.types, self.name);
        object["apiVersion"] = json!(self.version);
        object["kind"] = json!(self.kind);
        object.set("metadata.name", "n");
        object
    }

    /// A create, an update or a patch.
    fn write(&mut self, maker: &mut Maker<'_>, who: &str) {
        let sample = self.sample(maker);
        let new = match (&self.live, maker.below(5)) {
            (None, _) | (_, 0) => Some(sample),
            (Some(live), 1) => {
                let mut places = patch::places(live);
                places.retain(|place| !place.contains("managedFields"));
                let (at, from) = (maker.pick(&places), maker.pick(&patch::places(&sample)));
                let value = sample.pointer(&from).cloned().unwrap_or_default();
                let operation = match maker.below(3) {
                    0 => json!({"op": "remove", "path": at}),
                    1 => json!({"op": "add", "path": from, "value": value}),
                    _ => json!({"op": "replace", "path": at, "value": value}),
                };
                json_patch(live, &json!([operation])).ok()
            }
            (Some(live), 2) => Some(merge_patch(live.clone(), &sample)),
            (Some(live), 3) if self.schema.is_none() => {
                let mut wanted = sample;
                wanted.set(
                    "metadata.managedFields",
                    live.at("metadata.managedFields").clone(),
                );
                let patch = strategic::create_two_way(self.types, self.name, live, &wanted).ok();
                patch.and_then(|patch| strategic::merge(self.types, self.name, live.clone(), patch).ok())
            }
            (Some(live), _) => Some(live.clone()),
        };
        let Some(mut new) = new.and_then(|new| self.normal(new)).filter(|new| new.is_object()) else {
            return;
        };
        new.set("metadata.name", "n");
        tell(|| format!("{who} writes {new}"));
        let none = reset_fields(&[]);
        update_managed(
            self.types,
            self.name,
            self.live.as_ref(),
            &mut new,
            &self.manager(who),
            &none,
        );
        ownership::check(&ownership::Write {
            types: self.types,
            type_name: self.name,
            manager: who,
            version: self.version,
            subresource: "",
            applied: None,
            before: self.live.as_ref(),
            after: &new,
        });
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
        tell(|| format!("it is now {new}"));
        self.live = Some(new);
    }

    fn apply(&mut self, maker: &mut Maker<'_>, who: &str) {
        let patch = self.sample(maker);
        let force = maker.flip();
        tell(|| format!("{who} applies {patch}, force {force}"));
        let by = |live: Option<&Value>, force: bool, session: &Self| {
            let none = reset_fields(&[]);
            apply::apply(
                session.types,
                session.name,
                live,
                &patch,
                &session.manager(who),
                force,
                &none,
            )
        };
        let live = self.live.as_ref();
        let merged = match by(live, force, self) {
            Ok(merged) => merged,
            Err(ApplyError::Conflicts(conflicts)) => {
                assert!(!force && !conflicts.is_empty());
                by(live, true, self).expect("force settles conflicts")
            }
            Err(_) => return,
        };
        if live.is_none_or(|live| live.annotation(LAST_APPLIED).is_none()) {
            self.says(&merged, &patch);
        }
        let Some(new) = self.normal(merged.clone()) else {
            return;
        };
        ownership::check(&ownership::Write {
            types: self.types,
            type_name: self.name,
            manager: who,
            version: self.version,
            subresource: "",
            applied: Some(&patch),
            before: live,
            after: &new,
        });
        tell(|| format!("it is now {new}"));
        self.seconds += 1;
        match by(Some(&new), false, self) {
            Ok(again) => {
                let again = self.normal(again).expect("it was so before");
                assert_eq!(
                    without_times(&again),
                    without_times(&new),
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

    /// Whether merging says no more: the merged object has what the patch has.
    fn says(&self, merged: &Value, patch: &Value) {
        let again = apply::merge(self.types, self.name, merged, patch).expect("it was merged before");
        let mut merged = merged.clone();
        merged.take_at("metadata.managedFields");
        let mut again = again;
        again.take_at("metadata.managedFields");
        assert_eq!(again, merged, "the object says what the patch says");
    }
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object.list_at_mut("metadata.managedFields").into_iter().flatten() {
        entry.take_at("time");
    }
    object
}
