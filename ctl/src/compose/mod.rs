//! Compose files as objects of the cluster.
//!
//! Pure: [`convert`] takes the merged and interpolated model and a [`Source`] of the files it names, and gives objects,
//! what was left out, and what can't be. [`load`] reads the files; `rctl compose` sends the objects. Follows the Compose
//! specification (<https://compose-spec.io>).
//!
//! A service becomes a Deployment (a Job where it isn't to run for ever, a DaemonSet where it runs on every node) and a
//! Service of its name; named volumes become PersistentVolumeClaims, files and `env_file`s ConfigMaps, secrets Secrets.
//! Health checks become readiness probes: Compose, too, only looks at health and restarts nothing for it.

mod container;
mod files;
mod interpolate;
mod keys;
pub mod load;
mod merge;
mod network;
mod order;
mod resources;
mod value;
mod volumes;
mod workload;

pub use interpolate::interpolate;
pub use order::{Condition, Wave, waves};

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The label that says which project an object belongs to.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// The label that says that an object was made from a Compose file.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub const MANAGER: &str = "rctl-compose";
/// The label that names the service.
pub const NAME: &str = "app.kubernetes.io/name";

/// The name of a project as labels can carry it; None if nothing is left of it.
pub fn project_name(text: &str) -> Option<String> {
    Some(value::label(&text.to_lowercase())).filter(|name| !name.is_empty())
}

/// A remark about a place of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where, such as `services.web.ports[0]`.
    pub path: String,
    /// What about it.
    pub text: String,
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Remarks, gathered on the way.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is left out or done differently.
    pub warnings: Vec<Remark>,
    /// What can't be done.
    pub refusals: Vec<Remark>,
}

impl Report {
    fn warn(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.warnings.push(Remark {
            path: path.into(),
            text: text.into(),
        });
    }

    fn refuse(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.refusals.push(Remark {
            path: path.into(),
            text: text.into(),
        });
    }
}

/// What a path in the file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Nothing is there.
    Missing,
}

/// Files and variables that a Compose file names. Paths are as the file says them.
pub trait Source {
    /// What is at a path.
    fn kind(&self, path: &str) -> PathKind;
    /// A file's content.
    ///
    /// # Errors
    /// Why it can't be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// Files directly in a directory, by name; None if there is anything else in it.
    fn list(&self, path: &str) -> Option<Vec<String>>;
    /// The path as the machine knows it.
    fn absolute(&self, path: &str) -> String;
    /// A variable of `.env` or the environment.
    fn variable(&self, name: &str) -> Option<String>;
}

/// How published ports are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publish {
    /// By a port of every node: the published one if it is in 30000-32767.
    #[default]
    NodePort,
    /// By a load balancer, on the published port.
    LoadBalancer,
    /// On the published port of the node that runs the pod.
    HostPort,
}

/// What isn't said by the file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the project, as [`project_name`] gives it.
    pub project: String,
    /// Profiles that are on; `*` is all.
    pub profiles: Vec<String>,
    /// How published ports are reached.
    pub publish: Publish,
    /// Size of volumes that say none.
    pub volume_size: String,
}

/// A project, converted.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Objects, in an order in which they can be made.
    pub objects: Vec<Value>,
    /// Services that are on, by the name of their workload, with what each waits for.
    pub needs: BTreeMap<String, Vec<(String, Condition)>>,
    /// Remarks.
    pub report: Report,
}

/// What all parts of the conversion see.
struct Cx<'a> {
    settings: &'a Settings,
    model: &'a Value,
    source: &'a dyn Source,
    report: Report,
    /// ConfigMaps, Secrets and claims, by kind and name: made when first asked for.
    shared: BTreeMap<(u8, String), Value>,
}

impl Cx<'_> {
    /// Labels of every object; with the service's name if it belongs to one.
    fn labels(&self, service: Option<&str>) -> Value {
        let mut labels = json!({MANAGED_BY: MANAGER, PART_OF: self.settings.project});
        if let Some(name) = service {
            labels[NAME] = json!(value::label(name));
        }
        labels
    }

    /// What selects a service's pods.
    fn selector(&self, service: &str) -> Value {
        json!({PART_OF: self.settings.project, NAME: value::label(service)})
    }
}

/// Converts a project.
pub fn convert(model: &Value, settings: &Settings, source: &dyn Source) -> Output {
    let mut cx = Cx {
        settings,
        model,
        source,
        report: Report::default(),
        shared: BTreeMap::new(),
    };
    keys::top(&mut cx.report, model);
    let services = order::enabled(&mut cx, model);
    let mut workloads = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (service, spec) in &services {
        let path = format!("services.{service}");
        keys::service(&mut cx.report, spec, &path);
        let name = value::dns_label(service);
        if name != *service {
            cx.report.warn(&path, format!("is named {name} in the cluster"));
        }
        if names.contains(&name) {
            cx.report
                .refuse(&path, format!("another service is named {name}, too"));
        }
        names.push(name.clone());
        let ports = network::ports(&mut cx, spec, &path);
        workloads.push(workload::workload(&mut cx, &name, spec, &ports, &path));
        let own = network::services(&mut cx, &name, spec, &ports, &path);
        workloads.extend(own);
    }
    let needs = order::needs(&mut cx, &services);
    order::check(&mut cx.report, &needs);
    let mut objects: Vec<Value> = std::mem::take(&mut cx.shared).into_values().collect();
    workload::hash(&mut workloads, &objects);
    // Services come before what runs behind them, so that names resolve from the first second on.
    let (services, others): (Vec<Value>, Vec<Value>) =
        workloads.into_iter().partition(|o| o["kind"] == "Service");
    let mut seen = Vec::new();
    for service in services {
        let name = service["metadata"]["name"].clone();
        if seen.contains(&name) {
            cx.report.refuse(
                "services",
                format!("{} is the name of two services", name.as_str().unwrap_or("")),
            );
            continue;
        }
        seen.push(name);
        objects.push(service);
    }
    objects.extend(others);
    Output {
        objects,
        needs,
        report: cx.report,
    }
}

/// A volume of a node's disk for a claim, where the cluster has nobody who makes volumes.
///
/// The volume is bound to the node, since its data is nowhere else, and stays when the claim goes.
pub fn local_volume(claim: &Value, namespace: &str, node: &str) -> Value {
    let name = claim["metadata"]["name"].as_str().unwrap_or("");
    let project = claim["metadata"]["labels"][PART_OF].as_str().unwrap_or("");
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": format!("{namespace}-{project}-{name}"),
            "labels": claim["metadata"]["labels"],
        },
        "spec": {
            "capacity": claim["spec"]["resources"]["requests"],
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
            "hostPath": {
                "path": format!("/var/lib/rutter/compose/{namespace}/{project}/{name}"),
                "type": "DirectoryOrCreate",
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{
                "matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}],
            }]}},
        },
    })
}

#[cfg(test)]
mod tests;
