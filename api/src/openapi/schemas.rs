//! The types of a document: of each resource, and of all that they refer to.

use super::Docs;
use crate::crd::flag;
use crate::meta::GroupVersionKind;
use crate::resource::Resource;
use crate::schema::{Field, List, ListKind, Scalar, Struct, Type, TypeId, Types};
use serde_json::{Map, Value, json};

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

pub(super) struct Schemas<'a> {
    types: &'a Types,
    docs: &'a dyn Docs,
    pub(super) dialect: Dialect,
    /// Whether the resource added last is a custom one.
    pub(super) is_custom: bool,
    done: Map<String, Value>,
    /// Names that are referred to and not yet described.
    open: Vec<String>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(types: &'a Types, docs: &'a dyn Docs, dialect: Dialect) -> Self {
        Self {
            types,
            docs,
            dialect,
            is_custom: false,
            done: Map::new(),
            open: Vec::new(),
        }
    }

    /// All that was added, and all that it refers to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(name) = self.open.pop() {
            if !self.done.contains_key(&name) {
                // The place is taken first: types may refer to themselves.
                self.done.insert(name.clone(), Value::Null);
                let schema = self.named(&name);
                self.done.insert(name, schema);
            }
        }
        self.done
    }

    /// The name of a built-in kind's type.
    pub(super) fn name_of_kind(&self, kind: &GroupVersionKind) -> Option<String> {
        self.types
            .name_of_kind(&kind.group, &kind.version, &kind.kind)
            .map(str::to_owned)
    }

    /// A reference to the type called `name`.
    pub(super) fn reference(&mut self, name: &str) -> Value {
        if !self.done.contains_key(name) {
            self.open.push(name.to_owned());
        }
        let prefix = match self.dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{prefix}{name}")})
    }

    /// Adds a resource's type and that of its lists, and gives its name.
    pub(super) fn add_resource(&mut self, resource: &Resource, custom: Option<Value>) -> String {
        self.is_custom = custom.is_some();
        let Some(schema) = custom else {
            self.open.push(resource.schema.clone().into_owned());
            return resource.schema.clone().into_owned();
        };
        let version = &resource.group_version;
        let mut parts: Vec<&str> = version.group.split('.').collect();
        parts.reverse();
        let name = format!("{}.{}.{}", parts.join("."), version.version, resource.kind);
        let list = format!("{}.{}.{}", parts.join("."), version.version, resource.list_kind);
        let own = self.custom(resource, schema);
        self.done.insert(name.clone(), own);
        let items = self.reference(&name);
        let mut body = json!({
            "type": "object",
            "description": format!("A list of {}.", resource.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "items": {"type": "array", "items": items},
                "metadata": self.reference(&format!("{META}.ListMeta")),
            },
        });
        set(
            &mut body,
            "x-kubernetes-group-version-kind",
            kinds(&version.group, &version.version, &resource.list_kind),
        );
        self.done.insert(list, body);
        name
    }

    /// The type of a custom resource whose version has this schema, null for none.
    fn custom(&mut self, resource: &Resource, mut schema: Value) -> Value {
        let version = &resource.group_version;
        let preserving = flag(&schema, PRESERVE);
        // Clients take named properties for all that there are.
        if !schema.is_object() || (preserving && self.dialect == Dialect::V2) {
            schema = json!({"type": "object"});
        } else {
            if self.dialect == Dialect::V2 {
                simplify(&mut schema);
            }
            self.add_metadata(&mut schema);
            self.add_embedded(&mut schema);
        }
        set(
            &mut schema,
            "x-kubernetes-group-version-kind",
            kinds(&version.group, &version.version, &resource.kind),
        );
        schema
    }

    /// Gives a schema the properties that every object has.
    fn add_metadata(&mut self, schema: &mut Value) {
        // Any kind's documentation says the same about them.
        let describe = |field| self.docs.describe("io.k8s.api.core.v1.ConfigMap", Some(field));
        let (api_version, kind, standard) = (describe("apiVersion"), describe("kind"), describe("metadata"));
        let mut metadata = self.reference(&format!("{META}.ObjectMeta"));
        if self.dialect == Dialect::V3 {
            // Nothing may stand beside a reference.
            metadata = json!({"allOf": [metadata]});
        }
        let mut properties = [
            ("apiVersion", json!({"type": "string"}), api_version),
            ("kind", json!({"type": "string"}), kind),
            ("metadata", metadata, standard),
        ];
        let Some(map) = schema.as_object_mut() else { return };
        let all = map.entry("properties").or_insert_with(|| json!({}));
        for (name, property, description) in &mut properties {
            if let Some(description) = description.take() {
                set(property, "description", Value::from(description));
            }
            set(all, name, property.take());
        }
    }

    /// Gives the schemas of objects within an object their metadata.
    fn add_embedded(&mut self, schema: &mut Value) {
        for inner in inner_schemas(schema) {
            self.add_embedded(inner);
        }
        let open = self.dialect == Dialect::V2 && flag(schema, PRESERVE);
        if open || !flag(schema, "x-kubernetes-embedded-resource") {
            return;
        }
        self.add_metadata(schema);
        let Some(map) = schema.as_object_mut() else { return };
        if let Value::Array(required) = map.entry("required").or_insert_with(|| json!([])) {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|r| r == name) {
                    required.push(name.into());
                }
            }
        }
    }

    fn named(&mut self, name: &str) -> Value {
        let mut schema = match self.types.find(name).map(|id| self.types.get(id)) {
            Some(Type::Struct(definition)) => self.structure(definition),
            _ => self.special(name),
        };
        if let Some(description) = self.docs.describe(name, None) {
            set(&mut schema, "description", Value::from(description));
        }
        schema
    }

    fn structure(&mut self, definition: &Struct) -> Value {
        let mut properties = Map::new();
        for field in &definition.fields {
            let schema = self.field(&definition.name, field);
            properties.insert(field.name.to_string(), schema);
        }
        let mut schema = json!({"type": "object"});
        if !properties.is_empty() {
            set(&mut schema, "properties", Value::Object(properties));
        }
        let required: Vec<&str> = definition
            .fields
            .iter()
            .filter(|f| f.required)
            .map(|f| &*f.name)
            .collect();
        if !required.is_empty() {
            set(&mut schema, "required", Value::from(required));
        }
        if definition.atomic {
            set(&mut schema, "x-kubernetes-map-type", Value::from("atomic"));
        }
        if !definition.kinds.is_empty() {
            let kinds = definition.kinds.iter();
            let kinds =
                kinds.map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}));
            set(&mut schema, "x-kubernetes-group-version-kind", kinds.collect());
        }
        schema
    }

    fn field(&mut self, owner: &str, field: &Field) -> Value {
        let mut schema = self.of(field.ty);
        let description = self.docs.describe(owner, Some(&field.name));
        if schema.get("$ref").is_some()
            && self.dialect == Dialect::V3
            && (description.is_some() || field.default.is_some())
        {
            // Nothing may stand beside a reference.
            schema = json!({"allOf": [schema]});
        }
        if let Some(description) = description {
            set(&mut schema, "description", Value::from(description));
        }
        if let Some(default) = &field.default {
            set(&mut schema, "default", (**default).clone());
        }
        let strategy = match (field.patch_merge, field.patch_retain_keys) {
            (true, true) => Some("merge,retainKeys"),
            (true, false) => Some("merge"),
            (false, true) => Some("retainKeys"),
            (false, false) => None,
        };
        if let Some(strategy) = strategy {
            set(&mut schema, "x-kubernetes-patch-strategy", Value::from(strategy));
        }
        if let Some(key) = &field.patch_merge_key {
            set(&mut schema, "x-kubernetes-patch-merge-key", Value::from(&**key));
        }
        schema
    }

    fn of(&mut self, id: TypeId) -> Value {
        match self.types.get(id) {
            Type::Struct(definition) if definition.name.is_empty() => self.structure(definition),
            Type::Struct(definition) => {
                let name = definition.name.to_string();
                let mut schema = self.reference(&name);
                // Merged here although it is atomic elsewhere.
                if self.types.find(&name) != Some(id) {
                    set(&mut schema, "x-kubernetes-map-type", Value::from("granular"));
                }
                schema
            }
            Type::List(list) => self.list(list),
            Type::Map(map) => {
                let mut schema = json!({"type": "object", "additionalProperties": self.of(map.value)});
                if map.atomic {
                    set(&mut schema, "x-kubernetes-map-type", Value::from("atomic"));
                }
                schema
            }
            Type::Scalar(scalar, _) => {
                let mut schema = self.scalar(*scalar);
                if let Some(values) = self.types.values(id) {
                    set(&mut schema, "enum", Value::from(values));
                }
                schema
            }
        }
    }

    fn list(&mut self, list: &List) -> Value {
        let mut schema = json!({"type": "array", "items": self.of(list.element)});
        let kind = match list.kind {
            ListKind::Atomic => "atomic",
            ListKind::Set => "set",
            ListKind::Map => "map",
        };
        set(&mut schema, "x-kubernetes-list-type", Value::from(kind));
        if list.kind == ListKind::Map {
            let keys: Vec<&str> = list.keys.iter().map(|k| &**k).collect();
            set(&mut schema, "x-kubernetes-list-map-keys", Value::from(keys));
        }
        schema
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        let name = match scalar {
            Scalar::String => return json!({"type": "string"}),
            Scalar::Bool => return json!({"type": "boolean"}),
            Scalar::Int32 => return json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => return json!({"type": "integer", "format": "int64"}),
            Scalar::Double => return json!({"type": "number", "format": "double"}),
            Scalar::Bytes => return json!({"type": "string", "format": "byte"}),
            Scalar::Time => format!("{META}.Time"),
            Scalar::MicroTime => format!("{META}.MicroTime"),
            Scalar::Duration => format!("{META}.Duration"),
            Scalar::FieldsV1 => format!("{META}.FieldsV1"),
            Scalar::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(),
            Scalar::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(),
            Scalar::RawExtension => "io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(),
            Scalar::Json => format!("{EXTENSIONS}.JSON"),
            Scalar::SchemaOrBool => format!("{EXTENSIONS}.JSONSchemaPropsOrBool"),
            Scalar::SchemaOrArray => format!("{EXTENSIONS}.JSONSchemaPropsOrArray"),
            Scalar::SchemaOrStringArray => format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray"),
        };
        self.reference(&name)
    }

    /// The types that aren't structs.
    fn special(&self, name: &str) -> Value {
        let v3 = self.dialect == Dialect::V3;
        match name.rsplit('.').next().unwrap_or_default() {
            "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
            "Duration" => json!({"type": "string"}),
            "Quantity" if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            "Quantity" => json!({"type": "string"}),
            "IntOrString" if v3 => {
                json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"})
            }
            "IntOrString" => json!({"type": "string", "format": "int-or-string"}),
            "RawExtension" | "FieldsV1" => json!({"type": "object"}),
            _ => json!({}),
        }
    }
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The schemas directly within one: of properties, items and additional properties.
fn inner_schemas(schema: &mut Value) -> Vec<&mut Value> {
    let mut found = Vec::new();
    for (name, value) in schema.as_object_mut().into_iter().flatten() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => found.extend(properties.values_mut()),
            ("items" | "additionalProperties", inner @ Value::Object(_)) => found.push(inner),
            _ => {}
        }
    }
    found
}

