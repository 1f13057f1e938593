//! Sets of field paths, and their form in `managedFields` (`FieldsV1`).

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub enum PathElement {
    /// `f:name`
    Field(Box<str>),
    /// `k:{"name":"a"}`
    Key(Box<[(Box<str>, Value)]>),
    /// `v:"a"`
    Value(Box<Value>),
    /// `i:0`
    Index(i64),
}

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldSet {
    members: Vec<PathElement>,
    children: Vec<(PathElement, FieldSet)>,
}

impl FieldSet {
    /// Whether it holds no path.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|(_, c)| c.is_empty())
    }
}
