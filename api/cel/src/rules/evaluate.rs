//! What rules say about an object.

use super::{
    OBJECT_BUDGET, Rule, SELF_TYPE, correlate, flag_at, list_at, part_of, path::field_path, properties_of,
    rules_at, text_at,
};
use crate::env::Env;
use crate::error::EvalError;
use crate::eval::{NoAuthorizations, PER_CALL_LIMIT, Program};
use crate::schema::Schema;
use crate::types::Type;
use crate::value::Value;
use rutter_api::field::{ErrorType, Path};
use rutter_api::{ErrorList, FieldError};
use serde_json::Value as Json;

/// The longest message that an expression may make, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// The rules of one version of a custom resource.
#[derive(Debug)]
pub struct Rules {
    root: Node,
}

/// What rules say about an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// What is wrong.
    pub errors: ErrorList,
    /// What is wrong but was so before.
    pub warnings: Vec<String>,
}

/// A part of the schema that has rules, or parts with rules.
#[derive(Debug, Default)]
struct Node {
    /// The part of the schema, for telling parts apart.
    source: Json,
    schema: Option<Schema>,
    kind: String,
    rules: Vec<Compiled>,
    items: Option<Box<Node>>,
    values: Option<Box<Node>>,
    properties: Vec<(String, Node)>,
    all_of: Vec<Node>,
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    program: Result<Program, String>,
    uses_old: bool,
    message: Option<Program>,
    path: Option<Path>,
}

impl Rules {
    /// The rules of a version's `openAPIV3Schema`; none when it has none. Rules that can't be compiled fail when they are
    /// evaluated.
    pub fn compile(schema: &Json) -> Option<Self> {
        Node::compile(schema, schema, true).map(|root| Self { root })
    }

    /// What the rules say about a new object, or about what an old one became.
    pub fn judge(&self, object: &Json, old: Option<&Json>) -> Judgement {
        let mut run = Run {
            judgement: Judgement::default(),
            left: OBJECT_BUDGET,
            root: true,
        };
        let before = old.map(|old| Before {
            correlated: Some((object, old)),
            ancestor: None,
        });
        // Running out of budget is among the errors.
        let _ = run.node(&self.root, &Path::root(), object, old, before.unwrap_or_default());
        run.judgement
    }
}

impl Node {
    fn compile(rules: &Json, schema: &Json, root: bool) -> Option<Self> {
        let embedded = |part: &Json| flag_at(part, "x-kubernetes-embedded-resource");
        let below = |name: &str| {
            let (rules, schema) = (part_of(rules, name)?, part_of(schema, name)?);
            Self::compile(rules, schema, embedded(schema)).map(Box::new)
        };
        let mut properties = Vec::new();
        for (name, rules) in properties_of(rules) {
            let Some(schema) = schema.get("properties").and_then(|p| p.get(name)) else {
                continue;
            };
            if let Some(node) = Self::compile(rules, schema, embedded(schema)) {
                properties.push((name.clone(), node));
            }
        }
        let all_of = list_at(rules, "allOf")
            .iter()
            .filter_map(|part| Self::compile(part, schema, root))
            .collect();
        let mut node = Self {
            kind: text_at(schema, "type").to_owned(),
            items: below("items"),
            values: below("additionalProperties"),
            properties,
            all_of,
            ..Self::default()
        };
        let own: Vec<Rule> = rules_at(rules).collect();
        if !own.is_empty() {
            node.schema = Schema::structural(schema, root, SELF_TYPE);
            node.rules = own
                .into_iter()
                .map(|rule| compile(rule, node.schema.as_ref(), schema))
                .collect();
        }
        let something = !node.rules.is_empty()
            || node.items.is_some()
            || node.values.is_some()
            || !node.properties.is_empty()
            || !node.all_of.is_empty();
        if something {
            node.source = outline(schema);
        }
        something.then_some(node)
    }
}

