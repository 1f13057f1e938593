//! JSONPath as kubectl speaks it: templates of text and `{...}` with ranges, filters, slices and unions.
//!
//! Parsing and evaluating are pure. Missing keys are empty or an error, as the caller wishes.

use super::json;
use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    List(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// `$`
    Root,
    /// `.name`; without a name the value itself.
    Field(String),
    /// `[1:3:2]`; (value, known)
    Slice([Option<i64>; 3], bool),
    /// `[*]`, `.*`
    Wildcard,
    /// `..`
    Recursive,
    /// `[a,b]`
    Union(Vec<Vec<Step>>),
    /// `[?(left op right)]`
    Filter(Vec<Operand>, String, Vec<Operand>),
    /// A quoted text.
    Text(String),
    /// A number.
    Number(f64),
    /// `true`, `false`
    Bool(bool),
}

type Operand = Step;

/// Wraps what `-o custom-columns` and `--sort-by` accept into a template: `.x`, `x`, `{.x}` all mean `{.x}`.
pub fn relaxed(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let inner = match (text.strip_prefix('{'), text.ends_with('}')) {
        (Some(t), true) => t.strip_suffix('}').unwrap_or(t),
        (None, false) => text,
        _ => {
            return Err("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'".to_string());
        }
    };
    if inner.contains('{') {
        return Err("unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'".to_string());
    }
    Ok(format!("{{.{}}}", inner.strip_prefix('.').unwrap_or(inner)))
}

struct Parser {
    chars: Vec<char>,
    at: usize,
}

