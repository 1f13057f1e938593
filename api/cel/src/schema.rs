//! What is known about data before it is seen: its types, and how large it may get.
//!
//! A schema is made from the structural schema of a custom resource or from the types of a built-in kind. Expressions are
//! checked against it, their cost is estimated with it, and values are read through it: a text of format `date-time`
//! is a timestamp, a list of type `set` is compared as one.

use crate::escape::{escape, is_reserved};
use crate::types::Type;
use rutter_api::schema as model;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest request that is accepted: 3 MiB.
pub const MAX_REQUEST_BYTES: i64 = 3 * 1024 * 1024;

/// What is known about a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub(crate) kind: Kind,
    /// The most elements, entries or bytes it can have.
    pub(crate) max_elements: i64,
    /// The fewest bytes it takes in JSON.
    pub(crate) min_size: i64,
    /// Whether null is a value of it.
    pub(crate) nullable: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Dyn,
    /// An integer or a text.
    IntOrString,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    Date,
    DateTime,
    List(Arc<ListSchema>),
    Map(Arc<Schema>),
    Object(Arc<Object>),
}

/// What is known about a list's elements.
#[derive(Clone, Debug, PartialEq)]
pub struct ListSchema {
    pub(crate) items: Schema,
    pub(crate) kind: ListKind,
}

/// How the elements of a list are told apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListKind {
    Atomic,
    Set,
    /// By these fields.
    Map(Box<[Box<str>]>),
}

/// An object with known fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub(crate) name: Arc<str>,
    /// By the names that expressions use.
    pub(crate) fields: BTreeMap<Box<str>, Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    /// The name in JSON.
    pub(crate) name: Box<str>,
    pub(crate) schema: Schema,
}

impl Object {
    /// A field by the name that expressions use. Words of the language may be used as they are.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name).or_else(|| match is_reserved(name) {
            true => self.fields.get(escape(name)?.as_str()),
            false => None,
        })
    }
}

/// How deep a schema that refers to itself is followed.
const MAX_DEPTH: usize = 32;

impl Schema {
    /// A value of which nothing is known.
    pub const ANY: Self = Self::simple(Kind::Dyn, 1, i64::MAX);
    /// Text of unknown length.
    pub const STRING: Self = Self::simple(Kind::String, 2, MAX_REQUEST_BYTES - 2);
    /// A boolean.
    pub const BOOL: Self = Self::simple(Kind::Bool, 4, 0);
    /// A point in time.
    pub const TIMESTAMP: Self = Self::simple(Kind::DateTime, 21, 32);
    /// An integer.
    pub const INT: Self = Self::simple(Kind::Int, 1, 0);

    const fn simple(kind: Kind, min_size: i64, max_elements: i64) -> Self {
        Self {
            kind,
            max_elements,
            min_size,
            nullable: true,
        }
    }

    /// A list of unknown length.
    pub fn list(items: Self) -> Self {
        let most = (MAX_REQUEST_BYTES - 2) / (items.min_size + 1);
        let list = ListSchema {
            items,
            kind: ListKind::Atomic,
        };
        Self::simple(Kind::List(Arc::new(list)), 2, most)
    }

    /// A map from text, of unknown size.
    pub fn map(values: Self) -> Self {
        let most = (MAX_REQUEST_BYTES - 2) / (values.min_size + 6);
        Self::simple(Kind::Map(Arc::new(values)), 2, most)
    }

    /// An object with these fields, by their names in JSON.
    pub fn object(name: &str, fields: &[(&str, Self)]) -> Self {
        let fields = fields.iter().filter_map(|(name, schema)| {
            let field = Field {
                name: (*name).into(),
                schema: schema.clone(),
            };
            Some((escape(name)?.into(), field))
        });
        let object = Object {
            name: name.into(),
            fields: fields.collect(),
        };
        Self::simple(Kind::Object(Arc::new(object)), 2, 0)
    }

    /// The same, said to hold at most `most` elements, entries or bytes.
    #[must_use]
    pub fn at_most(mut self, most: i64) -> Self {
        self.max_elements = most;
        self
    }

    /// The type that expressions see.
    pub fn ty(&self) -> Type {
        match &self.kind {
            Kind::Dyn | Kind::IntOrString => Type::Dyn,
            Kind::Bool => Type::Bool,
            Kind::Int => Type::Int,
            Kind::Double => Type::Double,
            Kind::String => Type::String,
            Kind::Bytes => Type::Bytes,
            Kind::Duration => Type::Duration,
            Kind::Date | Kind::DateTime => Type::Timestamp,
            Kind::List(list) => Type::list(list.items.ty()),
            Kind::Map(values) => Type::map(Type::String, values.ty()),
            Kind::Object(object) => Type::Struct(object.name.clone()),
        }
    }

