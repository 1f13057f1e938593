//! Containers of all three kinds.

use super::{env, handler, resources, security, volume};
use crate::check::{enumerated, name_of, required_enum};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label, port_name, port_number};
use rutter_api::{ErrorList, FieldError, Value};
use std::collections::BTreeSet;

/// What containers are checked against: the pod around them.
pub(crate) struct Scope<'v> {
    spec: &'v Value,
    /// Names of resource claims.
    pub(super) claims: BTreeSet<&'v str>,
    /// Whether users in the pod are users of the host.
    pub(super) host_users: bool,
}

impl<'v> Scope<'v> {
    pub(super) fn new(spec: &'v Value) -> Self {
        let claims = spec
            .list_at("resourceClaims")
            .iter()
            .map(|c| c.str_at("name"))
            .filter(|n| !n.is_empty());
        Self {
            spec,
            claims: claims.collect(),
            host_users: spec.bool_at("hostUsers") != Some(false),
        }
    }

    /// The volume of a name.
    pub(super) fn volume(&self, name: &str) -> Option<&'v Value> {
        self.spec
            .list_at("volumes")
            .iter()
            .find(|volume| volume.str_at("name") == name)
    }

    fn restart_policy(&self) -> &'v str {
        self.spec.str_at("restartPolicy")
    }

    fn grace(&self) -> Option<i64> {
        self.spec.int_at("terminationGracePeriodSeconds")
    }

    fn names(&self, list: &str) -> impl Iterator<Item = &'v str> {
        self.spec.list_at(list).iter().map(|c| c.str_at("name"))
    }
}

/// The containers of the pod.
pub(super) fn containers(at: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let mut names = BTreeSet::new();
    for container in at.items() {
        common(&container, scope, errors);
        if !names.insert(container.child("name").text()) {
            errors.push(FieldError::duplicate(
                &container.child("name").path(),
                container.child("name").text(),
            ));
        }
        lifecycle_and_probes(&container, scope, errors);
        restart_policy(&container, errors);
    }
    host_port_conflicts(at, at.items(), errors);
}

/// The init containers, sidecars among them.
pub(super) fn init_containers(at: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    let mut names: BTreeSet<&str> = scope.names("containers").collect();
    for container in at.items() {
        common(&container, scope, errors);
        let policy = container.child("restartPolicy");
        let rules = container.child("restartPolicyRules");
        if policy.is_null() {
            if !rules.is_empty() {
                errors.push(policy.required("must specify restartPolicy when restart rules are used"));
            }
        } else {
            restart_policy(&container, errors);
        }
        let name = container.child("name");
        if names.contains(name.text()) {
            errors.push(name.duplicate());
        } else if !name.is_empty() {
            names.insert(name.text());
        }
        host_port_conflicts(at, std::iter::once(container), errors);
        if policy.text() == "Always" {
            lifecycle_and_probes(&container, scope, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.child(field).is_set() {
                let detail = "may not be set for init containers without restartPolicy=Always";
                errors.push(container.child(field).forbidden(detail));
            }
        }
        for resize in container.child("resizePolicy").items() {
            if resize.child("restartPolicy").text() == "RestartContainer" {
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(resize.child("restartPolicy").invalid(detail));
            }
        }
    }
}

const NOT_FOR_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
];

/// The ephemeral containers.
pub(super) fn ephemeral_containers(at: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    let others: BTreeSet<&str> = scope
        .names("containers")
        .chain(scope.names("initContainers"))
        .collect();
    let mut names = others.clone();
    for container in at.items() {
        common(&container, scope, errors);
        let name = container.child("name");
        if !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
        let target = container.child("targetContainerName");
        if !target.is_empty() && !others.contains(target.text()) {
            errors.push(target.not_found());
        }
        for field in NOT_FOR_EPHEMERAL {
            if !container.child(field).is_empty() {
                errors.push(
                    container
                        .child(field)
                        .forbidden("cannot be set for an Ephemeral Container"),
                );
            }
        }
        for mount in container.child("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.child(field).is_empty() {
                    errors.push(
                        mount
                            .child(field)
                            .forbidden("cannot be set for an Ephemeral Container"),
                    );
                }
            }
        }
    }
}

