//! Descriptions of objects for people, laid out as kubectl's are.
//!
//! Each kind's description is a pure function from the object, what belongs to it and its events to text; this
//! module reads what belongs to it. Events that can't be read are left out rather than failing the description.

pub mod config;
pub mod generic;
pub mod network;
pub mod node;
pub mod pod;
pub mod storage;
pub mod volume;
pub mod workload;
pub mod writer;

use crate::context::Ctx;
use crate::error::Result;
use crate::resource::builder::list;
use crate::resource::{Info, selector};
use crate::rest::Rest;
use serde_json::Value;
use workload::Phases;

/// What to read beside the object.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Show events.
    pub events: bool,
    /// Page size.
    pub chunk: i64,
}

struct Reader<'a> {
    ctx: &'a Ctx,
    rest: &'a Rest,
    options: Options,
}

impl Reader<'_> {
    async fn list(
        &self,
        resource: &str,
        namespace: &str,
        params: &[(&'static str, String)],
    ) -> Result<Vec<Value>> {
        let mapping = self.ctx.discovery().await?.resolve(resource)?;
        list(self.rest, &mapping, namespace, params, self.options.chunk).await
    }

    /// Events about an object, None if they aren't wanted or can't be read.
    async fn events(&self, info: &Info) -> Option<Vec<Value>> {
        if !self.options.events {
            return None;
        }
        let object = &info.object;
        let mut fields = vec![format!("involvedObject.name={}", info.name)];
        if !info.namespace.is_empty() {
            fields.push(format!("involvedObject.namespace={}", info.namespace));
        }
        fields.push(format!("involvedObject.kind={}", info.mapping.kind));
        // Static pods are known to the kubelet by their file's hash, nodes by their name.
        let uid = if info.mapping.kind == "Node" {
            info.name.clone()
        } else {
            match object["metadata"]["annotations"]["kubernetes.io/config.mirror"].as_str() {
                Some(hash) => hash.to_owned(),
                None => object["metadata"]["uid"].as_str().unwrap_or("").to_owned(),
            }
        };
        if info.mapping.kind != "Node" {
            fields.push(format!("involvedObject.uid={uid}"));
        }
        let mut events = self
            .list("events", &info.namespace, &[("fieldSelector", fields.join(","))])
            .await
            .ok()?;
        if info.mapping.kind == "Node" {
            // Controllers know a node by its UID and the kubelet by its name; kubectl shows the former first.
            events.sort_by_key(|event| event["involvedObject"]["uid"].as_str() == Some(&uid));
        }
        Some(events)
    }

    async fn phases(&self, info: &Info) -> Phases {
        let text = selector::to_text(&info.object["spec"]["selector"]);
        let pods = self
            .list("pods", &info.namespace, &[("labelSelector", text)])
            .await
            .unwrap_or_default();
        Phases::of(&pods, &info.object["metadata"]["uid"])
    }

    async fn slices(&self, namespace: &str, service: &str) -> Vec<Value> {
        let label = format!("kubernetes.io/service-name={service}");
        self.list(
            "endpointslices.discovery.k8s.io",
            namespace,
            &[("labelSelector", label)],
        )
        .await
        .unwrap_or_default()
    }
}

/// Describes one object.
pub async fn describe(ctx: &Ctx, rest: &Rest, info: &Info, options: Options) -> Result<String> {
    let r = Reader { ctx, rest, options };
    let o = &info.object;
    let ns = &info.namespace;
    let events = r.events(info).await;
    let e = events.as_deref();
    let m = &info.mapping;
    Ok(match (m.group.as_str(), m.kind.as_str()) {
        ("", "Pod") => pod::pod(o, e),
        ("", "Node") => {
            let lease = rest
                .get(&format!(
                    "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{}",
                    info.name
                ))
                .await
                .map_err(|e| e.message());
            let fields = format!(
                "spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed",
                info.name
            );
            let pods = r.list("pods", "", &[("fieldSelector", fields)]).await.ok();
            node::node(o, lease, pods.as_deref(), e)
        }
        ("apps", "Deployment") => {
            let sets = r
                .list(
                    "replicasets.apps",
                    ns,
                    &[("labelSelector", selector::to_text(&o["spec"]["selector"]))],
                )
                .await
                .unwrap_or_default();
            let owned = crate::cmd::rollout::owned(sets, &o["metadata"]["uid"]);
            workload::deployment(o, &owned, e)
        }
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            workload::replica_set(o, r.phases(info).await, e)
        }
        ("apps", "DaemonSet") => workload::daemon_set(o, r.phases(info).await, e),
        ("apps", "StatefulSet") => workload::stateful_set(o, r.phases(info).await, e),
        ("batch", "Job") => workload::job(o, e),
        ("batch", "CronJob") => workload::cron_job(o, e),
        ("autoscaling", "HorizontalPodAutoscaler") if m.version == "v2" => workload::autoscaler(o, e),
        ("", "Service") => network::service(o, &r.slices(ns, &info.name).await, e),
        ("", "Endpoints") => network::endpoints_object(o, e),
        ("discovery.k8s.io", "EndpointSlice") => network::slice(o, e),
        ("networking.k8s.io", "Ingress") => ingress(&r, info, e).await,
        ("networking.k8s.io", "IngressClass") => network::ingress_class(o, e),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(o),
        ("", "ConfigMap") => config::config_map(o, e),
        ("", "Secret") => config::secret(o),
        ("", "ServiceAccount") => config::service_account(o, e),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => config::role(o),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => config::binding(o),
        ("", "ResourceQuota") => config::quota(o),
        ("", "LimitRange") => config::limit_range(o),
        ("", "Namespace") => {
            let quotas = r
                .list("resourcequotas", &info.name, &[])
                .await
                .unwrap_or_default();
            let ranges = r.list("limitranges", &info.name, &[]).await.unwrap_or_default();
            config::namespace(o, &quotas, &ranges)
        }
        ("policy", "PodDisruptionBudget") => config::budget(o, e),
        ("scheduling.k8s.io", "PriorityClass") => config::priority_class(o, e),
        ("certificates.k8s.io", "CertificateSigningRequest") => config::signing_request(o, e),
        ("", "PersistentVolumeClaim") => {
            let pods = r.list("pods", ns, &[]).await.unwrap_or_default();
            storage::persistent_volume_claim(o, &pods, e)
        }
        ("", "PersistentVolume") => storage::persistent_volume(o, e),
        ("storage.k8s.io", "StorageClass") => storage::storage_class(o, e),
        _ => generic::object(o, e),
    })
}

