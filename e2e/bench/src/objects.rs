//! The objects that workloads write, encoded before they are timed; and the mark by which they are counted in answers.

use crate::options::{Format, Sizes};
use bytes::Bytes;
use memchr::memmem;
use rutter_api::{GroupVersionKind, Value};
use serde_json::json;

/// The namespace of all that is made.
pub(crate) const NAMESPACE: &str = "rutter-bench";
/// The namespace of what the flood creates, apart from what it lists.
pub(crate) const FLOOD_NAMESPACE: &str = "rutter-bench-flood";
/// The value of an annotation that each object has once, in any encoding.
pub(crate) const MARK: &str = "rutter-bench-object-mark";

/// An object in the format that is asked for.
pub(crate) fn encode(format: Format, object: &Value) -> Bytes {
    match format {
        Format::Json => object.to_string().into(),
        Format::Protobuf => {
            let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let parsed = rutter_api::GroupVersion::parse(&version).unwrap_or_default();
            let gvk = GroupVersionKind::new(parsed.group, parsed.version, kind.as_str());
            let schema = match kind.as_str() {
                "Lease" => "io.k8s.api.coordination.v1.Lease".to_owned(),
                kind => format!("io.k8s.api.core.v1.{kind}"),
            };
            rutter_api::codec::protobuf::encode(rutter_api::schema::builtin(), &gvk, &schema, object).into()
        }
    }
}

/// The name of a pod.
pub(crate) fn pod_name(n: usize) -> String {
    format!("pod-{n:06}")
}

/// The value of the label `group` that some pods share.
pub(crate) fn group_name(n: usize) -> String {
    format!("group-{n:06}")
}

/// Makes encoded pods by writing names of the same length over those of the first one.
pub(crate) struct PodTemplate {
    bytes: Vec<u8>,
    names: Vec<usize>,
    groups: Vec<usize>,
    nodes: Vec<usize>,
    per_label: usize,
    per_node: usize,
}

impl PodTemplate {
    pub(crate) fn new(sizes: &Sizes) -> Self {
        const ANY: usize = 99_999;
        let bytes = encode(sizes.format, &pod(ANY, ANY, ANY, sizes.pod_bytes)).to_vec();
        let places = |text: String| memmem::find_iter(&bytes, text.as_bytes()).collect();
        Self {
            names: places(pod_name(ANY)),
            groups: places(group_name(ANY)),
            nodes: places(node_name(ANY)),
            per_label: sizes.pods_per_label.max(1),
            per_node: sizes.pods_per_node.max(1),
            bytes,
        }
    }

    /// The pod of a number.
    pub(crate) fn encoded(&self, n: usize) -> Bytes {
        let mut bytes = self.bytes.clone();
        let parts = [
            (&self.names, pod_name(n)),
            (&self.groups, group_name(n / self.per_label)),
            (&self.nodes, node_name(n / self.per_node)),
        ];
        for (places, text) in parts {
            for at in places {
                if let Some(place) = bytes.get_mut(*at..at + text.len()) {
                    place.copy_from_slice(text.as_bytes());
                }
            }
        }
        bytes.into()
    }
}

/// The name of what a client of the flood creates.
pub(crate) fn flood_name(client: usize, n: usize) -> String {
    format!("flood-{client:05}-{n:06}")
}

/// Makes encoded pods of the flood by writing names of the same length over that of the first one.
pub(crate) struct FloodTemplate {
    bytes: Vec<u8>,
    names: Vec<usize>,
}

impl FloodTemplate {
    /// Of pods that are about so many bytes of JSON as they are sent.
    pub(crate) fn new(format: Format, bytes: usize) -> Self {
        let name = flood_name(99_999, 999_999);
        let bytes = encode(format, &flood_pod(&name, bytes)).to_vec();
        Self {
            names: memmem::find_iter(&bytes, name.as_bytes()).collect(),
            bytes,
        }
    }

    /// The size of one.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The pod of a client and a number.
    pub(crate) fn encoded(&self, client: usize, n: usize) -> Bytes {
        let mut bytes = self.bytes.clone();
        let name = flood_name(client, n);
        for at in &self.names {
            if let Some(place) = bytes.get_mut(*at..at + name.len()) {
                place.copy_from_slice(name.as_bytes());
            }
        }
        bytes.into()
    }
}

