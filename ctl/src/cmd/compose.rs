//! `compose`: a Compose file brought up as objects of the cluster, looked at, and taken away again.
//!
//! What is made carries the project's labels; what is there without them is never touched.

use super::common::DryRun;
use super::delete::{Options, delete_and_wait, wait_gone};
use crate::cli::flags::{OUTPUT, TEMPLATE};
use crate::cli::{Call, Command, Flag, array, bool, duration, slice, text};
use crate::compose::{self, Condition, MANAGED_BY, MANAGER, NAME, Output, PART_OF, Publish, Settings};
use crate::describe::writer::items;
use crate::discovery::Discovery;
use crate::error::{Error, Result};
use crate::print::{Format, Printer, list_of};
use crate::resource::Info;
use crate::resource::builder::{info_of, list};
use crate::rest::{Rest, patch, with_query};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

const PROJECT: &[Flag] = &[
    slice("file", "Compose files; later ones are laid over earlier ones. Left out, compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml is looked for here and above, and an override beside it.").short('f'),
    text("project-name", "", "Name of the project. Left out: COMPOSE_PROJECT_NAME, the file's name, the directory's name.").short('p'),
    array("env-file", "File of variables. Left out: .env beside the first file."),
];

const CONVERSION: &[Flag] = &[
    slice("profile", "Profiles to switch on. Left out: COMPOSE_PROFILES."),
    text(
        "publish",
        "nodeport",
        "How published ports are reached: \"nodeport\", on every node, by the published port if it is in 30000-32767; \"hostport\", by the published port of the node that runs the pod; \"loadbalancer\", by the published port of a load balancer.",
    ),
    text(
        "volume-size",
        "1Gi",
        "Size of volumes whose driver_opts say no size.",
    ),
];

/// The group.
pub static COMMAND: Command = Command {
    name: "compose",
    short: "Bring up a Compose file (docker-compose.yml) as objects of the cluster",
    long: "Bring up a Compose file (docker-compose.yml) as objects of the cluster.\n\n Services become Deployments with Services of their names (Jobs where restart is no or on-failure, DaemonSets where they run on every node), named volumes PersistentVolumeClaims, files, configs and env_files ConfigMaps, secrets Secrets. What has no counterpart is told with its place in the file: as a warning where it can be left out, else as an error, and then nothing is made.",
    examples: "
        # Bring up the project in this directory, look at what it would make, take it away
        {} compose up
        {} compose config
        {} compose down --volumes",
    flags: &[PROJECT, CONVERSION],
    subs: &[&UP, &DOWN, &CONFIG],
    ..Command::NEW
};

static UP: Command = Command {
    name: "up",
    short: "Make or bring up to date what a Compose file says",
    long: "Make or bring up to date what a Compose file says.\n\n Services start in the order of depends_on, whose conditions are waited for. Where the cluster has no default StorageClass, volumes are made on the disk of one node.",
    examples: "
        # A file, with a profile
        {} compose up -f docker-compose.yml --profile debug",
    flags: &[
        PROJECT,
        CONVERSION,
        &[
            bool(
                "remove-orphans",
                "Remove what belongs to the project and isn't in the file any more.",
            ),
            bool("wait", "Wait until everything is ready.").on(),
            duration("timeout", "5m0s", "How long to wait for each service."),
        ],
    ],
    run: Some(|c| Box::pin(up(c))),
    ..Command::NEW
};

static DOWN: Command = Command {
    name: "down",
    short: "Remove what a Compose file made",
    examples: "
        # The project in this directory; another one by name, with its data
        {} compose down
        {} compose down -p shop --volumes",
    flags: &[
        PROJECT,
        &[
            bool("volumes", "Remove the claims of named volumes, too."),
            duration("timeout", "5m0s", "How long to wait for pods to end."),
        ],
    ],
    run: Some(|c| Box::pin(down(c))),
    ..Command::NEW
};

