//! `port-forward`: ports of a pod on this machine.

use super::pods;
use crate::cli::flags::POD_TIMEOUT;
use crate::cli::{Args, Call, Command, slice};
use crate::error::{Error, Result, io_text};
use crate::resource::Info;
use crate::resource::builder::Query;
use crate::stream::portforward;
use serde_json::Value;
use std::rc::Rc;
use tokio::net::TcpListener;

/// The command.
pub static COMMAND: Command = Command {
    name: "port-forward",
    short: "Forward one or more local ports to a pod",
    long: "Forward one or more local ports to a pod.\n\n Use resource type/name such as deployment/mydeployment to select a pod. Resource type defaults to 'pod' if omitted. The forwarding session ends when the selected pod terminates, and a rerun of the command is needed to resume forwarding.",
    examples: "
        # The same port here as there
        {} port-forward pod/web-0 8080

        # Another one, through a service, for other machines too
        {} port-forward --address 0.0.0.0 service/web 8000:http

        # Any free one
        {} port-forward deployment/web :80",
    usage: "TYPE/NAME [options] [LOCAL_PORT:]REMOTE_PORT [...[LOCAL_PORT_N:]REMOTE_PORT_N]",
    flags: &[
        POD_TIMEOUT,
        &[slice(
            "address",
            "Addresses to listen on (comma separated). Only accepts IP addresses or localhost as a value. When localhost is supplied, kubectl will try to bind on both 127.0.0.1 and ::1 and will fail if neither of these addresses are available to bind.",
        )],
    ],
    args: Args::Pod,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// `8080:80`: the local port (0 for any) and the remote one as it was written.
fn split(text: &str) -> (Option<String>, String) {
    match text.split_once(':') {
        Some((local, remote)) => (
            Some(if local.is_empty() {
                "0".to_owned()
            } else {
                local.to_owned()
            }),
            remote.to_owned(),
        ),
        None => (None, text.to_owned()),
    }
}

/// The port of a container that a number or a name means.
fn container_port(pod: &Value, port: &str) -> Result<u16> {
    if let Ok(n) = port.parse::<u16>() {
        return Ok(n);
    }
    for (_, c) in pods::containers(pod) {
        for p in c["ports"].as_array().into_iter().flatten() {
            if p["name"] == port {
                return u16::try_from(p["containerPort"].as_u64().unwrap_or(0))
                    .map_err(|_| Error::new("bad port"));
            }
        }
    }
    Err(Error::new(format!(
        "Pod '{}' does not have a named port '{port}'",
        pod["metadata"]["name"].as_str().unwrap_or("")
    )))
}

/// The pod's port behind a service's.
fn service_port(service: &Value, pod: &Value, port: &str) -> Result<(u16, u16)> {
    for p in service["spec"]["ports"].as_array().into_iter().flatten() {
        let number = p["port"].as_u64().unwrap_or(0);
        if p["name"] == port || number.to_string() == port {
            let own = u16::try_from(number).unwrap_or(0);
            if service["spec"]["clusterIP"] == "None" {
                return Ok((own, own));
            }
            let target = match &p["targetPort"] {
                Value::String(name) => container_port(pod, name)?,
                Value::Number(n) => u16::try_from(n.as_u64().unwrap_or(0)).unwrap_or(own),
                _ => own,
            };
            return Ok((own, target));
        }
    }
    Err(Error::new(format!(
        "Service {} does not have a service port {port}",
        service["metadata"]["name"].as_str().unwrap_or("")
    )))
}

/// Local and remote ports for the arguments.
fn ports(target: &Info, pod: &Value, arguments: &[String]) -> Result<Vec<(u16, u16)>> {
    let is_service = target.mapping.is("", "services");
    arguments
        .iter()
        .map(|argument| {
            let (local, remote) = split(argument);
            let (natural, number) = if is_service {
                service_port(&target.object, pod, &remote)?
            } else {
                let n = container_port(pod, &remote)?;
                (n, n)
            };
            if number == 0 {
                return Err(Error::new("remote port must be > 0"));
            }
            let local = match local {
                None => natural,
                Some(text) => text.parse().map_err(|_| Error::new(format!("error parsing local port '{text}': strconv.ParseUint: parsing {text:?}: invalid syntax")))?,
            };
            Ok((local, number))
        })
        .collect()
}

async fn run(call: Call) -> Result<()> {
    let Some((name, wanted)) = call.args.split_first().filter(|(_, w)| !w.is_empty()) else {
        return Err(call.usage("TYPE/NAME and list of ports are required for port-forward"));
    };
    let args = if name.contains('/') {
        vec![name.clone()]
    } else {
        vec!["pods".to_owned(), name.clone()]
    };
    let target = Query {
        args,
        ..Query::default()
    }
    .one(&call.ctx)
    .await?;
    let pod = pods::attachable(
        &call,
        &format!("{}/{}", target.mapping.group_resource(), target.name),
    )
    .await?;
    let rest = call.ctx.rest().await?;
    let pairs = ports(&target, &pod.object, wanted)?;
    let phase = pod.object["status"]["phase"].as_str().unwrap_or("");
    if phase != "Running" {
        return Err(Error::new(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let addresses = if call.changed("address") {
        call.list("address")
    } else {
        vec!["localhost".to_owned()]
    };
    let path = pod.path();
    let mut tasks = Vec::new();
    for (local, remote) in pairs {
        for (listener, shown) in listen(&addresses, local).await? {
            let bound = listener.local_addr()?.port();
            crate::outln!("Forwarding from {shown}:{bound} -> {remote}");
            let (rest, path) = (rest.clone(), path.clone());
            tasks.push(tokio::task::spawn_local(async move {
                loop {
                    let Ok((connection, _)) = listener.accept().await else {
                        continue;
                    };
                    crate::outln!("Handling connection for {bound}");
                    let (rest, path) = (Rc::clone(&rest), path.clone());
                    tokio::task::spawn_local(async move {
                        if let Err(e) = portforward::carry(&rest, &path, remote, connection).await {
                            crate::errln!("{}", e.report());
                        }
                    });
                }
            }));
        }
    }
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
        e = gone(&rest, &pod) => return e,
    }
    drop(tasks);
    Ok(())
}

/// Returns when the pod is gone.
async fn gone(rest: &crate::rest::Rest, pod: &Info) -> Result<()> {
    let uid = pod.object["metadata"]["uid"].clone();
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        match rest.get(&pod.path()).await {
            Ok(o) if o["metadata"]["uid"] == uid => {}
            Ok(_) => return Err(Error::new("lost connection to pod")),
            Err(e) if e.is_not_found() => return Err(Error::new("lost connection to pod")),
            Err(_) => {}
        }
    }
}

async fn listen(addresses: &[String], port: u16) -> Result<Vec<(TcpListener, String)>> {
    let mut out: Vec<(TcpListener, String)> = Vec::new();
    let mut problems = Vec::new();
    for address in addresses {
        let hosts: Vec<&str> = if address == "localhost" {
            vec!["127.0.0.1", "::1"]
        } else {
            vec![address]
        };
        for host in hosts {
            let ip: std::net::IpAddr = host
                .parse()
                .map_err(|_| Error::new(format!("{host} is not a valid IP")))?;
            // With any port asked for, all addresses get the same.
            let wanted = match (port, out.first()) {
                (0, Some((first, _))) => first.local_addr()?.port(),
                (p, _) => p,
            };
            let shown = if ip.is_ipv6() {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            match TcpListener::bind((ip, wanted)).await {
                Ok(l) => out.push((l, shown)),
                Err(e) => problems.push(format!(
                    "unable to create listener: Error listen tcp {shown}:{wanted}: bind: {}",
                    io_text(&e)
                )),
            }
        }
    }
    if out.is_empty() {
        for problem in &problems {
            crate::errln!("{problem}");
        }
        return Err(Error::new(format!(
            "unable to listen on any of the requested ports: [{{{port} {port}}}]"
        )));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_numbers_names_and_those_behind_services() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        assert_eq!(container_port(&pod, "http").unwrap(), 8080);
        assert_eq!(container_port(&pod, "5").unwrap(), 5);
        assert!(container_port(&pod, "x").is_err());
        let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "1.2.3.4", "ports": [{"name": "web", "port": 80, "targetPort": "http"}]}});
        assert_eq!(service_port(&service, &pod, "80").unwrap(), (80, 8080));
        assert_eq!(service_port(&service, &pod, "web").unwrap(), (80, 8080));
        assert_eq!(
            service_port(&service, &pod, "81").unwrap_err().report(),
            "error: Service s does not have a service port 81"
        );
        assert_eq!(split(":80"), (Some("0".into()), "80".into()));
    }
}
