//! Makes things of the fuzzer's bytes: texts, trees, and objects that fit a schema.

use libfuzzer_sys::arbitrary::Unstructured;
use rutter_api::GroupVersionKind;
use rutter_api::schema::{FieldValidation, ListKind, Scalar, Struct, Type, TypeId, Types, builtin, decode};
use serde_json::{Map, Number, Value, json};
use std::sync::LazyLock;

/// A built-in kind and the name of its type.
pub type Kind = (GroupVersionKind, String);

/// All built-in kinds, ordered.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let mut kinds = Vec::new();
    for name in builtin().names() {
        for (group, version, kind) in builtin().struct_named(name).into_iter().flat_map(|s| &s.kinds) {
            let gvk = GroupVersionKind::new(&**group, &**version, &**kind);
            kinds.push((gvk, name.to_owned()));
        }
    }
    kinds.sort_by_key(|(gvk, _)| (gvk.api_version(), gvk.kind.clone()));
    kinds
});

/// The kinds of which there are objects, and not lists or options.
pub static OBJECT_KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let whole = |name: &str| {
        let definition = builtin().struct_named(name);
        let metadata = |s: &Struct| s.field("metadata").is_some_and(|field| field.number > 0);
        definition.is_some_and(|s| metadata(s) && s.field("items").is_none())
    };
    KINDS.iter().filter(|(_, name)| whole(name)).cloned().collect()
});

/// Fields that tell elements of lists apart.
const KEYS: &[&str] = &[
    "name",
    "key",
    "type",
    "containerPort",
    "port",
    "mountPath",
    "devicePath",
    "ip",
    "uid",
    "topologyKey",
];

/// Choices, made by the fuzzer's bytes. When they end, every choice is the first one and every list ends.
pub struct Maker<'u>(Unstructured<'u>, &'static [&'static str]);

/// What names and values are made of unless something else is spoken of.
const WORDS: &[&str] = &["a", "b", "c", "x", "y", "a-b"];

impl<'u> Maker<'u> {
    /// Of these bytes.
    pub fn new(data: &'u [u8]) -> Self {
        Self(Unstructured::new(data), WORDS)
    }

    /// Of these bytes, where words are mostly these.
    pub fn speaking(data: &'u [u8], words: &'static [&'static str]) -> Self {
        Self(Unstructured::new(data), words)
    }

    /// Whether there is nothing left to choose by.
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        let last = bound.saturating_sub(1);
        self.0.int_in_range(0..=last).unwrap_or_default()
    }

    /// Yes or no; no at the end.
    pub fn flip(&mut self) -> bool {
        !self.is_done() && self.below(2) == 1
    }

    /// Yes once in so many times; no at the end.
    pub fn once_in(&mut self, times: usize) -> bool {
        !self.is_done() && self.below(times) == times - 1
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Any number.
    pub fn int(&mut self) -> i64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// How many of a list.
    pub fn count(&mut self, most: usize) -> usize {
        if self.is_done() { 0 } else { self.below(most + 1) }
    }

    /// Some bytes.
    pub fn bytes(&mut self) -> Vec<u8> {
        let length = self.count(64);
        let length = length.min(self.0.len());
        self.0.bytes(length).unwrap_or_default().to_vec()
    }

    /// All bytes that are left.
    pub fn rest(self) -> &'u [u8] {
        self.0.take_rest()
    }

    /// A short text of any characters.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// A short text as names and values are.
    pub fn word(&mut self) -> String {
        match self.below(8) {
            7 => self.text(),
            6 => self
                .pick(&["", "ü\u{1F980}\"\\", "1", "true", "a/b", "c.d/e", "~0", "-"])
                .to_owned(),
            _ => self.pick(self.1).to_owned(),
        }
    }

    /// Any JSON, not deep.
    pub fn tree(&mut self) -> Value {
        self.tree_at(0)
    }

    fn tree_at(&mut self, depth: usize) -> Value {
        if self.is_done() {
            return Value::Null;
        }
        match self.below(if depth < 6 { 10 } else { 6 }) {
            0 => Value::Null,
            1 => Value::Bool(self.flip()),
            2 => Value::from(self.pick(&[0i64, 1, -1, 7, 1 << 40])),
            3 => self.number(),
            4 | 5 => Value::from(self.word()),
            6 | 7 => {
                let count = self.count(4);
                Value::Array((0..count).map(|_| self.tree_at(depth + 1)).collect())
            }
            _ => {
                let count = self.count(4);
                let entries = (0..count).map(|_| (self.word(), self.tree_at(depth + 1)));
                Value::Object(entries.collect())
            }
        }
    }

    fn number(&mut self) -> Value {
        let bits = self.int();
        match self.below(3) {
            0 => Value::from(bits),
            1 => Value::from(bits as u64),
            _ => Number::from_f64(f64::from_bits(bits as u64)).map_or(Value::Null, Value::Number),
        }
    }

    /// A kind and a decoded object of it.
    pub fn object(&mut self) -> (&'static Kind, Value) {
        let kind = &OBJECT_KINDS[self.below(OBJECT_KINDS.len())];
        (kind, self.object_of(kind))
    }

    /// A decoded object of a kind.
    pub fn object_of(&mut self, (gvk, name): &Kind) -> Value {
        let mut object = self.sample(builtin(), name);
        object["apiVersion"] = json!(gvk.api_version());
        object["kind"] = json!(gvk.kind);
        let decoded = decode(builtin(), name, object, FieldValidation::Strict);
        decoded.expect("what is made by the schema fits it").value
    }