/// Parses a template.
pub fn parse(text: &str) -> Result<Template, String> {
    let mut p = Parser {
        chars: text.chars().collect(),
        at: 0,
    };
    let (nodes, ended) = p.nodes()?;
    if ended {
        return Err("not in range, nothing to end".to_owned());
    }
    Ok(Template { nodes })
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }
    fn bump(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += 1;
        c
    }
    fn eat(&mut self, c: char) -> bool {
        let yes = self.peek() == Some(c);
        if yes {
            self.at += 1;
        }
        yes
    }
    fn spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// Reads nodes until the end or `{end}`; tells whether `{end}` was read.
    fn nodes(&mut self) -> Result<(Vec<Node>, bool), String> {
        let mut out = Vec::new();
        let mut text = String::new();
        while let Some(c) = self.bump() {
            if c != '{' {
                text.push(c);
                continue;
            }
            if !text.is_empty() {
                out.push(Node::Text(std::mem::take(&mut text)));
            }
            self.spaces();
            if self.word("end") {
                self.close()?;
                return Ok((out, true));
            }
            if self.word("range") {
                self.spaces();
                let steps = self.path()?;
                self.close()?;
                let (body, ended) = self.nodes()?;
                if !ended {
                    return Err("unclosed range".to_owned());
                }
                out.push(Node::Range(steps, body));
                continue;
            }
            // One action may hold several paths and texts.
            loop {
                self.spaces();
                if self.eat('}') {
                    break;
                }
                if self.peek().is_none() {
                    return Err("unclosed action".to_owned());
                }
                let steps = self.path()?;
                out.push(Node::List(steps));
            }
        }
        if !text.is_empty() {
            out.push(Node::Text(text));
        }
        Ok((out, false))
    }

    fn close(&mut self) -> Result<(), String> {
        self.spaces();
        if self.eat('}') {
            Ok(())
        } else {
            Err("unclosed action".to_owned())
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let len = word.chars().count();
        let here: String = self.chars.iter().skip(self.at).take(len).collect();
        let next = self.chars.get(self.at + len).copied();
        let yes = here == word && next.is_none_or(|c| !c.is_alphanumeric());
        if yes {
            self.at += len;
        }
        yes
    }

    /// One path or literal.
    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None => break,
                Some('}' | ')' | ',' | ']') => break,
                Some(c) if c.is_whitespace() => break,
                Some('=' | '!' | '<' | '>' | '&' | '|') => break,
                Some('@') => {
                    self.at += 1;
                    out.push(Step::Field(String::new()));
                }
                Some('$') => {
                    self.at += 1;
                    out.push(Step::Root);
                }
                Some('.') => {
                    self.at += 1;
                    if self.eat('.') {
                        out.push(Step::Recursive);
                        if self
                            .peek()
                            .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '*')
                        {
                            self.field(&mut out)?;
                        }
                    } else {
                        self.field(&mut out)?;
                    }
                }
                Some('[') => {
                    self.at += 1;
                    out.push(self.bracket()?);
                }
                Some(q @ ('"' | '\'')) => {
                    self.at += 1;
                    out.push(Step::Text(self.quoted(q)?));
                }
                Some(c) if (c.is_ascii_digit() || c == '-' || c == '+') && out.is_empty() => {
                    let start = self.at;
                    self.at += 1;
                    while self.peek().is_some_and(|c| c.is_ascii_digit() || c == '.') {
                        self.at += 1;
                    }
                    let text: String = self.chars.get(start..self.at).unwrap_or(&[]).iter().collect();
                    out.push(Step::Number(
                        text.parse().map_err(|_| format!("cannot parse number {text}"))?,
                    ));
                }
                Some(c) if c.is_alphabetic() || c == '_' || c == '*' => {
                    let before = out.len();
                    self.field(&mut out)?;
                    if before == 0
                        && let Some(Step::Field(name)) = out.last()
                    {
                        match name.as_str() {
                            "true" => out = vec![Step::Bool(true)],
                            "false" => out = vec![Step::Bool(false)],
                            other => {
                                return Err(format!("unrecognized identifier {other}"));
                            }
                        }
                    }
                }
                Some(c) => {
                    return Err(format!(
                        "unrecognized character in action: U+{:04X} '{c}'",
                        c as u32
                    ));
                }
            }
        }
        Ok(out)
    }

    fn field(&mut self, out: &mut Vec<Step>) -> Result<(), String> {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    name.extend(self.bump());
                }
                '.' | '[' | ']' | '{' | '}' | '(' | ')' | '$' | '@' | ',' | '=' | '!' | '<' | '>' | '&'
                | '|' | '"' | '\'' => {
                    break;
                }
                c if c.is_whitespace() => break,
                c => {
                    name.push(c);
                    self.at += 1;
                }
            }
        }
        out.push(if name == "*" {
            Step::Wildcard
        } else {
            Step::Field(name)
        });
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.bump() {
                None => return Err("unterminated quoted string".to_owned()),
                Some('\\') => match self.bump() {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c) => out.push(c),
                    None => return Err("unterminated quoted string".to_owned()),
                },
                Some(c) if c == quote => return Ok(out),
                Some(c) => out.push(c),
            }
        }
    }

    fn bracket(&mut self) -> Result<Step, String> {
        self.spaces();
        if self.eat('?') {
            return self.filter();
        }
        let start = self.at;
        let mut depth = 0usize;
        let mut quote: Option<char> = None;
        let mut end = None;
        while let Some(c) = self.bump() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), '\\') => self.at += 1,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(c),
                (None, '[' | '(') => depth += 1,
                (None, ']') if depth == 0 => {
                    end = Some(self.at - 1);
                    break;
                }
                (None, ']' | ')') => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let Some(end) = end else {
            return Err("unterminated array".to_owned());
        };
        let inner: String = self.chars.get(start..end).unwrap_or(&[]).iter().collect();
        let inner = inner.trim();
        if inner.is_empty() || inner == "*" {
            return Ok(Step::Slice([None; 3], false));
        }
        let pieces = split_union(inner);
        if pieces.len() > 1 {
            let mut all = Vec::new();
            for piece in pieces {
                all.push(bracket_piece(piece.trim())?);
            }
            return Ok(Step::Union(all.into_iter().map(|s| vec![s]).collect()));
        }
        bracket_piece(inner)
    }

    fn filter(&mut self) -> Result<Step, String> {
        self.spaces();
        if !self.eat('(') {
            return Err("unexpected filter".to_owned());
        }
        self.spaces();
        let left = self.path()?;
        self.spaces();
        let mut op = String::new();
        while let Some(c @ ('=' | '!' | '<' | '>')) = self.peek() {
            op.push(c);
            self.at += 1;
        }
        self.spaces();
        let right = if op.is_empty() { Vec::new() } else { self.path()? };
        self.spaces();
        if !self.eat(')') {
            return Err("unterminated filter".to_owned());
        }
        self.spaces();
        if !self.eat(']') {
            return Err("unclosed array expect ]".to_owned());
        }
        let op = if op.is_empty() { "exists".to_owned() } else { op };
        match op.as_str() {
            "exists" | "==" | "!=" | "<" | ">" | "<=" | ">=" => Ok(Step::Filter(left, op, right)),
            "=" => Ok(Step::Filter(left, "==".to_owned(), right)),
            other => Err(format!("unrecognized filter operator {other}")),
        }
    }
}

