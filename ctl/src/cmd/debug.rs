//! `debug`: an ephemeral container in a pod, a copy of a pod, or a pod on a node.

use super::common::{DryRun, Write};
use super::run::wait_for;
use crate::cli::flags::{FILENAME, POD_TIMEOUT};
use crate::cli::{Args, Call, Command, array, bool, text};
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::resource::builder::Query;
use crate::rest::{Rest, patch};
use rutter_api::codec::yaml::parse_text;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The command.
pub static COMMAND: Command = Command {
    name: "debug",
    short: "Create debugging sessions for troubleshooting workloads and nodes",
    long: "Debug cluster resources using interactive debugging containers.\n\n 'debug' provides automation for common debugging tasks for cluster objects identified by resource and name. Pods will be used by default if no resource is specified.\n\n  *  Workload: Create a copy of an existing pod with certain attributes changed, for example changing the image tag to a new version.\n  *  Workload: Add an ephemeral container to an already running pod, for example to add debugging utilities without restarting the pod.\n  *  Node: Create a new pod that runs in the node's host namespaces and can access the node's filesystem.",
    examples: "
        # A shell beside a running container
        {} debug web-0 -it --image=busybox --target=app

        # A copy of a pod with another command
        {} debug web-0 -it --copy-to=web-debug --container=app -- sh

        # A shell on a node, its file system in /host
        {} debug node/worker-1 -it --image=busybox",
    usage: "(POD | TYPE[[.VERSION].GROUP]/NAME) [ -- COMMAND [args...] ]",
    flags: &[FILENAME, POD_TIMEOUT, &[
        bool("arguments-only", "If specified, everything after -- will be passed to the new container as Args instead of Command."),
        bool("attach", "If true, wait for the container to start running, and then attach as if 'kubectl attach ...' were called.  Default false, unless '-i/--stdin' is set, in which case the default is true."),
        text("container", "", "Container name to use for debug container.").short('c'),
        text("copy-to", "", "Create a copy of the target Pod with this name."),
        text("custom", "", "Path to a JSON or YAML file containing a partial container spec to customize built-in debug profiles."),
        array("env", "Environment variables to set in the container."),
        text("image", "", "Container image to use for debug container."),
        text("image-pull-policy", "", "The image pull policy for the container. If left empty, this value will not be specified by the client and defaulted by the server."),
        bool("keep-annotations", "If true, keep the original pod annotations.(This flag only works when used with '--copy-to')"),
        bool("keep-init-containers", "Run the init containers for the pod. Defaults to true.(This flag only works when used with '--copy-to')").on(),
        bool("keep-labels", "If true, keep the original pod labels.(This flag only works when used with '--copy-to')"),
        bool("keep-liveness", "If true, keep the original pod liveness probes.(This flag only works when used with '--copy-to')"),
        bool("keep-readiness", "If true, keep the original pod readiness probes.(This flag only works when used with '--copy-to')"),
        bool("keep-startup", "If true, keep the original startup probes.(This flag only works when used with '--copy-to')"),
        text("profile", "general", "Options are \"general\", \"baseline\", \"netadmin\", \"restricted\" or \"sysadmin\"."),
        bool("quiet", "If true, suppress informational messages.").short('q'),
        bool("replace", "When used with '--copy-to', delete the original Pod."),
        bool("same-node", "When used with '--copy-to', schedule the copy of target Pod on the same node."),
        array("set-image", "When used with '--copy-to', a list of name=image pairs for changing container images, similar to how 'kubectl set image' works."),
        bool("share-processes", "When used with '--copy-to', enable process namespace sharing in the copy.").on(),
        bool("stdin", "Keep stdin open on the container(s) in the pod, even if nothing is attached.").short('i'),
        text("target", "", "When using an ephemeral container, target processes in this container name."),
        bool("tty", "Allocate a TTY for the debugging container.").short('t'),
    ]],
    args: Args::Pod,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}

