//! Objects made at random from their schema, for property tests.

use super::{ListKind, Scalar, Struct, Type, TypeId, Types};
use serde_json::{Map, Value, json};

/// A small generator of its own, so that a sample is known by one number.
pub(crate) struct Sampler<'a> {
    types: &'a Types,
    state: u64,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(types: &'a Types, seed: u64) -> Self {
        Self {
            types,
            state: seed | 1,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    /// An object of the type called `name`.
    pub(crate) fn object(&mut self, name: &str) -> Value {
        let id = self.types.find(name).unwrap();
        self.value(id, 0)
    }

    fn value(&mut self, id: TypeId, depth: u64) -> Value {
        match self.types.get(id) {
            Type::Struct(definition) => self.structure(definition, depth),
            Type::Map(map) => {
                let mut entries = Map::new();
                for _ in 0..self.below(3) {
                    let key = self.pick(&["a", "b", "c.d/e"]);
                    entries.insert(key.to_owned(), self.value(map.value, depth + 1));
                }
                Value::Object(entries)
            }
            Type::List(list) => {
                let mut items: Vec<Value> = Vec::new();
                for _ in 0..self.below(4) {
                    let item = self.value(list.element, depth + 1);
                    // One key alone tells elements apart, as strategic merge wants it.
                    let taken = items.iter().any(|other| match list.keys.first() {
                        Some(key) if list.kind == ListKind::Map => other.get(&**key) == item.get(&**key),
                        _ => *other == item,
                    });
                    if !taken {
                        items.push(item);
                    }
                }
                Value::Array(items)
            }
            Type::Scalar(scalar, _) => self.scalar(*scalar),
        }
    }

    fn structure(&mut self, definition: &'a Struct, depth: u64) -> Value {
        let mut map = Map::new();
        // What isn't in protobuf (the kind of a nested object) is left out of built-in types.
        let custom = definition.fields.iter().all(|field| field.number == 0);
        for field in definition
            .fields
            .iter()
            .filter(|field| custom || field.number > 0)
        {
            let key = [
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
            ]
            .contains(&&*field.name);
            let odds = if key { 1 } else { depth + 2 };
            if field.name.as_ref() != "managedFields" && self.below(odds) == 0 && (depth < 9 || key) {
                let value = self.value(field.ty, depth + 1);
                map.insert(field.name.to_string(), value);
            }
        }
        Value::Object(map)
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        match scalar {
            Scalar::String => Value::from(self.pick(&["x", "y", "z", "a-b", "", "ü\u{1F980}\"\\"])),
            Scalar::Bool => Value::Bool(self.below(2) == 0),
            Scalar::Int32 => Value::from(self.pick(&[0, 1, -1, 80, i32::MAX, i32::MIN])),
            Scalar::Int64 => Value::from(self.pick(&[0, 1, -1, 1 << 40, i64::MAX, i64::MIN])),
            Scalar::Double => Value::from(self.pick(&[0.5, -1.25, 1e100])),
            Scalar::Bytes => Value::from(self.pick(&["", "AA==", "AAEC/w=="])),
            Scalar::Time => Value::from(self.pick(&["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"])),
            Scalar::MicroTime => {
                Value::from(self.pick(&["2026-01-02T03:04:05.000001Z", "1969-12-31T23:59:59.999999Z"]))
            }
            Scalar::Duration => Value::from(self.pick(&["0s", "1h0m0s", "-1.5s"])),
            Scalar::Quantity => Value::from(self.pick(&["0", "100m", "1", "1Gi", "1e3"])),
            Scalar::IntOrString => self.pick(&[json!(0), json!(80), json!("50%"), json!("")]),
            Scalar::RawExtension => json!({"a": [1, {"b": "x"}]}),
            Scalar::FieldsV1 => json!({"f:a": {}}),
            Scalar::Json => self.pick(&[json!(1), json!("x"), json!({"a": 1}), json!([true])]),
            Scalar::SchemaOrBool => self.pick(&[json!(true), json!(false), json!({"type": "string"})]),
            Scalar::SchemaOrArray => self.pick(&[json!({"type": "string"}), json!([{"type": "string"}])]),
            Scalar::SchemaOrStringArray => self.pick(&[json!({"type": "string"}), json!(["a", "b"])]),
        }
    }
}

/// Kinds that between them have every peculiarity.
pub(crate) const KINDS: &[&str] = &[
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.Secret",
    "io.k8s.api.core.v1.Node",
    "io.k8s.api.core.v1.PersistentVolume",
    "io.k8s.api.core.v1.Event",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.apps.v1.StatefulSet",
    "io.k8s.api.apps.v1.ControllerRevision",
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.networking.v1.NetworkPolicy",
    "io.k8s.api.networking.v1.Ingress",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "io.k8s.api.coordination.v1.Lease",
    "io.k8s.api.authorization.v1.SubjectAccessReview",
    "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    "io.k8s.api.rbac.v1.ClusterRole",
    "io.k8s.api.resource.v1.ResourceClaim",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
];

/// A decoded sample.
pub(crate) fn sample(types: &Types, name: &str, seed: u64) -> Value {
    let object = Sampler::new(types, seed).object(name);
    super::decode(types, name, object, super::FieldValidation::Strict)
        .unwrap()
        .value
}
