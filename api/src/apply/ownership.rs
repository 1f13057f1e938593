//! Whether managed fields are what the writes to an object make them: a check for tests, which knows schemas and JSON and nothing of
//! how owners are kept.
//!
//! What holds after every write, upstream's as these:
//! - Managers are told apart by name, operation, subresource and, those that update, version. Each owns something.
//! - What an updater owns is in the object, or is a null that Go prints, or a list or map that an apply left empty. What an applier
//!   owns is there too, unless it is empty: the object's form may drop what says nothing.
//! - No field is owned by two that update. (One that applies may share it with anybody.)
//! - A leaf that a write changed or added is the writer's and no other updater's; an apply owns all leaves that it says.
//! - Nobody loses a leaf that stays as it is but its own applier.
//!
//! Also taken in by the fuzz targets.

use rutter_api::object::ObjectExt;
use rutter_api::schema::{
    FieldValidation, List, ListKind, Scalar, Struct, Type, TypeId, Types, builtin, decode,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A write to an object, and what it made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'a> {
    /// The schema.
    pub(crate) types: &'a Types,
    /// The object's type in it.
    pub(crate) type_name: &'a str,
    /// Who wrote.
    pub(crate) manager: &'a str,
    /// In which version.
    pub(crate) version: &'a str,
    /// To which subresource; empty for the object.
    pub(crate) subresource: &'a str,
    /// What was applied; none for an update or a patch.
    pub(crate) applied: Option<&'a Value>,
    /// The object before; none when it was made.
    pub(crate) before: Option<&'a Value>,
    /// The object after.
    pub(crate) after: &'a Value,
}

/// Steps to a field, as `FieldsV1` writes them.
type Place = Vec<String>;

/// What nobody owns, below `metadata`.
const UNOWNED: &[&str] = &[
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:clusterName",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
];

/// Panics when the managed fields aren't what the write makes them.
pub(crate) fn check(write: &Write<'_>) {
    let entries = owners(write.after);
    distinct(entries);
    exist(write, entries);
    for (index, one) in entries.iter().enumerate().filter(|(_, one)| !applies(one)) {
        for other in entries.iter().skip(index + 1).filter(|other| !applies(other)) {
            let shared: Vec<Place> = places(one)
                .into_iter()
                .filter(|place| owns(other, place))
                .collect();
            assert!(
                shared.is_empty(),
                "{shared:?} has two updaters: {one} and {other}"
            );
        }
    }
    let id = write.types.find(write.type_name);
    let walk = Leaves::new(write.types);
    // Upstream compares a new object with one of which nothing was said, and that is printed with its zeros.
    let nothing = decode(write.types, write.type_name, Value::Null, FieldValidation::Ignore);
    let nothing = nothing.map(|decoded| decoded.value).unwrap_or_default();
    let before = walk.of(id, Some(write.before.unwrap_or(&nothing)));
    let after = walk.of(id, Some(write.after));
    let own = entries.iter().find(|entry| is_of(entry, write));
    if let Some(applied) = write.applied {
        for place in walk.of(id, Some(applied)).into_keys() {
            assert!(
                is_unowned(&place) || own.is_some_and(|own| owns(own, &place)),
                "{place:?} was applied"
            );
        }
        return;
    }
    // An object whose owners are forgotten isn't tracked.
    let tracked = write.before.is_none_or(|before| !owners(before).is_empty());
    for (place, value) in after.iter().filter(|_| tracked) {
        if is_unowned(place) || before.get(place) == Some(value) {
            continue;
        }
        assert!(
            own.is_some_and(|own| owns(own, place)),
            "{place:?} was changed by {}",
            write.manager
        );
        let others = entries.iter().filter(|entry| !is_of(entry, write));
        for other in others {
            assert!(!owns(other, place), "{place:?} is the writer's, and {other}'s");
        }
    }
    for entry in write.before.map(owners).unwrap_or_default() {
        let kept = entries.iter().find(|now| is_same(now, entry));
        for (place, value) in before.iter().filter(|(place, _)| owns(entry, place)) {
            if after.get(place) == Some(value) {
                assert!(
                    kept.is_some_and(|kept| owns(kept, place)),
                    "{place:?} was taken from {entry}"
                );
            }
        }
    }
}