    /// How often data of this schema may occur in one object at most, when nothing bounds what holds it.
    pub fn max_cardinality(&self) -> u64 {
        u64::try_from(MAX_REQUEST_BYTES / (self.min_size + 1)).unwrap_or_default()
    }

    /// A field by the name that expressions use.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        match &self.kind {
            Kind::Object(object) => object.field(name),
            _ => None,
        }
    }

    /// A field by its name in JSON.
    pub fn property(&self, name: &str) -> Option<&Self> {
        self.field(&escape(name)?).map(|field| &field.schema)
    }

    /// What a list's elements or a map's values are.
    pub fn elements(&self) -> Option<&Self> {
        match &self.kind {
            Kind::List(list) => Some(&list.items),
            Kind::Map(values) => Some(values),
            _ => None,
        }
    }

    /// Calls `f` with every object schema in it and its name.
    pub(crate) fn each_object(&self, f: &mut dyn FnMut(&Arc<str>, &Self)) {
        match &self.kind {
            Kind::List(list) => list.items.each_object(f),
            Kind::Map(values) => values.each_object(f),
            Kind::Object(object) => {
                f(&object.name, self);
                for field in object.fields.values() {
                    field.schema.each_object(f);
                }
            }
            _ => {}
        }
    }

    /// From a part of a structural schema (`openAPIV3Schema` as JSON), with the name that objects in it get. `root` says that
    /// it is a whole resource, which always has `apiVersion`, `kind` and a little `metadata`. None where it says nothing
    /// that expressions could use.
    pub fn structural(schema: &Json, root: bool, name: &str) -> Option<Self> {
        if flag(schema, "x-kubernetes-int-or-string") {
            let most = match schema.get("maxLength").and_then(Json::as_i64) {
                Some(length) => length.max(0).saturating_mul(4),
                None => MAX_REQUEST_BYTES - 2,
            };
            return Some(Self {
                nullable: flag(schema, "nullable"),
                ..Self::simple(Kind::IntOrString, 1, most)
            });
        }
        let made = match schema.get("type").and_then(Json::as_str)? {
            "array" => {
                let items = schema.get("items")?;
                let embedded = flag(items, "x-kubernetes-embedded-resource");
                let items = Self::structural(items, embedded, &format!("{name}.@idx"))?;
                let fewest = items.min_size + 1;
                let kind = list_kind(schema);
                let most = bound(schema, "maxItems").unwrap_or((MAX_REQUEST_BYTES - 2) / fewest);
                Self::simple(Kind::List(Arc::new(ListSchema { items, kind })), 2, most)
            }
            "object" => Self::structural_object(schema, root, name)?,
            "string" => structural_string(schema),
            "boolean" => Self::BOOL,
            "number" => Self::simple(Kind::Double, 1, 0),
            "integer" => Self::INT,
            _ => return None,
        };
        Some(Self {
            nullable: flag(schema, "nullable"),
            ..made
        })
    }

    fn structural_object(schema: &Json, root: bool, name: &str) -> Option<Self> {
        if let Some(values) = schema.get("additionalProperties").filter(|s| s.is_object())
            && !root
        {
            let embedded = flag(values, "x-kubernetes-embedded-resource");
            let values = Self::structural(values, embedded, &format!("{name}.@elem"))?;
            let most =
                bound(schema, "maxProperties").unwrap_or((MAX_REQUEST_BYTES - 2) / (values.min_size + 6));
            return Some(Self::simple(Kind::Map(Arc::new(values)), 2, most));
        }
        let required: Vec<&str> = texts(schema.get("required")).collect();
        let mut min_size = 2;
        let mut fields = BTreeMap::new();
        let none = Map::new();
        let properties = schema
            .get("properties")
            .and_then(Json::as_object)
            .unwrap_or(&none);
        for (key, property) in properties {
            if root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let escaped = escape(key);
            let below = format!("{name}.{}", escaped.as_deref().unwrap_or(key));
            let embedded = flag(property, "x-kubernetes-embedded-resource");
            let Some(schema) = Self::structural(property, embedded, &below) else {
                continue;
            };
            if required.contains(&key.as_str()) && property.get("default").is_none_or(Json::is_null) {
                min_size += key.len() as i64 + schema.min_size + 4;
            }
            if let Some(escaped) = escaped {
                let name = key.as_str().into();
                fields.insert(escaped.into(), Field { name, schema });
            }
        }
        if root {
            let metadata = Self::object(
                &format!("{name}.metadata"),
                &[
                    ("name", Self::plain_string()),
                    ("generateName", Self::plain_string()),
                ],
            );
            for (key, schema) in [
                ("apiVersion", Self::plain_string()),
                ("kind", Self::plain_string()),
                (
                    "metadata",
                    Self {
                        nullable: false,
                        ..metadata
                    },
                ),
            ] {
                if required.contains(&key) {
                    min_size += key.len() as i64 + schema.min_size + 4;
                }
                fields.insert(
                    key.into(),
                    Field {
                        name: key.into(),
                        schema,
                    },
                );
            }
        }
        let object = Object {
            name: name.into(),
            fields,
        };
        Some(Self::simple(Kind::Object(Arc::new(object)), min_size, 0))
    }

    fn plain_string() -> Self {
        Self {
            nullable: false,
            ..Self::STRING
        }
    }

    /// From a type of a built-in kind. Objects in it are called by `name` and their path.
    pub fn typed(types: &model::Types, id: model::TypeId, name: &str) -> Self {
        Self::typed_below(types, id, name, MAX_DEPTH)
    }

    fn typed_below(types: &model::Types, id: model::TypeId, name: &str, depth: usize) -> Self {
        use rutter_api::schema::{Scalar, Type as T};
        if depth == 0 {
            return Self::ANY;
        }
        match types.get(id) {
            T::Scalar(scalar, _) => match scalar {
                Scalar::String => Self::STRING,
                Scalar::Bool => Self::BOOL,
                Scalar::Int32 | Scalar::Int64 => Self::INT,
                Scalar::Double => Self::simple(Kind::Double, 1, 0),
                Scalar::Bytes => Self::simple(Kind::Bytes, 2, MAX_REQUEST_BYTES - 2),
                Scalar::Time | Scalar::MicroTime => Self::simple(Kind::DateTime, 21, 32),
                Scalar::Duration | Scalar::Quantity => Self::STRING,
                Scalar::IntOrString => Self::simple(Kind::IntOrString, 1, MAX_REQUEST_BYTES - 2),
                _ => Self::ANY,
            },
            T::List(list) => {
                let items = Self::typed_below(types, list.element, &format!("{name}.@idx"), depth - 1);
                Self::list(items)
            }
            T::Map(map) => Self::map(Self::typed_below(
                types,
                map.value,
                &format!("{name}.@elem"),
                depth - 1,
            )),
            T::Struct(structure) => {
                let fields = structure.fields.iter().map(|field| {
                    let below = format!("{name}.{}", field.name);
                    (
                        field.name.as_ref(),
                        Self::typed_below(types, field.ty, &below, depth - 1),
                    )
                });
                let fields: Vec<_> = fields.collect();
                Self::object(name, &fields)
            }
        }
    }
}

