//! What runs on a node, with which flags and files. Pure: it gives texts; others write and start them.

use super::layout::{API_PORT, Cluster, Node, Storage};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Where our programs are inside a node.
pub(super) const BIN: &str = "/opt/rutter/bin";
/// Where certificates and kubeconfig files are inside a node.
const ETC: &str = "/etc/kubernetes";

/// A program that the node's init keeps running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Service {
    /// Its name; the log is `/var/log/rutter/<name>.log`.
    pub(super) name: String,
    /// Program and arguments.
    pub(super) command: Vec<String>,
}

/// What the node's init is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InitConfig {
    /// The hostname.
    pub(super) hostname: String,
    /// The node's folder on this machine.
    pub(super) dir: String,
    /// The root file system whose programs the node runs.
    pub(super) root: String,
    /// Our programs' folder on this machine.
    pub(super) bin: String,
    /// The nameserver for `/etc/resolv.conf`; none when nothing beyond this machine is reached.
    pub(super) nameservers: Vec<String>,
    /// Names for `/etc/hosts`.
    pub(super) hosts: Vec<(String, String)>,
    /// What to run, in this order; ended in the reverse order.
    pub(super) services: Vec<Service>,
}

fn service(name: &str, program: &str, flags: &[String]) -> Service {
    let mut command = vec![program.to_owned()];
    command.extend_from_slice(flags);
    Service {
        name: name.to_owned(),
        command,
    }
}

fn ours(name: &str, flags: &[String]) -> Service {
    service(name, &format!("{BIN}/rutter-{name}"), flags)
}

/// The services of a node; the first one's have the control plane among them.
pub(super) fn services(cluster: &Cluster, node: &Node, control_plane: bool) -> Vec<Service> {
    let mut all = vec![service(
        "containerd",
        "containerd",
        &["-c".to_owned(), super::containerd::CONFIG.to_owned()],
    )];
    if control_plane {
        if cluster.storage == Storage::Etcd {
            all.push(etcd());
        }
        all.push(apiserver(cluster, node));
        all.push(controller_manager(cluster));
        all.push(ours(
            "scheduler",
            &[
                format!("--kubeconfig={ETC}/scheduler.conf"),
                "--leader-elect=false".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
            ],
        ));
    }
    all.push(ours(
        "kubelet",
        &[
            "--config=/var/lib/kubelet/config.yaml".to_owned(),
            format!("--kubeconfig={ETC}/kubelet.conf"),
            format!("--bootstrap-kubeconfig={ETC}/bootstrap-kubelet.conf"),
            format!("--hostname-override={}", node.name),
            format!("--node-ip={}", node.address),
            format!(
                "--capacity=cpu={},memory={}Mi",
                cluster.node_cpus, cluster.node_memory
            ),
        ],
    ));
    let network = |name: &str, more: &[String]| {
        let mut flags = vec![
            format!("--kubeconfig={ETC}/proxy.conf"),
            format!("--hostname-override={}", node.name),
            format!("--cluster-cidr={}", cluster.pod_cidr),
        ];
        flags.extend_from_slice(more);
        ours(name, &flags)
    };
    all.push(network("network", &["--cni-conf-dir=/etc/cni/net.d".to_owned()]));
    all.push(network("proxy", &["--proxy-mode=iptables".to_owned()]));
    all
}

fn etcd() -> Service {
    let flags = [
        "--name=default",
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
    ];
    service("etcd", "etcd", &flags.map(str::to_owned))
}

fn apiserver(cluster: &Cluster, node: &Node) -> Service {
    let mut flags = vec![
        format!("--advertise-address={}", node.address),
        format!("--secure-port={API_PORT}"),
        format!("--client-ca-file={ETC}/pki/ca.crt"),
        format!("--tls-cert-file={ETC}/pki/apiserver.crt"),
        format!("--tls-private-key-file={ETC}/pki/apiserver.key"),
        format!("--kubelet-client-certificate={ETC}/pki/apiserver-kubelet-client.crt"),
        format!("--kubelet-client-key={ETC}/pki/apiserver-kubelet-client.key"),
        format!("--kubelet-certificate-authority={ETC}/pki/ca.crt"),
        "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={ETC}/pki/sa.pub"),
        format!("--service-account-signing-key-file={ETC}/pki/sa.key"),
        format!("--service-cluster-ip-range={}", cluster.service_cidr),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--enable-bootstrap-token-auth=true".to_owned(),
        format!("--requestheader-client-ca-file={ETC}/pki/front-proxy-ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-uid-headers=X-Remote-Uid".to_owned(),
        format!("--proxy-client-cert-file={ETC}/pki/front-proxy-client.crt"),
        format!("--proxy-client-key-file={ETC}/pki/front-proxy-client.key"),
    ];
    match cluster.storage {
        Storage::Embedded => {
            flags.push("--storage=embedded".to_owned());
            flags.push("--data-dir=/var/lib/rutter/apiserver".to_owned());
        }
        Storage::Etcd => {
            flags.push("--storage=etcd".to_owned());
            flags.push("--etcd-servers=http://127.0.0.1:2379".to_owned());
        }
    }
    if let Some(seconds) = cluster.toleration_seconds {
        flags.push(format!("--default-not-ready-toleration-seconds={seconds}"));
        flags.push(format!("--default-unreachable-toleration-seconds={seconds}"));
    }
    ours("apiserver", &flags)
}

fn controller_manager(cluster: &Cluster) -> Service {
    ours(
        "controller-manager",
        &[
            format!("--kubeconfig={ETC}/controller-manager.conf"),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", cluster.pod_cidr),
            format!("--service-cluster-ip-range={}", cluster.service_cidr),
            format!("--root-ca-file={ETC}/pki/ca.crt"),
            format!("--cluster-signing-cert-file={ETC}/pki/ca.crt"),
            format!("--cluster-signing-key-file={ETC}/pki/ca.key"),
            format!("--service-account-private-key-file={ETC}/pki/sa.key"),
        ],
    )
}

/// The node's `KubeletConfiguration`.
pub(super) fn kubelet_config(cluster: &Cluster) -> anyhow::Result<String> {
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{ETC}/pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [cluster.dns_service().to_string()],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // The disk is this machine's and not the node's: how full it is is no reason to evict pods or to remove images.
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
        "imageGCHighThresholdPercent": 100,
        "rotateCertificates": true,
        "serverTLSBootstrap": true,
        "staticPodPath": format!("{ETC}/manifests"),
    });
    Ok(serde_yaml_ng::to_string(&config)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::layout::example;

    fn names(services: &[Service]) -> Vec<&str> {
        services.iter().map(|s| s.name.as_str()).collect()
    }

    #[test]
    fn the_first_node_carries_the_control_plane_and_all_run_the_node_services() {
        let mut cluster = example();
        let node = cluster.nodes[0].clone();
        assert_eq!(
            names(&services(&cluster, &node, true)),
            [
                "containerd",
                "apiserver",
                "controller-manager",
                "scheduler",
                "kubelet",
                "network",
                "proxy"
            ]
        );
        assert_eq!(
            names(&services(&cluster, &node, false)),
            ["containerd", "kubelet", "network", "proxy"]
        );
        cluster.storage = Storage::Etcd;
        assert!(names(&services(&cluster, &node, true)).contains(&"etcd"));
    }

    #[test]
    fn tolerations_reach_the_apiserver() {
        let mut cluster = example();
        cluster.toleration_seconds = Some(5);
        let flags = apiserver(&cluster, &cluster.nodes[0]).command;
        assert!(flags.contains(&"--default-not-ready-toleration-seconds=5".to_owned()));
    }
}
