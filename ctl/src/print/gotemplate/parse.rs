//! Reads templates.

use super::{Node, Pipeline, Template, Term};
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Dot,
    /// `.a.b` with whether space stood before it.
    Field(String, bool),
    Variable(String),
    Word(String),
    Text(String),
    Int(i64),
    Float(f64),
    Open,
    Close,
    Pipe,
    Declare,
    Assign,
    Comma,
}

/// Parts of the source: text, or an action's tokens.
enum Part {
    Text(String),
    Action(Vec<Token>),
}

pub(super) fn parse(source: &str) -> Result<Template, String> {
    let parts = split(source)?;
    let mut parser = Parser {
        parts: parts.into_iter().peekable(),
        defines: HashMap::new(),
        scopes: vec![vec![String::new()]],
        loops: 0,
        chained: None,
    };
    let (body, end) = parser.nodes()?;
    if let Some(end) = end {
        return Err(format!("1: unexpected {{{{{end}}}}}"));
    }
    Ok(Template {
        source: source.to_owned(),
        body,
        defines: parser.defines,
    })
}

fn split(source: &str) -> Result<Vec<Part>, String> {
    let mut out = Vec::new();
    let mut rest = source;
    let mut trim_next = false;
    loop {
        let (text, action) = match rest.find("{{") {
            Some(at) => (rest.get(..at).unwrap_or(""), rest.get(at + 2..)),
            None => (rest, None),
        };
        let mut text = if trim_next { text.trim_start() } else { text };
        let Some(action) = action else {
            if !text.is_empty() {
                out.push(Part::Text(text.to_owned()));
            }
            return Ok(out);
        };
        let (trim_left, body) = match action.strip_prefix('-') {
            Some(b) if b.starts_with(char::is_whitespace) => (true, b),
            _ => (false, action),
        };
        if trim_left {
            text = text.trim_end();
        }
        if !text.is_empty() {
            out.push(Part::Text(text.to_owned()));
        }
        let stripped = body.trim_start();
        if let Some(comment) = stripped.strip_prefix("/*") {
            let end = comment.find("*/").ok_or("1: unclosed comment")?;
            let after = comment.get(end + 2..).unwrap_or("");
            (trim_next, rest) = close(after).ok_or("1: comment ends before closing delimiter")?;
            continue;
        }
        let (tokens, after) = tokens(body)?;
        (trim_next, rest) = close(after).ok_or("1: unclosed action")?;
        out.push(Part::Action(tokens));
    }
}

/// The action's end: whether it trims, and what follows.
fn close(text: &str) -> Option<(bool, &str)> {
    let trimmed = text.trim_start();
    if let Some(rest) = trimmed.strip_prefix("-}}") {
        return Some((true, rest));
    }
    trimmed.strip_prefix("}}").map(|rest| (false, rest))
}

fn word_end(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

/// Tokens up to the action's end, and the rest of the source.
fn tokens(source: &str) -> Result<(Vec<Token>, &str), String> {
    let mut out = Vec::new();
    let mut rest = source;
    loop {
        let trimmed = rest.trim_start();
        let spaced = trimmed.len() != rest.len() || out.is_empty();
        rest = trimmed;
        if rest.starts_with("}}") || (rest.starts_with("-}}") && spaced) {
            return Ok((out, rest));
        }
        let Some(c) = rest.chars().next() else {
            return Err("1: unclosed action".to_owned());
        };
        let tail = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            '(' => {
                out.push(Token::Open);
                rest = tail;
            }
            ')' => {
                out.push(Token::Close);
                rest = tail;
            }
            '|' => {
                out.push(Token::Pipe);
                rest = tail;
            }
            ',' => {
                out.push(Token::Comma);
                rest = tail;
            }
            ':' if tail.starts_with('=') => {
                out.push(Token::Declare);
                rest = tail.get(1..).unwrap_or("");
            }
            '=' => {
                out.push(Token::Assign);
                rest = tail;
            }
            '.' if tail.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                let end = word_end(tail);
                out.push(Token::Field(tail.get(..end).unwrap_or("").to_owned(), spaced));
                rest = tail.get(end..).unwrap_or("");
            }
            '.' if !tail.starts_with(|c: char| c.is_ascii_digit()) => {
                out.push(Token::Dot);
                rest = tail;
            }
            '$' => {
                let end = word_end(tail);
                out.push(Token::Variable(tail.get(..end).unwrap_or("").to_owned()));
                rest = tail.get(end..).unwrap_or("");
            }
            '"' => {
                let (text, after) = quoted(tail)?;
                out.push(Token::Text(text));
                rest = after;
            }
            '`' => {
                let end = tail.find('`').ok_or("1: unterminated raw quoted string")?;
                out.push(Token::Text(tail.get(..end).unwrap_or("").to_owned()));
                rest = tail.get(end + 1..).unwrap_or("");
            }
            '\'' => {
                let mut chars = tail.chars();
                let c = chars.next().ok_or("1: unterminated character constant")?;
                rest = chars
                    .as_str()
                    .strip_prefix('\'')
                    .ok_or("1: unterminated character constant")?;
                out.push(Token::Int(i64::from(c as u32)));
            }
            c if c.is_ascii_digit() || c == '-' || c == '+' || c == '.' => {
                let end = rest
                    .char_indices()
                    .find(|(i, c)| {
                        !(c.is_ascii_alphanumeric()
                            || *c == '.'
                            || *c == '_'
                            || (*i == 0 && "+-".contains(*c)))
                    })
                    .map_or(rest.len(), |(i, _)| i);
                out.push(number(rest.get(..end).unwrap_or(""))?);
                rest = rest.get(end..).unwrap_or("");
            }
            c if c.is_alphabetic() || c == '_' => {
                let end = word_end(rest);
                out.push(Token::Word(rest.get(..end).unwrap_or("").to_owned()));
                rest = rest.get(end..).unwrap_or("");
            }
            c => return Err(format!("1: unexpected {c:?} in command")),
        }
    }
}

