//! `cluster-info`: where the cluster answers, and a dump of it for diagnosis.

use crate::cli::flags::ALL_NAMESPACES;
use crate::cli::{Call, Command, slice, text};
use crate::describe::writer::{items, text as field};
use crate::error::Result;
use crate::print::{json as print_json, yaml};
use crate::resource::builder::{info_of, list};
use std::io::IsTerminal;
use std::path::PathBuf;

/// The command.
pub static COMMAND: Command = Command {
    name: "cluster-info",
    short: "Display cluster information",
    long: "Display addresses of the control plane and services with label kubernetes.io/cluster-service=true. To further debug and diagnose cluster problems, use 'rctl cluster-info dump'.",
    examples: "
        # Where the cluster answers
        {} cluster-info",
    subs: &[&DUMP],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

static DUMP: Command = Command {
    name: "dump",
    short: "Dump relevant information for debugging and diagnosis",
    flags: &[
        ALL_NAMESPACES,
        &[
            slice("namespaces", "A comma separated list of namespaces to dump."),
            text("output", "json", "Output format. One of: (json, yaml).").short('o'),
            text(
                "output-directory",
                "",
                "Where to output the files.  If empty or '-' uses stdout, otherwise creates a directory hierarchy in that directory",
            ),
        ],
    ],
    run: Some(|c| Box::pin(dump(c))),
    ..Command::NEW
};

fn line(name: &str, link: &str) {
    if std::io::stdout().is_terminal() {
        crate::outln!("\u{1b}[0;32m{name}\u{1b}[0m is running at \u{1b}[0;33m{link}\u{1b}[0m");
    } else {
        crate::outln!("{name} is running at {link}");
    }
}

async fn run(call: Call) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let services = call.ctx.discovery().await?.resolve("services")?;
    let found = list(
        &rest,
        &services,
        "kube-system",
        &[("labelSelector", "kubernetes.io/cluster-service=true".to_owned())],
        500,
    )
    .await?;
    line("Kubernetes control plane", &rest.server);
    for s in found {
        let (name, namespace) = (field(&s["metadata"]["name"]), field(&s["metadata"]["namespace"]));
        let ingress = items(&s["status"]["loadBalancer"]["ingress"]);
        let link = match ingress.first() {
            Some(i) => {
                let host = if i["ip"].is_string() {
                    field(&i["ip"])
                } else {
                    field(&i["hostname"])
                };
                items(&s["spec"]["ports"])
                    .iter()
                    .map(|p| format!("http://{host}:{} ", field(&p["port"])))
                    .collect::<String>()
            }
            None => {
                let port = items(&s["spec"]["ports"]).first().cloned().unwrap_or_default();
                let scheme = if field(&port["name"]) == "https" || port["port"] == 443 {
                    "https:"
                } else {
                    ""
                };
                let suffix = if field(&port["name"]).is_empty() {
                    String::new()
                } else {
                    format!(":{}", field(&port["name"]))
                };
                let name = if scheme.is_empty() && suffix.is_empty() {
                    name.clone()
                } else {
                    format!("{scheme}{name}{suffix}")
                };
                format!(
                    "{}/api/v1/namespaces/{namespace}/services/{name}/proxy",
                    rest.server
                )
            }
        };
        let shown = match s["metadata"]["labels"]["kubernetes.io/name"].as_str() {
            Some(n) if !n.is_empty() => n.to_owned(),
            _ => name,
        };
        line(&shown, &link);
    }
    crate::outln!(
        "\nTo further debug and diagnose cluster problems, use '{} cluster-info dump'.",
        crate::cli::PROGRAM
    );
    Ok(())
}

async fn dump(call: Call) -> Result<()> {
    let rest = call.ctx.rest().await?;
    let discovery = call.ctx.discovery().await?;
    let directory = call.str("output-directory");
    let as_yaml = call.str("output") == "yaml";
    let save = |path: String, text: String| -> Result<()> {
        if directory.is_empty() || directory == "-" {
            crate::out::print(&text);
            return Ok(());
        }
        let file = PathBuf::from(directory).join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, text)?;
        Ok(())
    };
    let render = |value: &serde_json::Value| {
        if as_yaml {
            yaml::to_string(value)
        } else {
            print_json::pretty(value)
        }
    };
    let extension = if as_yaml { "yaml" } else { "json" };
    save(
        format!("nodes.{extension}"),
        render(&rest.get("/api/v1/nodes").await?),
    )?;
    let namespaces: Vec<String> = if call.bool("all-namespaces") {
        let m = discovery.resolve("namespaces")?;
        list(&rest, &m, "", &[], 500)
            .await?
            .iter()
            .map(|n| field(&n["metadata"]["name"]))
            .collect()
    } else if call.changed("namespaces") {
        call.list("namespaces")
    } else {
        vec!["kube-system".to_owned(), call.ctx.namespace()?]
    };
    for namespace in namespaces {
        for (path, name) in [
            ("/api/v1", "events"),
            ("/api/v1", "replicationcontrollers"),
            ("/api/v1", "services"),
            ("/apis/apps/v1", "daemonsets"),
            ("/apis/apps/v1", "deployments"),
            ("/apis/apps/v1", "replicasets"),
            ("/api/v1", "pods"),
        ] {
            let value = rest.get(&format!("{path}/namespaces/{namespace}/{name}")).await?;
            save(format!("{namespace}/{name}.{extension}"), render(&value))?;
        }
        let m = discovery.resolve("pods")?;
        for pod in list(&rest, &m, &namespace, &[], 500).await? {
            let info = info_of(&m, pod);
            for (_, c) in super::pods::containers(&info.object) {
                let container = field(&c["name"]);
                let text = match super::logs::read(&rest, &info, &container).await {
                    Ok(t) => field(&t),
                    Err(e) => format!("Create log request error: {}\n", e.message()),
                };
                let head = format!(
                    "==== START logs for container {container} of pod {namespace}/{} ====\n",
                    info.name
                );
                let tail = format!(
                    "==== END logs for container {container} of pod {namespace}/{} ====\n",
                    info.name
                );
                save(
                    format!("{namespace}/{}/logs.txt", info.name),
                    format!("{head}{text}{tail}"),
                )?;
            }
        }
    }
    if !(directory.is_empty() || directory == "-") {
        crate::outln!("Cluster info dumped to {directory}");
    }
    Ok(())
}