/// The debugging container that the flags describe.
fn container(call: &Call, name: &str) -> Result<Value> {
    let mut out = json!({"name": name, "terminationMessagePolicy": "File"});
    if !call.str("image").is_empty() {
        out["image"] = json!(call.str("image"));
    }
    if !call.str("image-pull-policy").is_empty() {
        out["imagePullPolicy"] = json!(call.str("image-pull-policy"));
    }
    let words = call.after_dash();
    if !words.is_empty() {
        out[if call.bool("arguments-only") {
            "args"
        } else {
            "command"
        }] = json!(words);
    }
    let env: Vec<Value> = call
        .list("env")
        .iter()
        .map(|p| {
            p.split_once('=')
                .map(|(k, v)| json!({"name": k, "value": v}))
                .ok_or_else(|| Error::new(format!("invalid env: {p}")))
        })
        .collect::<Result<_>>()?;
    if !env.is_empty() {
        out["env"] = json!(env);
    }
    for flag in ["stdin", "tty"] {
        if call.bool(flag) {
            out[flag] = json!(true);
        }
    }
    Ok(out)
}

/// What a profile adds to a container.
fn profile(name: &str, container: &mut Value, on_node: bool) -> Result<()> {
    match name {
        "general" if !on_node => {
            container["securityContext"] = json!({"capabilities": {"add": ["SYS_PTRACE"]}});
        }
        "general" | "baseline" => {}
        "restricted" => {
            container["securityContext"] = json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
        }
        "netadmin" => {
            container["securityContext"] = json!({"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}});
        }
        "sysadmin" => {
            container["securityContext"] = json!({"privileged": true});
        }
        other => return Err(Error::new(format!("unknown profile: {other}"))),
    }
    Ok(())
}

async fn customize(call: &Call, container: &mut Value) -> Result<()> {
    let file = call.str("custom");
    if file.is_empty() {
        return Ok(());
    }
    let text = std::fs::read_to_string(file).map_err(|e| {
        Error::new(format!(
            "must pass a container spec json file for custom profile: {e}"
        ))
    })?;
    let body = parse_text(&text).map_err(|e| Error::new(e.to_string()))?;
    let api = call.ctx.openapi().await?;
    let document = api.document("v1").await?;
    let node = json!({"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"});
    crate::patch::strategic(
        container,
        &body,
        Some(crate::patch::Schema::new(&document, &node)),
    );
    Ok(())
}

async fn run(call: Call) -> Result<()> {
    let names = call.before_dash();
    let copy_to = call.str("copy-to");
    let no_image = call.str("image").is_empty();
    if no_image && copy_to.is_empty() {
        return Err(Error::new("you must specify --image when not using --copy-to."));
    }
    if no_image && call.list("set-image").is_empty() && call.after_dash().is_empty() {
        return Err(Error::new(
            "you must specify --image, --set-image or command arguments.",
        ));
    }
    if names.is_empty() && call.list("filename").is_empty() {
        return Err(Error::new("NAME or filename is required for debug"));
    }
    if call.bool("tty") && !call.bool("stdin") {
        return Err(Error::new(
            "-i/--stdin is required for containers with -t/--tty=true",
        ));
    }
    if !call.str("target").is_empty() && !copy_to.is_empty() {
        return Err(Error::new(
            "--target is incompatible with --copy-to. Use --share-processes instead.",
        ));
    }
    let mut query = Query::from_call(&call);
    if !query.has_files() && !names.iter().any(|n| n.contains('/')) {
        query.args.insert(0, "pods".to_owned());
    }
    let (infos, errors) = query.latest(&call.ctx).await?;
    Error::collect(errors)?;
    let rest = call.ctx.rest().await?;
    let write = Write {
        dry: DryRun::None,
        manager: "kubectl-debug".to_owned(),
        validation: "",
    };
    for info in infos {
        let (pod, container) = match info.mapping.kind.as_str() {
            "Node" => on_node(&call, &rest, &write, &info).await?,
            "Pod" if copy_to.is_empty() => ephemeral(&call, &rest, &info).await?,
            "Pod" => copy(&call, &rest, &write, &info).await?,
            other => return Err(Error::new(format!("{other:?} not supported by debug"))),
        };
        let attach = if call.changed("attach") {
            call.bool("attach")
        } else {
            call.bool("stdin")
        };
        if attach && !container.is_empty() {
            join(&call, &rest, &pod, &container).await?;
        }
    }
    Ok(())
}

async fn ephemeral(call: &Call, rest: &Rest, info: &Info) -> Result<(Info, String)> {
    let name = if call.str("container").is_empty() {
        format!("debugger-{}", suffix())
    } else {
        call.str("container").to_owned()
    };
    let mut c = container(call, &name)?;
    if !call.str("target").is_empty() {
        c["targetContainerName"] = json!(call.str("target"));
        if !call.bool("quiet") {
            crate::errln!(
                "Targeting container {:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature.",
                call.str("target")
            );
        }
    }
    profile(call.str("profile"), &mut c, false)?;
    customize(call, &mut c).await?;
    if call.str("container").is_empty() && !call.bool("quiet") {
        crate::errln!("Defaulting debug container name to {name}.");
    }
    let body = json!({"spec": {"ephemeralContainers": [c]}});
    let object = rest
        .patch(
            &info.sub_path("ephemeralcontainers"),
            patch::STRATEGIC,
            serde_json::to_vec(&body)?,
        )
        .await
        .map_err(|e| match e {
            Error::Status(s) if s.code == 404 && s.details["name"].as_str().is_none_or(str::is_empty) => {
                Error::new(format!(
                    "ephemeral containers are disabled for this cluster (error from server: {:?}).",
                    s.message
                ))
            }
            other => other,
        })?;
    Ok((info.with(object), name))
}

async fn copy(call: &Call, rest: &Rest, write: &Write, info: &Info) -> Result<(Info, String)> {
    let source = &info.object;
    let mut meta = Map::new();
    meta.insert("name".to_owned(), json!(call.str("copy-to")));
    meta.insert("namespace".to_owned(), json!(info.namespace));
    for (flag, field) in [("keep-labels", "labels"), ("keep-annotations", "annotations")] {
        if call.bool(flag) {
            meta.insert(field.to_owned(), source["metadata"][field].clone());
        }
    }
    let mut spec = source["spec"].clone();
    if let Some(map) = spec.as_object_mut() {
        map.remove("ephemeralContainers");
        if !call.bool("same-node") {
            map.remove("nodeName");
        }
        if !call.bool("keep-init-containers") {
            map.remove("initContainers");
        }
    }
    spec["shareProcessNamespace"] = json!(call.bool("share-processes"));
    let images: Vec<(String, String)> = call
        .list("set-image")
        .iter()
        .filter_map(|p| p.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())))
        .collect();
    for c in spec["containers"].as_array_mut().into_iter().flatten() {
        if let Some(map) = c.as_object_mut() {
            for (flag, field) in [
                ("keep-liveness", "livenessProbe"),
                ("keep-readiness", "readinessProbe"),
                ("keep-startup", "startupProbe"),
            ] {
                if !call.bool(flag) {
                    map.remove(field);
                }
            }
        }
        if let Some((_, image)) = images
            .iter()
            .find(|(n, _)| c["name"] == n.as_str())
            .or_else(|| images.iter().find(|(n, _)| n == "*"))
        {
            c["image"] = json!(image);
        }
    }
    let mut name = call.str("container").to_owned();
    let existing = spec["containers"]
        .as_array()
        .and_then(|l| l.iter().position(|c| c["name"] == name.as_str()));
    let debugging = !call.str("image").is_empty() || !call.after_dash().is_empty() || call.bool("stdin");
    if debugging {
        match existing.or_else(|| (call.str("image").is_empty()).then_some(0)) {
            Some(at) => {
                name = spec["containers"][at]["name"].as_str().unwrap_or("").to_owned();
                let mut wanted = container(call, &name)?;
                profile(call.str("profile"), &mut wanted, false)?;
                customize(call, &mut wanted).await?;
                if !call.after_dash().is_empty()
                    && let Some(map) = spec["containers"][at].as_object_mut()
                {
                    map.remove("command");
                    map.remove("args");
                }
                crate::patch::merge(&mut spec["containers"][at], &wanted);
            }
            None => {
                if name.is_empty() {
                    name = format!("debugger-{}", suffix());
                    if !call.bool("quiet") {
                        crate::errln!("Defaulting debug container name to {name}.");
                    }
                }
                let mut c = container(call, &name)?;
                profile(call.str("profile"), &mut c, false)?;
                customize(call, &mut c).await?;
                if let Some(list) = spec["containers"].as_array_mut() {
                    list.push(c);
                }
            }
        }
    }
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec});
    if call.bool("replace") {
        super::delete::delete_and_wait(rest, info, 0, "Background", Duration::from_secs(300)).await?;
    }
    let made = Info {
        name: call.str("copy-to").to_owned(),
        object,
        ..info.clone()
    };
    let object = write.create(rest, &made).await?;
    Ok((made.with(object), if debugging { name } else { String::new() }))
}

