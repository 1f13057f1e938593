//! Sets of field paths, and their form in `managedFields` (`FieldsV1`).
//!
//! A set is a tree. The steps of a path are kept as `FieldsV1` writes them: `f:name` for a field, `k:{...}` for an element
//! told apart by keys, `v:...` for one told apart by itself, `i:0` for an index. That makes sets cheap to read and write
//! and their comparison a comparison of texts.

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Ordered by step.
    nodes: Vec<(Box<str>, Node)>,
}

/// What a set holds at and below one step. A node that holds nothing is never kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    /// The paths that go on.
    pub(super) below: FieldSet,
}

impl Node {
    pub(super) fn member() -> Self {
        Self {
            member: true,
            below: FieldSet::default(),
        }
    }

    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl FieldSet {
    /// A set of whole fields, named by dotted paths such as `status` or `metadata.deletionTimestamp`.
    pub fn of_fields<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for path in paths {
            let steps: Vec<String> = path.split('.').map(|name| format!("f:{name}")).collect();
            set.insert(steps.iter().map(String::as_str));
        }
        set
    }

    /// Adds the path made of these steps.
    pub fn insert<'a>(&mut self, steps: impl IntoIterator<Item = &'a str>) {
        let mut steps = steps.into_iter().peekable();
        let mut set = self;
        while let Some(step) = steps.next() {
            let at = match set.position(step) {
                Ok(at) => at,
                Err(at) => {
                    set.nodes.insert(at, (step.into(), Node::default()));
                    at
                }
            };
            let node = &mut set.nodes[at].1;
            if steps.peek().is_none() {
                node.member = true;
                return;
            }
            set = &mut node.below;
        }
    }

    /// Whether it holds no path.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether it holds the path made of these steps.
    pub fn has<'a>(&self, steps: impl IntoIterator<Item = &'a str>) -> bool {
        let mut set = self;
        let mut member = false;
        for step in steps {
            let Some(node) = set.get(step) else { return false };
            member = node.member;
            set = &node.below;
        }
        member
    }

    /// Reads `FieldsV1`; None when it isn't.
    pub fn from_value(value: &Value) -> Option<Self> {
        Self::from_map(value.as_object()?)
    }

    pub(super) fn from_map(map: &Map<String, Value>) -> Option<Self> {
        let mut nodes = Vec::with_capacity(map.len());
        for (step, below) in map {
            if step == "." {
                continue;
            }
            if !is_step(step) {
                return None;
            }
            let map = below.as_object()?;
            let node = Node {
                member: is_member(map),
                below: Self::from_map(map)?,
            };
            nodes.push((canonical_step(step)?, node));
        }
        nodes.sort_by(|a, b| a.0.cmp(&b.0));
        nodes.dedup_by(|a, b| a.0 == b.0);
        Some(Self { nodes })
    }

    /// Writes `FieldsV1`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (step, node) in &self.nodes {
            let mut below = node.below.to_value();
            if node.member
                && !node.below.is_empty()
                && let Value::Object(map) = &mut below
            {
                map.insert(".".to_owned(), Value::Object(Map::new()));
            }
            map.insert(step.to_string(), below);
        }
        Value::Object(map)
    }

    /// Whether any path is in this set and in another that is canonical `FieldsV1`.
    pub(super) fn meets(&self, other: &Map<String, Value>) -> bool {
        self.nodes.iter().any(|(step, node)| {
            below(other, step)
                .is_some_and(|below| (node.member && is_member(below)) || node.below.meets(below))
        })
    }

    /// Whether all paths are in another set that is canonical `FieldsV1`.
    pub(super) fn is_within(&self, other: &Map<String, Value>) -> bool {
        self.nodes.iter().all(|(step, node)| {
            below(other, step)
                .is_some_and(|below| (!node.member || is_member(below)) && node.below.is_within(below))
        })
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        for (step, theirs) in other.nodes {
            match self.position(&step) {
                Ok(at) => {
                    let ours = &mut self.nodes[at].1;
                    ours.member |= theirs.member;
                    ours.below = std::mem::take(&mut ours.below).union(theirs.below);
                }
                Err(at) => self.nodes.insert(at, (step, theirs)),
            }
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let both = self.nodes.iter().filter_map(|(step, ours)| {
            let theirs = other.get(step)?;
            let node = Node {
                member: ours.member && theirs.member,
                below: ours.below.intersection(&theirs.below),
            };
            (!node.is_empty()).then(|| (step.clone(), node))
        });
        Self {
            nodes: both.collect(),
        }
    }

    /// Takes out what is in the other; says whether anything was.
    pub fn subtract(&mut self, other: &Self) -> bool {
        self.subtract_with(other, false)
    }

    /// Takes out what is in the other and all that is below it.
    pub fn subtract_recursively(&mut self, other: &Self) -> bool {
        self.subtract_with(other, true)
    }

    fn subtract_with(&mut self, other: &Self, recursive: bool) -> bool {
        if other.is_empty() {
            return false;
        }
        let mut changed = false;
        self.nodes.retain_mut(|(step, ours)| {
            let Some(theirs) = other.get(step) else {
                return true;
            };
            if theirs.member {
                changed |= ours.member;
                ours.member = false;
                if recursive && !ours.below.is_empty() {
                    ours.below = Self::default();
                    changed = true;
                }
            }
            changed |= ours.below.subtract_with(&theirs.below, recursive);
            !ours.is_empty()
        });
        changed
    }

    /// The paths as people read them: `.spec.containers[name="a"].image`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, prefix: &str, paths: &mut Vec<String>) {
        for (step, node) in &self.nodes {
            let path = format!("{prefix}{}", shown_step(step));
            node.below.collect(&path, paths);
            if node.member {
                paths.push(path);
            }
        }
    }

    pub(super) fn get(&self, step: &str) -> Option<&Node> {
        self.position(step).ok().map(|at| &self.nodes[at].1)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(step, node)| (&**step, node))
    }

    /// Adds a node unless it holds nothing. Steps that come in order cost nothing to place.
    pub(super) fn push(&mut self, step: Box<str>, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.nodes.last() {
            Some((last, _)) if *last >= step => match self.position(&step) {
                Ok(at) => {
                    let ours = &mut self.nodes[at].1;
                    ours.member |= node.member;
                    ours.below = std::mem::take(&mut ours.below).union(node.below);
                }
                Err(at) => self.nodes.insert(at, (step, node)),
            },
            _ => self.nodes.push((step, node)),
        }
    }

    fn position(&self, step: &str) -> Result<usize, usize> {
        self.nodes.binary_search_by(|(own, _)| (**own).cmp(step))
    }
}

