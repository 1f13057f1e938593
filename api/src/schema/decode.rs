//! Brings an object tree into the form that its schema prescribes, or says why it can't.
//!
//! The result is what Kubernetes gets by reading the object into its Go type and printing it again, without nulls:
//! later steps may rely on the types of all fields. The texts of errors are those that clients know. Values of wrong
//! types in custom resources are left alone; validation speaks about them.

use super::leaf;
use super::types::{Field, Scalar, Struct, Type, TypeId, Types};
use crate::meta::GroupVersionKind;
use crate::status::StatusError;
use serde_json::{Map, Value};
use std::collections::HashSet;
use thiserror::Error;

/// More unknown and duplicate fields than these aren't reported.
const MAX_STRICT_ERRORS: usize = 100;

pub(crate) const SCHEMA_PROPS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// What happens with unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, with a warning each.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

/// A decoded object.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// Texts for the `Warning` header.
    pub warnings: Vec<String>,
}

/// Why an object can't be decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// A value doesn't fit the type of its field.
    #[error("{0}")]
    Mismatch(String),
    /// Unknown or duplicate fields under [`FieldValidation::Strict`].
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
    /// The schema doesn't have the type.
    #[error("no type {0:?} in the schema")]
    UnknownType(String),
}

impl DecodeError {
    /// The 400 for a body that was sent as `sent` where an object of the kind `expected` is wanted.
    pub fn status(&self, sent: &GroupVersionKind, expected: &str) -> StatusError {
        StatusError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {expected}: {self}",
            sent.kind, sent.version
        ))
    }
}

/// Decodes an object of the type called `type_name`.
pub fn decode(
    types: &Types,
    type_name: &str,
    value: Value,
    mode: FieldValidation,
) -> Result<Decoded, DecodeError> {
    decode_with_duplicates(types, type_name, value, mode, &[])
}

/// As [`decode`], with the paths of the duplicate fields that the parser came upon.
pub fn decode_with_duplicates(
    types: &Types,
    type_name: &str,
    mut value: Value,
    mode: FieldValidation,
    duplicates: &[String],
) -> Result<Decoded, DecodeError> {
    let id = types
        .find(type_name)
        .ok_or_else(|| DecodeError::UnknownType(type_name.to_owned()))?;
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    let mut walk = Walk {
        types,
        path: Vec::new(),
        strict: Vec::new(),
        quiet: mode == FieldValidation::Ignore,
    };
    walk.value(id, &mut value)?;
    let mut found = walk.strict;
    if mode != FieldValidation::Ignore {
        found.extend(duplicates.iter().map(|path| format!("duplicate field {path:?}")));
        let mut seen = HashSet::new();
        found.retain(|text| seen.insert(text.clone()));
        found.truncate(MAX_STRICT_ERRORS);
    }
    match mode {
        FieldValidation::Strict if !found.is_empty() => Err(DecodeError::Strict(found)),
        _ => Ok(Decoded {
            value,
            warnings: found,
        }),
    }
}

enum Step<'a> {
    Struct(&'a Struct, &'a Field),
    Key(String),
    Index(usize),
}

struct Walk<'a> {
    types: &'a Types,
    path: Vec<Step<'a>>,
    strict: Vec<String>,
    quiet: bool,
}