fn number(text: &str) -> Result<Token, String> {
    if let Ok(i) = text.replace('_', "").parse::<i64>() {
        return Ok(Token::Int(i));
    }
    if let Some(hex) = text.strip_prefix("0x")
        && let Ok(i) = i64::from_str_radix(hex, 16)
    {
        return Ok(Token::Int(i));
    }
    text.parse::<f64>()
        .map(Token::Float)
        .map_err(|_| format!("1: bad number syntax: {text:?}"))
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, text.get(at + 1..).unwrap_or(""))),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some('x') => {
                    let hex: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                    out.extend(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32));
                }
                Some('u') => {
                    let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                    out.extend(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32));
                }
                Some(c) => out.push(c),
                None => break,
            },
            '\n' => break,
            c => out.push(c),
        }
    }
    Err("1: unterminated quoted string".to_owned())
}

struct Parser {
    parts: std::iter::Peekable<std::vec::IntoIter<Part>>,
    defines: HashMap<String, Vec<Node>>,
    scopes: Vec<Vec<String>>,
    loops: usize,
    /// The node of an `else if`, on its way to the `if` it belongs to.
    chained: Option<Node>,
}

const KEYWORDS: [&str; 6] = ["if", "range", "with", "template", "define", "block"];

impl Parser {
    /// Nodes up to `end`, `else` or the source's end; tells which, with what follows `else`.
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<String>), String> {
        let mut out = Vec::new();
        while let Some(part) = self.parts.next() {
            let tokens = match part {
                Part::Text(t) => {
                    out.push(Node::Text(t));
                    continue;
                }
                Part::Action(tokens) => tokens,
            };
            let word = match tokens.first() {
                Some(Token::Word(w)) => w.clone(),
                None => return Err("1: missing value for command".to_owned()),
                _ => String::new(),
            };
            let args = tokens.get(1..).unwrap_or(&[]);
            match word.as_str() {
                "end" => return Ok((out, Some("end".to_owned()))),
                "else" => {
                    if let Some(Token::Word(w)) = args.first()
                        && (w == "if" || w == "with")
                    {
                        // `else if` is an else with an if in it that shares its end.
                        let nested = self.control(w, args.get(1..).unwrap_or(&[]))?;
                        self.chained = Some(nested);
                        return Ok((out, Some("else-chain".to_owned())));
                    }
                    return Ok((out, Some("else".to_owned())));
                }
                "if" | "range" | "with" => out.push(self.control(&word, args)?),
                "break" if self.loops > 0 => out.push(Node::Break),
                "continue" if self.loops > 0 => out.push(Node::Continue),
                "template" => out.push(self.template(args)?),
                "define" => {
                    let name = text_arg(args)?;
                    let scopes = std::mem::replace(&mut self.scopes, vec![vec![String::new()]]);
                    let body = self.body()?;
                    self.scopes = scopes;
                    self.defines.insert(name, body);
                }
                "block" => {
                    let name = text_arg(args)?;
                    let pipeline = self.pipeline(args.get(1..).unwrap_or(&[]))?;
                    let body = self.body()?;
                    self.defines.insert(name.clone(), body);
                    out.push(Node::Template(name, Some(pipeline)));
                }
                _ => out.push(Node::Action(self.pipeline(&tokens)?)),
            }
        }
        Ok((out, None))
    }

    fn body(&mut self) -> Result<Vec<Node>, String> {
        match self.nodes()? {
            (body, Some(end)) if end == "end" => Ok(body),
            (_, Some(_)) => Err("1: unexpected {{else}}".to_owned()),
            (_, None) => Err("1: unexpected EOF".to_owned()),
        }
    }

    fn template(&mut self, args: &[Token]) -> Result<Node, String> {
        let name = text_arg(args)?;
        let rest = args.get(1..).unwrap_or(&[]);
        let pipeline = if rest.is_empty() {
            None
        } else {
            Some(self.pipeline(rest)?)
        };
        Ok(Node::Template(name, pipeline))
    }

    fn control(&mut self, word: &str, args: &[Token]) -> Result<Node, String> {
        if args.is_empty() {
            return Err(format!("1: missing value for {word}"));
        }
        self.scopes.push(Vec::new());
        let pipeline = self.pipeline(args)?;
        if word == "range" {
            self.loops += 1;
        }
        let (body, end) = self.nodes()?;
        if word == "range" {
            self.loops -= 1;
        }
        let otherwise = match end.as_deref() {
            Some("end") => Vec::new(),
            Some("else") => self.body()?,
            Some("else-chain") => self.chained.take().into_iter().collect(),
            _ => return Err("1: unexpected EOF".to_owned()),
        };
        self.scopes.pop();
        Ok(match word {
            "if" => Node::If(pipeline, body, otherwise),
            "with" => Node::With(pipeline, body, otherwise),
            _ => Node::Range(pipeline, body, otherwise),
        })
    }

    fn pipeline(&mut self, tokens: &[Token]) -> Result<Pipeline, String> {
        let mut out = Pipeline::default();
        let mut tokens = tokens;
        match tokens {
            [
                Token::Variable(a),
                Token::Comma,
                Token::Variable(b),
                op @ (Token::Declare | Token::Assign),
                rest @ ..,
            ] => {
                out.variables = vec![a.clone(), b.clone()];
                out.declares = *op == Token::Declare;
                tokens = rest;
            }
            [
                Token::Variable(a),
                op @ (Token::Declare | Token::Assign),
                rest @ ..,
            ] => {
                out.variables = vec![a.clone()];
                out.declares = *op == Token::Declare;
                tokens = rest;
            }
            _ => {}
        }
        let mut at = 0;
        out.commands = self.commands(tokens, &mut at)?;
        if at < tokens.len() {
            return Err("1: unexpected right paren".to_owned());
        }
        if out.declares
            && let Some(scope) = self.scopes.last_mut()
        {
            scope.extend(out.variables.iter().cloned());
        }
        Ok(out)
    }

    fn commands(&mut self, tokens: &[Token], at: &mut usize) -> Result<Vec<Vec<Term>>, String> {
        let mut out = Vec::new();
        let mut command: Vec<Term> = Vec::new();
        while let Some(token) = tokens.get(*at) {
            *at += 1;
            match token {
                Token::Close => {
                    *at -= 1;
                    break;
                }
                Token::Pipe => {
                    if command.is_empty() {
                        return Err("1: missing value for command".to_owned());
                    }
                    out.push(std::mem::take(&mut command));
                }
                Token::Open => {
                    let inner = self.commands(tokens, at)?;
                    if tokens.get(*at) != Some(&Token::Close) {
                        return Err("1: unclosed left paren".to_owned());
                    }
                    *at += 1;
                    let pipeline = Pipeline {
                        commands: inner,
                        ..Pipeline::default()
                    };
                    command.push(Term::Group(Box::new(pipeline), Vec::new()));
                }
                Token::Field(name, spaced) => match command.last_mut() {
                    Some(Term::Field(path) | Term::Variable(_, path) | Term::Group(_, path)) if !spaced => {
                        path.push(name.clone());
                    }
                    _ => command.push(Term::Field(vec![name.clone()])),
                },
                Token::Dot => command.push(Term::Dot),
                Token::Variable(name) => {
                    if !self.scopes.iter().flatten().any(|v| v == name) {
                        return Err(format!("1: undefined variable \"${name}\""));
                    }
                    command.push(Term::Variable(name.clone(), Vec::new()));
                }
                Token::Text(t) => command.push(Term::Text(t.clone())),
                Token::Int(i) => command.push(Term::Int(*i)),
                Token::Float(f) => command.push(Term::Float(*f)),
                Token::Word(w) => command.push(match w.as_str() {
                    "true" => Term::Bool(true),
                    "false" => Term::Bool(false),
                    "nil" => Term::Nil,
                    w if KEYWORDS.contains(&w) => return Err(format!("1: unexpected <{w}> in command")),
                    w if super::functions::exists(w) => Term::Function(w.to_owned()),
                    w => return Err(format!("1: function \"{w}\" not defined")),
                }),
                Token::Declare | Token::Assign | Token::Comma => {
                    return Err("1: unexpected assignment in command".to_owned());
                }
            }
        }
        if command.is_empty() {
            return Err("1: missing value for command".to_owned());
        }
        out.push(command);
        Ok(out)
    }
}

fn text_arg(args: &[Token]) -> Result<String, String> {
    match args.first() {
        Some(Token::Text(t)) => Ok(t.clone()),
        _ => Err("1: missing name in template clause".to_owned()),
    }
}
