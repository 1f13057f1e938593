//! `create service` and `create ingress`.

use super::generate::{finish, name, object, required};
use crate::cli::flags::{DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE};
use crate::cli::{Call, Command, array, int, slice, text};
use crate::error::{Error, Result};
use serde_json::{Value, json};

const TCP: &[crate::cli::Flag] = &[slice(
    "tcp",
    "Port pairs can be specified as '<port>:<targetPort>'.",
)];

/// `create service`
pub static SERVICE: Command = Command {
    name: "service",
    aliases: &["svc"],
    short: "Create a service using a specified subcommand",
    usage: "[flags]",
    subs: &[&CLUSTERIP, &EXTERNALNAME, &LOADBALANCER, &NODEPORT],
    ..Command::NEW
};

static CLUSTERIP: Command = Command {
    name: "clusterip",
    short: "Create a ClusterIP service",
    examples: "
        # A service, and one without an address of its own
        {} create service clusterip web --tcp=80:8080
        {} create service clusterip db --clusterip=None",
    usage: "NAME [--tcp=<port>:<targetPort>] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        TCP,
        &[text(
            "clusterip",
            "",
            "Assign your own ClusterIP or set to 'None' for a 'headless' service (no loadbalancing).",
        )],
    ],
    run: Some(|c| Box::pin(service(c, "ClusterIP"))),
    ..Command::NEW
};

static NODEPORT: Command = Command {
    name: "nodeport",
    short: "Create a NodePort service",
    examples: "
        # A service that every node answers for
        {} create service nodeport web --tcp=80:8080 --node-port=30080",
    usage: "NAME [--tcp=port:targetPort] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        TCP,
        &[int(
            "node-port",
            "0",
            "Port used to expose the service on each node in a cluster.",
        )],
    ],
    run: Some(|c| Box::pin(service(c, "NodePort"))),
    ..Command::NEW
};

static LOADBALANCER: Command = Command {
    name: "loadbalancer",
    short: "Create a LoadBalancer service",
    examples: "
        # A service behind a load balancer
        {} create service loadbalancer web --tcp=80:8080",
    usage: "NAME [--tcp=port:targetPort] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        TCP,
    ],
    run: Some(|c| Box::pin(service(c, "LoadBalancer"))),
    ..Command::NEW
};

static EXTERNALNAME: Command = Command {
    name: "externalname",
    short: "Create an ExternalName service",
    examples: "
        # A name in the cluster for a host outside
        {} create service externalname db --external-name=db.example.com",
    usage: "NAME --external-name external.name [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        TCP,
        &[text("external-name", "", "External name of service")],
    ],
    run: Some(|c| Box::pin(service(c, "ExternalName"))),
    ..Command::NEW
};

/// `80`, `80:8080`, `80:http` as a port of a service.
fn port(pair: &str) -> Result<Value> {
    let (port, target) = match pair.split_once(':') {
        Some((p, t)) => (p, t),
        None => (pair, pair),
    };
    let number: u16 = port
        .parse()
        .map_err(|_| Error::new(format!("{port:?} is not a valid port number")))?;
    let target = match target.parse::<i64>() {
        Ok(n) if (1..=65535).contains(&n) => json!(n),
        Ok(0) if !pair.contains(':') => json!(0),
        Ok(_) => return Err(Error::new("must be between 1 and 65535, inclusive")),
        Err(_) => json!(target),
    };
    Ok(json!({
        "name": pair.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target,
    }))
}

async fn service(call: Call, kind: &'static str) -> Result<()> {
    let name = name(&call)?;
    if kind == "ExternalName" {
        required(&call, &["external-name"])?;
    }
    let ip = call.flags.opt("clusterip").unwrap_or("").to_owned();
    let pairs = call.list("tcp");
    if pairs.is_empty() && kind != "ExternalName" && ip != "None" {
        return Err(Error::new("at least one tcp port specifier must be provided"));
    }
    let mut ports = pairs.iter().map(|p| port(p)).collect::<Result<Vec<_>>>()?;
    let node_port = call
        .flags
        .opt("node-port")
        .and_then(|p| p.parse::<i64>().ok())
        .unwrap_or(0);
    if node_port != 0 {
        for p in &mut ports {
            p["nodePort"] = json!(node_port);
        }
    }
    let mut out = object("v1", "Service", &name);
    out["metadata"]["labels"] = json!({"app": name});
    out["spec"] = json!({"selector": {"app": name}, "type": kind});
    if !ports.is_empty() {
        out["spec"]["ports"] = json!(ports);
    }
    if !ip.is_empty() {
        out["spec"]["clusterIP"] = json!(ip);
    }
    if kind == "ExternalName" {
        out["spec"]["externalName"] = json!(call.str("external-name"));
    }
    out["status"] = json!({"loadBalancer": {}});
    finish(&call, out, true, &format!("failed to create {kind} service:")).await
}

