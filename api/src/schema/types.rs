//! The type model: scalars, lists, maps and structs, interned in one arena.

use serde_json::Value;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::LazyLock;

/// A type within one [`Types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// What a leaf holds, and how it is written in protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A 64-bit float; in custom resources any number.
    Double,
    /// Bytes, base64 in JSON.
    Bytes,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    /// A Go duration such as `1m30s`.
    Duration,
    /// `100m`, `1Gi`.
    Quantity,
    /// An integer or a text.
    IntOrString,
    /// An object of another kind.
    RawExtension,
    /// The set of fields a manager owns.
    FieldsV1,
    /// Any JSON.
    Json,
    /// `JSONSchemaProps` or a boolean.
    SchemaOrBool,
    /// `JSONSchemaProps` or a list of them.
    SchemaOrArray,
    /// `JSONSchemaProps` or a list of texts.
    SchemaOrStringArray,
}

/// How a list's elements are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Replaced as a whole.
    Atomic,
    /// Unique scalars.
    Set,
    /// Structs told apart by keys.
    Map,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// The type of the elements.
    pub element: TypeId,
    /// How elements are told apart.
    pub kind: ListKind,
    /// The fields that tell elements of a [`ListKind::Map`] apart.
    pub keys: Box<[Box<str>]>,
    /// Whether protobuf wraps the list into a message of its own, with `items` numbered 1; holds the Go type's name.
    pub wrapper: Option<Box<str>>,
}

/// A map from text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapType {
    /// The type of the values.
    pub value: TypeId,
    /// Whether it is replaced as a whole.
    pub atomic: bool,
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name in JSON.
    pub name: Box<str>,
    /// Its type.
    pub ty: TypeId,
    /// The number in protobuf; 0 where there is none.
    pub number: u16,
    /// The numbers and Go names of the messages that protobuf puts around it, where JSON has it inline.
    pub inline: Box<[(u16, Box<str>)]>,
    /// Whether OpenAPI calls it required.
    pub required: bool,
    /// Whether an empty value isn't printed (Go's `omitempty`).
    pub omitempty: bool,
    /// Whether a struct without any field isn't printed (Go's `omitzero`).
    pub omitzero: bool,
    /// Whether it is a pointer in Go, so that empty and absent differ.
    pub pointer: bool,
    /// Whether null is a value (custom resources).
    pub nullable: bool,
    /// Strategic merge: `merge`.
    pub patch_merge: bool,
    /// Strategic merge: `retainKeys`.
    pub patch_retain_keys: bool,
    /// Strategic merge: the field that tells elements apart.
    pub patch_merge_key: Option<Box<str>>,
    /// The default that the schema declares.
    pub default: Option<Box<Value>>,
}

/// An object with known fields.
#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// The OpenAPI name; empty for nested structs of custom resources.
    pub name: Box<str>,
    /// The fields in the order of declaration.
    pub fields: Box<[Field]>,
    /// Positions in `fields`, ordered by name.
    pub(crate) by_name: Box<[u16]>,
    /// Positions of the fields that print even when nothing was said about them.
    pub(crate) printed: Box<[u16]>,
    /// Positions of the fields that Go prints as null when nothing was said about them. Objects here leave them out,
    /// but they count in field ownership.
    pub(crate) nulls: Box<[u16]>,
    /// Whether it is replaced as a whole.
    pub atomic: bool,
    /// Whether unknown fields are kept (custom resources).
    pub preserve_unknown: bool,
    /// The type of unknown fields, when they are kept and typed.
    pub additional: Option<TypeId>,
    /// Whether it is a whole object with `apiVersion`, `kind` and `metadata` (custom resources).
    pub embedded_resource: bool,
    /// Group, version and kind where it is the type of a kind.
    pub kinds: Box<[Kind]>,
}

/// A type.
#[derive(Clone, Debug)]
pub enum Type {
    /// A leaf. The second part is the name of the Go type, such as `v1.PullPolicy`, empty when it goes by the scalar's own.
    Scalar(Scalar, Box<str>),
    /// A list.
    List(List),
    /// A map.
    Map(MapType),
    /// A struct.
    Struct(Struct),
}

/// An immutable registry of types.
#[derive(Debug, Default)]
pub struct Types {
    base: Option<&'static Types>,
    first: u32,
    types: Vec<Type>,
    names: HashMap<Box<str>, TypeId, ahash::RandomState>,
    kinds: HashMap<Kind, TypeId, ahash::RandomState>,
    /// The values that a named text type has.
    enums: HashMap<Box<str>, Vec<String>, ahash::RandomState>,
}

/// Group, version, kind.
type Kind = (Box<str>, Box<str>, Box<str>);

