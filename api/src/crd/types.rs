//! From a structural schema to types.

use super::{flag, text};
use crate::schema::{Field, List, ListKind, MapType, Scalar, Struct, TypeId, Types, TypesBuilder, builtin};
use serde_json::Value;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The types of a custom resource from the `openAPIV3Schema` of one version; the root is called `name`.
/// `preserve_unknown` keeps all unknown fields, as a resource without a schema does.
pub fn types(name: &str, schema: &Value, preserve_unknown: bool) -> Types {
    let mut maker = Maker {
        builder: TypesBuilder::on(builtin()),
    };
    let root = maker.builder.declare(name);
    let mut definition = maker.structure(schema, true);
    definition.name = name.into();
    definition.preserve_unknown |= preserve_unknown;
    maker.builder.define(root, definition);
    maker.builder.build()
}

struct Maker {
    builder: TypesBuilder,
}

impl Maker {
    fn of(&mut self, schema: &Value) -> TypeId {
        let scalar = match text(schema, "type") {
            _ if flag(schema, "x-kubernetes-int-or-string") => Scalar::IntOrString,
            "string" => Scalar::String,
            "boolean" => Scalar::Bool,
            "integer" => Scalar::Int64,
            "number" => Scalar::Double,
            "array" => return self.list(schema),
            "object" => return self.object(schema),
            _ => Scalar::Json,
        };
        self.builder.scalar(scalar, "")
    }

    fn list(&mut self, schema: &Value) -> TypeId {
        let element = self.of(schema.get("items").unwrap_or(&Value::Null));
        let kind = match text(schema, "x-kubernetes-list-type") {
            "set" => ListKind::Set,
            "map" => ListKind::Map,
            _ => ListKind::Atomic,
        };
        let keys = schema
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let keys = keys.filter_map(Value::as_str).map(Into::into).collect();
        self.builder.list(List {
            element,
            kind,
            keys,
            wrapper: None,
        })
    }

    fn object(&mut self, schema: &Value) -> TypeId {
        let embedded = flag(schema, "x-kubernetes-embedded-resource");
        if schema.get("properties").is_none() && !embedded {
            let atomic = text(schema, "x-kubernetes-map-type") == "atomic";
            match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => {
                    let value = self.of(values);
                    return self.builder.map(MapType { value, atomic });
                }
                Some(Value::Bool(true)) => {
                    let value = self.builder.scalar(Scalar::Json, "");
                    return self.builder.map(MapType { value, atomic });
                }
                _ => {}
            }
        }
        let id = self.builder.anonymous();
        let definition = self.structure(schema, embedded);
        self.builder.define(id, definition);
        id
    }

    fn structure(&mut self, schema: &Value, whole_object: bool) -> Struct {
        let mut fields = Vec::new();
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for (name, schema) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if whole_object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let ty = self.of(schema);
            let default = schema
                .get("default")
                .filter(|d| !d.is_null())
                .map(|d| Box::new(d.clone()));
            let required = required.contains(&name.as_str());
            fields.push(Field {
                nullable: true,
                required,
                default,
                ..Field::new(name, ty)
            });
        }
        if whole_object {
            let string = self.builder.scalar(Scalar::String, "");
            fields.push(Field::new("apiVersion", string));
            fields.push(Field::new("kind", string));
            let metadata = self.builder.find(OBJECT_META).unwrap_or(string);
            fields.push(Field::new("metadata", metadata));
        }
        let additional = match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Some(self.of(values)),
            Some(Value::Bool(true)) => Some(self.builder.scalar(Scalar::Json, "")),
            _ => None,
        };
        Struct {
            fields: fields.into(),
            atomic: text(schema, "x-kubernetes-map-type") == "atomic",
            preserve_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
            additional,
            embedded_resource: whole_object,
            ..Struct::default()
        }
    }
}
