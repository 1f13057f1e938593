//! What the server publishes about its types (OpenAPI v3), read per group version when first asked.

use crate::error::{Error, Result};
use crate::rest::Rest;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The documents.
pub struct OpenApi {
    rest: Rc<Rest>,
    paths: HashMap<String, String>,
    documents: RefCell<HashMap<String, Rc<Document>>>,
}

/// One group version's document.
pub struct Document {
    schemas: serde_json::Map<String, Value>,
}

impl OpenApi {
    /// Reads the index.
    pub async fn new(rest: Rc<Rest>) -> Result<Self> {
        let index = rest.get("/openapi/v3").await?;
        let mut paths = HashMap::new();
        for (key, entry) in index["paths"].as_object().into_iter().flatten() {
            let url = entry["serverRelativeURL"].as_str().unwrap_or("").to_owned();
            paths.insert(
                key.clone(),
                if url.is_empty() {
                    format!("/openapi/v3/{key}")
                } else {
                    url
                },
            );
        }
        Ok(Self {
            rest,
            paths,
            documents: RefCell::default(),
        })
    }

    /// The document of `apps/v1`, `v1`.
    pub async fn document(&self, api_version: &str) -> Result<Rc<Document>> {
        let key = if api_version.contains('/') {
            format!("apis/{api_version}")
        } else {
            format!("api/{api_version}")
        };
        if let Some(doc) = self.documents.borrow().get(&key) {
            return Ok(doc.clone());
        }
        let Some(path) = self.paths.get(&key) else {
            return Err(Error::new(format!(
                "couldn't find resource for group version \"{api_version}\""
            )));
        };
        let mut value = self.rest.get(path).await?;
        let schemas = match value["components"]["schemas"].take() {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        };
        let doc = Rc::new(Document { schemas });
        self.documents.borrow_mut().insert(key, doc.clone());
        Ok(doc)
    }
}

impl Document {
    /// A document made of schemas.
    pub fn new(schemas: serde_json::Map<String, Value>) -> Self {
        Self { schemas }
    }

    /// The schema of a kind.
    pub fn kind(&self, api_version: &str, kind: &str) -> Option<&Value> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.schemas.values().find(|schema| {
            schema["x-kubernetes-group-version-kind"]
                .as_array()
                .is_some_and(|list| {
                    list.iter().any(|g| {
                        g["kind"] == kind
                            && g["version"] == version
                            && g["group"].as_str().unwrap_or("") == group
                    })
                })
        })
    }

    /// What a schema really is: references and single-element `allOf`s followed.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut here = schema;
        for _ in 0..16 {
            if let Some(reference) = here["$ref"].as_str() {
                let name = reference.rsplit('/').next().unwrap_or(reference);
                match self.schemas.get(name) {
                    Some(next) => here = next,
                    None => return here,
                }
            } else if let Some([only]) = here["allOf"].as_array().map(Vec::as_slice) {
                here = only;
            } else {
                return here;
            }
        }
        here
    }

    /// The name of the schema that this one refers to.
    pub fn reference(schema: &Value) -> Option<&str> {
        let reference =
            schema["$ref"]
                .as_str()
                .or_else(|| match schema["allOf"].as_array().map(Vec::as_slice) {
                    Some([only]) => only["$ref"].as_str(),
                    _ => None,
                })?;
        reference.rsplit('/').next()
    }

    /// A field's schema as it is written, before references are followed.
    pub fn field<'a>(&'a self, schema: &'a Value, name: &str) -> Option<&'a Value> {
        self.resolve(schema)["properties"].get(name)
    }
}