impl Types {
    fn next(&self) -> TypeId {
        TypeId(self.first + self.types.len() as u32)
    }
}

/// Makes a [`Types`].
#[derive(Debug, Default)]
pub struct TypesBuilder {
    types: Types,
    lists: HashMap<List, TypeId>,
    maps: HashMap<MapType, TypeId>,
    scalars: HashMap<(Scalar, Box<str>), TypeId>,
    granular: HashMap<TypeId, TypeId>,
}

static ANY: LazyLock<Type> = LazyLock::new(|| Type::Scalar(Scalar::Json, "".into()));

impl Types {
    /// The type called `name`.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        match self.names.get(name) {
            Some(id) => Some(*id),
            None => self.base.and_then(|base| base.find(name)),
        }
    }

    /// A type; any JSON for an id of another registry.
    pub fn get(&self, id: TypeId) -> &Type {
        match (id.0.checked_sub(self.first), self.base) {
            (None, Some(base)) => base.get(id),
            (Some(index), _) => self.types.get(index as usize).unwrap_or(&ANY),
            (None, None) => &ANY,
        }
    }

    /// The struct called `name`.
    pub fn struct_named(&self, name: &str) -> Option<&Struct> {
        match self.get(self.find(name)?) {
            Type::Struct(s) => Some(s),
            _ => None,
        }
    }

    /// The names of this registry's own types, unordered.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// The values that a text type has, when OpenAPI lists them.
    pub fn values(&self, id: TypeId) -> Option<&[String]> {
        match self.get(id) {
            Type::Scalar(Scalar::String, name) if !name.is_empty() => self.named_values(name),
            _ => None,
        }
    }

    fn named_values(&self, name: &str) -> Option<&[String]> {
        let own = self.enums.get(name).map(Vec::as_slice);
        own.or_else(|| self.base.and_then(|base| base.named_values(name)))
    }

    /// Whether the type is a custom resource's, for which values of wrong types are a matter of validation.
    pub(crate) fn is_custom(&self, id: TypeId) -> bool {
        self.base.is_some() && id.0 >= self.first
    }

    /// The name of the type of a kind. Kinds that every group has (options, `Status`, `WatchEvent`) are found in any.
    pub fn name_of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&str> {
        let find = |group: &str, version: &str| self.kinds.get(&(group.into(), version.into(), kind.into()));
        let everywhere = match kind {
            "Status" => Some(""),
            _ if EVERYWHERE.contains(&kind) => Some("meta.k8s.io"),
            _ => None,
        };
        let id = find(group, version).or_else(|| find(everywhere?, "v1"));
        match id.map(|id| self.get(*id)) {
            Some(Type::Struct(definition)) => Some(&definition.name),
            _ => self.base?.name_of_kind(group, version, kind),
        }
    }
}

/// Kinds of `meta.k8s.io/v1` that are sent under any group and version.
const EVERYWHERE: &[&str] = &[
    "CreateOptions",
    "DeleteOptions",
    "GetOptions",
    "ListOptions",
    "PatchOptions",
    "UpdateOptions",
    "WatchEvent",
];

impl Field {
    /// A plain field of a custom resource: not in protobuf, printed even when empty.
    pub fn new(name: &str, ty: TypeId) -> Self {
        Self {
            name: name.into(),
            ty,
            number: 0,
            inline: Box::default(),
            required: false,
            omitempty: false,
            omitzero: false,
            pointer: false,
            nullable: false,
            patch_merge: false,
            patch_retain_keys: false,
            patch_merge_key: None,
            default: None,
        }
    }
}

impl Struct {
    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self
            .by_name
            .binary_search_by(|&i| (*self.fields[i as usize].name).cmp(name))
            .ok()?;
        Some(&self.fields[self.by_name[at] as usize])
    }

    /// The last part of the name, which is the Go type's: `PodSpec`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    pub(crate) fn index(&mut self) {
        let mut order: Vec<u16> = (0..self.fields.len() as u16).collect();
        order.sort_by(|a, b| self.fields[*a as usize].name.cmp(&self.fields[*b as usize].name));
        self.by_name = order.into();
    }
}

impl TypesBuilder {
    /// A builder of types that may use those of `base`.
    pub fn on(base: &'static Types) -> Self {
        let first = base.first + base.types.len() as u32;
        Self {
            types: Types {
                base: Some(base),
                first,
                ..Types::default()
            },
            ..Self::default()
        }
    }

    /// A scalar.
    pub fn scalar(&mut self, scalar: Scalar, go: &str) -> TypeId {
        let next = self.types.next();
        match self.scalars.entry((scalar, go.into())) {
            Entry::Occupied(e) => *e.get(),
            Entry::Vacant(e) => {
                self.types.types.push(Type::Scalar(scalar, go.into()));
                *e.insert(next)
            }
        }
    }

