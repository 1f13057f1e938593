//! `get`: shows objects, as tables, as they are, or as they change.

use crate::cli::flags::{
    ALL_NAMESPACES, CHUNK, FIELD_SELECTOR, FILENAME, OUTPUT_WIDE, SELECTOR, SUBRESOURCE, TEMPLATE,
};
use crate::cli::{Args, Call, Command, bool, slice, text};
use crate::discovery::Mapping;
use crate::error::{Error, Result};
use crate::print::{Format, Printer, list_of, sort, table};
use crate::resource::Info;
use crate::resource::builder::{Query, Target, Targets, list, unlisted};
use crate::rest::{Rest, TABLE, with_query};
use serde_json::Value;
use std::rc::Rc;

/// The command.
pub static COMMAND: Command = Command {
    name: "get",
    short: "Display one or many resources",
    long: "Display one or many resources.\n\n Prints a table of the most important columns of each object. Label and field selectors narrow the list down; without --namespace or -A, only the current namespace is shown.\n\nUse \"rctl api-resources\" for a complete list of supported resources.",
    examples: "
        # All pods of the namespace
        {} get pods

        # With the node each runs on
        {} get pods -o wide

        # One deployment as YAML
        {} get deployment web -o yaml

        # A single field
        {} get pod web-0 -o jsonpath='{.status.phase}'

        # Chosen columns of all pods of all namespaces
        {} get pods -A -o custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[0].image

        # Several types at once, and changes as they come
        {} get deployments,services
        {} get pods -l app=web --watch",
    usage: "[(-o|--output=)json|yaml|kyaml|name|go-template|go-template-file|template|templatefile|jsonpath|jsonpath-as-json|jsonpath-file|custom-columns|custom-columns-file|wide] (TYPE[.VERSION][.GROUP] [NAME | -l label] | TYPE[.VERSION][.GROUP]/NAME ...) [flags]",
    flags: &[
        ALL_NAMESPACES,
        CHUNK,
        FIELD_SELECTOR,
        FILENAME,
        OUTPUT_WIDE,
        SELECTOR,
        SUBRESOURCE,
        TEMPLATE,
        &[
            bool("ignore-not-found", "If set to true, suppresses NotFound error for specific objects that do not exist. Using this flag with commands that query for collections of resources has no effect when no resources are found."),
            slice("label-columns", "Accepts a comma separated list of labels that are going to be presented as columns. Names are case-sensitive. You can also use multiple flag options like -L label1 -L label2...").short('L'),
            bool("no-headers", "When using the default or custom-column output format, don't print headers (default print headers)."),
            bool("output-watch-events", "Output watch event objects when --watch or --watch-only is used. Existing objects are output as initial ADDED events."),
            text("raw", "", "Raw URI to request from the server.  Uses the transport specified by the kubeconfig file."),
            bool("server-print", "If true, have the server return the appropriate table output. Supports extension APIs and CRDs.").on(),
            bool("show-kind", "If present, list the resource type for the requested object(s)."),
            bool("show-labels", "When printing, show all labels as the last column (default hide labels column)"),
            text("sort-by", "", "If non-empty, sort list types using this field specification.  The field specification is expressed as a JSONPath expression (e.g. '{.metadata.name}'). The field in the API resource specified by this JSONPath expression must be an integer or a string."),
            bool("watch", "After listing/getting the requested object, watch for changes.").short('w'),
            bool("watch-only", "Watch for changes to the requested object(s), without listing/getting first."),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let raw = call.str("raw");
    if !raw.is_empty() {
        if !call.args.is_empty() {
            return Err(call.usage("arguments may not be passed when --raw is specified"));
        }
        if call.bool("watch") || call.bool("watch-only") || !call.str("selector").is_empty() {
            return Err(call.usage("--raw may not be specified with other flags that filter the server request or alter the output"));
        }
        return raw_get(&call).await;
    }
    let mut query = Query::from_call(&call);
    query.list_types = true;
    let form = call.str("output").split('=').next().unwrap_or("");
    if call.bool("show-labels") && !matches!(form, "" | "wide") {
        return Err(call.usage(format!("--show-labels option cannot be used with {form} printer")));
    }
    if call.bool("output-watch-events") && !call.bool("watch") && !call.bool("watch-only") {
        return Err(call.usage("--output-watch-events option can only be used with --watch or --watch-only"));
    }
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::Raw(format!(
            "You must specify the type of resource to get. Use \"{p} api-resources\" for a complete list of supported resources.\n\nerror: Required resource not specified.\nUse \"{p} explain <resource>\" for a detailed description of that resource (e.g. {p} explain pods).\nSee '{p} get -h' for help and examples",
            p = crate::cli::PROGRAM
        )));
    }
    let printer = Printer::from_flags(&call.flags, true)?;
    let targets = query.targets(&call.ctx).await?;
    if call.bool("watch") || call.bool("watch-only") {
        return watch(&call, &query, targets, &printer).await;
    }
    if let Format::Human { wide } = printer.format {
        human(&call, &query, targets, wide).await
    } else {
        generic(&call, &query, targets, &printer).await
    }
}