fn split_union(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut field = String::new();
    let mut quote: Option<char> = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ',') => {
                out.push(std::mem::take(&mut field));
                continue;
            }
            _ => {}
        }
        field.push(c);
    }
    out.push(field);
    out
}

fn bracket_piece(text: &str) -> Result<Step, String> {
    if let Some(q @ ('"' | '\'')) = text.chars().next() {
        let inner = text.strip_prefix(q).and_then(|t| t.strip_suffix(q));
        return match inner {
            Some(name) => Ok(Step::Field(
                name.replace("\\'", "'").replace("\\\"", "\"").replace("\\.", "."),
            )),
            None => Err(format!("invalid array index {text}")),
        };
    }
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(format!("invalid array index {text}"));
    }
    let mut bounds = [None; 3];
    for (slot, part) in bounds.iter_mut().zip(&parts) {
        if !part.is_empty() {
            *slot = Some(
                part.trim()
                    .parse()
                    .map_err(|_| format!("invalid array index {text}"))?,
            );
        }
    }
    if parts.len() == 1 {
        // A single index is a slice of one that must exist.
        return match bounds[0] {
            Some(i) => Ok(Step::Slice([Some(i), None, None], true)),
            None => Err(format!("invalid array index {text}")),
        };
    }
    Ok(Step::Slice(bounds, false))
}

struct Eval<'a> {
    root: &'a Value,
    allow_missing: bool,
}

type Found = Vec<Value>;

impl Template {
    /// Evaluates to text.
    pub fn execute(&self, root: &Value, allow_missing: bool) -> Result<String, String> {
        let eval = Eval { root, allow_missing };
        let mut out = String::new();
        eval.nodes(&self.nodes, root, &mut |text| out.push_str(&text))?;
        Ok(out)
    }

    /// All values found, one list per path of the template.
    pub fn find(&self, root: &Value, allow_missing: bool) -> Result<Vec<Found>, String> {
        let eval = Eval { root, allow_missing };
        let mut out = Vec::new();
        eval.collect(&self.nodes, root, &mut out)?;
        Ok(out)
    }
}

