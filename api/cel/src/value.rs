//! Values while an expression is evaluated. What comes from an object is borrowed from it.

mod compare;
mod native;

pub use compare::{compare, equal};
pub use native::{AuthorizationCheck, Decision, Native, Semver, Subject, Url};
pub(crate) use native::{CidrValue, PreRelease, ResourceCheck};

use crate::error::{EvalError, Result};
use crate::schema::{Kind, ListKind, ListSchema, Object, Schema};
use base64::Engine as _;
use serde_json::{Map as JsonMap, Value as Json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A float.
    Double(f64),
    /// Text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(jiff::Timestamp),
    /// A list.
    List(List<'a>),
    /// A map, or an object of the API.
    Map(Map<'a>),
    /// A value that may be absent.
    Optional(Option<Arc<Value<'a>>>),
    /// The name of a type.
    Type(Text<'a>),
    /// An object that an expression made: the name of its type, and its fields.
    Object(Arc<str>, Arc<BTreeMap<Text<'a>, Value<'a>>>),
    /// One of Kubernetes' own values.
    Native(Native),
    /// Data without a schema inside of data with one: can only be compared.
    Opaque(&'a Json),
}

/// Text, borrowed where it was before.
#[derive(Clone)]
pub enum Text<'a> {
    /// Somebody else's.
    Borrowed(&'a str),
    /// Made here.
    Shared(Arc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::Borrowed(text)
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// A list of an object.
    Json(&'a [Json], Option<&'a ListSchema>),
    /// Made here; perhaps of elements that a schema describes.
    Made(Arc<Vec<Value<'a>>>, Option<&'a ListSchema>),
}

/// A map.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// An object without a schema.
    Json(&'a JsonMap<String, Json>),
    /// An object with known fields.
    Object(&'a JsonMap<String, Json>, &'a Object),
    /// A map whose values a schema describes.
    Values(&'a JsonMap<String, Json>, &'a Schema),
    /// Made here.
    Made(Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// A key of a map that was made here.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    /// `true` or `false`
    Bool(bool),
    /// A signed integer; equal to the unsigned one of the same value.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// Text.
    String(Text<'a>),
}

impl<'a> Key<'a> {
    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Self::Bool(b) => (0, i128::from(*b), ""),
            Self::Int(n) => (1, i128::from(*n), ""),
            Self::Uint(n) => (1, i128::from(*n), ""),
            Self::String(s) => (2, 0, s),
        }
    }

    /// The key that a value is, if it can be one.
    pub fn of(value: &Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Bool(b) => Self::Bool(*b),
            Value::Int(n) => Self::Int(*n),
            Value::Uint(n) => Self::Uint(*n),
            Value::String(s) => Self::String(s.clone()),
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9e18 => Self::Int(*d as i64),
            _ => return None,
        })
    }

    /// The key as a value.
    pub fn value(&self) -> Value<'a> {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(n) => Value::Int(*n),
            Self::Uint(n) => Value::Uint(*n),
            Self::String(s) => Value::String(s.clone()),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<'a> Value<'a> {
    /// Text made here.
    pub fn text(text: impl Into<Text<'a>>) -> Self {
        Self::String(text.into())
    }

    /// A list made here.
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::Made(Arc::new(items), None))
    }

    /// A value that is there.
    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A value of an object of which nothing is known.
    pub fn json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Self::Int(n),
                None => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::String(Text::Borrowed(text)),
            Json::Array(items) => Self::List(List::Json(items, None)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        }
    }

    /// A value of an object, read through its schema.
    pub fn typed(json: &'a Json, schema: &'a Schema) -> Result<Self> {
        Ok(match (&schema.kind, json) {
            (Kind::Dyn, json) => Self::json(json),
            (_, Json::Null) if schema.nullable => Self::Null,
            (_, Json::Null) => {
                return Err(EvalError::new(
                    "invalid data, got null for schema with nullable=false",
                ));
            }
            (Kind::IntOrString, Json::String(_) | Json::Number(_)) => Self::json(json),
            (Kind::IntOrString, _) => {
                return Err(EvalError::new(
                    "invalid data, expected XIntOrString value to be either a string or integer",
                ));
            }
            (Kind::Bool, Json::Bool(b)) => Self::Bool(*b),
            (Kind::Int, Json::Number(n)) => match n.as_i64() {
                Some(n) => Self::Int(n),
                None => return Err(mismatch("int", json)),
            },
            (Kind::Double, Json::Number(n)) => Self::Double(n.as_f64().unwrap_or(f64::NAN)),
            (Kind::String, Json::String(text)) => Self::String(Text::Borrowed(text)),
            (Kind::Bytes, Json::String(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                Self::Bytes(
                    bytes
                        .map_err(|e| EvalError::new(format!("Invalid byte formatted string {text}: {e}")))?
                        .into(),
                )
            }
            (Kind::Duration, Json::String(text)) => Self::Duration(
                rutter_api::duration::parse_go(text)
                    .map_err(|e| EvalError::new(format!("Invalid duration {text}: {e}")))?,
            ),
            (Kind::Date, Json::String(text)) => {
                let date: std::result::Result<jiff::civil::Date, _> = text.parse();
                let zoned = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC));
                Self::Timestamp(
                    zoned
                        .map_err(|e| EvalError::new(format!("Invalid date formatted string {text}: {e}")))?
                        .timestamp(),
                )
            }
            (Kind::DateTime, Json::String(text)) => Self::Timestamp(
                text.parse()
                    .map_err(|e| EvalError::new(format!("Invalid date-time formatted string {text}: {e}")))?,
            ),
            (Kind::List(list), Json::Array(items)) => Self::List(List::Json(items, Some(list))),
            (Kind::Map(values), Json::Object(map)) => Self::Map(Map::Values(map, values)),
            (Kind::Object(object), Json::Object(map)) => Self::Map(Map::Object(map, object)),
            (Kind::List(_), _) => {
                return Err(EvalError::new(
                    "invalid data, expected an array for the provided schema with type=array",
                ));
            }
            (Kind::Map(_) | Kind::Object(_), _) => {
                return Err(EvalError::new(
                    "invalid data, expected a map for the provided schema with type=object",
                ));
            }
            (Kind::Bool, _) => return Err(mismatch("bool", json)),
            (Kind::Int, _) => return Err(mismatch("int", json)),
            (Kind::Double, _) => return Err(mismatch("float", json)),
            (Kind::String | Kind::Bytes | Kind::Duration | Kind::Date | Kind::DateTime, _) => {
                return Err(mismatch("string", json));
            }
        })
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Object(name, _) => name,
            Self::Native(native) => native.type_name(),
            Self::Opaque(_) => "unknown",
        }
    }

    /// What `size()` counts; 1 for what has no size. Cost is reckoned with it.
    pub fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(value)) => value.size(),
            Self::Native(native) => native.size(),
            _ => 1,
        }
    }

    /// A field or an entry: none when it isn't there.
    pub fn member(&self, name: &str) -> Result<Option<Value<'a>>> {
        match self {
            Self::Map(map) => map.get(name),
            Self::Object(_, fields) => Ok(fields.get(name).cloned()),
            Self::Native(_) | Self::Opaque(_) => Ok(None),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// As JSON, for what leaves the language: messages, patches, applied configurations.
    pub fn to_json(&self) -> Result<Json> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(b) => Json::Bool(*b),
            Self::Int(n) => Json::from(*n),
            Self::Uint(n) => Json::from(*n),
            Self::Double(d) if d.is_finite() && d.fract() == 0.0 && d.abs() < 9.0e15 => Json::from(*d as i64),
            Self::Double(d) => Json::from(*d),
            Self::String(text) => Json::from(&**text),
            Self::Bytes(bytes) => Json::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::Duration(nanos) => Json::from(duration_text(*nanos)),
            Self::Timestamp(time) => Json::from(time.to_string()),
            Self::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Self::List(List::Made(items, _)) => {
                Json::Array(items.iter().map(Self::to_json).collect::<Result<_>>()?)
            }
            Self::Map(Map::Json(map) | Map::Object(map, _) | Map::Values(map, _)) => {
                Json::Object((*map).clone())
            }
            Self::Map(Map::Made(map)) => {
                let mut out = JsonMap::new();
                for (key, value) in map.iter() {
                    let Key::String(key) = key else {
                        return Err(EvalError::new("keys of objects must be strings"));
                    };
                    out.insert(key.to_string(), value.to_json()?);
                }
                Json::Object(out)
            }
            Self::Object(_, fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| Ok((name.to_string(), value.to_json()?)));
                Json::Object(fields.collect::<Result<_>>()?)
            }
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Type(name) => Json::from(&**name),
            Self::Native(native) => match native.text() {
                Some(text) => Json::from(text),
                None => return Err(EvalError::new(format!("{} is no JSON", native.type_name()))),
            },
            Self::Opaque(json) => (*json).clone(),
        })
    }
}

