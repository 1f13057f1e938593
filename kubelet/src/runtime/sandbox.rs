//! The configuration of a pod's sandbox: identity, DNS, ports, namespaces, sysctls. Pure.

use super::{labels, security};
use crate::pods::{PodExt, is_sidecar, log_dir_name};
use crate::userns::IdMap;
use k8s_openapi::api::core::v1::Pod;
use rutter_proto::cri::{
    DnsConfig, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, PodSandboxConfig, PodSandboxMetadata,
    PortMapping, Protocol,
};
use std::path::Path;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// What the node's `resolv.conf` says, and the cluster's DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DnsSettings {
    pub(crate) cluster_dns: Vec<String>,
    pub(crate) cluster_domain: String,
    pub(crate) host_servers: Vec<String>,
    pub(crate) host_searches: Vec<String>,
    pub(crate) host_options: Vec<String>,
}

impl DnsSettings {
    /// Takes the node's part from the text of a `resolv.conf`.
    pub(crate) fn with_resolv_conf(mut self, text: &str) -> Self {
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => self.host_servers.extend(words.next().map(str::to_owned)),
                Some("search") => self.host_searches = words.map(|w| trim_dot(w).to_owned()).collect(),
                Some("options") => self.host_options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        self
    }
}

fn trim_dot(domain: &str) -> &str {
    if domain == "." {
        domain
    } else {
        domain.trim_end_matches('.')
    }
}

/// A pod's DNS configuration, and whether cluster DNS was asked for without being known.
pub(crate) fn pod_dns(pod: &Pod, settings: &DnsSettings) -> (DnsConfig, bool) {
    let spec = pod.spec();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod.is_host_network(),
        _ => false,
    };
    let missing = cluster && settings.cluster_dns.is_empty();
    let mut dns = if policy == "None" {
        DnsConfig::default()
    } else if cluster && !missing {
        let domain = &settings.cluster_domain;
        let mut searches = Vec::new();
        if !domain.is_empty() {
            searches = vec![
                format!("{}.svc.{domain}", pod.namespace()),
                format!("svc.{domain}"),
                domain.clone(),
            ];
        }
        searches.extend(settings.host_searches.iter().cloned());
        DnsConfig {
            servers: settings.cluster_dns.clone(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        DnsConfig {
            servers: settings.host_servers.clone(),
            searches: settings.host_searches.clone(),
            options: settings.host_options.clone(),
        }
    };
    if let Some(own) = &spec.dns_config {
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            dns.options.retain(|o| o.split(':').next() != Some(name));
            dns.options
                .push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                    Some(value) => format!("{name}:{value}"),
                    None => name.to_owned(),
                });
        }
    }
    dedup(&mut dns.servers);
    dedup(&mut dns.searches);
    dns.servers.truncate(MAX_NAMESERVERS);
    dns.searches.truncate(MAX_SEARCHES);
    while dns.searches.join(" ").len() > MAX_SEARCH_CHARS {
        dns.searches.pop();
    }
    (dns, missing)
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

/// A pod's hostname and the domain behind it.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec();
    if let Some(name) = spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return (name.to_owned(), String::new());
    }
    let name = spec
        .hostname
        .as_deref()
        .filter(|h| !h.is_empty())
        .unwrap_or(pod.name());
    let short: String = name.chars().take(63).collect();
    let short = short.trim_end_matches(['-', '.']).to_owned();
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(sub) => format!("{sub}.{}.svc.{cluster_domain}", pod.namespace()),
        None => String::new(),
    };
    (short, domain)
}

/// The name that processes see.
pub(crate) fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (short, domain) = hostname(pod, cluster_domain);
    if pod.spec().set_hostname_as_fqdn != Some(true)
        || domain.is_empty()
        || pod.spec().hostname_override.is_some()
    {
        return Ok(short);
    }
    let full = format!("{short}.{domain}");
    if full.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

/// Where the pod's logs go.
pub(crate) fn log_directory(root: &Path, pod: &Pod) -> String {
    root.join(log_dir_name(pod.namespace(), pod.name(), &pod.uid()))
        .to_string_lossy()
        .into_owned()
}