/// What of a schema tells which part was which: list types, keys and their defaults.
fn outline(schema: &Json) -> Json {
    let mut kept = serde_json::Map::new();
    for name in ["x-kubernetes-list-type", "x-kubernetes-list-map-keys", "default"] {
        if let Some(value) = schema.get(name) {
            kept.insert(name.to_owned(), value.clone());
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(part) = part_of(schema, name) {
            kept.insert(name.to_owned(), outline(part));
        }
    }
    let properties: serde_json::Map<_, _> = properties_of(schema)
        .map(|(name, part)| (name.clone(), outline(part)))
        .collect();
    if !properties.is_empty() {
        kept.insert("properties".to_owned(), Json::Object(properties));
    }
    Json::Object(kept)
}

/// The environments of rules: `oldSelf` is there, or may be absent.
pub(super) fn rule_env(schema: &Schema, optional: bool) -> Env {
    let env = Env::new().with_schema("self", schema);
    let old = if optional {
        Type::optional(schema.ty())
    } else {
        schema.ty()
    };
    env.with("oldSelf", old)
}

/// The number of `oldSelf`.
pub(super) const OLD_SELF: usize = 1;

fn compile(rule: Rule, schema: Option<&Schema>, source: &Json) -> Compiled {
    let mut compiled = Compiled {
        program: Err("failed to convert to declType for CEL validation rules".to_owned()),
        uses_old: false,
        message: None,
        path: field_path(&rule.field_path, source)
            .ok()
            .filter(|path| !path.as_str().is_empty()),
        rule,
    };
    let Some(schema) = schema else { return compiled };
    let env = rule_env(schema, compiled.rule.optional_old_self.unwrap_or_default());
    match env.compile(&compiled.rule.rule) {
        Ok(checked) => {
            compiled.uses_old = checked.uses(OLD_SELF);
            compiled.program = Ok(checked.program());
        }
        Err(issues) => compiled.program = Err(format!("compilation failed: {issues}")),
    }
    if !compiled.rule.message_expression.is_empty() {
        let message = env.compile_as(&compiled.rule.message_expression, &[Type::String]);
        compiled.message = message.ok().map(|checked| checked.program());
    }
    compiled
}

/// What a part was before, for letting pass what hasn't changed.
#[derive(Clone, Copy, Default)]
struct Before<'v> {
    /// This part and what it was, where that can be told.
    correlated: Option<(&'v Json, &'v Json)>,
    /// The same of the nearest part around it.
    ancestor: Option<(&'v Json, &'v Json)>,
}

impl<'v> Before<'v> {
    fn unchanged(&self, schema: &Json) -> bool {
        let pair = self.correlated.or(self.ancestor);
        pair.is_some_and(|(new, old)| correlate::unchanged(schema, new, old))
    }

    fn below(&self, part: Option<(&'v Json, &'v Json)>) -> Self {
        match self.correlated {
            None => *self,
            around => Self {
                correlated: part,
                ancestor: around,
            },
        }
    }
}

/// No further rules are evaluated.
struct Stop;

struct Run {
    judgement: Judgement,
    left: u64,
    root: bool,
}

