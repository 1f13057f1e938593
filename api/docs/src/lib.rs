//! Descriptions of the built-in kinds and their fields, for OpenAPI and `explain`.
//!
//! They are Kubernetes' own sentences, taken from k8s-openapi when this crate is built; none are written down in this
//! repository.

use flate2::read::GzDecoder;
use rutter_api::openapi::Docs;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/docs.json.gz"));

static DOCS: LazyLock<Descriptions> = LazyLock::new(|| {
    // The build script wrote these bytes; were they damaged, there would be no descriptions.
    Descriptions {
        types: serde_json::from_reader(GzDecoder::new(PACKED)).unwrap_or_default(),
    }
});

struct Descriptions {
    /// By type: its description (or null) and those of its fields.
    types: HashMap<String, (Value, HashMap<String, Value>)>,
}

impl Docs for Descriptions {
    fn describe(&self, type_name: &str, field: Option<&str>) -> Option<&str> {
        let (description, fields) = self.types.get(type_name)?;
        match field {
            None => description.as_str(),
            Some(field) => fields.get(field)?.as_str(),
        }
    }
}

/// The descriptions. They are unpacked on first use.
pub fn docs() -> &'static dyn Docs {
    &*DOCS
}

#[cfg(test)]
mod tests {
    use super::*;
    use rutter_api::schema::{Type, builtin};

    #[test]
    fn every_field_of_a_pod_is_described() {
        let docs = docs();
        assert!(
            docs.describe("io.k8s.api.core.v1.Pod", None)
                .is_some_and(|d| d.contains("container"))
        );
        for name in [
            "io.k8s.api.core.v1.PodSpec",
            "io.k8s.api.core.v1.Container",
            "io.k8s.api.apps.v1.Deployment",
        ] {
            let Some(Type::Struct(definition)) = builtin().find(name).map(|id| builtin().get(id)) else {
                panic!("{name} is no struct")
            };
            for field in &definition.fields {
                assert!(
                    docs.describe(name, Some(&field.name)).is_some(),
                    "{name}.{}",
                    field.name
                );
            }
        }
        assert_eq!(docs.describe("io.k8s.api.core.v1.Nothing", None), None);
    }
}