async fn on_node(call: &Call, rest: &Rest, write: &Write, node: &Info) -> Result<(Info, String)> {
    let name = if call.str("container").is_empty() {
        "debugger".to_owned()
    } else {
        call.str("container").to_owned()
    };
    let mut c = container(call, &name)?;
    let kind = call.str("profile");
    profile(kind, &mut c, true)?;
    let host = matches!(kind, "general" | "sysadmin");
    let mut spec =
        json!({"nodeName": node.name, "restartPolicy": "Never", "tolerations": [{"operator": "Exists"}]});
    if host {
        c["volumeMounts"] = json!([{"name": "host-root", "mountPath": "/host"}]);
        spec["volumes"] = json!([{"name": "host-root", "hostPath": {"path": "/"}}]);
    }
    if host || kind == "netadmin" {
        for field in ["hostNetwork", "hostPID"] {
            spec[field] = json!(true);
        }
    }
    if host {
        spec["hostIPC"] = json!(true);
    }
    customize(call, &mut c).await?;
    spec["containers"] = json!([c]);
    let pod_name = format!("node-debugger-{}-{}", node.name, suffix());
    let mapping = call.ctx.discovery().await?.resolve("pods")?;
    let namespace = call.ctx.namespace()?;
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod_name, "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "kubectl-debug"}}, "spec": spec});
    let made = Info {
        mapping,
        namespace,
        name: pod_name.clone(),
        object,
        source: String::new(),
    };
    let object = write.create(rest, &made).await?;
    if !call.bool("quiet") {
        crate::errln!(
            "Creating debugging pod {pod_name} with container {name} on node {}.",
            node.name
        );
    }
    Ok((made.with(object), name))
}