impl Run {
    fn node<'v>(
        &mut self,
        node: &Node,
        path: &Path,
        value: &'v Json,
        old: Option<&'v Json>,
        before: Before<'v>,
    ) -> Result<(), Stop> {
        if value.is_null() {
            return Ok(());
        }
        let is_root = std::mem::take(&mut self.root);
        let old = old.filter(|old| !old.is_null());
        self.rules(node, path, value, old, before)?;
        for part in &node.all_of {
            let before = Before {
                correlated: None,
                ancestor: before.ancestor,
            };
            self.node(part, path, value, old, before)?;
        }
        match value {
            Json::Array(items) => {
                let Some(below) = &node.items else { return Ok(()) };
                let old_items = old.and_then(Json::as_array).map(Vec::as_slice);
                for (index, item) in items.iter().enumerate() {
                    let was = correlate::element(&node.source, old_items, item);
                    let before = before.below(was.map(|was| (item, was)));
                    self.node(below, &path.index(index), item, was, before)?;
                }
            }
            Json::Object(map) => {
                let old_map = old.and_then(Json::as_object);
                let pair = |key: &str, value: &'v Json| {
                    let was = old_map.and_then(|old| old.get(key));
                    // Both sides are shown as of one version, so these two never change.
                    let hidden = is_root && matches!(key, "apiVersion" | "kind");
                    let before = if hidden {
                        Before::default()
                    } else {
                        before.below(was.map(|was| (value, was)))
                    };
                    (was, before)
                };
                if let Some(below) = &node.values {
                    for (key, value) in map {
                        let (was, before) = pair(key, value);
                        self.node(below, &path.key(key), value, was, before)?;
                    }
                }
                for (name, below) in &node.properties {
                    if let Some(value) = map.get(name) {
                        let (was, before) = pair(name, value);
                        self.node(below, &path.child(name), value, was, before)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, node: &Node, path: &Path, detail: String) {
        self.judgement
            .errors
            .push(FieldError::invalid(path, node.kind.as_str(), detail));
    }

    fn rules<'v>(
        &mut self,
        node: &Node,
        path: &Path,
        value: &'v Json,
        old: Option<&'v Json>,
        before: Before<'v>,
    ) -> Result<(), Stop> {
        const SPENT: &str =
            "validation failed due to running out of cost budget, no further validation rules will be run";
        if node.rules.is_empty() {
            return Ok(());
        }
        if self.left == 0 {
            self.fail(node, path, SPENT.to_owned());
            return Err(Stop);
        }
        for compiled in &node.rules {
            let rule = &compiled.rule;
            let (program, schema) = match (&compiled.program, &node.schema) {
                (Ok(program), Some(schema)) => (program, schema),
                (Err(why), _) => {
                    self.fail(node, path, format!("rule compile error: {why}"));
                    continue;
                }
                (Ok(_), None) => continue,
            };
            let optional = rule.optional_old_self.unwrap_or_default();
            if compiled.uses_old && old.is_none() && !optional {
                continue;
            }
            let values = match bindings(schema, value, old, optional) {
                Ok(values) => values,
                Err(error) => {
                    self.fail(node, path, format!("{error} evaluating rule: {}", rule.called()));
                    continue;
                }
            };
            let outcome = program.evaluate(&values, &NoAuthorizations, PER_CALL_LIMIT);
            if outcome.cost > self.left {
                self.fail(node, path, SPENT.to_owned());
                return Err(Stop);
            }
            self.left -= outcome.cost;
            match outcome.value {
                Ok(Value::Bool(true)) => {}
                Ok(_) => self.refuse(node, compiled, path, value, &values, before)?,
                Err(EvalError::CostLimit) => {
                    let why = EvalError::CostLimit;
                    let called = rule.called();
                    self.fail(node, path, format!("'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {called}"));
                    return Err(Stop);
                }
                Err(error) if error.to_string().starts_with("no such overload") => {
                    let called = rule.called();
                    self.fail(node, path, format!("'{error}': call arguments did not match a supported operator, function or macro signature for rule: {called}"));
                }
                Err(error) => self.fail(node, path, format!("{error} evaluating rule: {}", rule.called())),
            }
        }
        Ok(())
    }

    /// Notes that a rule doesn't hold.
    fn refuse(
        &mut self,
        node: &Node,
        compiled: &Compiled,
        path: &Path,
        value: &Json,
        values: &[Option<Value<'_>>],
        before: Before<'_>,
    ) -> Result<(), Stop> {
        let rule = &compiled.rule;
        let path = match &compiled.path {
            Some(below) => path.child(below.as_str()),
            None => path.clone(),
        };
        let lenient = !compiled.uses_old && before.unchanged(&node.source);
        let mut detail = None;
        if let Some(message) = &compiled.message {
            match self.message(message, &rule.message_expression, values) {
                Ok(text) => detail = text,
                Err(why) => {
                    self.note(FieldError::invalid(&path, node.kind.as_str(), why), lenient);
                    return Err(Stop);
                }
            }
        }
        let detail = detail.unwrap_or_else(|| match rule.message.is_empty() {
            true => format!("failed rule: {}", rule.called()),
            false => rule.message.trim().to_owned(),
        });
        let shown = (!matches!(node.kind.as_str(), "object" | "array")).then(|| value.clone());
        let kind = match rule.reason.as_deref() {
            Some("FieldValueForbidden") => ErrorType::Forbidden,
            Some("FieldValueRequired") => ErrorType::Required,
            Some("FieldValueDuplicate") => ErrorType::Duplicate,
            _ => ErrorType::Invalid,
        };
        let error = FieldError {
            kind,
            field: path.to_string(),
            value: shown.filter(|_| !matches!(kind, ErrorType::Forbidden | ErrorType::Required)),
            detail: if kind == ErrorType::Duplicate {
                String::new()
            } else {
                detail
            },
        };
        self.note(error, lenient);
        Ok(())
    }

    fn note(&mut self, error: FieldError, lenient: bool) {
        if lenient {
            self.judgement.warnings.push(error.to_string());
        } else {
            self.judgement.errors.push(error);
        }
    }

    /// The message that an expression makes: none when it makes no proper one.
    fn message(
        &mut self,
        program: &Program,
        source: &str,
        values: &[Option<Value<'_>>],
    ) -> Result<Option<String>, String> {
        let outcome = program.evaluate(values, &NoAuthorizations, PER_CALL_LIMIT);
        if outcome.cost > self.left {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned());
        }
        self.left -= outcome.cost;
        match outcome.value {
            Ok(Value::String(text)) => {
                let text = text.trim();
                let proper = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                Ok(proper.then(|| text.to_owned()))
            }
            Err(EvalError::CostLimit) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source:?}"
            )),
            _ => Ok(None),
        }
    }
}

/// `self` and `oldSelf`.
fn bindings<'v>(
    schema: &'v Schema,
    value: &'v Json,
    old: Option<&'v Json>,
    optional: bool,
) -> crate::error::Result<Vec<Option<Value<'v>>>> {
    let new = Value::typed(value, schema)?;
    let old = old.map(|old| Value::typed(old, schema)).transpose()?;
    let old = match (old, optional) {
        (Some(old), true) => Some(Value::some(old)),
        (None, true) => Some(Value::Optional(None)),
        (old, false) => old,
    };
    Ok(vec![Some(new), old])
}