static CONFIG: Command = Command {
    name: "config",
    short: "Print the objects that a Compose file means",
    long: "Print the objects that a Compose file means. The order of depends_on is kept by `up` alone: in manifests nothing says it.",
    examples: "
        # As manifests to keep
        {} compose config -f docker-compose.yml > manifests.yaml",
    flags: &[PROJECT, CONVERSION, OUTPUT, TEMPLATE],
    run: Some(|c| Box::pin(config(c))),
    ..Command::NEW
};

/// What a project's objects may be, workloads first: they go before what they use.
const KINDS: &[(&str, &str)] = &[
    ("apps/v1", "Deployment"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
];

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn project_name(call: &Call, read: &str) -> Result<String> {
    let said = call
        .flags
        .given("project-name")
        .map(str::to_owned)
        .or_else(|| environment("COMPOSE_PROJECT_NAME"))
        .unwrap_or_else(|| read.to_owned());
    compose::project_name(&said).ok_or_else(|| {
        Error::new(format!(
            "{said:?} is no name of a project: give one with --project-name"
        ))
    })
}

/// Reads and converts; warnings are told, refusals are the error.
fn converted(call: &Call) -> Result<(String, Output)> {
    if let Some(arg) = call.args.first() {
        return Err(call.usage(format!("Unexpected args: [{arg}]")));
    }
    let project = compose::load::load(&call.list("file"), &call.list("env-file"))?;
    let publish = match call.str("publish") {
        "nodeport" => Publish::NodePort,
        "hostport" => Publish::HostPort,
        "loadbalancer" => Publish::LoadBalancer,
        other => {
            return Err(Error::new(format!(
                "invalid --publish value ({other}). Must be \"nodeport\", \"hostport\", or \"loadbalancer\""
            )));
        }
    };
    let size = call.str("volume-size");
    if size.parse::<rutter_api::Quantity>().is_err() {
        return Err(Error::new(format!("invalid --volume-size value: {size}")));
    }
    let profiles = if call.changed("profile") {
        call.list("profile")
    } else {
        environment("COMPOSE_PROFILES").map_or_else(Vec::new, |v| v.split(',').map(str::to_owned).collect())
    };
    let settings = Settings {
        project: project_name(call, &project.name)?,
        profiles,
        publish,
        volume_size: size.to_owned(),
    };
    let output = compose::convert(&project.model, &settings, &project.source);
    for warning in project.report.warnings.iter().chain(&output.report.warnings) {
        crate::errln!("Warning: {warning}");
    }
    let refusals: Vec<Error> = project
        .report
        .refusals
        .iter()
        .chain(&output.report.refusals)
        .map(|r| Error::new(r.to_string()))
        .collect();
    Error::collect(refusals)?;
    Ok((settings.project, output))
}

async fn config(call: Call) -> Result<()> {
    let (_, output) = converted(&call)?;
    let mut printer = Printer::from_call(&call)?;
    if printer.is_human() {
        printer.format = Format::Yaml;
    }
    if matches!(printer.format, Format::Yaml | Format::Name) {
        return output.objects.iter().try_for_each(|o| printer.print(o));
    }
    printer.print(&list_of(output.objects))
}

/// A project in its cluster.
struct Cluster {
    rest: Rc<Rest>,
    discovery: Rc<Discovery>,
    namespace: String,
    project: String,
    timeout: Duration,
}

impl Cluster {
    async fn of(call: &Call, project: String) -> Result<Self> {
        Ok(Self {
            rest: call.ctx.rest().await?,
            discovery: call.ctx.discovery().await?,
            namespace: call.ctx.namespace()?,
            project,
            timeout: call.flags.duration("timeout"),
        })
    }

    fn info(&self, object: &Value) -> Result<Info> {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let mapping = super::common::mapping_of(&self.discovery, &version, &kind)?;
        Ok(Info {
            namespace: if mapping.namespaced {
                self.namespace.clone()
            } else {
                String::new()
            },
            name: text(&object["metadata"]["name"]),
            mapping,
            object: object.clone(),
            source: String::new(),
        })
    }

    /// Brings one object to what the file says, and tells what was done.
    async fn apply(&self, object: &Value) -> Result<()> {
        let info = self.info(object)?;
        let before = match self.rest.get(&info.path()).await {
            Ok(live) => Some(live),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        if let Some(live) = &before
            && live["metadata"]["labels"][PART_OF] != object["metadata"]["labels"][PART_OF]
        {
            return Err(Error::new(format!(
                "{} is there and doesn't belong to the project {}",
                info.display(),
                self.project
            )));
        }
        let after = match self.send(&info).await {
            // What a Job runs can't change, nor whether a Service has an address.
            Err(e)
                if e.is_invalid()
                    && matches!(info.mapping.kind.as_str(), "Job" | "Service")
                    && before.is_some() =>
            {
                delete_and_wait(&self.rest, &info, -1, "Background", self.timeout).await?;
                self.send(&info).await?
            }
            other => other?,
        };
        let word = match before {
            None => "created",
            Some(b) if b["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] => {
                "unchanged"
            }
            Some(_) => "configured",
        };
        crate::outln!("{} {word}", info.display());
        Ok(())
    }

    async fn send(&self, info: &Info) -> Result<Value> {
        let params = [
            ("fieldManager", MANAGER.to_owned()),
            ("force", "true".to_owned()),
            ("fieldValidation", "Strict".to_owned()),
        ];
        let mut object = info.object.clone();
        if info.mapping.namespaced {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        self.rest
            .patch(
                &with_query(&info.path(), &params),
                patch::APPLY,
                serde_json::to_vec(&object)?,
            )
            .await
    }

    /// What is there of the project, of these kinds.
    async fn present(&self, kinds: &[(&str, &str)]) -> Result<Vec<Info>> {
        let selector = format!("{MANAGED_BY}={MANAGER},{PART_OF}={}", self.project);
        let mut out = Vec::new();
        for (version, kind) in kinds {
            let mapping = super::common::mapping_of(&self.discovery, version, kind)?;
            let place = if mapping.namespaced {
                self.namespace.as_str()
            } else {
                ""
            };
            let params = [("labelSelector", selector.clone())];
            for object in list(&self.rest, &mapping, place, &params, 500).await? {
                out.push(info_of(&mapping, object));
            }
        }
        Ok(out)
    }

    /// Deletes objects and waits until they and their pods are gone.
    async fn remove(&self, infos: Vec<Info>) -> Result<()> {
        let options = Options {
            grace: -1,
            policy: "Foreground",
            dry: DryRun::None,
        };
        let mut deleted = Vec::new();
        let mut errors = Vec::new();
        for info in infos {
            match options.delete(&self.rest, &info).await {
                Ok(uid) => {
                    crate::outln!("{} deleted", info.display());
                    deleted.push((info, uid));
                }
                Err(e) if e.is_not_found() => {}
                Err(e) => errors.push(e),
            }
        }
        if let Err(e) = wait_gone(&self.rest, &deleted, self.timeout).await {
            errors.push(e);
        }
        Error::collect(errors)
    }

    /// Waits until a workload is as far as another one needs it.
    async fn reach(&self, workload: &Value, condition: Condition) -> Result<()> {
        let info = self.info(workload)?;
        let deadline = tokio::time::Instant::now() + self.timeout;
        loop {
            let live = info.with(self.rest.get(&info.path()).await?);
            let there = match condition {
                Condition::Started => self.started(&live).await?,
                Condition::Healthy => healthy(&live)?,
                Condition::Completed => completed(&live)?,
            };
            if there {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                let what = match condition {
                    Condition::Started => "to start",
                    Condition::Healthy => "to be ready",
                    Condition::Completed => "to complete",
                };
                return Err(Error::new(format!(
                    "timed out waiting for {} {what}",
                    info.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Whether a pod of the workload runs, or none is to.
    async fn started(&self, live: &Info) -> Result<bool> {
        if live.object["spec"]["replicas"] == 0 {
            return Ok(true);
        }
        let labels = &live.object["metadata"]["labels"];
        let name = labels[NAME].as_str().unwrap_or("");
        let selector = format!("{PART_OF}={},{NAME}={name}", self.project);
        let mapping = super::common::mapping_of(&self.discovery, "v1", "Pod")?;
        let pods = list(
            &self.rest,
            &mapping,
            &self.namespace,
            &[("labelSelector", selector)],
            500,
        )
        .await?;
        Ok(pods
            .iter()
            .any(|p| matches!(p["status"]["phase"].as_str(), Some("Running" | "Succeeded"))))
    }

    /// Volumes for claims, where nobody in the cluster makes them.
    async fn volumes(&self, objects: &mut Vec<Value>) -> Result<()> {
        if !objects.iter().any(|o| o["kind"] == "PersistentVolumeClaim") {
            return Ok(());
        }
        let classes = super::common::mapping_of(&self.discovery, "storage.k8s.io/v1", "StorageClass")?;
        let default = "storageclass.kubernetes.io/is-default-class";
        let classes = list(&self.rest, &classes, "", &[], 500).await?;
        if classes
            .iter()
            .any(|c| c["metadata"]["annotations"][default] == "true")
        {
            return Ok(());
        }
        let nodes = super::common::mapping_of(&self.discovery, "v1", "Node")?;
        let nodes = list(&self.rest, &nodes, "", &[], 500).await?;
        let usable = |n: &&Value| {
            n["spec"]["unschedulable"] != true
                && items(&n["status"]["conditions"])
                    .iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let Some(node) = nodes.iter().find(usable) else {
            return Err(Error::new("no node is ready to hold volumes"));
        };
        let node = node["metadata"]["labels"]["kubernetes.io/hostname"]
            .as_str()
            .unwrap_or("");
        let mut made = Vec::new();
        for claim in objects
            .iter_mut()
            .filter(|o| o["kind"] == "PersistentVolumeClaim")
        {
            claim["spec"]["storageClassName"] = json!("");
            let volume = compose::local_volume(claim, &self.namespace, node);
            // One that is there stays where its data is.
            if super::delete::exists(&self.rest, &self.info(&volume)?).await? {
                continue;
            }
            crate::errln!(
                "Warning: there is no default StorageClass: {} is kept in {} of node {node}",
                claim["metadata"]["name"].as_str().unwrap_or(""),
                volume["spec"]["hostPath"]["path"].as_str().unwrap_or("")
            );
            made.push(volume);
        }
        objects.splice(0..0, made);
        Ok(())
    }
}

fn healthy(live: &Info) -> Result<bool> {
    if live.mapping.kind == "Job" {
        let status = &live.object["status"];
        let wanted = live.object["spec"]["parallelism"].as_i64().unwrap_or(1);
        return Ok(status["ready"].as_i64().unwrap_or(0) >= wanted || completed(live)?);
    }
    super::rollout::progress(live, 0).map(|(_, done)| done)
}

fn completed(live: &Info) -> Result<bool> {
    for condition in items(&live.object["status"]["conditions"]) {
        if condition["status"] == "True" {
            match condition["type"].as_str() {
                Some("Complete") => return Ok(true),
                Some("Failed") => {
                    return Err(Error::new(format!(
                        "{} failed: {}",
                        live.display(),
                        condition["message"].as_str().unwrap_or("")
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(false)
}

fn is_workload(object: &Value) -> bool {
    matches!(object["kind"].as_str(), Some("Deployment" | "DaemonSet" | "Job"))
}

async fn up(call: Call) -> Result<()> {
    let (project, output) = converted(&call)?;
    let cluster = Cluster::of(&call, project).await?;
    let (workloads, mut others): (Vec<Value>, Vec<Value>) = output.objects.into_iter().partition(is_workload);
    cluster.volumes(&mut others).await?;
    for object in &others {
        cluster.apply(object).await?;
    }
    let wanted: Vec<&Value> = others.iter().chain(&workloads).collect();
    orphans(&call, &cluster, &wanted).await?;
    let named = |name: &str| workloads.iter().find(|w| w["metadata"]["name"] == name);
    let waves = compose::waves(&output.needs)
        .map_err(|names| Error::new(format!("{} wait for each other", names.join(", "))))?;
    for (service, needs) in waves.iter().flatten() {
        for (other, condition) in needs {
            if let Some(workload) = named(other) {
                cluster.reach(workload, *condition).await?;
            }
        }
        if let Some(workload) = named(service) {
            cluster.apply(workload).await?;
        }
    }
    if call.bool("wait") {
        for workload in workloads.iter().filter(|w| w["kind"] != "Job") {
            cluster.reach(workload, Condition::Healthy).await?;
        }
    }
    addresses(&cluster, &others).await
}

/// What the project has and the file doesn't: parts of services that are still there go, others are told.
async fn orphans(call: &Call, cluster: &Cluster, wanted: &[&Value]) -> Result<()> {
    let services: Vec<&Value> = wanted
        .iter()
        .filter(|o| o["kind"] == "Service")
        .map(|o| &o["metadata"]["labels"][NAME])
        .collect();
    let mut remove = Vec::new();
    for info in cluster.present(KINDS).await? {
        let same = |o: &&&Value| {
            o["kind"].as_str() == Some(&info.mapping.kind)
                && o["metadata"]["name"].as_str() == Some(&info.name)
        };
        if wanted.iter().any(|o| same(&o)) {
            continue;
        }
        if call.bool("remove-orphans") || services.contains(&&info.object["metadata"]["labels"][NAME]) {
            remove.push(info);
        } else {
            crate::errln!(
                "Warning: {} is of this project and not in the file: --remove-orphans removes it",
                info.display()
            );
        }
    }
    cluster.remove(remove).await
}

/// Tells where published ports are.
async fn addresses(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let nodes = super::common::mapping_of(&cluster.discovery, "v1", "Node")?;
    let mut node: Option<String> = None;
    for object in objects.iter().filter(|o| o["spec"]["type"] == "NodePort") {
        let info = cluster.info(object)?;
        let live = cluster.rest.get(&info.path()).await?;
        if node.is_none() {
            // Whoever may not see nodes is told the port alone.
            let all = list(&cluster.rest, &nodes, "", &[], 500)
                .await
                .unwrap_or_default();
            node = Some(
                all.iter()
                    .flat_map(|n| items(&n["status"]["addresses"]))
                    .find(|a| a["type"] == "InternalIP")
                    .and_then(|a| a["address"].as_str())
                    .unwrap_or("NODE")
                    .to_owned(),
            );
        }
        for port in items(&live["spec"]["ports"]) {
            crate::outln!(
                "{}: {}:{}/{} -> {}",
                info.name,
                node.as_deref().unwrap_or("NODE"),
                port["nodePort"],
                port["protocol"].as_str().unwrap_or("TCP").to_lowercase(),
                port["port"]
            );
        }
    }
    Ok(())
}

async fn down(call: Call) -> Result<()> {
    if let Some(arg) = call.args.first() {
        return Err(call.usage(format!("Unexpected args: [{arg}]")));
    }
    // By name alone no file is needed.
    let named = call.changed("project-name") && !call.changed("file");
    let read = if named {
        String::new()
    } else {
        compose::load::load(&call.list("file"), &call.list("env-file"))?.name
    };
    let cluster = Cluster::of(&call, project_name(&call, &read)?).await?;
    let mut found = cluster.present(KINDS).await?;
    if call.bool("volumes") {
        found.extend(cluster.present(&[("v1", "PersistentVolumeClaim")]).await?);
        let volumes = cluster.present(&[("v1", "PersistentVolume")]).await?;
        found.extend(
            volumes
                .into_iter()
                .filter(|v| v.object["spec"]["claimRef"]["namespace"] == cluster.namespace.as_str()),
        );
    }
    if found.is_empty() {
        crate::errln!(
            "No resources of project {} found in {} namespace.",
            cluster.project,
            cluster.namespace
        );
        return Ok(());
    }
    cluster.remove(found).await
}
