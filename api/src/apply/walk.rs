//! Walks over objects by their schema: comparing, taking the set of fields, merging and removing.
//!
//! Follows structured merge diff (`sigs.k8s.io/structured-merge-diff`), upstream's model of typed values. Where Go
//! prints a null that objects here leave out, the walks see the null, because ownership depends on it.

use super::set::{FieldSet, Node};
use crate::schema::{List, ListKind, Scalar, Struct, Type, TypeId, Types, zero};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

static NULL: Value = Value::Null;

/// What changed from one object to another.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Paths that were added or hold another value.
    pub(super) changed: FieldSet,
    /// Paths that are gone.
    pub(super) removed: FieldSet,
}

/// The type of a value during a walk: None is free-form, where objects merge and all else is a leaf.
type Ty = Option<TypeId>;

enum Shape<'a> {
    Leaf,
    Struct(&'a Struct),
    Map(Ty),
    List(&'a List),
}

#[derive(Clone, Copy)]
pub(super) struct Walker<'a> {
    pub(super) types: &'a Types,
}

impl<'a> Walker<'a> {
    fn shape(self, ty: Ty, sample: &Value) -> Shape<'a> {
        let Some(id) = ty else {
            return if sample.is_object() {
                Shape::Map(None)
            } else {
                Shape::Leaf
            };
        };
        match self.types.get(id) {
            Type::Struct(s) if s.atomic => Shape::Leaf,
            Type::Struct(s) if sample.is_object() || sample.is_null() => Shape::Struct(s),
            Type::Map(m) if !m.atomic && (sample.is_object() || sample.is_null()) => {
                Shape::Map(Some(m.value))
            }
            Type::List(l) if l.kind != ListKind::Atomic && (sample.is_array() || sample.is_null()) => {
                Shape::List(l)
            }
            Type::Scalar(Scalar::Json, _) if self.types.is_custom(id) && sample.is_object() => {
                Shape::Map(None)
            }
            _ => Shape::Leaf,
        }
    }

    /// The type of the field `name`, and whether the schema knows it by name.
    fn field(self, definition: &Struct, name: &str) -> (Ty, bool) {
        match definition.field(name) {
            Some(field) => (Some(field.ty), true),
            None => (definition.additional, false),
        }
    }

    /// The set of all fields of an object.
    pub(super) fn fields(self, id: TypeId, object: &Value) -> FieldSet {
        self.fields_of(Some(id), object).below
    }

    fn fields_of(self, ty: Ty, value: &Value) -> Node {
        let mut below = FieldSet::default();
        match (self.shape(ty, value), value) {
            (Shape::Struct(definition), Value::Object(map)) => {
                for (name, child) in map {
                    let (ty, named) = self.field(definition, name);
                    below.push(format!("f:{name}").into(), self.field_node(ty, child, named));
                }
            }
            (Shape::Map(ty), Value::Object(map)) => {
                for (name, child) in map {
                    below.push(format!("f:{name}").into(), self.field_node(ty, child, false));
                }
            }
            (Shape::List(list), Value::Array(items)) => {
                let steps: Vec<Option<Box<str>>> = items.iter().map(|item| self.step(list, item)).collect();
                let mut times: HashMap<&str, usize> = HashMap::with_capacity(items.len());
                for step in steps.iter().flatten() {
                    *times.entry(step).or_default() += 1;
                }
                for (step, item) in steps.iter().zip(items) {
                    let Some(step) = step else { continue };
                    // Several with the same keys are owned together, not field by field.
                    let mut node = match times[&**step] {
                        1 => self.fields_of(Some(list.element), item),
                        _ => Node::default(),
                    };
                    node.member = true;
                    below.push(step.clone(), node);
                }
            }
            (Shape::Leaf, _) => return Node::member(),
            _ => {}
        }
        Node { member: false, below }
    }

    fn field_node(self, ty: Ty, child: &Value, named: bool) -> Node {
        let mut node = self.fields_of(ty, child);
        let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
        node.member |= empty || !named;
        node
    }

    /// The step to an element of a list that isn't atomic; None when it can't be told apart.
    fn step(self, list: &List, item: &Value) -> Option<Box<str>> {
        if list.kind == ListKind::Set {
            return (!item.is_object() && !item.is_array()).then(|| format!("v:{item}").into());
        }
        let map = item.as_object()?;
        let element = match self.types.get(list.element) {
            Type::Struct(definition) => Some(definition),
            _ => None,
        };
        let mut keys: Vec<(&str, Cow<'_, Value>)> = Vec::with_capacity(list.keys.len());
        for name in &list.keys {
            let value = self.key(list, element, name, map.get(&**name));
            keys.extend(value.map(|value| (&**name, value)));
        }
        if keys.is_empty() {
            return None;
        }
        keys.sort_by_key(|(name, _)| *name);
        let mut step = "k:{".to_owned();
        for (index, (name, value)) in keys.iter().enumerate() {
            if index > 0 {
                step.push(',');
            }
            step.push_str(&format!("{name:?}:{value}"));
        }
        step.push('}');
        Some(step.into())
    }

    /// A key of an element. What an element of a built-in kind doesn't say is the schema's default, or else empty; and what is empty
    /// may not be printed, and so isn't said.
    fn key<'v>(
        self,
        list: &List,
        element: Option<&'v Struct>,
        name: &str,
        said: Option<&'v Value>,
    ) -> Option<Cow<'v, Value>> {
        let Some(field) = element.and_then(|element| element.field(name)) else {
            return said.map(Cow::Borrowed);
        };
        let plain = !field.pointer && !self.types.is_custom(list.element);
        match (said, field.default.as_deref()) {
            (Some(value), _) if !(plain && field.omitempty && is_zero(value)) => Some(Cow::Borrowed(value)),
            (_, Some(default)) => Some(Cow::Borrowed(default)),
            _ => plain.then(|| Cow::Owned(zero(self.types, field.ty))),
        }
    }

    /// Compares two objects.
    pub(super) fn compare(self, id: TypeId, old: &Value, new: &Value) -> Comparison {
        let (changed, removed) = self.compare_values(Some(id), Some(old), Some(new));
        Comparison {
            changed: changed.below,
            removed: removed.below,
        }
    }

    /// What is added or modified, and what is removed, at and below a value.
    fn compare_values(self, ty: Ty, old: Option<&Value>, new: Option<&Value>) -> (Node, Node) {
        let (mut changed, mut removed) = (Node::default(), Node::default());
        let sample = new.filter(|v| !v.is_null()).or(old).unwrap_or(&NULL);
        let shape = self.shape(ty, sample);
        let is_leaf = match shape {
            Shape::Leaf => true,
            // Where Go prints nulls, what looks empty isn't.
            Shape::Struct(s) if !s.nulls.is_empty() && object(old.or(new)).is_some() => false,
            _ => is_empty(old) && is_empty(new),
        };
        if let (Some(old), Some(new)) = (old, new)
            && !(old.is_null() || new.is_null())
            && (old.is_object(), old.is_array()) != (new.is_object(), new.is_array())
        {
            // One replaces the other, and what was in it goes.
            changed.member = true;
            changed.below = self.compare_values(ty, None, Some(new)).0.below;
            removed.below = self.compare_values(ty, Some(old), None).1.below;
            return (changed, removed);
        }
        if is_leaf {
            match (old, new) {
                (None, Some(_)) => changed.member = true,
                (Some(_), None) => removed.member = true,
                (Some(old), Some(new)) => changed.member = old != new,
                (None, None) => {}
            }
            return (changed, removed);
        }
        match shape {
            Shape::Struct(definition) => {
                self.compare_structs(definition, old, new, &mut changed, &mut removed)
            }
            Shape::Map(ty) => {
                let (old, new) = (object(old), object(new));
                for (name, new) in new.into_iter().flatten() {
                    let before = old.and_then(|old| old.get(name));
                    self.compare_child(name, ty, before, Some(new), &mut changed, &mut removed);
                }
                for (name, before) in old.into_iter().flatten() {
                    if new.is_none_or(|new| !new.contains_key(name)) {
                        self.compare_child(name, ty, Some(before), None, &mut changed, &mut removed);
                    }
                }
            }
            Shape::List(list) => self.compare_lists(list, old, new, &mut changed, &mut removed),
            Shape::Leaf => {}
        }
        changed.member |= old.is_none();
        removed.member |= new.is_none();
        (changed, removed)
    }

    fn compare_child(
        self,
        name: &str,
        ty: Ty,
        old: Option<&Value>,
        new: Option<&Value>,
        changed: &mut Node,
        removed: &mut Node,
    ) {
        // Equal leaves are by far the commonest.
        if let (Some(old), Some(new)) = (old, new)
            && !old.is_object()
            && !old.is_array()
            && old == new
        {
            return;
        }
        let (c, r) = self.compare_values(ty, old, new);
        let step = || -> Box<str> { format!("f:{name}").into() };
        if c != Node::default() {
            changed.below.push(step(), c);
        }
        if r != Node::default() {
            removed.below.push(step(), r);
        }
    }

    fn compare_structs(
        self,
        definition: &Struct,
        old: Option<&Value>,
        new: Option<&Value>,
        changed: &mut Node,
        removed: &mut Node,
    ) {
        let (old, new) = (object(old), object(new));
        for (name, value) in new.into_iter().flatten() {
            let (ty, _) = self.field(definition, name);
            let before = side(definition, old, name);
            self.compare_child(name, ty, before, Some(value), changed, removed);
        }
        for (name, value) in old.into_iter().flatten() {
            if new.is_none_or(|new| !new.contains_key(name)) {
                let (ty, _) = self.field(definition, name);
                let after = side(definition, new, name);
                self.compare_child(name, ty, Some(value), after, changed, removed);
            }
        }
        if old.is_some() && new.is_some() {
            return;
        }
        // Only one is there: the nulls that Go prints come and go with it.
        for &index in &definition.nulls {
            let name = &definition.fields[index as usize].name;
            let null = |side: Option<&Map<String, Value>>| {
                side.is_some_and(|map| !map.contains_key(&**name))
                    .then_some(&NULL)
            };
            if null(old).is_some() || null(new).is_some() {
                self.compare_child(name, None, null(old), null(new), changed, removed);
            }
        }
    }

    fn compare_lists(
        self,
        list: &List,
        old: Option<&Value>,
        new: Option<&Value>,
        changed: &mut Node,
        removed: &mut Node,
    ) {
        let (old, new) = (self.by_step(list, old), self.by_step(list, new));
        let mut steps: Vec<&Box<str>> = old
            .keys()
            .chain(new.keys().filter(|s| !old.contains_key(*s)))
            .collect();
        steps.sort_unstable();
        let none: Vec<&Value> = Vec::new();
        for step in steps {
            let (before, after) = (old.get(step).unwrap_or(&none), new.get(step).unwrap_or(&none));
            let (mut c, mut r) = (Node::default(), Node::default());
            match (before.as_slice(), after.as_slice()) {
                ([], [value]) => (c, r) = self.compare_values(Some(list.element), None, Some(value)),
                ([value], []) => (c, r) = self.compare_values(Some(list.element), Some(value), None),
                ([before], [after]) => {
                    (c, r) = self.compare_values(Some(list.element), Some(before), Some(after));
                }
                // Several with the same keys count as one value.
                ([_, _, ..], [_, _, ..]) => c.member = before != after,
                ([_, _, ..], rest) => {
                    if let [value] = rest {
                        (c, r) = self.compare_values(Some(list.element), None, Some(value));
                    }
                    r.member = true;
                }
                (rest, [_, _, ..]) => {
                    if let [value] = rest {
                        (c, r) = self.compare_values(Some(list.element), Some(value), None);
                    }
                    c.member = true;
                }
                ([], []) => {}
            }
            changed.below.push(step.clone(), c);
            removed.below.push(step.clone(), r);
        }
    }

    fn by_step<'v>(self, list: &List, value: Option<&'v Value>) -> HashMap<Box<str>, Vec<&'v Value>> {
        let items = value
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut found: HashMap<Box<str>, Vec<&Value>> = HashMap::with_capacity(items.len());
        for item in items {
            if let Some(step) = self.step(list, item) {
                found.entry(step).or_default().push(item);
            }
        }
        found
    }

    /// The paths at which a value lies in something that is replaced as a whole.
    pub(super) fn atomics(self, id: TypeId, value: &Value, path: &str, found: &mut Vec<String>) {
        let mut note = |atomic: bool| {
            if atomic {
                found.push(path.to_owned());
            }
        };
        match (self.types.get(id), value) {
            (Type::Struct(definition), Value::Object(map)) => {
                note(definition.atomic);
                for (name, child) in map {
                    if let (Some(ty), _) = self.field(definition, name) {
                        self.atomics(ty, child, &format!("{path}.{name}"), found);
                    }
                }
            }
            (Type::Map(definition), Value::Object(map)) => {
                note(definition.atomic);
                for (name, child) in map {
                    self.atomics(definition.value, child, &format!("{path}.{name}"), found);
                }
            }
            (Type::List(list), Value::Array(items)) => {
                note(list.kind == ListKind::Atomic);
                for (index, item) in items.iter().enumerate() {
                    self.atomics(list.element, item, &format!("{path}[{index}]"), found);
                }
            }
            _ => {}
        }
    }

    /// Merges `patch` into `live`: what the patch says wins, lists keep the patch's order.
    pub(super) fn merge(self, id: TypeId, live: &Value, patch: &Value) -> Value {
        self.merge_values(Some(id), Some(live), Some(patch))
            .unwrap_or(Value::Null)
    }

    fn merge_values(self, ty: Ty, live: Option<&Value>, patch: Option<&Value>) -> Option<Value> {
        let (live, patch) = match (live, patch) {
            (Some(live), Some(patch)) => (live, patch),
            (live, patch) => return patch.or(live).cloned(),
        };
        if is_empty(Some(live)) && is_empty(Some(patch)) {
            return Some(patch.clone());
        }
        match (self.shape(ty, patch), live, patch) {
            (Shape::Struct(definition), Value::Object(live), Value::Object(patch)) => {
                Some(self.merge_maps(live, patch, |name| self.field(definition, name).0))
            }
            (Shape::Map(ty), Value::Object(live), Value::Object(patch)) => {
                Some(self.merge_maps(live, patch, |_| ty))
            }
            (Shape::List(list), Value::Array(live), Value::Array(patch)) => {
                Some(Value::Array(self.merge_lists(list, live, patch)))
            }
            // An empty patch adds nothing to a live object or list that merges.
            (Shape::Struct(_) | Shape::Map(_) | Shape::List(_), live, Value::Null) => Some(live.clone()),
            _ => Some(patch.clone()),
        }
    }

    fn merge_maps(
        self,
        live: &Map<String, Value>,
        patch: &Map<String, Value>,
        ty: impl Fn(&str) -> Ty,
    ) -> Value {
        let mut merged = Map::new();
        for (name, live) in live {
            let value = self.merge_values(ty(name), Some(live), patch.get(name));
            merged.extend(value.map(|value| (name.clone(), value)));
        }
        for (name, patch) in patch {
            if !live.contains_key(name) {
                merged.insert(name.clone(), patch.clone());
            }
        }
        Value::Object(merged)
    }

    /// The elements of the patch in its order, and those of the live list between them where they were.
    fn merge_lists(self, list: &List, live: &[Value], patch: &[Value]) -> Vec<Value> {
        let steps =
            |items: &[Value]| -> Vec<Option<Box<str>>> { items.iter().map(|i| self.step(list, i)).collect() };
        let (live_steps, patch_steps) = (steps(live), steps(patch));
        let in_patch = |step: &Option<Box<str>>| step.is_some() && patch_steps.contains(step);
        let in_live = |step: &Option<Box<str>>| -> Option<&Value> {
            let mut found = live_steps
                .iter()
                .zip(live)
                .filter(|(s, _)| *s == step && s.is_some());
            // Several with the same keys are replaced, not merged.
            found
                .next()
                .filter(|_| found.next().is_none())
                .map(|(_, item)| item)
        };
        let mut shared = patch_steps
            .iter()
            .filter(|s| s.is_some() && live_steps.contains(s))
            .peekable();
        let mut merged: Vec<Value> = Vec::with_capacity(live.len().max(patch.len()));
        let mut done: Vec<&Option<Box<str>>> = Vec::new();
        let (mut l, mut r) = (0, 0);
        while l < live.len() || r < patch.len() {
            if let (Some(live_step), Some(patch_step)) = (live_steps.get(l), patch_steps.get(r)) {
                if live_step == patch_step {
                    done.push(patch_step);
                    merged.extend(self.merge_values(
                        Some(list.element),
                        in_live(patch_step),
                        Some(&patch[r]),
                    ));
                    (l, r) = (l + 1, r + 1);
                    shared.next();
                    continue;
                }
                if in_patch(live_step) && shared.peek().is_some_and(|next| *next != live_step) {
                    l += 1;
                    continue;
                }
            }
            if let Some(live_step) = live_steps.get(l) {
                if !in_patch(live_step) {
                    merged.push(live[l].clone());
                    l += 1;
                    continue;
                }
                if done.contains(&live_step) {
                    l += 1;
                }
            }
            if let Some(patch_step) = patch_steps.get(r) {
                done.push(patch_step);
                merged.extend(self.merge_values(Some(list.element), in_live(patch_step), Some(&patch[r])));
                r += 1;
                if shared.peek() == Some(&patch_step) {
                    shared.next();
                }
            }
        }
        merged
    }

    /// The object without the fields and elements of the set. What becomes empty stays, empty.
    pub(super) fn remove(self, id: TypeId, object: &Value, gone: &FieldSet) -> Value {
        self.remove_from(Some(id), object, gone)
    }

    fn remove_from(self, ty: Ty, value: &Value, gone: &FieldSet) -> Value {
        let keep = |step: &str, ty: Ty, child: &Value| match gone.get(step) {
            None => Some(child.clone()),
            Some(node) if node.member => None,
            Some(node) => Some(self.remove_from(ty, child, &node.below)),
        };
        match (self.shape(ty, value), value) {
            (Shape::Struct(definition), Value::Object(map)) => {
                let kept = map.iter().filter_map(|(name, child)| {
                    let (ty, _) = self.field(definition, name);
                    keep(&format!("f:{name}"), ty, child).map(|child| (name.clone(), child))
                });
                Value::Object(kept.collect())
            }
            (Shape::Map(ty), Value::Object(map)) => {
                let kept = map
                    .iter()
                    .filter_map(|(name, child)| Some((name.clone(), keep(&format!("f:{name}"), ty, child)?)));
                Value::Object(kept.collect())
            }
            (Shape::List(list), Value::Array(items)) => {
                let kept = items.iter().filter_map(|item| match self.step(list, item) {
                    Some(step) => keep(&step, Some(list.element), item),
                    None => Some(item.clone()),
                });
                Value::Array(kept.collect())
            }
            // Nothing is owned below a leaf.
            _ => value.clone(),
        }
    }

    /// The set with the named fields that lead to its members.
    pub(super) fn with_named_fields(self, id: TypeId, set: &FieldSet) -> FieldSet {
        self.named(Some(id), set)
    }

    fn named(self, ty: Ty, set: &FieldSet) -> FieldSet {
        let shape = ty.map(|id| self.types.get(id));
        let mut all = FieldSet::default();
        for (step, node) in set.nodes() {
            let name = step.strip_prefix("f:");
            let (below, named) = match (shape, name) {
                (Some(Type::Struct(definition)), Some(name)) => self.field(definition, name),
                (Some(Type::Map(map)), _) => (Some(map.value), false),
                (Some(Type::List(list)), _) => (Some(list.element), false),
                _ => (None, false),
            };
            let member = node.member || (named && !node.below.is_empty());
            all.push(
                step.into(),
                Node {
                    member,
                    below: self.named(below, &node.below),
                },
            );
        }
        all
    }

    /// What about an applied object doesn't fit the schema.
    pub(super) fn problems(self, id: TypeId, object: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.check(Some(id), object, &mut String::new(), &mut found);
        found
    }

    fn check(self, ty: Ty, value: &Value, path: &mut String, found: &mut Vec<String>) {
        let Some(id) = ty else { return };
        let length = path.len();
        match (self.types.get(id), value) {
            (_, Value::Null) => {}
            (Type::Struct(definition), Value::Object(map)) => {
                for (name, child) in map {
                    path.push('.');
                    path.push_str(name);
                    match self.field(definition, name) {
                        (None, _) if !definition.preserve_unknown => {
                            found.push(format!("{path}: field not declared in schema"));
                        }
                        (ty, _) => self.check(ty, child, path, found),
                    }
                    path.truncate(length);
                }
            }
            (Type::Map(map_type), Value::Object(map)) => {
                for (name, child) in map {
                    path.push('.');
                    path.push_str(name);
                    self.check(Some(map_type.value), child, path, found);
                    path.truncate(length);
                }
            }
            (Type::List(list), Value::Array(items)) => self.check_list(list, items, path, found),
            (Type::Struct(_) | Type::Map(_), other) => {
                found.push(format!("{path}: expected map, got {other}"))
            }
            (Type::List(_), other) => found.push(format!("{path}: expected list, got {other}")),
            (Type::Scalar(scalar, _), other) => {
                let expected = match scalar {
                    Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Duration => {
                        (!other.is_string()).then_some("string")
                    }
                    Scalar::Bool => (!other.is_boolean()).then_some("boolean"),
                    Scalar::Int32 | Scalar::Int64 | Scalar::Double => {
                        (!other.is_number()).then_some("numeric (int or float)")
                    }
                    _ => None,
                };
                found.extend(expected.map(|expected| format!("{path}: expected {expected}, got {other}")));
            }
        }
    }

    fn check_list(self, list: &List, items: &[Value], path: &mut String, found: &mut Vec<String>) {
        let length = path.len();
        let mut seen: HashMap<Box<str>, ()> = HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let mut step = format!("[{index}]");
            if list.kind != ListKind::Atomic {
                match self.step(list, item) {
                    None => found.push(format!(
                        "{path}: element {index}: associative list with keys has an element that omits all key fields {:?} (and doesn't have default values for any key fields)",
                        list.keys
                    )),
                    Some(key) => {
                        let mut set = FieldSet::default();
                        set.insert([&*key]);
                        step = set.paths().pop().unwrap_or_default();
                        match seen.entry(key) {
                            Entry::Occupied(_) => {
                                found.push(format!("{path}: duplicate entries for key {step}"));
                            }
                            Entry::Vacant(entry) => {
                                entry.insert(());
                            }
                        }
                    }
                }
            }
            path.push_str(&step);
            self.check(Some(list.element), item, path, found);
            path.truncate(length);
        }
    }
}

/// Whether a scalar is what a field holds of which nothing was said.
fn is_zero(value: &Value) -> bool {
    value.as_str().is_some_and(str::is_empty) || value.as_i64() == Some(0)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn object(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// A field on one side; null where Go prints one.
fn side<'v>(definition: &Struct, side: Option<&'v Map<String, Value>>, name: &str) -> Option<&'v Value> {
    let map = side?;
    map.get(name).or_else(|| {
        let null = definition
            .nulls
            .iter()
            .any(|&i| &*definition.fields[i as usize].name == name);
        null.then_some(&NULL)
    })
}
