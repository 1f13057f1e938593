//! Validation of pod specs, in pods and in templates of pods.

mod annotations;
mod container;
mod env;
mod handler;
mod resources;
mod scheduling;
mod security;
mod volume;
pub(crate) mod warnings;

pub(crate) use container::Scope;
pub(crate) use resources::{is_extended, quantity_value, resource_name};
pub(crate) use scheduling::{node_selector, tolerations};
pub(crate) use volume::{backsteps, csi_driver_name, local_non_reserved_path, shared_source};

use crate::check::{enumerated, in_range, name_of, required_enum};
use annotations::pod_annotations;
use rutter_api::ErrorList;
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, annotations, dns_label, dns_subdomain, labels, qualified_name};
use rutter_api::validation::{dns_subdomain_underscore, ip, selector_has_invalid_value};
use rutter_api::{FieldError, Value};
use std::collections::BTreeSet;

/// What an object may keep because it, or the one it replaces, had it before rules grew stricter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leniency {
    /// It is a pod, not a template of pods.
    pub(crate) is_pod: bool,
    /// Selectors may have values that are no label values.
    pub(crate) selectors: bool,
}

impl Leniency {
    /// For a template, given the object it replaces.
    pub(crate) fn of(old: Option<&Value>, spec_path: &str) -> Self {
        Self {
            is_pod: false,
            selectors: old.is_some_and(|old| has_invalid_selectors(old.at(spec_path))),
        }
    }
}

/// Whether affinity or spread constraints of a spec select by values that are no label values.
pub(crate) fn has_invalid_selectors(spec: &Value) -> bool {
    let mut found = spec
        .list_at("topologySpreadConstraints")
        .iter()
        .any(|constraint| selector_has_invalid_value(constraint.at("labelSelector")));
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(affinity);
        let required = affinity
            .list_at("requiredDuringSchedulingIgnoredDuringExecution")
            .iter();
        let preferred = affinity
            .list_at("preferredDuringSchedulingIgnoredDuringExecution")
            .iter();
        found |= required
            .chain(preferred.map(|weighted| weighted.at("podAffinityTerm")))
            .any(|term| {
                ["labelSelector", "namespaceSelector"]
                    .iter()
                    .any(|s| selector_has_invalid_value(term.at(s)))
            });
    }
    found
}

/// A template of pods.
pub(crate) fn template(at: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    let metadata = at.child("metadata");
    labels(&at.field("labels", metadata.child("labels").value), errors);
    let notes = at.field("annotations", metadata.child("annotations").value);
    annotations(&notes, errors);
    let spec = at.child("spec");
    pod_annotations(&notes, &spec, errors);
    pod_spec(&spec, None, lenient, errors);
    security::annotations_match(&metadata.child("annotations"), &spec, errors);
    if !spec.child("ephemeralContainers").is_empty() {
        errors.push(
            spec.child("ephemeralContainers")
                .forbidden("ephemeral containers not allowed in pod template"),
        );
    }
}

/// Metadata's annotations and the spec of a pod.
pub(crate) fn pod(root: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    let metadata = root.child("metadata");
    let spec = root.child("spec");
    pod_annotations(&metadata.child("annotations"), &spec, errors);
    pod_spec(&spec, Some(root.value), lenient, errors);
}

/// What only a new pod is asked.
pub(crate) fn new_pod(root: &At<'_, '_>, errors: &mut ErrorList) {
    let spec = root.child("spec");
    if !spec.child("ephemeralContainers").is_empty() {
        errors.push(
            spec.child("ephemeralContainers")
                .forbidden("cannot be set on create"),
        );
    }
    if !spec.child("nodeName").is_empty() && !spec.child("schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(spec.child("nodeName").forbidden(detail));
    }
    let metadata = root.child("metadata");
    security::annotations_match(&metadata.child("annotations"), &spec, errors);
}

