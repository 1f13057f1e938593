//! `expose`: makes a service for a workload, a pod or another service.

use super::common::{DryRun, Write, annotate_applied};
use crate::cli::flags::{DRY_RUN, FILENAME, OUTPUT, RECORD, SAVE_CONFIG, TEMPLATE};
use crate::cli::{Args, Call, Command, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::resource::builder::Query;
use serde_json::{Map, Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "expose",
    short: "Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service",
    long: "Expose a resource as a new Kubernetes service.\n\n Looks up a deployment, service, replica set, replication controller or pod by name and uses the selector for that resource as the selector for a new service on the specified port. Possible resources include (case insensitive): pod (po), service (svc), replicationcontroller (rc), deployment (deploy), replicaset (rs)",
    examples: "
        # A deployment's pods on port 80, which listen on 8080
        {} expose deployment web --port=80 --target-port=8080

        # On every node
        {} expose deployment web --port=80 --type=NodePort --name=web-public",
    usage: "(-f FILENAME | TYPE NAME) [--port=port] [--protocol=TCP|UDP|SCTP] [--target-port=number-or-name] [--name=name] [--external-ip=external-ip-of-service] [--type=type]",
    flags: &[
        DRY_RUN,
        FILENAME,
        OUTPUT,
        RECORD,
        SAVE_CONFIG,
        TEMPLATE,
        &[
            text(
                "cluster-ip",
                "",
                "ClusterIP to be assigned to the service. Leave empty to auto-allocate, or set to 'None' to create a headless service.",
            ),
            text(
                "external-ip",
                "",
                "Additional external IP address (not managed by Kubernetes) to accept for the service. If this IP is routed to a node, the service can be accessed by this IP in addition to its generated service IP.",
            ),
            text(
                "field-manager",
                "kubectl-expose",
                "Name of the manager used to track field ownership.",
            ),
            text(
                "labels",
                "",
                "Labels to apply to the service created by this call.",
            )
            .short('l'),
            text(
                "load-balancer-ip",
                "",
                "IP to assign to the LoadBalancer. If empty, an ephemeral IP will be created and used (cloud-provider specific).",
            ),
            text("name", "", "The name for the newly created object."),
            text(
                "override-type",
                "merge",
                "The method used to override the generated object: json, merge, or strategic.",
            ),
            text(
                "overrides",
                "",
                "An inline JSON override for the generated object. If this is non-empty, it is used to override the generated object. Requires that the object supply a valid apiVersion field.",
            ),
            text(
                "port",
                "",
                "The port that the service should serve on. Copied from the resource being exposed, if unspecified",
            ),
            text(
                "protocol",
                "",
                "The network protocol for the service to be created. Default is 'TCP'.",
            ),
            text(
                "selector",
                "",
                "A label selector to use for this service. Only equality-based selector requirements are supported. If empty (the default) infer the selector from the replication controller or replica set.",
            ),
            text(
                "session-affinity",
                "",
                "If non-empty, set the session affinity for the service to this; legal values: 'None', 'ClientIP'",
            ),
            text(
                "target-port",
                "",
                "Name or number for the port on the container that the service should direct traffic to. Optional.",
            ),
            text(
                "type",
                "",
                "Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName. Default is 'ClusterIP'.",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

fn labels(text: &str) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for pair in text.split(',').filter(|p| !p.is_empty()) {
        let Some((k, v)) = pair.split_once("==").or_else(|| pair.split_once('=')) else {
            return Err(Error::new(format!("unexpected label spec: {pair}")));
        };
        out.insert(k.to_owned(), json!(v));
    }
    Ok(out)
}

/// The labels that a service for this object selects by.
fn selector(info: &Info) -> Result<Map<String, Value>> {
    let o = &info.object;
    let map = match info.mapping.kind.as_str() {
        "Pod" => &o["metadata"]["labels"],
        "ReplicationController" | "Service" => &o["spec"]["selector"],
        "Deployment" | "ReplicaSet" => {
            if o["spec"]["selector"]["matchExpressions"]
                .as_array()
                .is_some_and(|e| !e.is_empty())
            {
                return Err(Error::new(
                    "couldn't convert expressions - \"matchExpressions\" to map-based selector format",
                ));
            }
            &o["spec"]["selector"]["matchLabels"]
        }
        other => return Err(Error::new(format!("cannot expose a {other}"))),
    };
    match map.as_object() {
        Some(m) if !m.is_empty() => Ok(m.clone()),
        _ => Err(Error::new(match info.mapping.kind.as_str() {
            "Pod" => "the pod has no labels and cannot be exposed".to_owned(),
            "Service" => "the service has no pod selector set".to_owned(),
            _ => "invalid deployment: no selectors, therefore cannot be exposed".to_owned(),
        })),
    }
}

/// Ports with their protocols that the object itself names.
fn own_ports(object: &Value) -> Vec<(i64, String)> {
    let spec = match object["kind"].as_str() {
        Some("Pod") => &object["spec"],
        Some("Service") => {
            return object["spec"]["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|p| {
                    (
                        p["port"].as_i64().unwrap_or(0),
                        p["protocol"].as_str().unwrap_or("TCP").to_owned(),
                    )
                })
                .collect();
        }
        _ => &object["spec"]["template"]["spec"],
    };
    spec["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|c| c["ports"].as_array().into_iter().flatten())
        .map(|p| {
            (
                p["containerPort"].as_i64().unwrap_or(0),
                p["protocol"].as_str().unwrap_or("TCP").to_owned(),
            )
        })
        .collect()
}

/// What a service is made from.
pub struct Request<'a> {
    /// Name.
    pub name: &'a str,
    /// `--port`, several by commas.
    pub port: &'a str,
    /// `--protocol`
    pub protocol: &'a str,
    /// `--target-port`
    pub target: &'a str,
    /// Selector.
    pub selector: Map<String, Value>,
    /// Labels.
    pub labels: Map<String, Value>,
}

/// The service.
pub fn service(request: Request<'_>, own: &[(i64, String)]) -> Result<Value> {
    let mut ports: Vec<Value> = Vec::new();
    let wanted: Vec<i64> = if request.port.is_empty() {
        own.iter().map(|(p, _)| *p).collect()
    } else {
        request
            .port
            .split(',')
            .map(|p| {
                p.parse::<i64>()
                    .map_err(|_| Error::new(format!("strconv.Atoi: parsing {p:?}: invalid syntax")))
            })
            .collect::<Result<_>>()?
    };
    for (at, port) in wanted.iter().enumerate() {
        let natural = own
            .iter()
            .find(|(p, _)| p == port)
            .map_or("TCP", |(_, proto)| proto.as_str());
        let protocol = if request.protocol.is_empty() {
            natural
        } else {
            request.protocol
        };
        let target = if request.target.is_empty() {
            json!(port)
        } else {
            request
                .target
                .parse::<i64>()
                .map_or_else(|_| json!(request.target), |n| json!(n))
        };
        let mut entry = json!({"port": port, "protocol": protocol, "targetPort": target});
        if wanted.len() > 1 {
            entry["name"] = json!(format!("port-{}", at + 1));
        }
        ports.push(entry);
    }
    let mut out = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": request.name},
        "spec": {"ports": ports, "selector": request.selector}, "status": {"loadBalancer": {}}});
    if !request.labels.is_empty() {
        out["metadata"]["labels"] = Value::Object(request.labels);
    }
    Ok(out)
}

async fn run(call: Call) -> Result<()> {
    let query = Query::from_call(&call);
    let query = Query {
        selector: String::new(),
        ..query
    };
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new(
            "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
        ));
    }
    let write = Write::from_call(&call, "kubectl-expose")?;
    let printer = Printer::from_call(&call)?;
    let (infos, errors) = query.latest(&call.ctx).await?;
    Error::collect(errors)?;
    let rest = call.ctx.rest().await?;
    for info in infos {
        let can = matches!(
            (info.mapping.group.as_str(), info.mapping.kind.as_str()),
            ("", "Pod" | "Service" | "ReplicationController") | ("apps", "Deployment" | "ReplicaSet")
        );
        if !can {
            return Err(Error::new(format!(
                "cannot expose a {}",
                match info.mapping.group.as_str() {
                    "" => info.mapping.kind.clone(),
                    group => format!("{}.{group}", info.mapping.kind),
                }
            )));
        }
        let mut name = call.str("name").to_owned();
        if name.is_empty() {
            name = info.name.chars().take(63).collect();
        }
        let selector = if call.str("selector").is_empty() {
            selector(&info)?
        } else {
            labels(call.str("selector"))?
        };
        let own = own_ports(&info.object);
        if call.str("port").is_empty() && own.is_empty() && call.str("cluster-ip") != "None" {
            return Err(Error::new("couldn't find port via --port flag or introspection"));
        }
        let service_labels = if call.changed("labels") {
            labels(call.str("labels"))?
        } else {
            info.object["metadata"]["labels"]
                .as_object()
                .cloned()
                .unwrap_or_default()
        };
        let mut object = service(
            Request {
                name: &name,
                port: call.str("port"),
                protocol: call.str("protocol"),
                target: call.str("target-port"),
                selector,
                labels: service_labels,
            },
            &own,
        )?;
        for (flag, field) in [
            ("type", "type"),
            ("load-balancer-ip", "loadBalancerIP"),
            ("session-affinity", "sessionAffinity"),
            ("cluster-ip", "clusterIP"),
        ] {
            if !call.str(flag).is_empty() {
                object["spec"][field] = json!(call.str(flag));
            }
        }
        if !call.str("external-ip").is_empty() {
            object["spec"]["externalIPs"] = json!([call.str("external-ip")]);
        }
        if !call.str("overrides").is_empty() {
            super::run::override_with(&call, &mut object, call.str("overrides")).await?;
        }
        let mapping = call.ctx.discovery().await?.resolve("services")?;
        let namespace = call.ctx.namespace()?;
        if call.ctx.explicit_namespace() || write.dry != DryRun::Client {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if call.bool("save-config") {
            annotate_applied(&mut object);
        }
        let mut made = Info {
            mapping,
            namespace,
            name,
            object,
            source: String::new(),
        };
        if write.dry != DryRun::Client {
            made.object = write.create(&rest, &made).await?;
        }
        if printer.is_human() {
            crate::outln!("service/{} exposed{}", made.name, write.dry.suffix());
        } else {
            printer.result(&made, "exposed")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_take_ports_from_flags_or_from_the_object() {
        let request = |port| Request {
            name: "s",
            port,
            protocol: "",
            target: "",
            selector: Map::new(),
            labels: Map::new(),
        };
        let own = [(53, "UDP".to_owned()), (80, "TCP".to_owned())];
        let s = service(request(""), &own).unwrap();
        assert_eq!(
            s["spec"]["ports"][0],
            json!({"name": "port-1", "port": 53, "protocol": "UDP", "targetPort": 53})
        );
        let s = service(request("80"), &own).unwrap();
        assert_eq!(
            s["spec"]["ports"],
            json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
        );
    }
}
