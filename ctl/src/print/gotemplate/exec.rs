//! Evaluates templates.

use super::functions::{self, call};
use super::{Node, Pipeline, Template, Term};
use serde_json::{Number, Value};

/// A value of the language. Data holds floats only; literals may be whole.
pub(super) type V = Option<Value>;

const MAX_DEPTH: usize = 100;

pub(super) fn run(template: &Template, data: &Value, allow_missing: bool) -> Result<String, String> {
    let data = floats(data);
    let mut exec = Exec {
        template,
        allow_missing,
        out: String::new(),
        variables: vec![(String::new(), Some(data.clone()))],
        depth: 0,
    };
    exec.nodes(&template.body, &Some(data))?;
    Ok(exec.out)
}

/// All numbers as floats.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(n) => n
            .as_f64()
            .and_then(Number::from_f64)
            .map_or(Value::Null, Value::Number),
        Value::Array(items) => Value::Array(items.iter().map(floats).collect()),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), floats(v))).collect()),
        other => other.clone(),
    }
}

struct Exec<'a> {
    template: &'a Template,
    allow_missing: bool,
    out: String,
    variables: Vec<(String, V)>,
    depth: usize,
}

#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl Exec<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &V) -> Result<Flow, String> {
        let mark = self.variables.len();
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::Next {
                self.variables.truncate(mark);
                return Ok(flow);
            }
        }
        self.variables.truncate(mark);
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &V) -> Result<Flow, String> {
        match node {
            Node::Text(t) => self.out.push_str(t),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&functions::text(&value));
                }
            }
            Node::If(pipeline, then, otherwise) => {
                let mark = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = self.nodes(if functions::truth(&value) { then } else { otherwise }, dot)?;
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::With(pipeline, then, otherwise) => {
                let mark = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = if functions::truth(&value) {
                    self.nodes(then, &value)?
                } else {
                    self.nodes(otherwise, dot)?
                };
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::Range(pipeline, body, otherwise) => return self.range(pipeline, body, otherwise, dot),
            Node::Template(name, pipeline) => {
                let value = match pipeline {
                    Some(p) => self.pipeline(p, dot)?,
                    None => None,
                };
                let Some(body) = self.template.defines.get(name) else {
                    return Err(format!("template \"{name}\" not defined"));
                };
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err("exceeded maximum template depth".to_owned());
                }
                let saved = std::mem::replace(&mut self.variables, vec![(String::new(), value.clone())]);
                self.nodes(body, &value)?;
                self.variables = saved;
                self.depth -= 1;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(
        &mut self,
        pipeline: &Pipeline,
        body: &[Node],
        otherwise: &[Node],
        dot: &V,
    ) -> Result<Flow, String> {
        let mark = self.variables.len();
        let bare = Pipeline {
            variables: Vec::new(),
            declares: false,
            commands: pipeline.commands.clone(),
        };
        let pairs: Vec<(Value, Value)> = match self.pipeline(&bare, dot)? {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(i, v)| (Value::from(i), v))
                .collect(),
            Some(Value::Object(map)) => map.into_iter().map(|(k, v)| (Value::from(k), v)).collect(),
            Some(Value::Number(n)) if n.is_i64() || n.is_u64() => (0..n.as_i64().unwrap_or(0))
                .map(|i| (Value::from(i), Value::from(i)))
                .collect(),
            Some(other) => {
                return Err(format!(
                    "range can't iterate over {}",
                    functions::text(&Some(other))
                ));
            }
        };
        if pairs.is_empty() {
            let flow = self.nodes(otherwise, dot)?;
            self.variables.truncate(mark);
            return Ok(flow);
        }
        for (key, value) in pairs {
            let bound = match pipeline.variables.as_slice() {
                [v] => vec![(v.clone(), Some(value.clone()))],
                [k, v] => vec![(k.clone(), Some(key)), (v.clone(), Some(value.clone()))],
                _ => Vec::new(),
            };
            for (name, value) in bound {
                if pipeline.declares {
                    self.variables.push((name, value));
                } else {
                    self.assign(&name, value);
                }
            }
            let flow = self.nodes(body, &Some(value))?;
            self.variables.truncate(mark);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn assign(&mut self, name: &str, value: V) {
        if let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            slot.1 = value;
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &V) -> Result<V, String> {
        let mut last: Option<V> = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let value = last.flatten();
        for name in &pipeline.variables {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                self.assign(name, value.clone());
            }
        }
        Ok(value)
    }

    fn command(&mut self, terms: &[Term], dot: &V, piped: Option<V>) -> Result<V, String> {
        let Some((first, rest)) = terms.split_first() else {
            return Ok(None);
        };
        let Term::Function(name) = first else {
            if !rest.is_empty() || piped.is_some() {
                return Err("can't give argument to non-function".to_owned());
            }
            return self.term(first, dot);
        };
        // `and` and `or` stop at the first that decides.
        if name == "and" || name == "or" {
            let mut value = None;
            for term in rest {
                value = self.term(term, dot)?;
                if functions::truth(&value) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for term in rest {
            args.push(self.term(term, dot)?);
        }
        args.extend(piped);
        call(name, &args).map_err(|e| format!("error calling {name}: {e}"))
    }

    fn term(&mut self, term: &Term, dot: &V) -> Result<V, String> {
        Ok(match term {
            Term::Dot => dot.clone(),
            Term::Nil => return Err("nil is not a command".to_owned()),
            Term::Bool(b) => Some(Value::Bool(*b)),
            Term::Int(i) => Some(Value::from(*i)),
            Term::Float(f) => Number::from_f64(*f).map(Value::Number),
            Term::Text(t) => Some(Value::String(t.clone())),
            Term::Field(path) => self.fields(dot.clone(), path)?,
            Term::Variable(name, path) => {
                let value = self
                    .variables
                    .iter()
                    .rev()
                    .find(|(n, _)| n == name)
                    .and_then(|(_, v)| v.clone());
                self.fields(value, path)?
            }
            Term::Function(_) => self.command(std::slice::from_ref(term), dot, None)?,
            Term::Group(pipeline, path) => {
                let value = self.pipeline(pipeline, dot)?;
                self.fields(value, path)?
            }
        })
    }

    fn fields(&self, mut value: V, path: &[String]) -> Result<V, String> {
        for name in path {
            value = match value {
                Some(Value::Object(mut map)) => match map.remove(name) {
                    Some(v) => Some(v),
                    None if self.allow_missing => None,
                    None => return Err(format!("map has no entry for key \"{name}\"")),
                },
                None | Some(Value::Null) => {
                    if !self.allow_missing {
                        return Err(format!("nil data; no entry for key \"{name}\""));
                    }
                    None
                }
                Some(other) => {
                    return Err(format!(
                        "can't evaluate field {name} in type {}",
                        functions::type_name(&other)
                    ));
                }
            };
        }
        Ok(value)
    }
}
