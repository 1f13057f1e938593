//! Selectors compiled over shared strings.

use super::{Labels, Str};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use std::collections::BTreeMap;

/// How a label must relate to the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operator {
    /// Among the values.
    In,
    /// Absent or not among them.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// A number greater than the value.
    Gt,
    /// A number less than the value.
    Lt,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Requirement {
    key: Str,
    operator: Operator,
    values: Box<[Str]>,
}

impl Requirement {
    fn new(key: &str, operator: &str, values: Option<&Vec<String>>) -> Option<Self> {
        let operator = match operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => return None,
        };
        let values = values.into_iter().flatten().map(Str::from).collect();
        Some(Self {
            key: Str::new(key),
            operator,
            values,
        })
    }

    fn matches(&self, value: Option<&Str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => !value.is_some_and(|v| self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compare(value, |a, b| a > b),
            Operator::Lt => self.compare(value, |a, b| a < b),
        }
    }

    fn compare(&self, value: Option<&Str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let value = value.and_then(|v| v.parse().ok());
        let bound = self.values.first().and_then(|v| v.parse().ok());
        matches!((value, bound), (Some(a), Some(b)) if holds(a, b))
    }
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Selects nothing.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// From the API's form: absent selects nothing, empty everything. An operator that doesn't exist makes it select nothing.
    pub fn new(selector: Option<&meta::LabelSelector>) -> Self {
        let Some(selector) = selector else {
            return Self::nothing();
        };
        let mut all = Self::of_map(selector.match_labels.as_ref());
        for e in selector.match_expressions.iter().flatten() {
            match Requirement::new(&e.key, &e.operator, e.values.as_ref()) {
                Some(requirement) => all.requirements.push(requirement),
                None => return Self::nothing(),
            }
        }
        all
    }

    /// Labels that must all be equal; an absent or empty map selects everything.
    pub fn of_map(map: Option<&BTreeMap<String, String>>) -> Self {
        let mut all = Self::default();
        for (key, value) in map.into_iter().flatten() {
            all.require(&Str::new(key), &Str::new(value));
        }
        all
    }

    /// Also requires a label to be equal.
    pub fn require(&mut self, key: &Str, value: &Str) {
        self.requirements.push(Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: [value.clone()].into(),
        });
    }

    /// Requires all that the other does, too.
    pub fn and(&mut self, other: &Self) {
        self.nothing |= other.nothing;
        self.requirements.extend(other.requirements.iter().cloned());
    }

    /// Whether labels match.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels.get(&r.key)))
    }

    /// Whether it has no requirements and selects everything.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}

/// One term of a node selector: labels and fields that must all match. An empty term matches no node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    names: Vec<Requirement>,
}

impl NodeTerm {
    /// From the API's form; nothing when it can't match because an operator or a field doesn't exist.
    pub fn new(term: &core::NodeSelectorTerm) -> Option<Self> {
        let compile = |list: Option<&Vec<core::NodeSelectorRequirement>>| {
            list.into_iter()
                .flatten()
                .map(|e| Requirement::new(&e.key, &e.operator, e.values.as_ref()))
                .collect::<Option<Vec<_>>>()
        };
        let term = Self {
            labels: compile(term.match_expressions.as_ref())?,
            names: compile(term.match_fields.as_ref())?,
        };
        term.names
            .iter()
            .all(|r| r.key == "metadata.name")
            .then_some(term)
    }

    /// Whether a node matches.
    pub fn matches(&self, name: &Str, labels: &Labels) -> bool {
        (!self.labels.is_empty() || !self.names.is_empty())
            && self.labels.iter().all(|r| r.matches(labels.get(&r.key)))
            && self.names.iter().all(|r| r.matches(Some(name)))
    }

    /// Whether it requires nothing, and so matches nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.names.is_empty()
    }

    /// The node names that it allows, when it names nodes.
    fn names(&self) -> Option<Vec<&Str>> {
        let mut allowed: Option<Vec<&Str>> = None;
        for r in self.names.iter().filter(|r| r.operator == Operator::In) {
            allowed = Some(match allowed {
                None => r.values.iter().collect(),
                Some(before) => before.into_iter().filter(|n| r.values.contains(n)).collect(),
            });
        }
        allowed
    }
}

/// A node selector: any term may match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSelector(Vec<NodeTerm>);

impl NodeSelector {
    /// From the API's form.
    pub fn new(selector: &core::NodeSelector) -> Self {
        Self(
            selector
                .node_selector_terms
                .iter()
                .filter_map(NodeTerm::new)
                .collect(),
        )
    }

    /// Whether a node matches.
    pub fn matches(&self, name: &Str, labels: &Labels) -> bool {
        self.0.iter().any(|t| t.matches(name, labels))
    }

    /// The only nodes that can match, when every term names nodes.
    pub fn names(&self) -> Option<Vec<&Str>> {
        let mut all = Vec::new();
        for term in &self.0 {
            all.extend(term.names()?);
        }
        (!self.0.is_empty()).then_some(all)
    }
}
