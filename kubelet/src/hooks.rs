//! What a pod asks to be done in or to its containers: commands, HTTP requests, connections and pauses. Used by lifecycle hooks;
//! probes share the requests.

use crate::pods::PodExt;
use crate::probes::http;
use crate::runtime::cri::Cri;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;

/// Runs a lifecycle hook to its end.
pub(crate) async fn run(
    cri: &Cri,
    pod: &Pod,
    container: &Container,
    id: &str,
    handler: &LifecycleHandler,
    pod_ip: Option<&str>,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = cri
            .exec_sync(id, command.clone(), Duration::ZERO)
            .await
            .map_err(|e| e.to_string())?;
        if answer.exit_code != 0 {
            let output = [answer.stdout, answer.stderr].concat();
            return Err(format!(
                "command '{}' exited with {}: {}, message: {:?}",
                command.join(" "),
                answer.exit_code,
                String::from_utf8_lossy(&output).trim(),
                String::from_utf8_lossy(&output)
            ));
        }
        return Ok(());
    }
    if let Some(get) = &handler.http_get {
        let request = http::request(pod, container, get, pod_ip)?;
        return http::hook(&request).await;
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    if let Some(tcp) = &handler.tcp_socket {
        let port = port(container, &tcp.port)?;
        let host = tcp
            .host
            .as_deref()
            .filter(|h| !h.is_empty())
            .or(pod_ip)
            .ok_or("the pod has no address yet")?;
        tokio::net::TcpStream::connect((host, port))
            .await
            .map_err(|e| format!("connecting to {host}:{port}: {e}"))?;
        return Ok(());
    }
    Err(format!(
        "container {} of pod {} has an empty lifecycle hook",
        container.name,
        pod.full_name()
    ))
}

/// A port by number or by the name that the container gave it.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port)
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("couldn't find port {name:?} in container {:?}", container.name))?,
    };
    u16::try_from(number)
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}
