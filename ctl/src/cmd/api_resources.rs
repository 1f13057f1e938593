//! `api-resources` and `api-versions`: what the server serves.

use crate::cli::{Call, Command, bool, slice, text};
use crate::error::{Error, Result};
use crate::print::tab::Columns;
use crate::print::{json as print_json, kyaml, yaml};
use serde_json::{Value, json};

/// `api-resources`
pub static RESOURCES: Command = Command {
    name: "api-resources",
    short: "Print the supported API resources on the server",
    examples: "
        # All, and with more columns
        {} api-resources
        {} api-resources -o wide

        # Those of a group, or without a namespace
        {} api-resources --api-group=apps
        {} api-resources --namespaced=false",
    flags: &[&[
        text("api-group", "", "Limit to resources in the specified API group."),
        slice("categories", "Limit to resources that belong to the specified categories."),
        bool("namespaced", "If false, non-namespaced resources will be returned, otherwise returning namespaced resources by default.").on(),
        bool("no-headers", "When using the default or custom-column output format, don't print headers (default print headers)."),
        text("output", "", "Output format. One of: (json, yaml, kyaml, name, wide).").short('o'),
        text("sort-by", "", "If non-empty, sort list of resources using specified field. The field can be either 'name' or 'kind'."),
        slice("verbs", "Limit to resources that support the specified verbs."),
    ]],
    run: Some(|c| Box::pin(resources(c))),
    ..Command::NEW
};

/// `api-versions`
pub static VERSIONS: Command = Command {
    name: "api-versions",
    short: "Print the supported API versions on the server, in the form of \"group/version\"",
    examples: "
        # All versions of all groups
        {} api-versions",
    run: Some(|c| Box::pin(versions(c))),
    ..Command::NEW
};

async fn resources(call: Call) -> Result<()> {
    if !call.args.is_empty() {
        return Err(call.usage(format!("unexpected arguments: [{}]", call.args.join(" "))));
    }
    let (output, sort_by) = (call.str("output"), call.str("sort-by"));
    if !matches!(output, "" | "wide" | "name" | "json" | "yaml" | "kyaml") {
        return Err(Error::new(format!(
            "--output {output} is not available in {} api-resources",
            crate::cli::PROGRAM
        )));
    }
    if !matches!(sort_by, "" | "name" | "kind") {
        return Err(Error::new("--sort-by accepts only name or kind"));
    }
    let discovery = call.ctx.discovery().await?;
    let (verbs, categories) = (call.list("verbs"), call.list("categories"));
    let mut list = discovery.preferred();
    list.retain(|m| {
        !m.verbs.is_empty()
            && (!call.changed("api-group") || m.group == call.str("api-group"))
            && (!call.changed("namespaced") || m.namespaced == call.bool("namespaced"))
            && verbs.iter().all(|v| m.can(v))
            && categories.iter().all(|c| m.categories.contains(c))
    });
    list.sort_by(|a, b| match sort_by {
        "name" => a.plural.cmp(&b.plural),
        "kind" => a.kind.cmp(&b.kind),
        _ => (&a.group, &a.plural).cmp(&(&b.group, &b.plural)),
    });
    match output {
        "name" => {
            for m in &list {
                crate::outln!("{}", m.group_resource());
            }
        }
        "json" | "yaml" | "kyaml" => {
            let items: Vec<Value> = list
                .iter()
                .map(|m| {
                    let mut item = json!({"name": m.plural, "singularName": m.singular, "namespaced": m.namespaced,
                        "kind": m.kind, "verbs": m.verbs, "version": m.version});
                    for (key, value) in [("group", json!(m.group)), ("shortNames", json!(m.short)), ("categories", json!(m.categories))] {
                        if value != json!("") && value != json!([]) {
                            item[key] = value;
                        }
                    }
                    item
                })
                .collect();
            let value = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "", "resources": items});
            crate::out::print(&match output {
                "json" => print_json::pretty(&value),
                "yaml" => yaml::to_string(&value),
                _ => kyaml::to_string(&value),
            });
        }
        _ => {
            let wide = output == "wide";
            let mut rows: Vec<Vec<String>> = Vec::new();
            if !call.bool("no-headers") {
                let mut head = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
                if wide {
                    head.extend(["VERBS", "CATEGORIES"]);
                }
                rows.push(head.into_iter().map(str::to_owned).collect());
            }
            for m in &list {
                let mut row = vec![
                    m.plural.clone(),
                    m.short.join(","),
                    m.api_version(),
                    m.namespaced.to_string(),
                    m.kind.clone(),
                ];
                if wide {
                    let mut verbs = m.verbs.clone();
                    verbs.sort();
                    row.extend([verbs.join(","), m.categories.join(",")]);
                }
                rows.push(row);
            }
            crate::out::print(&Columns::default().format(&rows));
        }
    }
    if discovery.stale.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "unable to retrieve the complete list of server APIs: {}: stale GroupVersion discovery: {}",
        discovery.stale.join(", "),
        discovery.stale.join(", ")
    )))
}

async fn versions(call: Call) -> Result<()> {
    if !call.args.is_empty() {
        return Err(call.usage(format!("unexpected arguments: [{}]", call.args.join(" "))));
    }
    let discovery = call.ctx.discovery().await?;
    let mut all: Vec<String> = discovery
        .versions
        .iter()
        .map(|v| {
            if v.group.is_empty() {
                v.version.clone()
            } else {
                format!("{}/{}", v.group, v.version)
            }
        })
        .collect();
    all.sort();
    for version in all {
        crate::outln!("{version}");
    }
    Ok(())
}
