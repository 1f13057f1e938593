//! Mistakes in constants that can be seen before anything is evaluated.

use super::{Checked, Reference};
use crate::ast::{Id, Literal, Node};
use crate::library::{check_format, compile_regex, function_at, parse_timestamp};
use crate::parse::each_child;
use crate::source::Issue;
use crate::types::Type;

/// What is wrong with an expression's constants.
pub(super) fn check(checked: &Checked) -> Vec<Issue> {
    let mut issues = Vec::new();
    let exempt = inside_format_calls(checked);
    for (index, exempt) in exempt.iter().enumerate() {
        let id = Id(index as u32);
        match checked.ast.node(id) {
            Node::Call {
                function,
                target,
                args,
            } => {
                argument(checked, function, args, &mut issues);
                template(checked, id, *target, args, &mut issues);
            }
            Node::List { elements, optional } if !exempt => {
                list(checked, elements, optional, &mut issues);
            }
            Node::Map(entries) if !exempt => map(checked, entries, &mut issues),
            _ => {}
        }
    }
    issues
}

fn report(checked: &Checked, id: Id, message: String, issues: &mut Vec<Issue>) {
    let position = checked.ast.position(id);
    issues.push(Issue { position, message });
}

/// The first argument of `duration`, `timestamp` and `matches`.
fn argument(checked: &Checked, function: &str, args: &[Id], issues: &mut Vec<Issue>) {
    let Some(first) = args.first() else { return };
    let Node::Literal(Literal::String(text)) = checked.ast.node(*first) else {
        return;
    };
    let fine = match function {
        "duration" => rutter_api::duration::parse_go(text).is_ok(),
        "timestamp" => parse_timestamp(text).is_ok(),
        "matches" => compile_regex(text).is_ok(),
        _ => return,
    };
    if !fine {
        report(checked, *first, format!("invalid {function} argument"), issues);
    }
}

/// `'...'.format([...])`
fn template(checked: &Checked, id: Id, target: Option<Id>, args: &[Id], issues: &mut Vec<Issue>) {
    let Reference::Call(function, _) = checked.references[id.index()] else {
        return;
    };
    if function_at(function).name != "format" {
        return;
    }
    let (Some(target), [list]) = (target, args) else {
        return;
    };
    let (Node::Literal(Literal::String(text)), Node::List { elements, .. }) =
        (checked.ast.node(target), checked.ast.node(*list))
    else {
        return;
    };
    let types: Vec<Type> = elements
        .iter()
        .map(|e| checked.types[e.index()].clone())
        .collect();
    if let Some((index, why)) = check_format(text, &types) {
        let at = index.and_then(|index| elements.get(index)).copied().unwrap_or(id);
        report(checked, at, why, issues);
    }
}

/// Which parts lie inside of a call to `format`, whose arguments may be mixed.
fn inside_format_calls(checked: &Checked) -> Vec<bool> {
    let mut exempt = vec![false; checked.ast.nodes.len()];
    // Parts come before what they are parts of.
    for index in (0..checked.ast.nodes.len()).rev() {
        let node = &checked.ast.nodes[index];
        let format = matches!(node, Node::Call { function, .. } if function.as_ref() == "format");
        if format || exempt[index] {
            each_child(node, &mut |child| exempt[child.index()] = true);
        }
    }
    exempt
}

fn unwrapped(ty: &Type, optional: bool) -> &Type {
    if optional { ty.unwrap_optional().0 } else { ty }
}

fn mixed(checked: &Checked, id: Id, expected: &Type, found: &Type, issues: &mut Vec<Issue>) {
    report(
        checked,
        id,
        format!("expected type '{expected}' but found '{found}'"),
        issues,
    );
}

fn list(checked: &Checked, elements: &[Id], optional: &[u32], issues: &mut Vec<Issue>) {
    let mut first: Option<&Type> = None;
    for (index, id) in elements.iter().enumerate() {
        let ty = unwrapped(&checked.types[id.index()], optional.contains(&(index as u32)));
        match first {
            None => first = Some(ty),
            Some(expected) if expected != ty => {
                mixed(checked, *id, expected, ty, issues);
                return;
            }
            Some(_) => {}
        }
    }
}

fn map(checked: &Checked, entries: &[crate::ast::Entry], issues: &mut Vec<Issue>) {
    let mut first: Option<(&Type, &Type)> = None;
    for entry in entries {
        let key = &checked.types[entry.key.index()];
        let value = unwrapped(&checked.types[entry.value.index()], entry.optional);
        let Some((keys, values)) = first else {
            first = Some((key, value));
            continue;
        };
        if keys != key {
            mixed(checked, entry.key, keys, key, issues);
        }
        if values != value {
            mixed(checked, entry.value, values, value, issues);
        }
    }
}