/// The ports of the node that lead to the pod.
pub(crate) fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if pod.is_host_network() {
        return Vec::new();
    }
    let containers = pod
        .spec()
        .containers
        .iter()
        .chain(pod.init_containers().iter().filter(|c| is_sidecar(c)));
    containers
        .flat_map(|c| c.ports.iter().flatten())
        .filter(|p| p.host_port.is_some_and(|h| h > 0))
        .map(|p| PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => Protocol::Udp.into(),
                Some("SCTP") => Protocol::Sctp.into(),
                _ => Protocol::Tcp.into(),
            },
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// The sandbox's configuration.
pub(crate) fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    dns: DnsConfig,
    hostname: String,
    log_directory: String,
    cgroup_parent: String,
    ids: Option<IdMap>,
) -> PodSandboxConfig {
    let spec = pod.spec();
    let own = spec.security_context.as_ref();
    let value = |v: Option<i64>| v.map(|value| rutter_proto::cri::Int64Value { value });
    let mut groups: Vec<i64> = own.and_then(|s| s.fs_group).into_iter().collect();
    groups.extend(own.iter().flat_map(|s| s.supplemental_groups.iter().flatten()));
    let privileged = spec
        .containers
        .iter()
        .chain(pod.init_containers())
        .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    let mut config = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_string(),
            namespace: pod.namespace().to_owned(),
            attempt,
        }),
        hostname: if pod.is_host_network() {
            String::new()
        } else {
            hostname
        },
        log_directory,
        dns_config: Some(dns),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: pod
            .metadata
            .annotations
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        ..PodSandboxConfig::default()
    };
    config.linux = Some(LinuxPodSandboxConfig {
        cgroup_parent,
        security_context: Some(LinuxSandboxSecurityContext {
            namespace_options: Some(security::namespaces(pod, ids)),
            selinux_options: own
                .and_then(|s| s.se_linux_options.as_ref())
                .map(security::selinux),
            run_as_user: value(own.and_then(|s| s.run_as_user)),
            run_as_group: value(
                own.and_then(|s| s.run_as_group)
                    .filter(|_| own.is_some_and(|s| s.run_as_user.is_some())),
            ),
            supplemental_groups: groups,
            supplemental_groups_policy: security::groups_policy(pod),
            privileged,
            seccomp: Some(security::sandbox_seccomp(pod, privileged)),
            ..LinuxSandboxSecurityContext::default()
        }),
        sysctls: own
            .iter()
            .flat_map(|s| s.sysctls.iter().flatten())
            .map(|s| (s.name.replace('/', "."), s.value.clone()))
            .collect(),
        ..LinuxPodSandboxConfig::default()
    });
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "web-0", "namespace": "shop", "uid": "u"}, "spec": spec}),
        )
        .expect("a pod")
    }

    fn settings() -> DnsSettings {
        DnsSettings {
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            ..DnsSettings::default()
        }
        .with_resolv_conf("nameserver 1.1.1.1\n# no\nsearch corp.example. lan\noptions timeout:2\n")
    }

    #[test]
    fn dns_follows_the_policy() {
        let policy = |p: &str, host: bool| {
            pod_dns(
                &pod(json!({"dnsPolicy": p, "hostNetwork": host, "containers": []})),
                &settings(),
            )
            .0
        };
        let cluster = policy("ClusterFirst", false);
        assert_eq!(cluster.servers, ["10.96.0.10"]);
        assert_eq!(
            cluster.searches,
            [
                "shop.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
                "corp.example",
                "lan"
            ]
        );
        assert_eq!(cluster.options, ["ndots:5"]);
        assert_eq!(policy("ClusterFirst", true).servers, ["1.1.1.1"]);
        assert_eq!(policy("ClusterFirstWithHostNet", true).servers, ["10.96.0.10"]);
        assert_eq!(policy("Default", false).options, ["timeout:2"]);
        assert_eq!(policy("None", false), DnsConfig::default());
    }

    #[test]
    fn a_pods_own_dns_options_replace_the_nodes() {
        let (dns, _) = pod_dns(
            &pod(json!({"containers": [], "dnsConfig": {
                "nameservers": ["9.9.9.9"], "searches": ["lan", "more"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}})),
            &settings(),
        );
        assert_eq!(dns.servers, ["10.96.0.10", "9.9.9.9"]);
        assert_eq!(dns.searches.last().map(String::as_str), Some("more"));
        assert_eq!(dns.options, ["ndots:2", "edns0"]);
    }

    #[test]
    fn hostnames_are_cut_and_may_be_full() {
        let full = pod(json!({"containers": [], "subdomain": "db", "setHostnameAsFQDN": true}));
        assert_eq!(
            kernel_hostname(&full, "cluster.local"),
            Ok("web-0.db.shop.svc.cluster.local".into())
        );
        let long = pod(json!({"containers": [], "hostname": "x".repeat(70)}));
        assert_eq!(kernel_hostname(&long, "cluster.local").map(|h| h.len()), Ok(63));
        let both = pod(
            json!({"containers": [], "hostname": "x".repeat(60), "subdomain": "db", "setHostnameAsFQDN": true}),
        );
        assert!(kernel_hostname(&both, "cluster.local").is_err());
    }
}
