//! `metadata.managedFields`: the managers of an object and what each owns.

use super::set::FieldSet;
use crate::object::ObjectExt;
use serde_json::{Map, Value, json};

/// Owners that don't apply are merged into one when there are more than these.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The owner that the oldest are merged into.
const OLD_UPDATES: &str = "ancient-changes";

/// One manager of an object.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    /// Whether it applies; otherwise it updates.
    pub(super) applies: bool,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339.
    pub(super) time: Option<String>,
    pub(super) set: FieldSet,
    /// The set as it was read, as long as it hasn't changed.
    raw: Option<Value>,
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
            set,
            raw: None,
        }
    }

    fn read(value: &Value) -> Option<Self> {
        let applies = match value.str_at("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        let raw = value.get("fieldsV1")?;
        let time = value.str_at("time");
        Some(Self {
            manager: value.str_at("manager").to_owned(),
            applies,
            api_version: value.str_at("apiVersion").to_owned(),
            subresource: value.str_at("subresource").to_owned(),
            time: (!time.is_empty()).then(|| time.to_owned()),
            set: FieldSet::from_value(raw)?,
            raw: Some(raw.clone()),
        })
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
            self.raw.unwrap_or_else(|| self.set.to_value()),
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
        if self.set.subtract(gone) {
            self.raw = None;
        }
    }

    /// Sets what is owned.
    pub(super) fn own(&mut self, set: FieldSet) {
        if set != self.set {
            self.set = set;
            self.raw = None;
        }
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

/// The managers of an object; None when its `managedFields` isn't well-formed.
pub(super) fn read(object: &Value) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for value in object.list_at("metadata.managedFields") {
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
    entries.retain(|entry| !entry.set.is_empty());
    if entries.is_empty() {
        object.take_at("metadata.managedFields");
        return;
    }
    entries.sort_by(|a, b| {
        let key = |e: &Entry| {
            (
                !e.applies,
                e.time.clone().unwrap_or_default(),
                e.manager.clone(),
                e.api_version.clone(),
                e.subresource.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
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
                let all = std::mem::take(&mut bucket.set).union(entry.set);
                bucket.raw = None;
                bucket.set = all;
                bucket.time = entry.time;
                updaters -= 1;
            }
            _ => kept.push(entry),
        }
    }
    rest.extend(kept);
    *entries = rest;
}
