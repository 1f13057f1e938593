//! `top`: what nodes and pods use, as metrics.k8s.io tells it.

use crate::cli::flags::{ALL_NAMESPACES, FIELD_SELECTOR, SELECTOR};
use crate::cli::{Args, Call, Command, Flag, bool, text};
use crate::describe::writer::{items, quantity, text as field};
use crate::error::{Error, Result};
use crate::print::tab::Columns;
use crate::resource::builder::list;
use crate::rest::with_query;
use serde_json::Value;

const SHARED: &[Flag] = &[
    bool("no-headers", "If present, print output without headers"),
    text(
        "sort-by",
        "",
        "If non-empty, sort list using specified field. The field can be either 'cpu' or 'memory'.",
    ),
];

/// The command.
pub static COMMAND: Command = Command {
    name: "top",
    short: "Display resource (CPU/memory) usage",
    long: "Display resource (CPU/memory) usage.\n\n This command provides a view of recent resource consumption for nodes and pods. It fetches metrics from the Metrics Server, which aggregates this data from the kubelet on each node. The Metrics Server must be installed and running in the cluster for this command to work.",
    subs: &[&NODE, &POD],
    ..Command::NEW
};

static NODE: Command = Command {
    name: "node",
    aliases: &["nodes", "no"],
    short: "Display resource (CPU/memory) usage of nodes",
    usage: "[NAME | -l label]",
    flags: &[
        SELECTOR,
        SHARED,
        &[
            bool(
                "show-capacity",
                "Print node resources based on Capacity instead of Allocatable(default) of the nodes.",
            ),
            bool("show-swap", "Print node resources related to swap memory."),
        ],
    ],
    args: Args::Names("nodes"),
    run: Some(|c| Box::pin(nodes(c))),
    ..Command::NEW
};

static POD: Command = Command {
    name: "pod",
    aliases: &["pods", "po"],
    short: "Display resource (CPU/memory) usage of pods",
    usage: "[NAME | -l label]",
    flags: &[
        ALL_NAMESPACES,
        FIELD_SELECTOR,
        SELECTOR,
        SHARED,
        &[
            bool(
                "containers",
                "If present, print usage of containers within a pod.",
            ),
            bool("show-swap", "Print pod resources related to swap memory."),
            bool("sum", "Print the sum of the resource usage"),
        ],
    ],
    args: Args::Names("pods"),
    run: Some(|c| Box::pin(pods(c))),
    ..Command::NEW
};

async fn available(call: &Call) -> Result<()> {
    if call
        .ctx
        .discovery()
        .await?
        .versions
        .iter()
        .any(|v| v.group == "metrics.k8s.io")
    {
        return Ok(());
    }
    Err(Error::new("Metrics API not available"))
}

fn check_sort(call: &Call) -> Result<()> {
    match call.str("sort-by") {
        "" | "cpu" | "memory" => Ok(()),
        _ => Err(Error::new("--sort-by accepts only cpu or memory")),
    }
}

const MIB: i128 = 1024 * 1024;
const UNKNOWN: &str = "<unknown>";

async fn metrics(call: &Call, path: &str, name: Option<&String>) -> Result<Vec<Value>> {
    let rest = call.ctx.rest().await?;
    if let Some(name) = name {
        return Ok(vec![
            rest.get(&format!("{path}/{}", crate::rest::encode(name))).await?,
        ]);
    }
    let mut query = Vec::new();
    if !call.str("selector").is_empty() {
        query.push(("labelSelector", call.str("selector").to_owned()));
    }
    if let Some(f) = call.flags.opt("field-selector").filter(|f| !f.is_empty()) {
        query.push(("fieldSelector", f.to_owned()));
    }
    Ok(items(&rest.get(&with_query(path, &query)).await?["items"]).to_vec())
}

/// Thousandths of a field.
fn milli(field: &Value) -> i128 {
    i128::from(quantity(field).milli_value())
}

/// Whole units of a field.
fn value(field: &Value) -> i128 {
    i128::from(quantity(field).value())
}