fn lifecycle_and_probes(container: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    handler::lifecycle(&container.child("lifecycle"), scope.grace(), errors);
    handler::liveness(&container.child("livenessProbe"), scope.grace(), errors);
    handler::readiness(&container.child("readinessProbe"), scope.grace(), errors);
    handler::liveness(&container.child("startupProbe"), scope.grace(), errors);
}

fn common(container: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    let name = container.child("name");
    if name.is_empty() {
        errors.push(name.required(""));
    } else {
        name_of(&name, dns_label, errors);
    }
    let image = container.child("image");
    if image.is_empty() {
        errors.push(image.required(""));
    } else if image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
    let policies = &["File", "FallbackToLogsOnError"];
    required_enum(&container.child("terminationMessagePolicy"), policies, errors);
    ports(&container.child("ports"), errors);
    env::variables(&container.child("env"), errors);
    env::sources(&container.child("envFrom"), errors);
    volume::mounts(container, scope, errors);
    volume::devices(container, scope, errors);
    required_enum(
        &container.child("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
    resources::requirements(&container.child("resources"), &scope.claims, false, errors);
    resize_policy(&container.child("resizePolicy"), scope.restart_policy(), errors);
    security::container(&container.child("securityContext"), scope.host_users, errors);
}

fn ports(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for port in at.items() {
        let name = port.child("name");
        if !name.is_empty() {
            let wrong = port_name(name.text());
            if !wrong.is_empty() {
                name.all(errors, wrong);
            } else if !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        let number = port.child("containerPort");
        match number.int().unwrap_or_default() {
            0 => errors.push(number.required("")),
            n => number.all(errors, port_number(n)),
        }
        let host = port.child("hostPort");
        match host.int().unwrap_or_default() {
            0 => {}
            n => host.all(errors, port_number(n)),
        }
        required_enum(&port.child("protocol"), &["SCTP", "TCP", "UDP"], errors);
    }
}

fn host_port_conflicts<'a, 'v: 'a>(
    list: &At<'_, '_>,
    containers: impl Iterator<Item = At<'a, 'v>>,
    errors: &mut ErrorList,
) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.enumerate() {
        for (j, port) in container.child("ports").items().enumerate() {
            let number = port.child("hostPort").int().unwrap_or_default();
            if number == 0 {
                continue;
            }
            let text = format!(
                "{}/{}/{number}",
                port.child("protocol").text(),
                port.child("hostIP").text()
            );
            if !taken.insert(text.clone()) {
                let path = list.path().index(i).child("ports").index(j).child("hostPort");
                errors.push(FieldError::duplicate(&path, text));
            }
        }
    }
}

fn resize_policy(at: &At<'_, '_>, pod_policy: &str, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for policy in at.items() {
        let resource = policy.child("resourceName").text();
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(&policy.path(), resource));
        }
        match resource {
            "cpu" | "memory" => {}
            "" => errors.push(at.required("")),
            _ => errors.push(FieldError::not_supported(
                &at.path(),
                resource,
                &["cpu", "memory"],
            )),
        }
        let restart = policy.child("restartPolicy").text();
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.push(at.required("")),
            _ => {
                let supported = &["NotRequired", "RestartContainer"];
                errors.push(FieldError::not_supported(&at.path(), restart, supported));
            }
        }
        if pod_policy == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(at.invalid_as(restart, detail));
        }
    }
}

fn restart_policy(container: &At<'_, '_>, errors: &mut ErrorList) {
    let policy = container.child("restartPolicy");
    let rules = container.child("restartPolicyRules");
    if policy.is_null() {
        if !rules.is_empty() {
            errors.push(policy.required("must specify restartPolicy when restart rules are used"));
        }
    } else {
        enumerated(&policy, &["Always", "Never", "OnFailure"], errors);
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&rules.path(), rules.len(), 20));
    }
    for rule in rules.items() {
        enumerated(
            &rule.child("action"),
            &["Restart", "RestartAllContainers"],
            errors,
        );
        let codes = rule.child("exitCodes");
        if codes.is_null() {
            errors.push(codes.required("must be specified"));
            continue;
        }
        enumerated(&codes.child("operator"), &["In", "NotIn"], errors);
        let values = codes.child("values");
        if values.len() > 255 {
            errors.push(FieldError::too_many(&values.path(), values.len(), 255));
        }
    }
}