    /// A list.
    pub fn list(&mut self, list: List) -> TypeId {
        let next = self.types.next();
        match self.lists.entry(list) {
            Entry::Occupied(e) => *e.get(),
            Entry::Vacant(e) => {
                self.types.types.push(Type::List(e.key().clone()));
                *e.insert(next)
            }
        }
    }

    /// A map.
    pub fn map(&mut self, map: MapType) -> TypeId {
        let next = self.types.next();
        match self.maps.entry(map) {
            Entry::Occupied(e) => *e.get(),
            Entry::Vacant(e) => {
                self.types.types.push(Type::Map(e.key().clone()));
                *e.insert(next)
            }
        }
    }

    /// A place for a struct called `name`, which may be referred to before it is defined.
    pub fn declare(&mut self, name: &str) -> TypeId {
        if let Some(id) = self.types.names.get(name) {
            return *id;
        }
        let id = self.types.next();
        self.types.types.push(Type::Struct(Struct {
            name: name.into(),
            ..Struct::default()
        }));
        self.types.names.insert(name.into(), id);
        id
    }

    /// The struct `of`, merged field by field although it is atomic elsewhere.
    pub fn granular(&mut self, of: TypeId) -> TypeId {
        if let Some(id) = self.granular.get(&of) {
            return *id;
        }
        let id = self.anonymous();
        self.granular.insert(of, id);
        id
    }

    /// A struct without a name.
    pub fn anonymous(&mut self) -> TypeId {
        let id = self.types.next();
        self.types.types.push(Type::Struct(Struct::default()));
        id
    }

    /// Defines what was declared.
    pub fn define(&mut self, id: TypeId, mut definition: Struct) {
        definition.index();
        for (group, version, kind) in &definition.kinds {
            self.types
                .kinds
                .insert((group.clone(), version.clone(), kind.clone()), id);
        }
        let index = id.0.saturating_sub(self.types.first) as usize;
        if let Some(slot) = self.types.types.get_mut(index) {
            *slot = Type::Struct(definition);
        }
    }

    /// The name for a type that is not a struct.
    pub fn alias(&mut self, name: &str, id: TypeId) {
        self.types.names.insert(name.into(), id);
    }

    /// The values of the text type called `name`.
    pub fn values(&mut self, name: &str, values: Vec<String>) {
        self.types.enums.insert(name.into(), values);
    }

    /// A type found so far, of the base included.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.types.find(name)
    }

    /// Notes for each built-in struct which fields Go prints even when they hold nothing.
    fn find_printed(&mut self) {
        if self.types.base.is_some() {
            return;
        }
        for index in 0..self.types.types.len() {
            let Some(Type::Struct(definition)) = self.types.types.get(index) else {
                continue;
            };
            let printed = definition.fields.iter().enumerate().filter(|(_, field)| {
                let by_kind = match self.types.get(field.ty) {
                    Type::Struct(_) => !field.omitzero,
                    Type::Scalar(Scalar::Quantity | Scalar::IntOrString | Scalar::Duration, _) => {
                        !field.omitzero
                    }
                    Type::Scalar(
                        Scalar::String | Scalar::Bool | Scalar::Int32 | Scalar::Int64 | Scalar::Double,
                        _,
                    ) => !field.omitempty,
                    _ => false,
                };
                by_kind && !field.pointer
            });
            let printed = printed.map(|(i, _)| i as u16).collect();
            let nulls = definition.fields.iter().enumerate().filter(|(_, field)| {
                let by_kind = match self.types.get(field.ty) {
                    Type::List(_) | Type::Map(_) | Type::Scalar(Scalar::Bytes, _) => !field.omitempty,
                    Type::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::RawExtension, _) => true,
                    _ => false,
                };
                by_kind && !field.pointer && !field.omitzero
            });
            let nulls = nulls.map(|(i, _)| i as u16).collect();
            if let Some(Type::Struct(definition)) = self.types.types.get_mut(index) {
                definition.printed = printed;
                definition.nulls = nulls;
            }
        }
    }

    /// The registry.
    pub fn build(mut self) -> Types {
        self.find_printed();
        for (of, id) in std::mem::take(&mut self.granular) {
            if let Type::Struct(definition) = self.types.get(of) {
                let definition = Struct {
                    atomic: false,
                    kinds: Box::default(),
                    ..definition.clone()
                };
                self.define(id, definition);
            }
        }
        self.types.types.shrink_to_fit();
        self.types
    }
}