fn is_step(text: &str) -> bool {
    matches!(text.as_bytes(), [b'f' | b'k' | b'v' | b'i', b':', ..])
}

/// Whether the path that leads to this part of `FieldsV1` is in the set.
fn is_member(map: &Map<String, Value>) -> bool {
    map.is_empty() || map.contains_key(".")
}

fn below<'v>(map: &'v Map<String, Value>, step: &str) -> Option<&'v Map<String, Value>> {
    map.get(step).and_then(Value::as_object)
}

/// Whether `FieldsV1` is well-formed and as this crate writes it.
pub(super) fn is_canonical(map: &Map<String, Value>) -> bool {
    map.iter().all(|(step, below)| match below {
        Value::Object(below) if step == "." => below.is_empty(),
        Value::Object(below) => is_step(step) && is_plain(step) && is_canonical(below),
        _ => false,
    })
}

/// Whether a step is as this crate writes it without a closer look.
fn is_plain(step: &str) -> bool {
    step.starts_with("f:") || step.starts_with("i:") || !(step.contains('\\') || step.contains(' '))
}

/// A step as this crate writes it: what follows `k:` and `v:` is JSON without needless escapes.
fn canonical_step(step: &str) -> Option<Box<str>> {
    if is_plain(step) {
        return Some(step.into());
    }
    let value: Value = serde_json::from_str(&step[2..]).ok()?;
    Some(format!("{}{value}", &step[..2]).into())
}

fn shown_step(step: &str) -> String {
    let body = step.get(2..).unwrap_or_default();
    match step.as_bytes().first() {
        Some(b'f') => format!(".{body}"),
        Some(b'v') => format!("[={body}]"),
        Some(b'k') => {
            let mut text = "[".to_owned();
            let keys: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
            for (index, (name, value)) in keys.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                // Writing to a String doesn't fail.
                let _ = write!(text, "{comma}{name}={value}");
            }
            text.push(']');
            text
        }
        _ => format!("[{body}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_value(&value).unwrap()
    }

    #[test]
    fn sets_read_and_write_as_fields_v1() {
        let value = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}, "f:replicas": {}}});
        let read = set(value.clone());
        assert_eq!(read.to_value(), value);
        assert_eq!(
            read.paths(),
            [
                ".metadata.labels.app",
                ".metadata.labels",
                ".spec.containers[name=\"a\"].image",
                ".spec.containers[name=\"a\"]",
                ".spec.replicas"
            ]
        );
        assert!(read.has(["f:metadata", "f:labels"]) && !read.has(["f:metadata"]));
        for wrong in [json!({"x:a": {}}), json!({"f:a": 1}), json!([]), json!({"f": {}})] {
            assert_eq!(FieldSet::from_value(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parents_and_children_are_separate_members() {
        let mut all = set(json!({"f:a": {".": {}, "f:b": {}}}));
        assert!(all.subtract(&set(json!({"f:a": {}}))));
        assert_eq!(all.to_value(), json!({"f:a": {"f:b": {}}}));
        let mut all = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        all.subtract_recursively(&FieldSet::of_fields(["a"]));
        assert_eq!(all.to_value(), json!({"f:c": {}}));
    }

    pub(crate) fn any_set() -> impl Strategy<Value = FieldSet> {
        prop::collection::vec(
            prop::collection::vec("f:[ab]|v:\"x\"|k:\\{\"n\":1\\}", 1..4),
            0..8,
        )
        .prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in &paths {
                set.insert(path.iter().map(String::as_str));
            }
            set
        })
    }

    proptest! {
        #[test]
        fn sets_obey_the_laws_of_sets(a in any_set(), b in any_set()) {
            prop_assert_eq!(FieldSet::from_value(&a.to_value()), Some(a.clone()));
            let both = a.intersection(&b);
            prop_assert_eq!(&both, &b.intersection(&a));
            if let Value::Object(written) = b.to_value() {
                prop_assert!(is_canonical(&written));
                prop_assert_eq!(a.meets(&written), !both.is_empty());
                prop_assert_eq!(a.is_within(&written), both == a);
            }
            let mut only_a = a.clone();
            only_a.subtract(&b);
            prop_assert!(only_a.intersection(&b).is_empty());
            prop_assert_eq!(only_a.union(both), a.clone());
            prop_assert_eq!(a.clone().union(b.clone()), b.union(a));
        }
    }
}