/// Bytes as the server sends them.
async fn raw_get(call: &Call) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let mut stream = rest.stream(call.str("raw"), "*/*").await?;
    while let Some(bytes) = stream.next().await? {
        crate::out::bytes(&bytes);
    }
    Ok(())
}

fn table_options(call: &Call, wide: bool, mapping: &Mapping, kinds: bool) -> table::Options {
    table::Options {
        wide,
        no_headers: call.bool("no-headers"),
        with_namespace: call.bool("all-namespaces") && mapping.namespaced,
        kind: (kinds || call.bool("show-kind")).then(|| mapping.kind_name()),
        show_labels: call.bool("show-labels"),
        labels: call.list("label-columns"),
        events: call.bool("output-watch-events"),
    }
}

/// What tables are asked for by: the server's, or objects of which this program makes one of its own.
fn table_form(call: &Call) -> &'static str {
    if call.bool("server-print") {
        TABLE
    } else {
        "application/json"
    }
}

/// The pages of a target as tables.
async fn tables(
    rest: &Rest,
    query: &Query,
    target: &Target,
    include: &str,
    accept: &str,
) -> Result<Vec<Value>> {
    let extra = |mut params: Vec<(&'static str, String)>| {
        if !include.is_empty() && accept == TABLE {
            params.push(("includeObject", include.to_owned()));
        }
        params
    };
    match target {
        Target::Object(info) | Target::Named(info) => {
            let path = with_query(&info.sub_path(&query.subresource), &extra(Vec::new()));
            Ok(vec![as_table(rest.get_as(&path, accept).await?)])
        }
        Target::List { mapping, namespace } => {
            let mut out = Vec::new();
            let mut token = String::new();
            loop {
                let mut params = extra(query.params());
                if query.chunk > 0 {
                    params.push(("limit", query.chunk.to_string()));
                }
                if !token.is_empty() {
                    params.push(("continue", token));
                }
                let page = rest
                    .get_as(&with_query(&mapping.collection(namespace), &params), accept)
                    .await
                    .map_err(|e| unlisted(e, mapping, &query.params()))?;
                token = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
                out.push(as_table(page));
                if token.is_empty() {
                    return Ok(out);
                }
            }
        }
    }
}

/// What a server without tables sends, as a table of names and ages.
fn as_table(value: Value) -> Value {
    if value["kind"] == "Table" {
        return value;
    }
    let items = match value["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![value.clone()],
    };
    let rows: Vec<Value> = items
        .into_iter()
        .map(|item| {
            let age = crate::duration::age(item["metadata"]["creationTimestamp"].as_str());
            serde_json::json!({"cells": [item["metadata"]["name"], age], "object": item})
        })
        .collect();
    serde_json::json!({
        "kind": "Table", "metadata": value["metadata"],
        "columnDefinitions": [{"name": "Name", "format": "name", "priority": 0}, {"name": "Age", "priority": 0}],
        "rows": rows,
    })
}

