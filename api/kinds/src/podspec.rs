//! Pod specs, in pods and in all templates of pods: defaults.

use crate::fill::{Fields, absent, each, empty, inside, number, text, text_of};
use rutter_api::{Map, Value};

/// The defaults of a pod template's spec. A pod has more of its own (see `pod`).
pub(crate) fn default_pod_spec(spec: &mut Fields) {
    mirror_service_account(spec);
    text(spec, "dnsPolicy", "ClusterFirst");
    text(spec, "restartPolicy", "Always");
    absent(spec, "securityContext", Map::new());
    absent(spec, "terminationGracePeriodSeconds", 30);
    text(spec, "schedulerName", "default-scheduler");
    for volume in each(spec, "volumes") {
        default_volume(volume);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in each(spec, list) {
            default_container(container);
        }
    }
}

/// The defaults of the template below `field`.
pub(crate) fn default_template(fields: &mut Fields, field: &str) {
    if let Some(template) = inside(fields, field)
        && let Some(spec) = crate::fill::made(template, "spec")
    {
        default_pod_spec(spec);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown, and the new one wins.
fn mirror_service_account(spec: &mut Fields) {
    let name = match text_of(spec, "serviceAccountName") {
        "" => text_of(spec, "serviceAccount").to_owned(),
        name if name == text_of(spec, "serviceAccount") => return,
        name => name.to_owned(),
    };
    if name.is_empty() {
        spec.remove("serviceAccount");
    } else {
        spec.insert("serviceAccountName".to_owned(), Value::from(name.clone()));
        spec.insert("serviceAccount".to_owned(), Value::from(name));
    }
}

/// Whether an image without a tag or digest, or with the tag `latest`, is meant.
pub(crate) fn is_latest(image: &str) -> bool {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest && !last.is_empty() && !image.bytes().any(|b| b.is_ascii_uppercase()),
    }
}

fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn default_container(container: &mut Fields) {
    if text_of(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text_of(container, "image"));
        text(container, "imagePullPolicy", policy);
    }
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    absent(container, "resources", Map::new());
    for port in each(container, "ports") {
        text(port, "protocol", "TCP");
    }
    for variable in each(container, "env") {
        if let Some(from) = inside(variable, "valueFrom") {
            default_field_ref(from);
            if let Some(key) = inside(from, "fileKeyRef") {
                absent(key, "optional", false);
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = inside(container, probe) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = inside(container, "lifecycle") {
        lifecycle.remove("stopSignal");
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = inside(lifecycle, hook) {
                default_http_get(hook);
            }
        }
    }
}

fn default_probe(probe: &mut Fields) {
    number(probe, "timeoutSeconds", 1);
    number(probe, "periodSeconds", 10);
    number(probe, "successThreshold", 1);
    number(probe, "failureThreshold", 3);
    default_http_get(probe);
    if let Some(grpc) = inside(probe, "grpc") {
        absent(grpc, "service", "");
    }
}

fn default_http_get(handler: &mut Fields) {
    if let Some(get) = inside(handler, "httpGet") {
        text(get, "path", "/");
        text(get, "scheme", "HTTP");
    }
}

fn default_field_ref(from: &mut Fields) {
    if let Some(field) = inside(from, "fieldRef") {
        text(field, "apiVersion", "v1");
    }
}

/// The defaults of volume sources that pods and persistent volumes share.
pub(crate) fn default_volume_source(source: &mut Fields) {
    if let Some(path) = inside(source, "hostPath") {
        absent(path, "type", "");
    }
    if let Some(iscsi) = inside(source, "iscsi") {
        text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = inside(source, "rbd") {
        text(rbd, "pool", "rbd");
        text(rbd, "user", "admin");
        text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = inside(source, "azureDisk") {
        absent(disk, "cachingMode", "ReadWrite");
        absent(disk, "fsType", "ext4");
        absent(disk, "readOnly", false);
        absent(disk, "kind", "Shared");
    }
    if let Some(scale) = inside(source, "scaleIO") {
        text(scale, "storageMode", "ThinProvisioned");
        text(scale, "fsType", "xfs");
    }
}

fn default_volume(volume: &mut Fields) {
    if !volume
        .iter()
        .any(|(name, value)| name != "name" && !value.is_null())
    {
        volume.insert("emptyDir".to_owned(), Value::Object(Map::new()));
        return;
    }
    default_volume_source(volume);
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = inside(volume, source) {
            absent(source, "defaultMode", 0o644);
        }
    }
    if let Some(downward) = inside(volume, "downwardAPI") {
        each(downward, "items").for_each(default_field_ref);
    }
    if let Some(projected) = inside(volume, "projected") {
        for source in each(projected, "sources") {
            if let Some(downward) = inside(source, "downwardAPI") {
                each(downward, "items").for_each(default_field_ref);
            }
            if let Some(token) = inside(source, "serviceAccountToken") {
                absent(token, "expirationSeconds", 3600);
            }
        }
    }
    if let Some(image) = inside(volume, "image")
        && empty(image, "pullPolicy")
    {
        let policy = pull_policy(text_of(image, "reference"));
        text(image, "pullPolicy", policy);
    }
    if let Some(ephemeral) = inside(volume, "ephemeral")
        && let Some(template) = inside(ephemeral, "volumeClaimTemplate")
        && let Some(spec) = crate::fill::made(template, "spec")
    {
        absent(spec, "volumeMode", "Filesystem");
        absent(spec, "resources", Map::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_latest_without_a_tag_or_with_that_tag() {
        for (image, want) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.27", false),
            ("localhost:5000/nginx", true),
            ("localhost:5000/nginx:1", false),
            ("nginx@sha256:0123", false),
            ("nginx:latest@sha256:0123", true),
            ("", false),
            ("Nginx", false),
        ] {
            assert_eq!(is_latest(image), want, "{image}");
        }
    }
}