/// A pod without the mark, padded by environment variables: annotations may not be so large.
fn flood_pod(name: &str, bytes: usize) -> Value {
    const VALUE: usize = 4096;
    let mut pod = pod(0, 0, 0, 0);
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["namespace"] = FLOOD_NAMESPACE.into();
    pod["metadata"]["annotations"] = json!({});
    let mut missing = bytes.saturating_sub(pod.to_string().len());
    let mut pads = Vec::new();
    while missing > 0 {
        let empty = json!({"name": format!("PAD_{:05}", pads.len()), "value": ""});
        let around = empty.to_string().len() + 1;
        let value = VALUE.min(missing.saturating_sub(around));
        let mut pad = empty;
        pad["value"] = "x".repeat(value).into();
        pads.push(pad);
        missing = missing.saturating_sub(around + value);
    }
    if let Some(variables) = pod["spec"]["containers"][0]["env"].as_array_mut() {
        variables.extend(pads);
    }
    pod
}

/// A small config map.
pub(crate) fn config_map(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"setting": "x".repeat(200)},
    })
}

/// A pod such as a Deployment's: on a node, with a label that some share, and padded to about so many bytes of JSON.
fn pod(n: usize, group: usize, node: usize, bytes: usize) -> Value {
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "periodSeconds": 10,
        "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3})
    };
    let variables: Vec<Value> = (0..8)
        .map(|k| json!({"name": format!("SETTING_{k}"), "value": format!("value-of-setting-{k}")}))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(n),
            "namespace": NAMESPACE,
            "labels": {"app": "bench", "group": group_name(group), "tier": "load"},
            "annotations": {"rutter.bench/mark": MARK, "rutter.bench/pad": ""},
        },
        "spec": {
            "nodeName": node_name(node),
            "restartPolicy": "Always",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "main",
                "image": "registry.example/bench/main:1.0",
                "command": ["/bin/main", "--serve"],
                "env": variables,
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
                "livenessProbe": probe("/livez"),
                "readinessProbe": probe("/readyz"),
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    });
    // Defaults, status and managed fields come on top of what is sent.
    let sent = pod.to_string().len();
    let pad = bytes.saturating_sub(sent + ADDED);
    pod["metadata"]["annotations"]["rutter.bench/pad"] = "x".repeat(pad).into();
    pod
}

/// About what a server adds to such a pod: defaults, status, managed fields.
const ADDED: usize = 2300;

/// The name of a node.
pub(crate) fn node_name(n: usize) -> String {
    format!("hollow-{n:05}")
}

/// The name of a lease.
pub(crate) fn lease_name(n: usize) -> String {
    format!("lease-{n:05}")
}

/// A lease, renewed at a time in microseconds since 1970; with the version that it replaces.
pub(crate) fn lease(n: usize, version: Option<&str>, micros: i64) -> Value {
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or_default();
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": lease_name(n), "namespace": NAMESPACE, "annotations": {"rutter.bench/mark": MARK}},
        "spec": {"holderIdentity": node_name(n), "leaseDurationSeconds": 40, "renewTime": format!("{time:.6}")},
    });
    if let Some(version) = version {
        lease["metadata"]["resourceVersion"] = version.into();
    }
    lease
}

/// A node.
pub(crate) fn node(n: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node_name(n), "labels": {"rutter.bench/hollow": "", "kubernetes.io/os": "linux", "kubernetes.io/hostname": node_name(n)}},
    })
}

/// A strategic patch of a node's status, as a kubelet sends it.
pub(crate) fn node_status(micros: i64) -> Value {
    let time = jiff::Timestamp::from_second(micros / 1_000_000)
        .unwrap_or_default()
        .to_string();
    json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
        "message": "kubelet is posting ready status", "lastHeartbeatTime": time, "lastTransitionTime": time}]}})
}