/// `create ingress`
pub static INGRESS: Command = Command {
    name: "ingress",
    aliases: &["ing"],
    short: "Create an ingress with the specified name",
    examples: "
        # One host, everything below its root
        {} create ingress web --rule='example.com/*=web:80'

        # With TLS and a default backend
        {} create ingress web --class=nginx --rule='example.com/=web:80,tls=cert' --default-backend=fallback:http",
    usage: "NAME --rule=host/path=service:port[,tls[=secret]]",
    flags: &[DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE,
        &[
            array("annotation", "Annotation to insert in the ingress object, in the format annotation=value"),
            text("class", "", "Ingress Class to be used"),
            text("default-backend", "", "Default service for backend, in format of svcname:port"),
            array("rule", "Rule in format host/path=service:port[,tls=secretname]. Paths containing the leading character '*' are considered pathType=Prefix. tls argument is optional."),
        ]],
    run: Some(|c| Box::pin(ingress(c))),
    ..Command::NEW
};

fn backend(service: &str, port: &str) -> Value {
    let port = match port.parse::<i64>() {
        Ok(n) => json!({"number": n}),
        Err(_) => json!({"name": port}),
    };
    json!({"service": {"name": service, "port": port}})
}

/// The rules and TLS entries that `--rule` flags describe.
fn rules(flags: &[String]) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut rules, mut tls): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for flag in flags {
        let bad = || {
            Error::new(format!(
                "rule {flag} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]"
            ))
        };
        let (route, options) = flag
            .split_once(',')
            .map_or((flag.as_str(), None), |(r, o)| (r, Some(o)));
        let (address, target) = route.split_once('=').ok_or_else(bad)?;
        let (host, path) = address.split_once('/').ok_or_else(bad)?;
        let (service, port) = target.split_once(':').ok_or_else(bad)?;
        if service.is_empty() || port.is_empty() {
            return Err(bad());
        }
        let (path, kind) = match path.strip_suffix('*') {
            Some(p) => (format!("/{p}"), "Prefix"),
            None => (format!("/{path}"), "Exact"),
        };
        let entry = json!({"backend": backend(service, port), "path": path, "pathType": kind});
        match rules
            .iter_mut()
            .find(|r| r["host"].as_str().unwrap_or("") == host)
        {
            Some(rule) => {
                if let Some(paths) = rule["http"]["paths"].as_array_mut() {
                    paths.push(entry);
                }
            }
            None => {
                let mut rule = json!({"http": {"paths": [entry]}});
                if !host.is_empty() {
                    rule["host"] = json!(host);
                }
                rules.push(rule);
            }
        }
        let Some(options) = options else { continue };
        let secret = match options.split_once('=') {
            Some(("tls", s)) => s,
            None if options == "tls" => "",
            _ => return Err(bad()),
        };
        match tls
            .iter_mut()
            .find(|t| t["secretName"].as_str().unwrap_or("") == secret)
        {
            Some(entry) => {
                if let Some(hosts) = entry["hosts"].as_array_mut()
                    && !host.is_empty()
                    && !hosts.contains(&json!(host))
                {
                    hosts.push(json!(host));
                }
            }
            None => {
                let mut entry = json!({});
                if !host.is_empty() {
                    entry["hosts"] = json!([host]);
                }
                if !secret.is_empty() {
                    entry["secretName"] = json!(secret);
                }
                tls.push(entry);
            }
        }
    }
    Ok((rules, tls))
}

async fn ingress(call: Call) -> Result<()> {
    let name = name(&call)?;
    let (default, flags) = (call.str("default-backend"), call.list("rule"));
    if default.is_empty() && flags.is_empty() {
        return Err(Error::new(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)",
        ));
    }
    let (rules, tls) = rules(&flags)?;
    let mut out = object("networking.k8s.io/v1", "Ingress", &name);
    let mut spec = json!({});
    for annotation in call.list("annotation") {
        let Some((key, value)) = annotation.split_once('=') else {
            return Err(Error::new(format!(
                "annotation {annotation} is invalid and should be in format key=[value]"
            )));
        };
        out["metadata"]["annotations"][key] = json!(value);
    }
    if !default.is_empty() {
        let Some((service, port)) = default.split_once(':') else {
            return Err(Error::new(
                "default-backend should be in format servicename:serviceport",
            ));
        };
        spec["defaultBackend"] = backend(service, port);
    }
    if !call.str("class").is_empty() {
        spec["ingressClassName"] = json!(call.str("class"));
    }
    if !rules.is_empty() {
        spec["rules"] = json!(rules);
    }
    if !tls.is_empty() {
        spec["tls"] = json!(tls);
    }
    out["spec"] = spec;
    out["status"] = json!({"loadBalancer": {}});
    finish(&call, out, true, "failed to create ingress:").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_names() {
        assert_eq!(
            port("80").unwrap(),
            json!({"name": "80", "port": 80, "protocol": "TCP", "targetPort": 80})
        );
        assert_eq!(
            port("80:http").unwrap(),
            json!({"name": "80-http", "port": 80, "protocol": "TCP", "targetPort": "http"})
        );
        assert!(port("x").is_err());
    }

    #[test]
    fn rules_of_one_host_are_gathered() {
        let (rules, tls) =
            rules(&["a.b/x*=s:80,tls=c".into(), "a.b/y=s:http".into(), "/=t:1".into()]).unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0]["http"]["paths"][0]["pathType"], "Prefix");
        assert_eq!(
            rules[0]["http"]["paths"][1]["backend"]["service"]["port"]["name"],
            "http"
        );
        assert_eq!(tls, vec![json!({"hosts": ["a.b"], "secretName": "c"})]);
    }
}