async fn nodes(call: Call) -> Result<()> {
    check_sort(&call)?;
    available(&call).await?;
    let used = metrics(&call, "/apis/metrics.k8s.io/v1beta1/nodes", call.args.first()).await?;
    let mapping = call.ctx.discovery().await?.resolve("nodes")?;
    let rest = call.ctx.rest().await?;
    let mut params = Vec::new();
    if !call.str("selector").is_empty() {
        params.push(("labelSelector", call.str("selector").to_owned()));
    }
    let all = list(&rest, &mapping, "", &params, 500).await?;
    let base = if call.bool("show-capacity") {
        "capacity"
    } else {
        "allocatable"
    };
    let swap = call.bool("show-swap");
    let mut lines: Vec<(i128, i128, Vec<String>)> = Vec::new();
    let mut unknown: Vec<Vec<String>> = Vec::new();
    for node in &all {
        let name = field(&node["metadata"]["name"]);
        if call.args.first().is_some_and(|a| *a != name) {
            continue;
        }
        let whole = &node["status"][base];
        match used.iter().find(|m| m["metadata"]["name"] == name.as_str()) {
            Some(m) => {
                let cpu = milli(&m["usage"]["cpu"]);
                let memory = value(&m["usage"]["memory"]);
                let percent = |part: i128, whole: i128| if whole == 0 { 0 } else { part * 100 / whole };
                let mut row = vec![
                    name,
                    format!("{cpu}m"),
                    format!("{}%", percent(cpu, milli(&whole["cpu"]))),
                    format!("{}Mi", memory / MIB),
                    format!("{}%", percent(memory, value(&whole["memory"]))),
                ];
                if swap {
                    let capacity = &node["status"]["nodeInfo"]["swap"]["capacity"];
                    row.push(mebibytes(&m["usage"]["swap"]));
                    row.push(match (capacity.is_null(), m["usage"]["swap"].is_null()) {
                        (false, false) => {
                            format!("{}%", percent(value(&m["usage"]["swap"]), value(capacity)))
                        }
                        _ => UNKNOWN.to_owned(),
                    });
                }
                row.push(String::new());
                lines.push((cpu, memory, row));
            }
            None => {
                let mut row = vec![name];
                row.extend(std::iter::repeat_n(UNKNOWN.to_owned(), if swap { 6 } else { 4 }));
                row.push(String::new());
                unknown.push(row);
            }
        }
    }
    if lines.is_empty() && unknown.is_empty() {
        return Err(Error::new("metrics not available yet"));
    }
    order(&mut lines, call.str("sort-by"));
    let mut rows = Vec::new();
    if !call.bool("no-headers") {
        let mut head = vec!["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
        if swap {
            head.extend(["SWAP(bytes)", "SWAP(%)"]);
        }
        head.push("");
        rows.push(head.into_iter().map(str::to_owned).collect());
    }
    rows.extend(lines.into_iter().map(|(_, _, r)| r));
    rows.extend(unknown);
    crate::out::print(&Columns::default().format(&rows));
    Ok(())
}

/// What containers use of swap.
fn swap_of(containers: &[Value]) -> String {
    if containers.iter().all(|c| c["usage"]["swap"].is_null()) {
        return UNKNOWN.to_owned();
    }
    let total: i128 = containers.iter().map(|c| value(&c["usage"]["swap"])).sum();
    format!("{}Mi", total / MIB)
}

/// Whole mebibytes of a field, or that it isn't known.
fn mebibytes(field: &Value) -> String {
    if field.is_null() {
        UNKNOWN.to_owned()
    } else {
        format!("{}Mi", value(field) / MIB)
    }
}

fn order(lines: &mut [(i128, i128, Vec<String>)], by: &str) {
    match by {
        "cpu" => lines.sort_by_key(|l| std::cmp::Reverse(l.0)),
        "memory" => lines.sort_by_key(|l| std::cmp::Reverse(l.1)),
        _ => lines.sort_by(|a, b| a.2.cmp(&b.2)),
    }
}

async fn pods(call: Call) -> Result<()> {
    check_sort(&call)?;
    available(&call).await?;
    let everywhere = call.bool("all-namespaces");
    let namespace = call.ctx.namespace()?;
    let path = if everywhere {
        "/apis/metrics.k8s.io/v1beta1/pods".to_owned()
    } else {
        format!(
            "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods",
            crate::rest::encode(&namespace)
        )
    };
    let used = metrics(&call, &path, call.args.first()).await?;
    if used.is_empty() {
        if everywhere {
            crate::errln!("No resources found");
        } else {
            crate::errln!("No resources found in {namespace} namespace.");
        }
        return Ok(());
    }
    let containers = call.bool("containers");
    let swap = call.bool("show-swap");
    let mut lines: Vec<(i128, i128, Vec<String>)> = Vec::new();
    for pod in &used {
        let (name, place) = (
            field(&pod["metadata"]["name"]),
            field(&pod["metadata"]["namespace"]),
        );
        let of = |c: &Value| (milli(&c["usage"]["cpu"]), value(&c["usage"]["memory"]));
        let mut push = |container: Option<String>, cpu: i128, memory: i128, used: &[Value]| {
            let mut row = Vec::new();
            if everywhere {
                row.push(place.clone());
            }
            row.push(name.clone());
            row.extend(container);
            row.extend([format!("{cpu}m"), format!("{}Mi", memory / MIB)]);
            if swap {
                row.push(swap_of(used));
            }
            row.push(String::new());
            lines.push((cpu, memory, row));
        };
        if containers {
            for c in items(&pod["containers"]) {
                let (cpu, memory) = of(c);
                push(Some(field(&c["name"])), cpu, memory, std::slice::from_ref(c));
            }
        } else {
            let (cpu, memory) = items(&pod["containers"])
                .iter()
                .map(of)
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            push(None, cpu, memory, items(&pod["containers"]));
        }
    }
    order(&mut lines, call.str("sort-by"));
    let (cpu, memory) = lines.iter().fold((0, 0), |a, l| (a.0 + l.0, a.1 + l.1));
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !call.bool("no-headers") {
        let mut head = Vec::new();
        if everywhere {
            head.push("NAMESPACE");
        }
        head.push(if containers { "POD" } else { "NAME" });
        if containers {
            head.push("NAME");
        }
        head.extend(["CPU(cores)", "MEMORY(bytes)"]);
        if swap {
            head.push("SWAP(bytes)");
        }
        head.push("");
        rows.push(head.into_iter().map(str::to_owned).collect());
    }
    rows.extend(lines.into_iter().map(|(_, _, r)| r));
    if call.bool("sum") {
        let lead = usize::from(everywhere) + usize::from(containers) + 1;
        let mut sums = vec![format!("{cpu}m"), format!("{}Mi", memory / MIB)];
        if swap {
            let all: Vec<Value> = used
                .iter()
                .flat_map(|p| items(&p["containers"]))
                .cloned()
                .collect();
            sums.push(swap_of(&all));
        }
        for cells in [vec!["________".to_owned(); sums.len()], sums] {
            let mut line = vec![String::new(); lead];
            line.extend(cells);
            line.push(String::new());
            rows.push(line);
        }
    }
    crate::out::print(&Columns::default().format(&rows));
    Ok(())
}