    /// A value of the type called `name`, not decoded.
    pub fn sample(&mut self, types: &Types, name: &str) -> Value {
        match types.find(name) {
            Some(id) => self.value(types, id, 0),
            None => Value::Null,
        }
    }

    fn value(&mut self, types: &Types, id: TypeId, depth: usize) -> Value {
        match types.get(id) {
            Type::Struct(definition) => self.structure(types, definition, depth),
            Type::Map(map) => {
                let count = if depth < 12 { self.count(2) } else { 0 };
                let entries = (0..count).map(|_| {
                    let key = self.pick(&["a", "b", "c.d/e"]);
                    (key.to_owned(), self.value(types, map.value, depth + 1))
                });
                Value::Object(entries.collect())
            }
            Type::List(list) => {
                let count = if depth < 12 { self.count(3) } else { 0 };
                let mut items: Vec<Value> = Vec::new();
                for _ in 0..count {
                    let item = self.value(types, list.element, depth + 1);
                    let taken = items.iter().any(|other| match list.keys.first() {
                        // One key alone tells elements apart, as strategic merge wants it.
                        Some(key) if list.kind == ListKind::Map => other.get(&**key) == item.get(&**key),
                        _ => *other == item,
                    });
                    if !taken || self.once_in(16) {
                        items.push(item);
                    }
                }
                Value::Array(items)
            }
            Type::Scalar(scalar, _) => self.scalar(*scalar),
        }
    }

    fn structure(&mut self, types: &Types, definition: &Struct, depth: usize) -> Value {
        let mut map = Map::new();
        // What isn't in protobuf (the kind of a nested object) is left out of built-in types.
        let custom =
            !std::ptr::eq(types, builtin()) && definition.fields.iter().all(|field| field.number == 0);
        for field in definition
            .fields
            .iter()
            .filter(|field| custom || field.number > 0)
        {
            if &*field.name == "managedFields" {
                continue;
            }
            let key = KEYS.contains(&&*field.name) || (custom && field.required);
            if key || (depth < 12 && self.once_in(depth.min(3) + 2)) {
                let value = match custom && field.nullable && self.once_in(16) {
                    true => Value::Null,
                    false => self.value(types, field.ty, depth + 1),
                };
                map.insert(field.name.to_string(), value);
            }
        }
        if custom && (definition.preserve_unknown || definition.additional.is_some()) {
            for _ in 0..self.count(2) {
                let key = self.pick(&["a", "b", "other"]);
                let value = match definition.additional {
                    Some(id) => self.value(types, id, depth + 1),
                    None => self.tree_at(4),
                };
                map.entry(key).or_insert(value);
            }
        }
        Value::Object(map)
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        match scalar {
            Scalar::String => Value::from(self.word()),
            Scalar::Bool => Value::Bool(self.flip()),
            Scalar::Int32 => Value::from(self.pick(&[0, 1, -1, 80, i32::MAX, i32::MIN])),
            Scalar::Int64 => Value::from(self.pick(&[0i64, 1, -1, 1 << 40, i64::MAX, i64::MIN])),
            Scalar::Double => Value::from(self.pick(&[0.5, -1.25, 1e100])),
            Scalar::Bytes => Value::from(self.pick(&["", "AA==", "AAEC/w=="])),
            Scalar::Time => Value::from(self.pick(&["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"])),
            Scalar::MicroTime => {
                Value::from(self.pick(&["2026-01-02T03:04:05.000001Z", "1969-12-31T23:59:59.999999Z"]))
            }
            Scalar::Duration => Value::from(self.pick(&["0s", "1h0m0s", "-1.5s"])),
            Scalar::Quantity => Value::from(self.pick(&["0", "100m", "1", "1Gi", "1e3", "12E-3", "0.5"])),
            Scalar::IntOrString => self.pick(&[json!(0), json!(80), json!("50%"), json!("")]),
            Scalar::RawExtension => self.pick(&[json!({"a": [1, {"b": "x"}]}), json!({"a": {}})]),
            Scalar::FieldsV1 => json!({"f:a": {}}),
            Scalar::Json => self.pick(&[json!(1), json!("x"), json!({"a": 1}), json!([true]), json!({})]),
            Scalar::SchemaOrBool => self.pick(&[json!(true), json!(false), json!({"type": "string"})]),
            Scalar::SchemaOrArray => self.pick(&[json!({"type": "string"}), json!([{"type": "string"}])]),
            Scalar::SchemaOrStringArray => self.pick(&[json!({"type": "string"}), json!(["a", "b"])]),
        }
    }
}

/// The paths of all values in a tree, as JSON pointers, the root's first.
pub fn pointers(tree: &Value) -> Vec<String> {
    fn walk(tree: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match tree {
            Value::Object(map) => {
                for (key, value) in map {
                    walk(
                        value,
                        &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                        found,
                    );
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    walk(value, &format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}

/// A tree without empty lists and maps, which protobuf doesn't have.
pub fn without_empties(value: Value) -> Value {
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
    };
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(key, value)| (key, without_empties(value)));
            Value::Object(kept.filter(|(_, v)| !is_empty(v)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_empties).collect()),
        other => other,
    }
}
