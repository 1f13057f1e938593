//! `metadata.managedFields`: the managers of an object and what each owns.

use super::set::{self, FieldSet};
use crate::object::ObjectExt;
use serde_json::{Map, Value, json};
use std::cell::OnceCell;

/// Owners that don't apply are merged into one when there are more than these.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The owner that the oldest are merged into.
const OLD_UPDATES: &str = "ancient-changes";

/// One manager of an object. Its fields stay as they were read, and are made a set only when something about them changes or has to
/// be known: most writes change few managers' fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    /// Whether it applies; otherwise it updates.
    pub(super) applies: bool,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339.
    pub(super) time: Option<String>,
    /// What it owns, once that was asked for.
    set: OnceCell<FieldSet>,
    /// The same as it was read, as long as it hasn't changed.
    raw: Option<Map<String, Value>>,
}

impl Entry {
    pub(super) fn new(
        manager: &str,
        applies: bool,
        api_version: &str,
        subresource: &str,
        set: FieldSet,
    ) -> Self {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        Self {
            manager: manager.to_owned(),
            applies,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
            time: None,
            set: OnceCell::from(set),
            raw: None,
        }
    }

    fn read(value: Value) -> Option<Self> {
        let Value::Object(mut map) = value else {
            return None;
        };
        let Some(Value::Object(raw)) = map.remove("fieldsV1") else {
            return None;
        };
        let mut text = |key: &str| match map.remove(key) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let applies = match text("operation").as_str() {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        let (raw, set) = match set::is_canonical(&raw) {
            true => (Some(raw), OnceCell::new()),
            false => (None, OnceCell::from(FieldSet::from_map(&raw)?)),
        };
        Some(Self {
            manager: text("manager"),
            applies,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: Some(text("time")).filter(|time| !time.is_empty()),
            set,
            raw,
        })
    }

    /// What it owns.
    pub(super) fn set(&self) -> &FieldSet {
        self.set.get_or_init(|| {
            let read = self.raw.as_ref().and_then(FieldSet::from_map);
            read.unwrap_or_default()
        })
    }

    fn take_set(&mut self) -> FieldSet {
        self.set();
        self.set.take().unwrap_or_default()
    }

    /// Whether it owns nothing.
    pub(super) fn is_empty(&self) -> bool {
        match &self.raw {
            Some(raw) => raw.keys().all(|step| step == "."),
            None => self.set().is_empty(),
        }
    }

    fn write(self) -> Value {
        let mut map = Map::new();
        let operation = if self.applies { "Apply" } else { "Update" };
        map.insert("manager".to_owned(), Value::from(self.manager));
        map.insert("operation".to_owned(), Value::from(operation));
        map.insert("apiVersion".to_owned(), Value::from(self.api_version));
        map.extend(self.time.map(|time| ("time".to_owned(), Value::from(time))));
        map.insert("fieldsType".to_owned(), Value::from("FieldsV1"));
        map.insert(
            "fieldsV1".to_owned(),
            match self.raw {
                Some(raw) => Value::Object(raw),
                None => self.set.into_inner().unwrap_or_default().to_value(),
            },
        );
        if !self.subresource.is_empty() {
            map.insert("subresource".to_owned(), Value::from(self.subresource));
        }
        Value::Object(map)
    }

    /// Whether the other is the same manager doing the same: an applier is the same in every version.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.manager == other.manager
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }

    /// Takes fields away.
    pub(super) fn lose(&mut self, gone: &FieldSet) {
        if self.raw.as_ref().is_some_and(|raw| !gone.meets(raw)) {
            return;
        }
        let mut set = self.take_set();
        if set.subtract(gone) {
            self.raw = None;
        }
        self.set = OnceCell::from(set);
    }

    /// Sets what is owned.
    pub(super) fn own(&mut self, set: FieldSet) {
        if set != *self.set() {
            self.set = OnceCell::from(set);
            self.raw = None;
        }
    }

    /// Adds to what is owned.
    pub(super) fn gain(&mut self, more: FieldSet) {
        if self.raw.as_ref().is_some_and(|raw| more.is_within(raw)) {
            return;
        }
        let all = self.take_set().union(more);
        self.set = OnceCell::from(all);
        self.raw = None;
    }

    /// As conflicts name it.
    pub(super) fn shown(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applies {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// The managers that an object's `managedFields` name; None when these aren't well-formed.
pub(super) fn read(fields: Value) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let Value::Array(values) = fields else {
        return Some(entries);
    };
    for value in values {
        let entry = Entry::read(value)?;
        match entries.iter_mut().find(|other| other.is_same(&entry)) {
            Some(other) => *other = entry,
            None => entries.push(entry),
        }
    }
    Some(entries)
}

/// Whether a client asks to forget all managers: by an empty list, or a list of one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    match object.at("metadata.managedFields").as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only
            .as_object()
            .is_some_and(|map| map.values().all(|v| v.is_null() || v.as_str() == Some(""))),
        _ => false,
    }
}

/// Writes the managers into the object, ordered, without those that own nothing.
pub(super) fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.is_empty());
    if entries.is_empty() {
        object.take_at("metadata.managedFields");
        return;
    }
    fn key(e: &Entry) -> (bool, &str, &str, &str, &str) {
        let time = e.time.as_deref().unwrap_or_default();
        (!e.applies, time, &e.manager, &e.api_version, &e.subresource)
    }
    entries.sort_by(|a, b| key(a).cmp(&key(b)));
    let values: Vec<Value> = entries.into_iter().map(Entry::write).collect();
    if let Some(metadata) = object
        .as_object_mut()
        .map(|map| map.entry("metadata").or_insert_with(|| json!({})))
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("managedFields".to_owned(), Value::Array(values));
    }
}

/// Merges the oldest owners that don't apply until there are few enough, one merged owner for each version.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters = entries.iter().filter(|e| !e.applies).count();
    if updaters <= MAX_UPDATE_MANAGERS {
        return;
    }
    let (mut old, mut rest): (Vec<Entry>, Vec<Entry>) =
        std::mem::take(entries).into_iter().partition(|e| !e.applies);
    old.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut kept: Vec<Entry> = Vec::new();
    for entry in old {
        let bucket = kept.iter_mut().find(|k| k.api_version == entry.api_version);
        match bucket {
            Some(bucket) if updaters > MAX_UPDATE_MANAGERS => {
                bucket.manager = OLD_UPDATES.to_owned();
                bucket.subresource = String::new();
                bucket.gain(entry.set().clone());
                bucket.time = entry.time;
                updaters -= 1;
            }
            _ => kept.push(entry),
        }
    }
    rest.extend(kept);
    *entries = rest;
}