fn not_found_is_fine(call: &Call, e: &Error) -> bool {
    call.bool("ignore-not-found") && e.is_not_found()
}

async fn human(call: &Call, query: &Query, targets: Targets, wide: bool) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let sort_by = call.str("sort-by");
    let mut errors = targets.errors;
    let include = if sort_by.is_empty() { "" } else { "Object" };
    let mut found = Vec::new();
    let mut namespaced = false;
    for target in &targets.items {
        namespaced |= target.mapping().namespaced;
        match tables(&rest, query, target, include, table_form(call)).await {
            Ok(pages) => found.push((target.mapping(), pages)),
            Err(e) if not_found_is_fine(call, &e) => {}
            Err(e) => errors.push(e),
        }
    }
    let several = found
        .iter()
        .any(|(m, _)| found.first().is_some_and(|(first, _)| m != first));
    let mut current: Option<(Rc<Mapping>, table::Printer, Vec<Vec<String>>)> = None;
    let mut written = false;
    for (mapping, mut pages) in found {
        if !sort_by.is_empty() {
            pages = vec![sorted(pages, sort_by)?];
        }
        if pages
            .iter()
            .all(|p| p["rows"].as_array().is_none_or(Vec::is_empty))
        {
            continue;
        }
        let same = current.as_ref().is_some_and(|(m, _, _)| m == mapping);
        if !same {
            if let Some((_, mut printer, rows)) = current.take() {
                crate::out::print(&printer.layout(&rows));
                if !call.bool("no-headers") {
                    crate::outln!();
                }
            }
            let options = table_options(call, wide, mapping, several);
            current = Some((mapping.clone(), table::Printer::new(options), Vec::new()));
        }
        if let Some((_, printer, rows)) = current.as_mut() {
            for page in &pages {
                rows.extend(printer.rows(page, None));
            }
            written = true;
        }
    }
    if let Some((_, mut printer, rows)) = current.take() {
        crate::out::print(&printer.layout(&rows));
    }
    if !written && errors.is_empty() && !call.bool("ignore-not-found") {
        if namespaced && !query.all_namespaces {
            crate::errln!("No resources found in {} namespace.", call.ctx.namespace()?);
        } else {
            crate::errln!("No resources found");
        }
    }
    Error::collect(errors)
}

fn sorted(pages: Vec<Value>, path: &str) -> Result<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let mut first: Option<Value> = None;
    for mut page in pages {
        if let Value::Array(more) = page["rows"].take() {
            rows.extend(more);
        }
        first.get_or_insert(page);
    }
    static NOTHING: Value = Value::Null;
    sort::by(&mut rows, path, |r| r.get("object").unwrap_or(&NOTHING))?;
    let mut out = first.unwrap_or_default();
    out["rows"] = Value::Array(rows);
    Ok(out)
}

async fn generic(call: &Call, query: &Query, targets: Targets, printer: &Printer) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let mut errors = targets.errors;
    let mut objects: Vec<Value> = Vec::new();
    for target in &targets.items {
        let found = match target {
            Target::Object(info) | Target::Named(info) => rest
                .get(&info.sub_path(&query.subresource))
                .await
                .map(|o| vec![o]),
            Target::List { mapping, namespace } => {
                list(&rest, mapping, namespace, &query.params(), query.chunk).await
            }
        };
        match found {
            Ok(list) => objects.extend(list),
            Err(e) if not_found_is_fine(call, &e) => {}
            Err(e) => errors.push(e),
        }
    }
    if objects.is_empty() && (call.bool("ignore-not-found") && targets.single || !errors.is_empty()) {
        return Error::collect(errors);
    }
    let sort_by = call.str("sort-by");
    if !sort_by.is_empty() {
        sort::by(&mut objects, sort_by, |v| v)?;
    }
    if targets.single && objects.len() == 1 {
        printer.print(&objects.remove(0))?;
    } else {
        printer.print(&list_of(objects))?;
    }
    Error::collect(errors)
}