/// A strategic patch of a pod's status.
pub(crate) fn pod_status(micros: i64) -> Value {
    let time = jiff::Timestamp::from_second(micros / 1_000_000)
        .unwrap_or_default()
        .to_string();
    json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "startTime": time,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": time, "lastProbeTime": null}]}})
}

/// A secret whose value has so many bytes before base64; random, because real ones don't compress.
pub(crate) fn secret(n: usize, bytes: usize) -> Value {
    use base64::Engine as _;
    use rand::RngCore as _;
    let mut value = vec![0; bytes];
    rand::rng().fill_bytes(&mut value);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": format!("secret-{n:05}"), "namespace": NAMESPACE, "annotations": {"rutter.bench/mark": MARK}},
        "type": "Opaque",
        "data": {"value": base64::engine::general_purpose::STANDARD.encode(value)},
    })
}

/// Counts a text in a stream of pieces, across their borders.
pub(crate) struct Counter {
    finder: memmem::Finder<'static>,
    tail: Vec<u8>,
    /// How often it was seen.
    pub(crate) count: u64,
}

impl Counter {
    pub(crate) fn new(text: &'static str) -> Self {
        Self {
            finder: memmem::Finder::new(text),
            tail: Vec::new(),
            count: 0,
        }
    }

    /// The next piece.
    pub(crate) fn see(&mut self, piece: &[u8]) {
        let overlap = self.finder.needle().len() - 1;
        if !self.tail.is_empty() {
            // Only what begins in the tail is looked for here.
            let kept = self.tail.len();
            self.tail
                .extend_from_slice(piece.get(..overlap.min(piece.len())).unwrap_or_default());
            self.count += self.finder.find_iter(&self.tail).filter(|at| *at < kept).count() as u64;
        }
        self.count += self.finder.find_iter(piece).count() as u64;
        if piece.len() >= overlap {
            self.tail.clear();
            self.tail
                .extend_from_slice(piece.get(piece.len() - overlap..).unwrap_or_default());
        } else {
            // The tail has the piece already, unless it was empty.
            if self.tail.is_empty() {
                self.tail.extend_from_slice(piece);
            }
            let surplus = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..surplus);
        }
    }
}

/// The `resourceVersion` that comes first in an answer as JSON: a list's, or an object's.
pub(crate) fn resource_version(body: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let from = memmem::find(body, KEY)? + KEY.len();
    let rest = body.get(from..)?;
    std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_wherever_pieces_end() {
        let text = format!("x{MARK}yy{MARK}{MARK}z");
        for size in 1..text.len() {
            let mut counter = Counter::new(MARK);
            for piece in text.as_bytes().chunks(size) {
                counter.see(piece);
            }
            assert_eq!(counter.count, 3, "pieces of {size}");
        }
    }

    #[test]
    fn each_object_has_one_mark_in_either_format() {
        for object in [pod(7, 5, 2, 4096), lease(1, Some("3"), 5), secret(1, 10)] {
            for format in [Format::Json, Format::Protobuf] {
                let mut counter = Counter::new(MARK);
                counter.see(&encode(format, &object));
                assert_eq!(counter.count, 1, "{format:?} {object}");
            }
        }
    }

    #[test]
    fn what_the_flood_creates_has_its_name_and_its_size() {
        for bytes in [4096, 100_000, 1_500_000] {
            let template = FloodTemplate::new(Format::Json, bytes);
            assert!(
                (bytes..bytes + 64).contains(&template.len()),
                "{} for {bytes}",
                template.len()
            );
            let pod: serde_json::Value = serde_json::from_slice(&template.encoded(7, 12)).unwrap();
            assert_eq!(pod["metadata"]["name"], flood_name(7, 12));
        }
        let protobuf = FloodTemplate::new(Format::Protobuf, 4096);
        let mut counter = Counter::new(MARK);
        counter.see(&protobuf.encoded(1, 2));
        assert_eq!((protobuf.names.len(), counter.count), (1, 0));
    }

    #[test]
    fn versions_are_found_without_parsing() {
        let body = br#"{"kind":"PodList","metadata":{"resourceVersion":"812"},"items":[]}"#;
        assert_eq!(resource_version(body), Some("812"));
        assert_eq!(resource_version(b"{}"), None);
    }
}