fn owners(object: &Value) -> &[Value] {
    object.list_at("metadata.managedFields")
}

fn applies(entry: &Value) -> bool {
    entry.str_at("operation") == "Apply"
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["manager", "operation", "subresource"]
        .iter()
        .all(|key| one.str_at(key) == other.str_at(key))
        && (applies(one) || one.str_at("apiVersion") == other.str_at("apiVersion"))
}

fn is_of(entry: &Value, write: &Write<'_>) -> bool {
    entry.str_at("manager") == write.manager
        && applies(entry) == write.applied.is_some()
        && entry.str_at("subresource") == write.subresource
        && entry.str_at("apiVersion") == write.version
}

fn distinct(entries: &[Value]) {
    for (index, one) in entries.iter().enumerate() {
        assert!(
            one.map_at("fieldsV1").is_some_and(|fields| !fields.is_empty()),
            "{one} owns nothing"
        );
        let again = entries.iter().skip(index + 1).any(|other| is_same(one, other));
        assert!(!again, "{one} is there twice");
    }
}

fn fields(entry: &Value) -> Option<&Map<String, Value>> {
    entry.map_at("fieldsV1")
}

fn is_member(below: &Map<String, Value>) -> bool {
    below.is_empty() || below.contains_key(".")
}

/// Whether an entry owns the field at a place.
fn owns(entry: &Value, place: &[String]) -> bool {
    let mut at = fields(entry);
    for step in place {
        at = at.and_then(|map| map.get(step)).and_then(Value::as_object);
    }
    at.is_some_and(is_member)
}

/// The places that an entry owns.
fn places(entry: &Value) -> Vec<Place> {
    fn walk(map: &Map<String, Value>, at: &mut Place, found: &mut Vec<Place>) {
        for (step, below) in map.iter().filter(|(step, _)| *step != ".") {
            at.push(step.clone());
            if let Some(below) = below.as_object() {
                if is_member(below) {
                    found.push(at.clone());
                }
                walk(below, at, found);
            }
            at.pop();
        }
    }
    let mut found = Vec::new();
    if let Some(map) = fields(entry) {
        walk(map, &mut Vec::new(), &mut found);
    }
    found
}

fn is_unowned(place: &[String]) -> bool {
    match place {
        [only] => only == "f:apiVersion" || only == "f:kind" || only == "f:metadata",
        [first, second, ..] => first == "f:metadata" && UNOWNED.contains(&second.as_str()),
        [] => true,
    }
}

/// What is owned is there.
fn exist(write: &Write<'_>, entries: &[Value]) {
    let walk = Leaves::new(write.types);
    let id = write.types.find(write.type_name);
    for entry in entries {
        for place in places(entry) {
            let found = walk.at(id, write.after, &place);
            assert!(
                found || applies(entry),
                "{place:?} is not there, but owned: {entry}"
            );
        }
    }
}

#[derive(Clone, Copy)]
struct Leaves<'a> {
    types: &'a Types,
    /// Whether the types are a custom resource's, whose free-form parts merge.
    custom: bool,
}

/// The steps of a list's elements; several elements may have the same.
fn step(types: &Types, list: &List, item: &Value) -> Option<String> {
    if list.kind == ListKind::Set {
        return Some(format!("v:{item}"));
    }
    let element = match types.get(list.element) {
        Type::Struct(definition) => Some(definition),
        _ => None,
    };
    let mut keys: BTreeMap<&str, Value> = BTreeMap::new();
    for key in &list.keys {
        let (field, said) = (element.and_then(|element| element.field(key)), item.get(&**key));
        // What isn't printed when it is empty isn't said; without a default it is empty.
        let plain = field.is_some_and(|field| !field.pointer && field.number > 0);
        let dropped = plain && field.is_some_and(|field| field.omitempty);
        let said = said
            .filter(|value| !dropped || (*value != "" && *value != 0))
            .cloned();
        let unsaid = || match field?.default.as_deref() {
            Some(default) => Some(default.clone()),
            None => match types.get(field?.ty) {
                Type::Scalar(Scalar::String, _) => plain.then(|| Value::from("")),
                _ => plain.then(|| Value::from(0)),
            },
        };
        keys.extend(said.or_else(unsaid).map(|value| (&**key, value)));
    }
    let keys: Vec<String> = keys
        .iter()
        .map(|(key, value)| format!("{}:{value}", Value::from(*key)))
        .collect();
    (!keys.is_empty()).then(|| format!("k:{{{}}}", keys.join(",")))
}