async fn ingress(r: &Reader<'_>, info: &Info, events: Option<&[Value]>) -> String {
    let o = &info.object;
    let mut backends: Vec<Value> = Vec::new();
    if o["spec"]["defaultBackend"].is_object() {
        backends.push(o["spec"]["defaultBackend"].clone());
    }
    for rule in writer::items(&o["spec"]["rules"]) {
        backends.extend(
            writer::items(&rule["http"]["paths"])
                .iter()
                .map(|p| p["backend"].clone()),
        );
    }
    let mut told: Vec<(Value, String)> = Vec::new();
    for backend in backends {
        let text = backend_text(r, &info.namespace, &backend).await;
        told.push((backend, text));
    }
    let find = |b: &Value| {
        told.iter()
            .find(|(x, _)| x == b)
            .map(|(_, t)| t.clone())
            .unwrap_or_default()
    };
    network::ingress(o, &find, events)
}

async fn backend_text(r: &Reader<'_>, namespace: &str, backend: &Value) -> String {
    let s = &backend["service"];
    if !s.is_object() {
        let x = &backend["resource"];
        return format!(
            "APIGroup: {}, Kind: {}, Name: {}",
            writer::or(&x["apiGroup"], "<none>"),
            writer::text(&x["kind"]),
            writer::text(&x["name"])
        );
    }
    let name = writer::text(&s["name"]);
    let port = if s["port"]["number"].is_null() {
        writer::text(&s["port"]["name"])
    } else {
        writer::text(&s["port"]["number"])
    };
    let path = format!(
        "/api/v1/namespaces/{}/services/{}",
        crate::rest::encode(namespace),
        crate::rest::encode(&name)
    );
    let service = match r.rest.get(&path).await {
        Ok(s) => s,
        Err(e) => return format!("{name}:{port} (<error: {}>)", e.message()),
    };
    let mut port_name = String::new();
    for p in writer::items(&service["spec"]["ports"]) {
        if p["port"] == s["port"]["number"] || (p["name"].is_string() && p["name"] == s["port"]["name"]) {
            port_name = writer::text(&p["name"]);
        }
    }
    let slices = r.slices(namespace, &name).await;
    format!(
        "{name}:{port} ({})",
        network::endpoints(&slices, Some(&port_name))
    )
}
