//! `taint`: changes the taints of nodes.

use super::common::{DryRun, Write};
use crate::cli::flags::{ALL, DRY_RUN, OUTPUT, SELECTOR, TEMPLATE, VALIDATE};
use crate::cli::{Args, Call, Command, bool, text};
use crate::describe::node::taint_text;
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::builder::Query;
use crate::rest::patch;
use serde_json::{Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "taint",
    short: "Update the taints on one or more nodes",
    long: "Update the taints on one or more nodes.\n\n  *  A taint consists of a key, value, and effect. As an argument here, it is expressed as key=value:effect.\n  *  The effect must be NoSchedule, PreferNoSchedule or NoExecute.",
    examples: "
        # Only pods that tolerate it
        {} taint nodes worker-1 dedicated=db:NoSchedule

        # Remove one effect, remove all
        {} taint nodes worker-1 dedicated:NoSchedule-
        {} taint nodes worker-1 dedicated-",
    usage: "NODE NAME KEY_1=VAL_1:TAINT_EFFECT_1 ... KEY_N=VAL_N:TAINT_EFFECT_N",
    flags: &[
        ALL,
        DRY_RUN,
        OUTPUT,
        SELECTOR,
        TEMPLATE,
        VALIDATE,
        &[
            text(
                "field-manager",
                "kubectl-taint",
                "Name of the manager used to track field ownership.",
            ),
            bool(
                "overwrite",
                "If true, allow taints to be overwritten, otherwise reject taint updates that overwrite existing taints.",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Taints to set and to remove.
fn parse(specs: &[String]) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut set, mut remove): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for spec in specs {
        let bad = || Error::new(format!("invalid taint spec: {spec}"));
        let (text, removing) = match spec.strip_suffix('-') {
            Some(t) => (t, true),
            None => (spec.as_str(), false),
        };
        let (pair, effect) = match text.split(':').collect::<Vec<_>>().as_slice() {
            [pair] => (*pair, ""),
            [pair, effect] => (*pair, *effect),
            _ => return Err(bad()),
        };
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            return Err(Error::new(format!(
                "invalid taint effect: {effect}, unsupported taint effect"
            )));
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key.is_empty() || (!removing && effect.is_empty()) {
            return Err(bad());
        }
        let mut taint = json!({"key": key});
        if !effect.is_empty() {
            taint["effect"] = json!(effect);
        }
        if removing {
            remove.push(taint);
            continue;
        }
        if !value.is_empty() {
            taint["value"] = json!(value);
        }
        if set
            .iter()
            .any(|t| t["key"] == taint["key"] && t["effect"] == taint["effect"])
        {
            return Err(Error::new(format!(
                "duplicated taints with the same key and effect: {}",
                taint_text(&taint)
            )));
        }
        set.push(taint);
    }
    let both: Vec<String> = remove
        .iter()
        .filter(|r| {
            set.iter()
                .any(|s| s["key"] == r["key"] && (r["effect"].is_null() || r["effect"] == s["effect"]))
        })
        .map(taint_text)
        .collect();
    if !both.is_empty() {
        return Err(Error::new(format!(
            "can not both modify and remove the following taint(s) in the same command: {}",
            both.join(", ")
        )));
    }
    Ok((set, remove))
}

/// The node's new taints and what was done.
fn change(
    node: &Value,
    set: &[Value],
    remove: &[Value],
    overwrite: bool,
) -> Result<(Vec<Value>, &'static str)> {
    let old: Vec<Value> = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let same = |a: &Value, b: &Value| a["key"] == b["key"] && a["effect"] == b["effect"];
    if !overwrite {
        let clash: Vec<String> = set
            .iter()
            .filter(|s| old.iter().any(|o| same(o, s)))
            .map(taint_text)
            .collect();
        if !clash.is_empty() {
            return Err(Error::new(format!(
                "node {} already has [{}] taint(s) with same effect(s) and --overwrite is false",
                node["metadata"]["name"].as_str().unwrap_or(""),
                clash.join(" ")
            )));
        }
    }
    let gone = |o: &Value| {
        remove
            .iter()
            .any(|r| r["key"] == o["key"] && (r["effect"].is_null() || r["effect"] == o["effect"]))
    };
    for r in remove {
        if !old
            .iter()
            .any(|o| r["key"] == o["key"] && (r["effect"].is_null() || r["effect"] == o["effect"]))
        {
            return Err(Error::new(format!(
                "taint {} not found",
                crate::error::go_quote(&taint_text(r))
            )));
        }
    }
    let mut new: Vec<Value> = set.to_vec();
    new.extend(
        old.iter()
            .filter(|o| !gone(o) && !set.iter().any(|s| same(s, o)))
            .cloned(),
    );
    let word = match (set.is_empty(), remove.is_empty()) {
        (true, _) => "untainted",
        (false, true) => "tainted",
        (false, false) => "modified",
    };
    Ok((new, word))
}

async fn run(call: Call) -> Result<()> {
    let at = call
        .args
        .iter()
        .position(|a| a.contains('=') || a.ends_with('-') || a.contains(':'))
        .unwrap_or(call.args.len());
    let (resources, specs) = call.args.split_at(at);
    if resources.is_empty() {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name>",
        ));
    }
    if specs.is_empty() {
        return Err(Error::new("at least one taint update is required"));
    }
    let (set, remove) = parse(specs).map_err(|e| call.usage(e.message()))?;
    let all = call.bool("all");
    if all && !call.str("selector").is_empty() {
        return Err(Error::new(
            "setting 'all' parameter with a non empty selector is prohibited",
        ));
    }
    let query = Query {
        args: resources.to_vec(),
        all,
        selector: call.str("selector").to_owned(),
        ..Query::default()
    };
    if resources.len() < 2 && !all && query.selector.is_empty() && !resources.iter().any(|r| r.contains('/'))
    {
        return Err(Error::new(
            "at least one resource name must be specified since 'all' parameter is not set",
        ));
    }
    let (infos, mut errors) = query.infos(&call.ctx).await?;
    let write = Write::from_call(&call, "kubectl-taint")?;
    let printer = Printer::from_call(&call)?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        if !info.mapping.is("", "nodes") {
            return Err(Error::new(format!(
                "invalid resource type {}, only node types are supported",
                info.mapping.plural
            )));
        }
        let (taints, word) = match change(&info.object, &set, &remove, call.bool("overwrite")) {
            Ok(x) => x,
            Err(e) => {
                errors.push(e);
                continue;
            }
        };
        let mut object = info.object.clone();
        object["spec"]["taints"] = json!(taints);
        if write.dry != DryRun::Client {
            let body = json!({"metadata": {"resourceVersion": info.object["metadata"]["resourceVersion"]}, "spec": {"taints": if taints.is_empty() { Value::Null } else { json!(taints) }}});
            object = write.patch(&rest, &info, "", patch::MERGE, &body).await?;
        }
        printer.result(&info.with(object), &format!("{word}{}", write.dry.suffix()))?;
    }
    Error::collect(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn taints_are_set_and_removed() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}]}});
        let (set, remove) = parse(&words("c=1:NoSchedule a-")).unwrap();
        let (new, word) = change(&node, &set, &remove, false).unwrap();
        assert_eq!(word, "modified");
        assert_eq!(
            new,
            vec![
                json!({"key": "c", "value": "1", "effect": "NoSchedule"}),
                json!({"key": "b", "effect": "NoExecute"})
            ]
        );
        let (set, _) = parse(&words("a=2:NoSchedule")).unwrap();
        assert!(change(&node, &set, &[], false).is_err());
        assert!(change(&node, &set, &[], true).is_ok());
        assert!(parse(&words("a=2:Bad")).is_err());
        assert!(parse(&words("a=2")).is_err());
        assert!(parse(&words("a=2:NoSchedule a:NoSchedule-")).is_err());
    }
}
