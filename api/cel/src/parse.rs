//! From words to a tree. Macros are expanded while parsing, as cel-go does it, so a macro's parts keep their places.

mod macros;

use crate::ast::{Ast, Entry, Fold, Id, Initializer, Literal, Node, op};
use crate::lex::{Kind, Token, lex, unescape};
use crate::source::{Issue, Issues, Position};

/// How deep expressions may nest.
const MAX_DEPTH: u32 = 250;

const START: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Words that no variable or function may be called by.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The tree of an expression, which may have `cel.bind` or not.
pub(crate) fn parse(source: &str, bindings: bool) -> Result<Ast, Issues> {
    let (tokens, issues) = lex(source);
    let mut parser = Parser {
        tokens,
        at: 0,
        nodes: Vec::new(),
        positions: Vec::new(),
        heights: Vec::new(),
        depth: 0,
        bindings,
        issues,
    };
    let root = parser.whole();
    match root {
        Ok(root) if parser.issues.is_empty() => Ok(Ast {
            nodes: parser.nodes,
            positions: parser.positions,
            root,
        }),
        _ => Err(Issues::new(source, parser.issues)),
    }
}

/// Parsing can't go on; why is among the issues.
struct Stop;

type Parsed<T = Id> = Result<T, Stop>;

struct Parser<'s> {
    tokens: Vec<Token<'s>>,
    at: usize,
    nodes: Vec<Node>,
    positions: Vec<Position>,
    /// How deep the tree below each node is.
    heights: Vec<u32>,
    depth: u32,
    bindings: bool,
    issues: Vec<Issue>,
}

impl<'s> Parser<'s> {
    fn whole(&mut self) -> Parsed {
        let root = self.expression()?;
        let token = self.peek();
        if token.kind != Kind::End {
            let what = match self.tokens.get(self.at + 1) {
                Some(next) if next.kind == Kind::End => "extraneous",
                _ => "mismatched",
            };
            return self.syntax(format!("{what} input '{}' expecting <EOF>", token.text));
        }
        Ok(root)
    }

    fn peek(&self) -> Token<'s> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'s> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn is(&self, mark: &str) -> bool {
        let token = self.peek();
        token.kind == Kind::Mark && token.text == mark
    }

    fn eat(&mut self, mark: &str) -> Option<Position> {
        self.is(mark).then(|| self.next().position)
    }

    fn want(&mut self, mark: &str) -> Parsed<Position> {
        if let Some(position) = self.eat(mark) {
            return Ok(position);
        }
        let token = self.peek();
        let expected = match mark {
            "]" => "{']', ','}".to_owned(),
            "}" => "{'}', ','}".to_owned(),
            mark => format!("'{mark}'"),
        };
        let then = self.tokens.get(self.at + 1);
        let closes = then.is_some_and(|then| then.kind == Kind::Mark && then.text == mark);
        self.syntax(match token.kind {
            Kind::End if mark == ")" => format!("missing '{mark}' at '<EOF>'"),
            _ if closes => format!("extraneous input '{}' expecting {expected}", token.text),
            _ => format!("mismatched input '{}' expecting {expected}", token.text),
        })
    }

    fn syntax<T>(&mut self, what: String) -> Parsed<T> {
        let position = self.peek().position;
        self.fail(position, format!("Syntax error: {what}"))
    }

    fn fail<T>(&mut self, position: Position, message: String) -> Parsed<T> {
        self.issues.push(Issue { position, message });
        Err(Stop)
    }

    /// Notes what is wrong and goes on with something in its place.
    fn report(&mut self, position: Position, message: impl Into<String>) -> Parsed {
        self.issues.push(Issue {
            position,
            message: message.into(),
        });
        self.add(position, Node::Literal(Literal::Null))
    }

    fn add(&mut self, position: Position, node: Node) -> Parsed {
        let mut height = 0;
        let heights = &self.heights;
        each_child(&node, &mut |child: Id| {
            height = height.max(heights[child.index()])
        });
        if height >= MAX_DEPTH {
            return self.fail(
                Position::NONE,
                format!("expression recursion limit exceeded: {MAX_DEPTH}"),
            );
        }
        self.heights.push(height + 1);
        self.nodes.push(node);
        self.positions.push(position);
        Ok(Id(self.nodes.len() as u32 - 1))
    }

    fn call(&mut self, position: Position, function: &str, args: &[Id]) -> Parsed {
        self.add(
            position,
            Node::Call {
                function: function.into(),
                target: None,
                args: args.into(),
            },
        )
    }

    fn member_call(&mut self, position: Position, function: &str, target: Id, args: &[Id]) -> Parsed {
        self.add(
            position,
            Node::Call {
                function: function.into(),
                target: Some(target),
                args: args.into(),
            },
        )
    }