impl<'a> Walk<'a> {
    fn value(&mut self, id: TypeId, value: &mut Value) -> Result<(), DecodeError> {
        let types = self.types;
        match (types.get(id), &mut *value) {
            (Type::Struct(definition), Value::Object(map)) => {
                self.object(definition, map, types.is_custom(id))
            }
            (Type::Map(map_type), Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    self.element(map_type.value, value, || Step::Key(key.clone()))?;
                }
                Ok(())
            }
            (Type::List(list), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.element(list.element, item, || Step::Index(index))?;
                }
                Ok(())
            }
            _ if types.is_custom(id) => Ok(()),
            (Type::Scalar(scalar, _), _) => self.leaf(*scalar, id, value),
            (_, other) => Err(self.mismatch(leaf::describe(other), id)),
        }
    }

    fn element(
        &mut self,
        id: TypeId,
        value: &mut Value,
        step: impl FnOnce() -> Step<'a>,
    ) -> Result<(), DecodeError> {
        if value.is_null() {
            if !self.types.is_custom(id) {
                *value = zero(self.types, id);
            }
            return Ok(());
        }
        // Texts, the commonest leaves, don't need a place in the path unless they are wrong.
        if let (Type::Scalar(Scalar::String, _), Value::String(_)) = (self.types.get(id), &*value) {
            return Ok(());
        }
        self.path.push(step());
        let result = self.value(id, value);
        self.path.pop();
        result
    }

    fn object(
        &mut self,
        definition: &'a Struct,
        map: &mut Map<String, Value>,
        custom: bool,
    ) -> Result<(), DecodeError> {
        let mut drop_some = false;
        for (name, value) in map.iter_mut() {
            match definition.field(name) {
                Some(field) => {
                    if !value.is_null() {
                        self.path.push(Step::Struct(definition, field));
                        let result = self.value(field.ty, value);
                        self.path.pop();
                        result?;
                    }
                    drop_some |= !self.keeps(field, value);
                }
                None => match definition.additional {
                    Some(id) => self.element(id, value, || Step::Key(name.clone()))?,
                    None if definition.preserve_unknown => {}
                    None => {
                        drop_some = true;
                        self.unknown(name);
                    }
                },
            }
        }
        if drop_some {
            let open = definition.preserve_unknown || definition.additional.is_some();
            map.retain(|name, value| match definition.field(name) {
                Some(field) => self.keeps(field, value),
                None => open,
            });
        }
        if !custom {
            fill(self.types, definition, map);
        }
        Ok(())
    }

    /// Whether a field with this value is printed.
    fn keeps(&self, field: &Field, value: &Value) -> bool {
        match value {
            Value::Null => field.nullable,
            _ if field.pointer => true,
            Value::Object(map) if map.is_empty() => match self.types.get(field.ty) {
                Type::Struct(_) => !field.omitzero,
                Type::Map(_) => !field.omitempty,
                _ => true,
            },
            _ if !field.omitempty => true,
            Value::Bool(b) => *b || !matches!(self.types.get(field.ty), Type::Scalar(Scalar::Bool, _)),
            Value::Number(n) => {
                n.as_f64() != Some(0.0)
                    || !matches!(
                        self.types.get(field.ty),
                        Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double, _)
                    )
            }
            Value::String(s) => {
                !s.is_empty()
                    || !matches!(
                        self.types.get(field.ty),
                        Type::Scalar(Scalar::String | Scalar::Bytes, _)
                    )
            }
            Value::Array(items) => !items.is_empty() || !matches!(self.types.get(field.ty), Type::List(_)),
            Value::Object(_) => true,
        }
    }

    fn leaf(&mut self, scalar: Scalar, id: TypeId, value: &mut Value) -> Result<(), DecodeError> {
        match scalar {
            Scalar::SchemaOrBool | Scalar::SchemaOrArray | Scalar::SchemaOrStringArray => {
                self.schema_or(scalar, value)
            }
            _ => leaf::normalize(scalar, value).map_err(|problem| match problem {
                leaf::Problem::Text(text) => DecodeError::Mismatch(text),
                leaf::Problem::Type(described) => self.mismatch(described, id),
            }),
        }
    }

    /// The types of `apiextensions` that are a schema or something else. Unknown fields below aren't reported.
    fn schema_or(&mut self, scalar: Scalar, value: &mut Value) -> Result<(), DecodeError> {
        let Some(schema) = self.types.find(SCHEMA_PROPS) else {
            return Ok(());
        };
        let quiet = std::mem::replace(&mut self.quiet, true);
        let result = match (scalar, &mut *value) {
            (_, Value::Object(_)) => self.value(schema, value),
            (Scalar::SchemaOrBool, Value::Bool(_)) => Ok(()),
            (Scalar::SchemaOrArray, Value::Array(items)) => {
                items.iter_mut().try_for_each(|item| self.value(schema, item))
            }
            (Scalar::SchemaOrStringArray, Value::Array(items)) if items.iter().all(Value::is_string) => {
                Ok(())
            }
            (Scalar::SchemaOrBool, _) => Err(DecodeError::Mismatch(
                "boolean or JSON schema expected".to_owned(),
            )),
            _ => Err(DecodeError::Mismatch(format!(
                "json: cannot unmarshal {} into Go value of type v1.JSONSchemaProps",
                leaf::describe(value)
            ))),
        };
        self.quiet = quiet;
        result
    }

    fn unknown(&mut self, name: &str) {
        if self.quiet || self.strict.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Struct(_, field) => join(&mut path, &field.name),
                Step::Key(key) => join(&mut path, key),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        join(&mut path, name);
        self.strict.push(format!("unknown field {path:?}"));
    }

    fn mismatch(&self, described: String, id: TypeId) -> DecodeError {
        let wanted = leaf::go_type(self.types, id);
        let mut path = String::new();
        let mut inside = "";
        for step in &self.path {
            if let Step::Struct(definition, field) = step {
                for (_, message) in &field.inline {
                    join(&mut path, message);
                }
                join(&mut path, &field.name);
                inside = definition.short_name();
            }
        }
        DecodeError::Mismatch(if path.is_empty() {
            format!("json: cannot unmarshal {described} into Go value of type {wanted}")
        } else {
            format!(
                "json: cannot unmarshal {described} into Go struct field {inside}.{path} of type {wanted}"
            )
        })
    }
}

fn join(path: &mut String, part: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(part);
}

/// Adds the fields that Go prints even when they hold nothing.
fn fill(types: &Types, definition: &Struct, map: &mut Map<String, Value>) {
    for &index in &definition.printed {
        let field = &definition.fields[index as usize];
        if !map.contains_key(&*field.name) {
            let zero = zero(types, field.ty);
            map.insert(field.name.to_string(), zero);
        }
    }
}

/// What Go prints for a value of which nothing was said.
pub(crate) fn zero(types: &Types, id: TypeId) -> Value {
    match types.get(id) {
        Type::Struct(definition) => {
            let mut map = Map::new();
            fill(types, definition, &mut map);
            Value::Object(map)
        }
        Type::Scalar(scalar, _) => match scalar {
            Scalar::String | Scalar::Bytes => Value::from(""),
            Scalar::Bool => Value::Bool(false),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString => Value::from(0),
            Scalar::Quantity => Value::from("0"),
            Scalar::Duration => Value::from("0s"),
            _ => Value::Null,
        },
        Type::List(_) => Value::Array(Vec::new()),
        Type::Map(_) => Value::Object(Map::new()),
    }
}

#[cfg(test)]
mod tests;