fn mismatch(wanted: &str, json: &Json) -> EvalError {
    let found = match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(n) if n.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    };
    EvalError::new(format!("invalid data, expected {wanted}, got {found}"))
}

/// A duration as text in seconds: `5400s`.
pub(crate) fn duration_text(nanos: i64) -> String {
    format!("{}s", nanos as f64 / 1e9)
}

impl<'a> List<'a> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, _) => items.len(),
            Self::Made(items, _) => items.len(),
        }
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element.
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>>> {
        match self {
            Self::Json(items, None) => items.get(index).map(|item| Ok(Value::json(item))),
            Self::Json(items, Some(schema)) => items.get(index).map(|item| Value::typed(item, &schema.items)),
            Self::Made(items, _) => items.get(index).map(|item| Ok(item.clone())),
        }
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn schema(&self) -> Option<&'a ListSchema> {
        match self {
            Self::Json(_, schema) | Self::Made(_, schema) => *schema,
        }
    }

    /// The elements as a list of their own.
    pub(crate) fn to_vec(&self) -> Result<Vec<Value<'a>>> {
        match self {
            Self::Made(items, _) => Ok(items.to_vec()),
            Self::Json(..) => self.iter().collect(),
        }
    }

    /// This list, and what is added to it: a list of type set stays one, and in a list of type map elements of the same keys
    /// are replaced.
    pub(crate) fn concat(&self, other: &Self) -> Result<Self> {
        let mut items = self.to_vec()?;
        let schema = self.schema();
        match schema.map(|schema| &schema.kind) {
            None | Some(ListKind::Atomic) => {
                for item in other.iter() {
                    items.push(item?);
                }
            }
            Some(ListKind::Set) => {
                for item in other.iter() {
                    let item = item?;
                    if !compare::contains(&items, &item) {
                        items.push(item);
                    }
                }
            }
            Some(ListKind::Map(keys)) => {
                for item in other.iter() {
                    let item = item?;
                    let same = |known: &Value<'a>| compare::same_keys(known, &item, keys);
                    match items.iter().position(same) {
                        Some(at) => items[at] = item,
                        None => items.push(item),
                    }
                }
            }
        }
        Ok(Self::Made(Arc::new(items), schema))
    }
}