    fn ident(&mut self, position: Position, name: &str) -> Parsed {
        self.add(position, Node::Ident(name.into()))
    }

    fn literal(&mut self, position: Position, literal: Literal) -> Parsed {
        self.add(position, Node::Literal(literal))
    }

    fn list(&mut self, position: Position, elements: &[Id]) -> Parsed {
        self.add(
            position,
            Node::List {
                elements: elements.into(),
                optional: Box::default(),
            },
        )
    }

    fn fold(&mut self, position: Position, fold: Fold) -> Parsed {
        self.add(position, Node::Fold(Box::new(fold)))
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(
                Position::NONE,
                format!("expression recursion limit exceeded: {MAX_DEPTH}"),
            );
        }
        let condition = self.logic(op::OR)?;
        let result = match self.eat("?") {
            None => condition,
            Some(position) => {
                let yes = self.logic(op::OR)?;
                self.want(":")?;
                let no = self.expression()?;
                self.call(position, op::CONDITIONAL, &[condition, yes, no])?
            }
        };
        self.depth -= 1;
        Ok(result)
    }

    /// `||` or `&&`, as a balanced tree, so that a long chain isn't a deep one.
    fn logic(&mut self, function: &'static str) -> Parsed {
        let mark = if function == op::OR { "||" } else { "&&" };
        let mut terms = Vec::new();
        let mut marks = Vec::new();
        loop {
            terms.push(if function == op::OR {
                self.logic(op::AND)?
            } else {
                self.relation()?
            });
            match self.eat(mark) {
                Some(position) => marks.push(position),
                None => break,
            }
        }
        if marks.is_empty() {
            return Ok(terms[0]);
        }
        self.balance(function, &terms, &marks)
    }

    fn balance(&mut self, function: &str, terms: &[Id], marks: &[Position]) -> Parsed {
        let middle = marks.len() / 2;
        let left = match middle {
            0 => terms[0],
            _ => self.balance(function, &terms[..=middle], &marks[..middle])?,
        };
        let right = match marks.len() - middle - 1 {
            0 => terms[middle + 1],
            _ => self.balance(function, &terms[middle + 1..], &marks[middle + 1..])?,
        };
        self.call(marks[middle], function, &[left, right])
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        loop {
            let token = self.peek();
            let function = match (token.kind, token.text) {
                (Kind::Mark, "<") => op::LESS,
                (Kind::Mark, "<=") => op::LESS_EQUALS,
                (Kind::Mark, ">=") => op::GREATER_EQUALS,
                (Kind::Mark, ">") => op::GREATER,
                (Kind::Mark, "==") => op::EQUALS,
                (Kind::Mark, "!=") => op::NOT_EQUALS,
                (Kind::Ident, "in") => op::IN,
                _ => return Ok(left),
            };
            self.next();
            let right = self.sum()?;
            left = self.call(token.position, function, &[left, right])?;
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let token = self.peek();
            let function = match (token.kind, token.text) {
                (Kind::Mark, "+") => op::ADD,
                (Kind::Mark, "-") => op::SUBTRACT,
                _ => return Ok(left),
            };
            self.next();
            let right = self.product()?;
            left = self.call(token.position, function, &[left, right])?;
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let token = self.peek();
            let function = match (token.kind, token.text) {
                (Kind::Mark, "*") => op::MULTIPLY,
                (Kind::Mark, "/") => op::DIVIDE,
                (Kind::Mark, "%") => op::MODULO,
                _ => return Ok(left),
            };
            self.next();
            let right = self.unary()?;
            left = self.call(token.position, function, &[left, right])?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let (mark, function) = match self.peek() {
            token if token.kind != Kind::Mark => return self.member(),
            token if token.text == "!" => ("!", op::NOT),
            token if token.text == "-" => ("-", op::NEGATE),
            _ => return self.member(),
        };
        let first = self.peek().position;
        let mut count = 0;
        while self.is(mark) {
            // One sign before a number is part of it.
            let after = self.tokens.get(self.at + 1).map(|t| t.kind);
            if mark == "-" && count == 0 && matches!(after, Some(Kind::Int | Kind::Float)) {
                break;
            }
            self.next();
            count += 1;
        }
        let operand = self.member()?;
        if count % 2 == 0 {
            Ok(operand)
        } else {
            self.call(first, function, &[operand])
        }
    }

    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            if let Some(dot) = self.eat(".") {
                let optional = self.eat("?").is_some();
                let name = self.next();
                let field = match name.kind {
                    Kind::Ident if !matches!(name.text, "in" | "true" | "false" | "null") => name.text,
                    Kind::Quoted => &name.text[1..name.text.len() - 1],
                    _ => {
                        self.at -= 1;
                        return self.syntax(if matches!(name.text, "true" | "false" | "null") {
                            format!("mismatched input '{}' expecting IDENTIFIER", name.text)
                        } else {
                            let text = if name.kind == Kind::End { "" } else { name.text };
                            format!("no viable alternative at input '.{text}'")
                        });
                    }
                };
                if name.kind == Kind::Quoted {
                    return self.fail(name.position, "unsupported syntax: '`'".to_owned());
                }
                if optional {
                    let field = self.literal(name.position, Literal::String(field.into()))?;
                    operand = self.call(dot, op::OPT_SELECT, &[operand, field])?;
                } else if let Some(open) = self.eat("(") {
                    let args = self.arguments()?;
                    operand = self.call_or_macro(open, field, Some(operand), args)?;
                } else {
                    let field = field.into();
                    operand = self.add(
                        dot,
                        Node::Select {
                            operand,
                            field,
                            test: false,
                        },
                    )?;
                }
            } else if let Some(open) = self.eat("[") {
                let function = if self.eat("?").is_some() {
                    op::OPT_INDEX
                } else {
                    op::INDEX
                };
                let index = self.expression()?;
                self.want("]")?;
                operand = self.call(open, function, &[operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// The arguments of a call, behind its bracket.
    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.eat(")").is_some() {
            return Ok(args);
        }
        if self.peek().kind == Kind::End {
            let start = START.replacen("'('", "'(', ')'", 1);
            return self.syntax(format!("mismatched input '<EOF>' expecting {start}"));
        }
        loop {
            args.push(self.expression()?);
            if self.eat(",").is_none() {
                self.want(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let token = self.peek();
        match token.kind {
            Kind::Ident => self.named(),
            Kind::Mark => match token.text {
                "." => self.named(),
                "(" => {
                    self.next();
                    let inner = self.expression()?;
                    self.want(")")?;
                    Ok(inner)
                }
                "[" => self.create_list(),
                "{" => self.create_map(),
                "-" => self.constant(),
                _ => self.unexpected(),
            },
            Kind::Int | Kind::Uint | Kind::Float | Kind::String | Kind::Bytes => self.constant(),
            Kind::Quoted | Kind::End => self.unexpected(),
        }
    }

    fn unexpected(&mut self) -> Parsed {
        let text = self.peek().text;
        self.syntax(format!("mismatched input '{text}' expecting {START}"))
    }

    /// A variable, a function, a constant's name or an object that is made.
    fn named(&mut self) -> Parsed {
        let start = self.peek().position;
        let dot = self.eat(".").is_some();
        let token = self.next();
        if token.kind != Kind::Ident || token.text == "in" {
            self.at -= 1;
            return self.syntax(if dot {
                format!("mismatched input '{}' expecting IDENTIFIER", token.text)
            } else {
                format!("mismatched input '{}' expecting {START}", token.text)
            });
        }
        if !dot {
            match token.text {
                "true" => return self.literal(start, Literal::Bool(true)),
                "false" => return self.literal(start, Literal::Bool(false)),
                "null" => return self.literal(start, Literal::Null),
                _ => {}
            }
        }
        if let Some(made) = self.create_struct(token, dot)? {
            return Ok(made);
        }
        if RESERVED.contains(&token.text) {
            // What follows still counts as said.
            if self.eat("(").is_some() {
                self.arguments()?;
            }
            return self.report(start, format!("reserved identifier: {}", token.text));
        }
        let name = if dot {
            format!(".{}", token.text)
        } else {
            token.text.to_owned()
        };
        match self.eat("(") {
            Some(open) => {
                let args = self.arguments()?;
                self.call_or_macro(open, &name, None, args)
            }
            None => self.ident(token.position, &name),
        }
    }

    /// `a.b.C{...}`, if that is what follows.
    fn create_struct(&mut self, first: Token<'s>, dot: bool) -> Parsed<Option<Id>> {
        let mut end = self.at;
        let mark = |token: Option<&Token<'_>>, text: &str| {
            token.is_some_and(|t| t.kind == Kind::Mark && t.text == text)
        };
        while mark(self.tokens.get(end), ".")
            && self.tokens.get(end + 1).is_some_and(|t| t.kind == Kind::Ident)
        {
            end += 2;
        }
        if !mark(self.tokens.get(end), "{") {
            return Ok(None);
        }
        let mut name = if dot {
            format!(".{}", first.text)
        } else {
            first.text.to_owned()
        };
        for token in &self.tokens[self.at..end] {
            name.push_str(token.text);
        }
        self.at = end;
        let open = self.next().position;
        let mut fields = Vec::new();
        while self.eat("}").is_none() {
            let optional = self.eat("?").is_some();
            let token = self.next();
            if token.kind != Kind::Ident {
                self.at -= 1;
                return self.syntax(format!(
                    "extraneous input '{}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}",
                    token.text
                ));
            }
            let position = self.want(":")?;
            let value = self.expression()?;
            fields.push(Initializer {
                name: token.text.into(),
                value,
                optional,
                position,
            });
            if self.eat(",").is_none() {
                self.want("}")?;
                break;
            }
        }
        let node = Node::Struct {
            name: name.into(),
            fields: fields.into(),
        };
        self.add(open, node).map(Some)
    }

    fn create_list(&mut self) -> Parsed {
        let open = self.next().position;
        let (mut elements, mut optional) = (Vec::new(), Vec::new());
        if self.is(",") && self.tokens.get(self.at + 1).is_some_and(|t| t.text == "]") {
            self.next();
        }
        while self.eat("]").is_none() {
            if self.eat("?").is_some() {
                optional.push(elements.len() as u32);
            }
            elements.push(self.expression()?);
            if self.eat(",").is_none() {
                self.want("]")?;
                break;
            }
        }
        self.add(
            open,
            Node::List {
                elements: elements.into(),
                optional: optional.into(),
            },
        )
    }

    fn create_map(&mut self) -> Parsed {
        let open = self.next().position;
        let mut entries = Vec::new();
        if self.is(",") && self.tokens.get(self.at + 1).is_some_and(|t| t.text == "}") {
            self.next();
        }
        while self.eat("}").is_none() {
            let optional = self.eat("?").is_some();
            let key = self.expression()?;
            self.want(":")?;
            let value = self.expression()?;
            entries.push(Entry { key, value, optional });
            if self.eat(",").is_none() {
                self.want("}")?;
                break;
            }
        }
        self.add(open, Node::Map(entries.into()))
    }

    fn constant(&mut self) -> Parsed {
        let position = self.peek().position;
        let sign = if self.eat("-").is_some() { "-" } else { "" };
        let token = self.peek();
        let text = token.text;
        match token.kind {
            Kind::Int => {
                self.next();
                let value = match text.strip_prefix("0x") {
                    Some(hex) => i64::from_str_radix(&format!("{sign}{hex}"), 16),
                    None => format!("{sign}{text}").parse(),
                };
                match value {
                    Ok(value) => self.literal(position, Literal::Int(value)),
                    Err(_) => self.report(position, "invalid int literal"),
                }
            }
            Kind::Float => {
                self.next();
                match format!("{sign}{text}").parse::<f64>() {
                    Ok(value) if value.is_finite() => self.literal(position, Literal::Double(value)),
                    _ => self.report(position, "invalid double literal"),
                }
            }
            _ if !sign.is_empty() => self.unexpected(),
            Kind::Uint => {
                self.next();
                let text = &text[..text.len() - 1];
                let value = match text.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16),
                    None => text.parse(),
                };
                match value {
                    Ok(value) => self.literal(position, Literal::Uint(value)),
                    Err(_) => self.report(position, "invalid uint literal"),
                }
            }
            Kind::String | Kind::Bytes => {
                self.next();
                let bytes = token.kind == Kind::Bytes;
                let text = if bytes {
                    text.trim_start_matches(['b', 'B'])
                } else {
                    text
                };
                match unescape(text, bytes) {
                    Ok(value) if bytes => self.literal(position, Literal::Bytes(value.into())),
                    Ok(value) => {
                        let value = String::from_utf8_lossy(&value);
                        self.literal(position, Literal::String(value.into()))
                    }
                    Err(why) => self.report(position, why),
                }
            }
            _ => self.unexpected(),
        }
    }

    fn call_or_macro(&mut self, position: Position, name: &str, target: Option<Id>, args: Vec<Id>) -> Parsed {
        if let Some(expanded) = self.expand(position, name, target, &args)? {
            return Ok(expanded);
        }
        match target {
            Some(target) => self.member_call(position, name, target, &args),
            None => self.call(position, name, &args),
        }
    }
}

/// Calls `f` for every node right below one.
pub(crate) fn each_child(node: &Node, f: &mut dyn FnMut(Id)) {
    match node {
        Node::Literal(_) | Node::Ident(_) => {}
        Node::Select { operand, .. } => f(*operand),
        Node::Call { target, args, .. } => target.iter().chain(args.iter()).for_each(|id| f(*id)),
        Node::List { elements, .. } => elements.iter().for_each(|id| f(*id)),
        Node::Map(entries) => {
            for entry in entries {
                f(entry.key);
                f(entry.value);
            }
        }
        Node::Struct { fields, .. } => fields.iter().for_each(|field| f(field.value)),
        Node::Fold(fold) => {
            for id in [fold.range, fold.init, fold.condition, fold.step, fold.result] {
                f(id);
            }
        }
    }
}
