//! `run`: runs an image in a pod.

use super::common::{DryRun, Write, annotate_applied, record};
use crate::cli::flags::{DRY_RUN, OUTPUT, POD_TIMEOUT, RECORD, SAVE_CONFIG, TEMPLATE};
use crate::cli::{Call, Command, array, bool, duration, int, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::rest::Rest;
use rutter_api::codec::yaml::parse_text;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The command.
pub static COMMAND: Command = Command {
    name: "run",
    short: "Run a particular image on the cluster",
    long: "Create and run a particular image in a pod.",
    examples: "
        # A pod
        {} run web --image=nginx --port=80

        # A shell in a pod that is gone afterwards
        {} run -it --rm shell --image=busybox --restart=Never -- sh

        # What would be made
        {} run web --image=nginx --env=LEVEL=debug --dry-run=client -o yaml",
    usage: "NAME --image=image [--env=\"key=value\"] [--port=port] [--dry-run=server|client] [--overrides=inline-json] [--command] -- [COMMAND] [args...]",
    flags: &[DRY_RUN, OUTPUT, POD_TIMEOUT, RECORD, SAVE_CONFIG, TEMPLATE, &[
        array("annotations", "Annotations to apply to the pod."),
        bool("attach", "If true, wait for the Pod to start running, and then attach to the Pod as if 'kubectl attach ...' were called.  Default false, unless '-i/--stdin' is set, in which case the default is true. With '--restart=Never' the exit code of the container process is returned."),
        text("cascade", "background", "Must be \"background\", \"orphan\", or \"foreground\". Selects the deletion cascading strategy for the dependents.").bare("background"),
        bool("command", "If true and extra arguments are present, use them as the 'command' field in the container, rather than the 'args' field which is the default."),
        array("env", "Environment variables to set in the container."),
        bool("expose", "If true, create a ClusterIP service associated with the pod.  Requires `--port`."),
        text("field-manager", "kubectl-run", "Name of the manager used to track field ownership."),
        bool("force", "If true, immediately remove resources from API and bypass graceful deletion."),
        int("grace-period", "-1", "Period of time in seconds given to the resource to terminate gracefully. Ignored if negative."),
        text("image", "", "The image for the container to run."),
        text("image-pull-policy", "", "The image pull policy for the container.  If left empty, this value will not be specified by the client and defaulted by the server."),
        text("labels", "", "Comma separated labels to apply to the pod. Will override previous values.").short('l'),
        bool("leave-stdin-open", "If the pod is started in interactive mode or with stdin, leave stdin open after the first attach completes. By default, stdin will be closed after the first attach completes."),
        text("override-type", "merge", "The method used to override the generated object: json, merge, or strategic."),
        text("overrides", "", "An inline JSON override for the generated object. If this is non-empty, it is used to override the generated object. Requires that the object supply a valid apiVersion field."),
        text("port", "", "The port that this container exposes."),
        bool("privileged", "If true, run the container in privileged mode."),
        bool("quiet", "If true, suppress prompt messages.").short('q'),
        text("restart", "Always", "The restart policy for this Pod.  Legal values [Always, OnFailure, Never]."),
        bool("rm", "If true, delete the pod after it exits.  Only valid when attaching to the container, e.g. with '--attach' or with '-i/--stdin'."),
        bool("stdin", "Keep stdin open on the container in the pod, even if nothing is attached.").short('i'),
        duration("timeout", "0s", "The length of time to wait before giving up on a delete, zero means determine a timeout from the size of the object"),
        bool("tty", "Allocate a TTY for the container in the pod.").short('t'),
        bool("wait", "If true, wait for resources to be gone before returning. This waits for finalizers."),
    ]],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

fn pairs(list: impl IntoIterator<Item = String>, what: &str) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for pair in list {
        let Some((k, v)) = pair.split_once('=').filter(|(k, _)| !k.is_empty()) else {
            return Err(Error::new(format!("unexpected {what}: {pair}")));
        };
        out.insert(k.to_owned(), json!(v));
    }
    Ok(out)
}

/// The pod that the flags describe.
fn pod(call: &Call, name: &str, words: &[String]) -> Result<Value> {
    let restart = call.str("restart");
    if !matches!(restart, "Always" | "OnFailure" | "Never") {
        return Err(Error::new(format!("invalid restart policy: {restart}")));
    }
    let policy = call.str("image-pull-policy");
    if !matches!(policy, "" | "Always" | "IfNotPresent" | "Never") {
        return Err(Error::new(format!("invalid image pull policy: {policy}")));
    }
    let mut container = json!({"name": name, "image": call.str("image"), "resources": {}});
    if !policy.is_empty() {
        container["imagePullPolicy"] = json!(policy);
    }
    if !words.is_empty() {
        container[if call.bool("command") { "command" } else { "args" }] = json!(words);
    }
    let env: Vec<Value> = pairs(call.list("env"), "env")?
        .iter()
        .map(|(k, v)| json!({"name": k, "value": v}))
        .collect();
    // The order of the flags is kept.
    let env: Vec<Value> = call
        .list("env")
        .iter()
        .filter_map(|p| p.split_once('=').map(|(k, _)| k.to_owned()))
        .filter_map(|k| env.iter().find(|e| e["name"] == k).cloned())
        .collect();
    if !env.is_empty() {
        container["env"] = json!(env);
    }
    let port = call.str("port");
    if !port.is_empty() {
        let number: i64 = port
            .parse()
            .map_err(|_| Error::new(format!("strconv.Atoi: parsing {port:?}: invalid syntax")))?;
        container["ports"] = json!([{"containerPort": number}]);
    }
    for (flag, field) in [("stdin", "stdin"), ("tty", "tty")] {
        if call.bool(flag) {
            container[field] = json!(true);
        }
    }
    if call.bool("stdin") && !call.bool("leave-stdin-open") {
        container["stdinOnce"] = json!(true);
    }
    if call.changed("privileged") {
        container["securityContext"] = json!({"privileged": call.bool("privileged")});
    }
    let labels = if call.changed("labels") {
        pairs(
            call.str("labels")
                .split(',')
                .filter(|l| !l.is_empty())
                .map(str::to_owned),
            "label spec",
        )?
    } else {
        Map::from_iter([("run".to_owned(), json!(name))])
    };
    let mut out = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart}, "status": {}});
    let annotations = pairs(call.list("annotations"), "annotation")?;
    if !annotations.is_empty() {
        out["metadata"]["annotations"] = Value::Object(annotations);
    }
    Ok(out)
}