impl<'a> Map<'a> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Json(map) | Self::Object(map, _) | Self::Values(map, _) => map.len(),
            Self::Made(map) => map.len(),
        }
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a name.
    pub fn get(&self, name: &str) -> Result<Option<Value<'a>>> {
        match self {
            Self::Json(map) => Ok(map.get(name).map(Value::json)),
            Self::Object(map, object) => {
                let Some(field) = object.field(name) else {
                    return Ok(None);
                };
                match map.get(field.name.as_ref()) {
                    // A field that is null counts as absent.
                    None | Some(Json::Null) => Ok(None),
                    Some(value) => Value::typed(value, &field.schema).map(Some),
                }
            }
            Self::Values(map, schema) => map.get(name).map(|value| Value::typed(value, schema)).transpose(),
            Self::Made(map) => Ok(map.get(&Key::String(Text::Borrowed(name)) as &Key<'_>).cloned()),
        }
    }

    /// The entry of a key.
    pub fn find(&self, key: &Value<'a>) -> Result<Option<Value<'a>>> {
        match (self, key) {
            (_, Value::String(name)) => self.get(name),
            (Self::Made(map), key) => match Key::of(key) {
                Some(key) => Ok(map.get(&key).cloned()),
                None if matches!(key, Value::Double(_) | Value::Null) => Ok(None),
                None => Err(EvalError::no_such_overload()),
            },
            (_, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Bool(_)) => Ok(None),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The keys, in order.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Json(map) | Self::Values(map, _) => {
                map.keys().map(|key| Value::String(Text::Borrowed(key))).collect()
            }
            Self::Object(map, object) => {
                let fields = object
                    .fields
                    .iter()
                    .filter(|(_, field)| map.contains_key(field.name.as_ref()));
                fields
                    .map(|(name, _)| Value::String(Text::Borrowed(name)))
                    .collect()
            }
            Self::Made(map) => map.keys().map(Key::value).collect(),
        }
    }
}

/// Text of a value that is text.
pub(crate) fn as_text<'v>(value: &'v Value<'_>) -> Result<&'v str> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// Text of an owned or borrowed kind as a value.
impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::Borrowed(text),
            Cow::Owned(text) => text.into(),
        }
    }
}