/// Waits for the container and joins it; if it has ended already, prints its log.
async fn join(call: &Call, rest: &Rest, pod: &Info, container: &str) -> Result<()> {
    let status = |p: &Value| -> Option<Value> {
        [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ]
        .iter()
        .flat_map(|k| p["status"][*k].as_array().into_iter().flatten())
        .find(|s| s["name"] == container)
        .cloned()
    };
    let up = |p: &Value| {
        status(p).is_some_and(|s| s["state"]["running"].is_object() || s["state"]["terminated"].is_object())
    };
    let timeout = call.flags.duration("pod-running-timeout");
    let now = wait_for(rest, pod, timeout, up).await?;
    if status(&now.object).is_some_and(|s| s["state"]["terminated"].is_object()) {
        let text = super::logs::read(rest, &now, container).await?;
        crate::out::print(text.as_str().unwrap_or(""));
        return Ok(());
    }
    super::attach::to(
        rest,
        &now,
        container,
        call.bool("stdin"),
        call.bool("tty"),
        call.bool("quiet"),
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_set_the_security_context() {
        let mut c = json!({});
        profile("general", &mut c, false).unwrap();
        assert_eq!(c["securityContext"]["capabilities"]["add"], json!(["SYS_PTRACE"]));
        let mut c = json!({});
        profile("sysadmin", &mut c, true).unwrap();
        assert_eq!(c["securityContext"]["privileged"], true);
        assert!(profile("nope", &mut c, false).is_err());
        assert_eq!(suffix().len(), 5);
    }
}