/// Applies `--overrides` by `--override-type`.
pub async fn override_with(call: &Call, object: &mut Value, text: &str) -> Result<()> {
    let body = parse_text(text).map_err(|e| Error::new(format!("invalid overrides: {e}")))?;
    match call.str("override-type") {
        "merge" => crate::patch::merge(object, &body),
        "json" => {
            *object = rutter_api::patch::json_patch(object, &body).map_err(|e| Error::new(e.to_string()))?
        }
        "strategic" => {
            let api = call.ctx.openapi().await?;
            let document = api.document("v1").await?;
            let kind = object["kind"].as_str().unwrap_or("").to_owned();
            let node = document.kind("v1", &kind);
            crate::patch::strategic(
                object,
                &body,
                node.map(|n| crate::patch::Schema::new(&document, n)),
            );
        }
        other => return Err(Error::new(format!("invalid override type: {other}"))),
    }
    Ok(())
}

async fn run(call: Call) -> Result<()> {
    let (name, words) = match call.dash {
        Some(at) => (
            call.args.get(..at).unwrap_or(&[]).first().cloned(),
            call.after_dash().to_vec(),
        ),
        None => (
            call.args.first().cloned(),
            call.args.get(1..).unwrap_or(&[]).to_vec(),
        ),
    };
    let Some(name) = name else {
        return Err(call.usage("NAME is required for run"));
    };
    if call.str("image").is_empty() {
        return Err(Error::new("required flag(s) \"image\" not set"));
    }
    let (stdin, tty) = (call.bool("stdin"), call.bool("tty"));
    if tty && !stdin {
        return Err(call.usage("-i/--stdin is required for containers with -t/--tty=true"));
    }
    if call.bool("expose") && call.str("port").is_empty() {
        return Err(call.usage("--port must be set when exposing a service"));
    }
    let attach = if call.changed("attach") {
        call.bool("attach")
    } else {
        stdin
    };
    let remove = call.bool("rm");
    let write = Write::from_call(&call, "kubectl-run")?;
    if remove && !attach {
        return Err(call.usage("--rm should only be used for attached containers"));
    }
    if attach && write.dry != DryRun::None {
        return Err(call.usage("--dry-run=[server|client] can't be used with attached containers options (--attach, --stdin, or --tty)"));
    }
    let printer = Printer::from_call(&call)?;
    let mut object = pod(&call, &name, &words)?;
    if !call.str("overrides").is_empty() {
        override_with(&call, &mut object, call.str("overrides")).await?;
    }
    record(&call, &mut object);
    let namespace = call.ctx.namespace()?;
    if call.ctx.explicit_namespace() || write.dry != DryRun::Client {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if call.bool("save-config") {
        annotate_applied(&mut object);
    }
    let mapping = std::rc::Rc::new(crate::discovery::Mapping {
        version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
        namespaced: true,
        ..Default::default()
    });
    let mut info = Info {
        mapping,
        namespace: namespace.clone(),
        name: name.clone(),
        object,
        source: String::new(),
    };
    if write.dry == DryRun::Client {
        if call.bool("expose") {
            let service = service(&call, &info)?;
            printer.result(&service, &format!("created{}", write.dry.suffix()))?;
        }
        return printer.result(&info, &format!("created{}", write.dry.suffix()));
    }
    let rest = call.ctx.rest().await?;
    if call.bool("expose") {
        let mut service = service(&call, &info)?;
        service.object = write.create(&rest, &service).await?;
        printer.result(&service, &format!("created{}", write.dry.suffix()))?;
    }
    info.object = write.create(&rest, &info).await?;
    if !attach {
        return printer.result(&info, &format!("created{}", write.dry.suffix()));
    }
    let outcome = attached(&call, &rest, &info).await;
    if remove {
        let options = super::delete::options(&call)?;
        let timeout = match call.flags.duration("timeout") {
            t if t.is_zero() => Duration::from_secs(7 * 86_400),
            t => t,
        };
        match options.delete(&rest, &info).await {
            Ok(uid) => {
                if !call.bool("quiet") {
                    crate::outln!("pod {name:?} deleted from {namespace} namespace");
                }
                if call.bool("wait") {
                    super::delete::wait_gone(&rest, &[(info.clone(), uid)], timeout).await?;
                }
            }
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    outcome
}

fn service(call: &Call, pod: &Info) -> Result<Info> {
    let labels = pod.object["metadata"]["labels"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let mut object = super::expose::service(
        super::expose::Request {
            name: &pod.name,
            port: call.str("port"),
            protocol: "",
            target: "",
            selector: labels,
            labels: Map::new(),
        },
        &[],
    )?;
    if let Some(ns) = pod.object["metadata"]["namespace"].as_str() {
        object["metadata"]["namespace"] = json!(ns);
    }
    let mapping = std::rc::Rc::new(crate::discovery::Mapping {
        version: "v1".to_owned(),
        kind: "Service".to_owned(),
        plural: "services".to_owned(),
        namespaced: true,
        ..Default::default()
    });
    Ok(Info {
        mapping,
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        object,
        source: String::new(),
    })
}

/// Waits until a test holds for the pod, and gives it as it is then.
pub async fn wait_for(
    rest: &Rest,
    pod: &Info,
    timeout: Duration,
    test: impl Fn(&Value) -> bool,
) -> Result<Info> {
    let waiting = async {
        loop {
            let object = rest.get(&pod.path()).await?;
            if test(&object) {
                return Ok(pod.with(object));
            }
            let version = object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap_or("")
                .to_owned();
            let query = [
                ("fieldSelector", format!("metadata.name={}", pod.name)),
                ("resourceVersion", version),
            ];
            let mut stream = rest.watch(&pod.collection(), &query, "application/json").await?;
            while let Ok(Some((kind, object))) = stream.event().await {
                if kind == "DELETED" {
                    return Err(Error::new(format!("pods {:?} not found", pod.name)));
                }
                if test(&object) {
                    return Ok(pod.with(object));
                }
            }
        }
    };
    tokio::time::timeout(timeout, waiting)
        .await
        .map_err(|_| Error::new("timed out waiting for the condition"))?
}

fn ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

async fn attached(call: &Call, rest: &Rest, pod: &Info) -> Result<()> {
    let quiet = call.bool("quiet");
    let timeout = call.flags.duration("pod-running-timeout");
    let running = |p: &Value| {
        ended(p)
            || p["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|s| s["name"] == pod.name.as_str() && s["state"]["running"].is_object())
            || (p["status"]["phase"] == "Running"
                && p["status"]["containerStatuses"][0]["state"]["running"].is_object())
    };
    let now = wait_for(rest, pod, timeout, running).await?;
    let container = super::pods::container(&now.object, "", true)?;
    if ended(&now.object) {
        print_log(rest, &now, &container).await?;
    } else {
        let outcome = super::attach::to(
            rest,
            &now,
            &container,
            call.bool("stdin"),
            call.bool("tty"),
            quiet,
        )
        .await;
        if let Err(e) = outcome {
            // It may have ended between the look and the attach; then its log has everything.
            let again = rest.get(&now.path()).await?;
            if !ended(&again) {
                if !quiet {
                    crate::errln!(
                        "warning: couldn't attach to pod/{}, falling back to streaming logs: {}",
                        now.name,
                        e.message()
                    );
                }
                let mut stream = rest
                    .stream(
                        &crate::rest::with_query(
                            &now.sub_path("log"),
                            &[("container", container.clone()), ("follow", "true".to_owned())],
                        ),
                        "*/*",
                    )
                    .await?;
                while let Some(bytes) = stream.next().await? {
                    crate::out::bytes(&bytes);
                }
            } else {
                print_log(rest, &now, &container).await?;
            }
        }
    }
    if call.str("restart") == "Always" {
        return Ok(());
    }
    let last = wait_for(rest, &now, timeout, ended).await?;
    if last.object["status"]["phase"] == "Succeeded" {
        return Ok(());
    }
    for s in last.object["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let terminated = &s["state"]["terminated"];
        if let Some(code) = terminated["exitCode"].as_i64().filter(|c| *c != 0) {
            let code = i32::try_from(code).unwrap_or(1);
            let message = match terminated["message"].as_str().filter(|m| !m.is_empty()) {
                Some(m) => format!(
                    "pod {}/{} terminated ({})\n{m}",
                    last.namespace,
                    last.name,
                    terminated["reason"].as_str().unwrap_or("")
                ),
                None => format!(
                    "pod {}/{} terminated ({})",
                    last.namespace,
                    last.name,
                    terminated["reason"].as_str().unwrap_or("")
                ),
            };
            return Err(Error::Code(code, message));
        }
    }
    Ok(())
}

async fn print_log(rest: &Rest, pod: &Info, container: &str) -> Result<()> {
    let text = super::logs::read(rest, pod, container).await?;
    crate::out::print(text.as_str().unwrap_or(""));
    Ok(())
}