/// Takes away what OpenAPI v2 has no words for, and what its readers (kubectl first of all) would understand wrongly.
fn simplify(schema: &mut Value) {
    let nullable: Vec<String> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, property)| flag(property, "nullable"))
        .map(|(name, _)| name.clone())
        .collect();
    let nullable_values = schema
        .get("additionalProperties")
        .is_some_and(|a| flag(a, "nullable"));
    let (preserving, is_nullable) = (flag(schema, PRESERVE), flag(schema, "nullable"));
    let int_or_string = flag(schema, "x-kubernetes-int-or-string");
    let Some(map) = schema.as_object_mut() else { return };
    for gone in ["oneOf", "anyOf", "allOf", "not", "nullable"] {
        map.remove(gone);
    }
    // A value without a type must not name properties or items.
    if preserving || is_nullable {
        map.remove("properties");
        map.remove("items");
    }
    let kind = map.get("type").and_then(Value::as_str);
    let is_listless = kind == Some("array") && !map.contains_key("items");
    if int_or_string || is_nullable || is_listless || (preserving && kind == Some("object")) {
        map.remove("type");
    }
    if nullable_values {
        map.remove("required");
    } else if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|name| !nullable.iter().any(|n| name == n.as_str()));
        if required.is_empty() {
            map.remove("required");
        }
    }
    inner_schemas(schema).into_iter().for_each(simplify);
}

pub(super) fn kinds(group: &str, version: &str, kind: &str) -> Value {
    json!([{"group": group, "version": version, "kind": kind}])
}

fn set(schema: &mut Value, name: &str, value: Value) {
    if let Some(map) = schema.as_object_mut() {
        map.insert(name.to_owned(), value);
    }
}