fn structural_string(schema: &Json) -> Schema {
    let length = bound(schema, "maxLength");
    match schema.get("format").and_then(Json::as_str).unwrap_or_default() {
        "byte" => Schema::simple(Kind::Bytes, 2, length.unwrap_or(MAX_REQUEST_BYTES - 2)),
        "duration" => Schema::simple(Kind::Duration, 3, 32),
        "date" => Schema::simple(Kind::Date, 12, 12),
        "date-time" => Schema::simple(Kind::DateTime, 21, 32),
        _ => {
            let longest = texts(schema.get("enum")).map(str::len).max();
            let listed = schema
                .get("enum")
                .and_then(Json::as_array)
                .is_some_and(|e| !e.is_empty());
            let most = match length {
                Some(length) => length.saturating_mul(4),
                None if listed => longest.unwrap_or(0) as i64,
                None => MAX_REQUEST_BYTES - 2,
            };
            Schema::simple(Kind::String, 2, most)
        }
    }
}

fn list_kind(schema: &Json) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Json::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(
            texts(schema.get("x-kubernetes-list-map-keys"))
                .map(Into::into)
                .collect(),
        ),
        _ => ListKind::Atomic,
    }
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or_default()
}

fn bound(schema: &Json, name: &str) -> Option<i64> {
    schema.get(name).and_then(Json::as_i64).map(|n| n.max(0))
}

fn texts(list: Option<&Json>) -> impl Iterator<Item = &str> {
    list.and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
}
