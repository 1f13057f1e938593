//! From arguments and files to objects of the cluster.

pub mod builder;
pub mod files;
pub mod selector;

use crate::discovery::Mapping;
use serde_json::Value;
use std::rc::Rc;

/// One object: where it lives, and its content if it was read.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its resource.
    pub mapping: Rc<Mapping>,
    /// Its namespace; empty if it has none.
    pub namespace: String,
    /// Its name; empty if the server is to make one.
    pub name: String,
    /// Its content.
    pub object: Value,
    /// The file it came from.
    pub source: String,
}

impl Info {
    /// The object's path.
    pub fn path(&self) -> String {
        self.mapping.path(&self.namespace, &self.name)
    }
    /// The path of a subresource, of the object itself if it is empty.
    pub fn sub_path(&self, subresource: &str) -> String {
        self.mapping.sub_path(&self.namespace, &self.name, subresource)
    }
    /// The collection's path.
    pub fn collection(&self) -> String {
        self.mapping.collection(&self.namespace)
    }
    /// `deployment.apps/web`
    pub fn display(&self) -> String {
        self.mapping.display(&self.name)
    }
    /// The same place with another content.
    pub fn with(&self, object: Value) -> Self {
        Self {
            object,
            ..self.clone()
        }
    }
}

/// Reads a text by keys.
pub fn str_at<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    let mut here = value;
    for key in path {
        here = &here[*key];
    }
    here.as_str().unwrap_or("")
}