impl Eval<'_> {
    fn nodes(&self, nodes: &[Node], current: &Value, emit: &mut dyn FnMut(String)) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(t) => emit(t.clone()),
                Node::List(steps) => {
                    let found = self.walk(steps, vec![current.clone()])?;
                    emit(found.iter().map(to_text).collect::<Vec<_>>().join(" "));
                }
                Node::Range(steps, body) => {
                    for item in self.range(steps, current)? {
                        self.nodes(body, &item, emit)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn collect(&self, nodes: &[Node], current: &Value, out: &mut Vec<Found>) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(t) => out.push(vec![Value::String(t.clone())]),
                Node::List(steps) => out.push(self.walk(steps, vec![current.clone()])?),
                Node::Range(steps, body) => {
                    for item in self.range(steps, current)? {
                        self.collect(body, &item, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The values that a range goes through: what the path finds, a single array's items.
    fn range(&self, steps: &[Step], current: &Value) -> Result<Found, String> {
        self.walk(steps, vec![current.clone()])
    }

    fn walk(&self, steps: &[Step], mut values: Found) -> Result<Found, String> {
        for step in steps {
            values = self.step(step, values)?;
        }
        Ok(values)
    }

    fn step(&self, step: &Step, values: Found) -> Result<Found, String> {
        let mut out = Vec::new();
        match step {
            Step::Root => out.push(self.root.clone()),
            Step::Text(t) => out.push(Value::String(t.clone())),
            Step::Number(n) => out.push(
                #[allow(clippy::cast_possible_truncation)]
                if n.fract() == 0.0 {
                    Value::from(*n as i64)
                } else {
                    Value::from(*n)
                },
            ),
            Step::Bool(b) => out.push(Value::Bool(*b)),
            Step::Field(name) if name.is_empty() => return Ok(values),
            Step::Field(name) => {
                let mut missing = !values.is_empty();
                for value in values {
                    if let Some(found) = value.as_object().and_then(|m| m.get(name)) {
                        missing = false;
                        if !found.is_null() {
                            out.push(found.clone());
                        }
                    }
                }
                if missing && !self.allow_missing {
                    return Err(format!("{name} is not found"));
                }
            }
            Step::Wildcard => {
                for value in values {
                    match value {
                        Value::Array(items) => out.extend(items),
                        Value::Object(map) => out.extend(map.into_iter().map(|(_, v)| v)),
                        _ => {}
                    }
                }
            }
            Step::Recursive => {
                for value in values {
                    recurse(&value, &mut out);
                }
            }
            Step::Union(all) => {
                for steps in all {
                    out.extend(self.walk(steps, values.clone())?);
                }
            }
            Step::Slice(bounds, single) => {
                for value in values {
                    self.slice(bounds, *single, value, &mut out)?;
                }
            }
            Step::Filter(left, op, right) => {
                for value in values {
                    let items = match value {
                        Value::Array(items) => items,
                        Value::Object(map) => map.into_iter().map(|(_, v)| v).collect(),
                        Value::Null => continue,
                        other => {
                            return Err(format!(
                                "{} is not array or slice and cannot be filtered",
                                json::compact(&other)
                            ));
                        }
                    };
                    for item in items {
                        if self.passes(&item, left, op, right)? {
                            out.push(item);
                        }
                    }
                }
            }
        }
        Ok(out)
    }

    fn slice(
        &self,
        bounds: &[Option<i64>; 3],
        single: bool,
        value: Value,
        out: &mut Found,
    ) -> Result<(), String> {
        let Value::Array(items) = value else {
            if value.is_null() && self.allow_missing {
                return Ok(());
            }
            return Err(format!("{} is not array or slice", go_type(&value)));
        };
        let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
        let place = |i: i64| if i < 0 { i + len } else { i };
        if single {
            let wanted = bounds[0].unwrap_or(0);
            let index = place(wanted);
            if index < 0 || index >= len {
                return Err(format!("array index out of bounds: index {index}, length {len}"));
            }
            if let Some(item) = usize::try_from(index).ok().and_then(|i| items.get(i)) {
                out.push(item.clone());
            }
            return Ok(());
        }
        let start = place(bounds[0].unwrap_or(0));
        let end = place(bounds[1].unwrap_or(len)).min(len);
        let step = bounds[2].unwrap_or(1);
        if step <= 0 {
            return Err("step must be > 0".to_owned());
        }
        if start < 0 || (start > len) {
            return Err(format!("array index out of bounds: index {start}, length {len}"));
        }
        if end < start {
            return Err(format!(
                "starting index {start} is greater than ending index {end}"
            ));
        }
        let mut at = start;
        while at < end {
            if let Some(item) = usize::try_from(at).ok().and_then(|i| items.get(i)) {
                out.push(item.clone());
            }
            at += step;
        }
        Ok(())
    }

    fn passes(&self, item: &Value, left: &[Step], op: &str, right: &[Step]) -> Result<bool, String> {
        let lenient = Eval {
            root: self.root,
            allow_missing: true,
        };
        let lefts = lenient.walk(left, vec![item.clone()])?;
        if op == "exists" {
            return Ok(!lefts.is_empty());
        }
        let rights = lenient.walk(right, vec![item.clone()])?;
        let (Some(a), Some(b)) = (lefts.first(), rights.first()) else {
            return Ok(false);
        };
        if lefts.len() > 1 || rights.len() > 1 {
            return Err("can only compare one element at a time".to_owned());
        }
        let order = compare(a, b);
        Ok(match op {
            "==" => equal(a, b),
            "!=" => !equal(a, b),
            "<" => order == Some(std::cmp::Ordering::Less),
            ">" => order == Some(std::cmp::Ordering::Greater),
            "<=" => order.is_some_and(std::cmp::Ordering::is_le),
            ">=" => order.is_some_and(std::cmp::Ordering::is_ge),
            _ => false,
        })
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => (x - y).abs() < f64::EPSILON,
        _ => match (a, b) {
            (Value::Bool(x), Value::String(y)) | (Value::String(y), Value::Bool(x)) => x.to_string() == *y,
            _ => a == b,
        },
    }
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::String(x), Value::String(y)) => Some(x.cmp(y)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn recurse(value: &Value, out: &mut Found) {
    match value {
        Value::Object(map) => {
            out.push(value.clone());
            for v in map.values() {
                recurse(v, out);
            }
        }
        Value::Array(items) => {
            out.push(value.clone());
            for v in items {
                recurse(v, out);
            }
        }
        _ => {}
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as the template prints it: texts bare, the rest as JSON.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        Value::Number(n) => json::number(n),
        other => json::compact(other),
    }
}

#[cfg(test)]
mod tests;