impl<'a> Leaves<'a> {
    fn new(types: &'a Types) -> Self {
        Self {
            types,
            custom: !std::ptr::eq(types, builtin()),
        }
    }

    /// The leaves of an object that say something, by their places.
    fn of(self, id: Option<TypeId>, object: Option<&Value>) -> BTreeMap<Place, Value> {
        let mut found = BTreeMap::new();
        if let Some(object) = object {
            let mut object = object.clone();
            object.take_at("metadata.managedFields");
            self.collect(id, &object, &mut Vec::new(), &mut found);
        }
        found
    }

    fn collect(self, ty: Option<TypeId>, value: &Value, at: &mut Place, found: &mut BTreeMap<Place, Value>) {
        match self.children(ty, value) {
            Some(children) => {
                let steps: Vec<&String> = children.iter().map(|(step, _, _)| step).collect();
                for (step, ty, child) in &children {
                    if steps.iter().filter(|other| **other == step).count() > 1 {
                        continue;
                    }
                    at.push(step.clone());
                    self.collect(*ty, child, at, found);
                    at.pop();
                }
            }
            None if value.is_null()
                || value == &Value::Object(Map::new())
                || value == &Value::Array(Vec::new()) => {}
            None => drop(found.insert(at.clone(), value.clone())),
        }
    }

    /// What is in a value that isn't owned as a whole.
    fn children<'v>(
        self,
        ty: Option<TypeId>,
        value: &'v Value,
    ) -> Option<Vec<(String, Option<TypeId>, &'v Value)>> {
        let shape = ty.map(|id| self.types.get(id));
        match (shape, value) {
            (_, Value::Object(map)) if map.is_empty() => None,
            (Some(Type::Struct(definition)), Value::Object(map)) if !definition.atomic => Some(
                map.iter()
                    .map(|(name, child)| (format!("f:{name}"), of_field(definition, name), child))
                    .collect(),
            ),
            (Some(Type::Map(of)), Value::Object(map)) if !of.atomic => Some(
                map.iter()
                    .map(|(name, child)| (format!("f:{name}"), Some(of.value), child))
                    .collect(),
            ),
            (None | Some(Type::Scalar(Scalar::Json, _)), Value::Object(map)) if self.custom => Some(
                map.iter()
                    .map(|(name, child)| (format!("f:{name}"), None, child))
                    .collect(),
            ),
            (Some(Type::List(list)), Value::Array(items))
                if list.kind != ListKind::Atomic && !items.is_empty() =>
            {
                let with = |item: &'v Value| Some((step(self.types, list, item)?, Some(list.element), item));
                Some(items.iter().filter_map(with).collect())
            }
            _ => None,
        }
    }

    /// Whether there is something at a place.
    fn at(self, ty: Option<TypeId>, value: &Value, place: &[String]) -> bool {
        let Some((step, rest)) = place.split_first() else {
            return true;
        };
        if let Some(children) = self.children(ty, value)
            && let Some((_, ty, child)) = children.iter().find(|(own, _, _)| own == step)
        {
            return self.at(*ty, child, rest);
        }
        let name = step.strip_prefix("f:").unwrap_or_default();
        match ty.map(|id| self.types.get(id)) {
            Some(Type::Struct(definition)) => rest.is_empty() && self.may_miss(definition, name),
            _ => false,
        }
    }

    /// Whether what is owned of a field that isn't there is a null that Go prints, or a list or map that an apply emptied, which then
    /// isn't printed.
    fn may_miss(self, definition: &Struct, name: &str) -> bool {
        let Some(field) = definition.field(name) else {
            return false;
        };
        match self.types.get(field.ty) {
            Type::List(_) | Type::Map(_) => !field.pointer,
            Type::Scalar(Scalar::Bytes, _) => !field.omitempty && !field.pointer,
            Type::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::RawExtension, _) => {
                !field.pointer && !field.omitzero
            }
            _ => false,
        }
    }
}

fn of_field(definition: &Struct, name: &str) -> Option<TypeId> {
    match definition.field(name) {
        Some(field) => Some(field.ty),
        None => definition.additional,
    }
}