async fn watch(call: &Call, query: &Query, targets: Targets, printer: &Printer) -> Result<()> {
    let [target] = targets.items.as_slice() else {
        return Err(Error::new(
            "watch is only supported on individual resources and resource collections - more than 1 resource was found",
        ));
    };
    let rest = call.ctx.rest().await?;
    let mapping = target.mapping().clone();
    let (namespace, mut params) = match target {
        Target::Object(Info { namespace, name, .. }) | Target::Named(Info { namespace, name, .. }) => (
            namespace.clone(),
            vec![("fieldSelector", format!("metadata.name={name}"))],
        ),
        Target::List { namespace, .. } => (namespace.clone(), query.params()),
    };
    let collection = mapping.collection(&namespace);
    let events = call.bool("output-watch-events");
    let human = match printer.format {
        Format::Human { wide } => Some(wide),
        _ => None,
    };
    let mut tables = table::Printer::new(table_options(call, human.unwrap_or(false), &mapping, false));
    let mut show = |kind: &str, object: &Value| -> Result<()> {
        if human.is_some() {
            let rows = tables.rows(&as_table(object.clone()), Some(kind));
            crate::out::print(&tables.layout(&rows));
            return Ok(());
        }
        if events {
            return printer.print(&serde_json::json!({"type": kind, "object": object}));
        }
        printer.print(object)
    };
    let accept = if human.is_some() {
        table_form(call)
    } else {
        "application/json"
    };
    let mut version;
    if matches!(target, Target::List { .. }) {
        let mut whole: Option<Value> = None;
        let mut token = String::new();
        loop {
            let mut page_params = params.clone();
            if query.chunk > 0 {
                page_params.push(("limit", query.chunk.to_string()));
            }
            if !token.is_empty() {
                page_params.push(("continue", token));
            }
            let mut page = rest
                .get_as(&with_query(&collection, &page_params), accept)
                .await?;
            version = page["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("")
                .to_owned();
            token = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
            let key = if page["kind"] == "Table" { "rows" } else { "items" };
            match whole.as_mut() {
                None => whole = Some(page),
                Some(w) => {
                    if let (Some(all), Value::Array(more)) = (w[key].as_array_mut(), page[key].take()) {
                        all.extend(more);
                    }
                }
            }
            if token.is_empty() {
                break;
            }
        }
        let whole = whole.unwrap_or_default();
        if !call.bool("watch-only") {
            if human.is_some() {
                if whole["rows"].as_array().is_some_and(|r| !r.is_empty())
                    || whole["items"].as_array().is_some_and(|r| !r.is_empty())
                {
                    show("ADDED", &whole)?;
                }
            } else {
                for item in whole["items"].as_array().into_iter().flatten() {
                    let mut item = item.clone();
                    item["kind"] = Value::from(mapping.kind.clone());
                    item["apiVersion"] = Value::from(mapping.api_version());
                    show("ADDED", &item)?;
                }
            }
        }
    } else {
        let (Target::Object(info) | Target::Named(info)) = target else {
            return Ok(());
        };
        let object = rest.get_as(&info.path(), accept).await?;
        version = match object["rows"][0]["object"]["metadata"]["resourceVersion"].as_str() {
            Some(v) => v.to_owned(),
            None => object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
        };
        if !call.bool("watch-only") {
            show("ADDED", &object)?;
        }
    }
    params.push(("resourceVersion", version));
    let mut stream = rest.watch(&collection, &params, accept).await?;
    while let Some((kind, object)) = stream.event().await? {
        if kind != "BOOKMARK" {
            show(&kind, &object)?;
        }
    }
    Ok(())
}