fn pod_spec(spec: &At<'_, '_>, pod: Option<&Value>, lenient: Leniency, errors: &mut ErrorList) {
    if spec.child("terminationGracePeriodSeconds").is_null() {
        errors.push(spec.child("terminationGracePeriodSeconds").required(""));
    }
    let volumes = spec.child("volumes");
    volume::volumes(&volumes, pod, errors);
    resources::claims(&spec.child("resourceClaims"), pod, errors);
    let scope = Scope::new(spec.value);
    container::containers(&spec.child("containers"), &scope, errors);
    container::init_containers(&spec.child("initContainers"), &scope, errors);
    container::ephemeral_containers(&spec.child("ephemeralContainers"), &scope, errors);
    resources::pod_level(spec, errors);
    host_network_ports(spec, lenient, errors);
    required_enum(
        &spec.child("restartPolicy"),
        &["Always", "OnFailure", "Never"],
        errors,
    );
    required_enum(
        &spec.child("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        errors,
    );
    labels(&spec.child("nodeSelector"), errors);
    security::pod(spec, &spec.child("securityContext"), errors);
    image_pull_secrets(&spec.child("imagePullSecrets"), errors);
    scheduling::affinity(&spec.child("affinity"), lenient.selectors, errors);
    dns_config(spec, errors);
    for gate in spec.child("readinessGates").items() {
        let kind = gate.child("conditionType");
        kind.all(errors, qualified_name(kind.text()));
    }
    scheduling_gates(&spec.child("schedulingGates"), errors);
    scheduling::spread(
        &spec.child("topologySpreadConstraints"),
        lenient.selectors,
        errors,
    );
    security::windows_host_process(spec, errors);
    host_users(spec, errors);
    host_name(spec, errors);
    names(spec, errors);
    tolerations(&spec.child("tolerations"), errors);
    for alias in spec.child("hostAliases").items() {
        legacy_ip(&alias.child("ip"), errors);
        for hostname in alias.child("hostnames").items() {
            hostname.all(errors, dns_subdomain(hostname.text()));
        }
    }
    if spec.child("preemptionPolicy").is_set() {
        required_enum(
            &spec.child("preemptionPolicy"),
            &["PreemptLowerPriority", "Never"],
            errors,
        );
    }
    resources::overhead(&spec.child("overhead"), errors);
    operating_system(spec, errors);
    env::file_key_volumes(spec, errors);
}

/// An address in a field that was once loosely checked.
pub(crate) fn legacy_ip(at: &At<'_, '_>, errors: &mut ErrorList) {
    if ip(at.text()).is_none() {
        errors.push(at.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
}

fn names(spec: &At<'_, '_>, errors: &mut ErrorList) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName"] {
        if !spec.child(field).is_empty() {
            name_of(&spec.child(field), dns_subdomain, errors);
        }
    }
    if spec.child("runtimeClassName").is_set() {
        name_of(&spec.child("runtimeClassName"), dns_subdomain, errors);
    }
    for field in ["hostname", "subdomain"] {
        if !spec.child(field).is_empty() {
            name_of(&spec.child(field), dns_label, errors);
        }
    }
    if spec.child("activeDeadlineSeconds").is_set() {
        in_range(
            &spec.child("activeDeadlineSeconds"),
            1,
            i64::from(i32::MAX),
            errors,
        );
    }
}

fn host_network_ports(spec: &At<'_, '_>, lenient: Leniency, errors: &mut ErrorList) {
    if !spec.child("hostNetwork").flag() {
        return;
    }
    for container in spec.child("containers").items() {
        for port in container.child("ports").items() {
            let host = port.child("hostPort").int().unwrap_or_default();
            let own = port.child("containerPort").int().unwrap_or_default();
            if (lenient.is_pod || host != 0) && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(port.child("hostPort").invalid_as(host, detail));
            }
        }
    }
}

fn image_pull_secrets(at: &At<'_, '_>, errors: &mut ErrorList) {
    for secret in at.items() {
        if secret.entries().any(|(field, _)| field != "name") {
            errors.push(secret.invalid("only name may be set"));
        }
    }
}

fn scheduling_gates(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for gate in at.items() {
        let name = gate.child("name").text();
        errors.extend(qualified_name(name).into_iter().map(|e| gate.invalid_as(name, e)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&gate.path(), name));
        }
    }
}

fn dns_config(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let config = spec.child("dnsConfig");
    let servers = config.child("nameservers");
    if spec.child("dnsPolicy").text() == "None" {
        if config.is_null() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(servers.required(detail));
            return;
        }
    }
    if config.is_null() {
        return;
    }
    if servers.len() > 3 {
        errors.push(servers.invalid("must not have more than 3 nameservers"));
    }
    for server in servers.items() {
        legacy_ip(&server, errors);
    }
    let searches = config.child("searches");
    if searches.len() > 32 {
        errors.push(searches.invalid("must not have more than 32 search paths"));
    }
    let total: usize = searches.items().map(|s| s.text().len() + 1).sum();
    if total > 2049 {
        errors.push(
            searches.invalid("must not have more than 2048 characters (including spaces) in the search list"),
        );
    }
    for search in searches.items() {
        if search.text() != "." {
            let text = search.text().strip_suffix('.').unwrap_or(search.text());
            errors.extend(
                dns_subdomain_underscore(text)
                    .into_iter()
                    .map(|e| search.invalid_as(text, e)),
            );
        }
    }
    for option in config.child("options").items() {
        if option.child("name").is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}

fn host_users(spec: &At<'_, '_>, errors: &mut ErrorList) {
    if spec.child("hostUsers").value != &Value::Bool(false) {
        return;
    }
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.child(field).flag() {
            errors.push(spec.child(shown).forbidden("when `hostUsers` is false"));
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.child(list).items() {
            if !container.child("volumeDevices").is_empty() {
                errors.push(
                    container
                        .child("volumeDevices")
                        .forbidden("when `hostUsers` is false"),
                );
            }
        }
    }
}

fn host_name(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let name = spec.child("hostnameOverride");
    if name.is_null() {
        return;
    }
    if spec.child("setHostnameAsFQDN").flag() {
        errors.push(name.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.child("hostNetwork").flag() {
        errors.push(name.forbidden("may not be specified when hostNetwork is true"));
    }
    if name.text().len() > 64 {
        errors.push(FieldError::too_long(&name.path(), 64));
    }
    name.all(errors, dns_subdomain(name.text()));
}

fn operating_system(spec: &At<'_, '_>, errors: &mut ErrorList) {
    let os = spec.child("os");
    if os.is_null() {
        return;
    }
    let name = os.child("name");
    if name.is_empty() {
        errors.push(name.required("cannot be empty"));
        return;
    }
    enumerated(&name, &["linux", "windows"], errors);
    match name.text() {
        "linux" => security::linux(spec, errors),
        "windows" => security::windows(spec, errors),
        _ => {}
    }
}
