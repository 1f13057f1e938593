//! One session, by `rctl` and by an unmodified `kubectl`: the same steps, the same answers, no error and no warning.

use super::{
    EXAMPLE, Pod, busybox_pod, deploy, pod_ready, ready_pods, rollout_undo, tables, text, three_ready,
    undeploy,
};
use crate::cluster::{Cluster, SOON};
use crate::plain_http;
use crate::report::{say, step, until};
use crate::tool::Tool;
use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The size of the file that goes through `exec -i`.
const LARGE: usize = 100_000_000;

/// Who does the session.
struct Session<'a> {
    cluster: &'a Cluster,
    tool: &'a Tool,
    folder: PathBuf,
}

struct Step {
    name: &'static str,
    act: Act,
}

enum Act {
    /// Runs this; all of these are on standard output.
    Says(&'static [&'static str], &'static [&'static str]),
    /// More than one command, or one that goes on.
    Does(fn(&Session<'_>) -> anyhow::Result<()>),
}

const fn says(
    name: &'static str,
    arguments: &'static [&'static str],
    wanted: &'static [&'static str],
) -> Step {
    Step {
        name,
        act: Act::Says(arguments, wanted),
    }
}

const fn does(name: &'static str, act: fn(&Session<'_>) -> anyhow::Result<()>) -> Step {
    Step {
        name,
        act: Act::Does(act),
    }
}

/// The session.
const STEPS: &[Step] = &[
    says(
        "apply",
        &["apply", "-f", EXAMPLE],
        &["deployment.apps/echo created\n", "service/echo created\n"],
    ),
    says(
        "apply again",
        &["apply", "-f", EXAMPLE],
        &["deployment.apps/echo unchanged\n", "service/echo unchanged\n"],
    ),
    says(
        "rollout status",
        &["rollout", "status", "deployment/echo"],
        &["deployment \"echo\" successfully rolled out\n"],
    ),
    says(
        "get -o wide",
        &["get", "deployment", "echo", "-o", "wide"],
        &[
            "NAME   READY   UP-TO-DATE   AVAILABLE   AGE ",
            "CONTAINERS   IMAGES                  SELECTOR\n",
            "echo   3/3     3            3           ",
            "echo         rutter.example/echo:1   app=echo\n",
        ],
    ),
    says(
        "get -o yaml",
        &["get", "deployment", "echo", "-o", "yaml"],
        &["apiVersion: apps/v1\nkind: Deployment\n", "\n  replicas: 3\n"],
    ),
    says(
        "get -o json",
        &["get", "deployment", "echo", "-o", "json"],
        &["{\n    \"apiVersion\": \"apps/v1\",\n    \"kind\": \"Deployment\",\n"],
    ),
    says(
        "get -o jsonpath",
        &[
            "get",
            "deployment",
            "echo",
            "-o",
            "jsonpath={.spec.replicas}{\"\\n\"}",
        ],
        &["3\n"],
    ),
    says(
        "get -o custom-columns",
        &[
            "get",
            "deployment",
            "echo",
            "-o",
            "custom-columns=NAME:.metadata.name,COPIES:.spec.replicas,NONE:.spec.nothing",
        ],
        &["NAME   COPIES   NONE\necho   3        <none>\n"],
    ),
    says(
        "get -o name",
        &["get", "deployment,service", "echo", "-o", "name"],
        &["deployment.apps/echo\nservice/echo\n"],
    ),
    says(
        "get -o go-template",
        &[
            "get",
            "deployment",
            "echo",
            "-o",
            "go-template={{.metadata.name}}: {{.spec.replicas}}{{\"\\n\"}}",
        ],
        &["echo: 3\n"],
    ),
    does("get -w sees scaling", watch_scaling),
    says(
        "describe",
        &["describe", "deployment", "echo"],
        &[
            "Name:                   echo\nNamespace:              default\n",
            "Replicas:               3 desired | 3 updated | 3 total | 3 available | 0 unavailable\n",
            "OldReplicaSets:  <none>\nNewReplicaSet:   echo-",
            "ScalingReplicaSet",
        ],
    ),
    does("a pod with a shell", shell_pod),
    does("logs and logs -f", logs),
    does("exec", exec),
    does("exec -it: a shell whose window changes", exec_on_terminal),
    does("exec -i: a file of 100 MB arrives whole", exec_large),
    does("attach", attach),
    does("port-forward", port_forward),
    does("cp there and back", copy),
    says(
        "set image",
        &["set", "image", "deployment/echo", "echo=rutter.example/echo:2"],
        &["deployment.apps/echo image updated\n"],
    ),
    says(
        "rollout status follows",
        &["rollout", "status", "deployment/echo", "--timeout=60s"],
        &[
            "Waiting for deployment \"echo\" rollout to finish: ",
            "successfully rolled out\n",
        ],
    ),
    says(
        "rollout history",
        &["rollout", "history", "deployment/echo"],
        &["deployment.apps/echo \nREVISION  CHANGE-CAUSE\n1         <none>\n2         <none>\n\n"],
    ),
    does("rollout undo", |s| rollout_undo(s.tool)),
    does("the first image is back", first_image),
    does("edit", edit),
    says(
        "label",
        &["label", "deployment", "echo", "tier=front"],
        &["deployment.apps/echo labeled\n"],
    ),
    says(
        "get -l",
        &["get", "deployments", "-l", "tier=front", "-o", "name"],
        &["deployment.apps/echo\n"],
    ),
    says(
        "annotate",
        &["annotate", "deployment", "echo", "note=seen"],
        &["deployment.apps/echo annotated\n"],
    ),
    says(
        "explain",
        &["explain", "deployment.spec.strategy", "--recursive"],
        &[
            "GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\nFIELD: strategy <DeploymentStrategy>\n",
            "  rollingUpdate\t<RollingUpdateDeployment>\n    maxSurge\t<IntOrString>\n    maxUnavailable\t<IntOrString>\n",
        ],
    ),
    says(
        "api-resources",
        &["api-resources", "--api-group=apps"],
        &[
            "NAME                  SHORTNAMES   APIVERSION   NAMESPACED   KIND\n",
            "deployments           deploy       apps/v1      true         Deployment\n",
        ],
    ),
    says(
        "auth can-i --list",
        &["auth", "can-i", "--list"],
        &[
            "Resources",
            "Non-Resource URLs",
            "Resource Names",
            "Verbs\n",
            "*.*",
        ],
    ),
    says("auth can-i", &["auth", "can-i", "delete", "pods"], &["yes\n"]),
    does("create token", token),
    does("drain and uncordon", drain),
    says(
        "delete",
        &["delete", "-f", EXAMPLE],
        &["deployment.apps \"echo\" deleted", "service \"echo\" deleted"],
    ),
    does("all is gone", gone),
];

/// The scenario.
pub(super) fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let Some(kubectl) = &cluster.kubectl else {
        say(
            "  SKIPPED by kubectl: there is none on the PATH; rctl alone does the session and no tables are compared",
        );
        return session(cluster, &cluster.rctl);
    };
    say(&format!("  kubectl is of Kubernetes 1.{}", kubectl.minor()?));
    for tool in cluster.tools() {
        session(cluster, tool)?;
    }
    deploy(cluster)?;
    step("the tables look the same", || tables::same(cluster, kubectl))?;
    undeploy(cluster)
}

fn session(cluster: &Cluster, tool: &Tool) -> anyhow::Result<()> {
    let folder = cluster.scratch().join(tool.name);
    std::fs::create_dir_all(&folder)?;
    let session = Session {
        cluster,
        tool,
        folder,
    };
    for Step { name, act } in STEPS {
        step(&format!("{}: {name}", tool.name), || match act {
            Act::Says(arguments, wanted) => {
                let told = tool.ok(arguments)?;
                for text in *wanted {
                    ensure!(told.contains(text), "no {text:?} in what it printed: {told}");
                }
                Ok(())
            }
            Act::Does(act) => act(&session),
        })?;
    }
    Ok(())
}

/// Scales up and down while a watch looks on.
fn watch_scaling(s: &Session<'_>) -> anyhow::Result<()> {
    let watch = s.tool.background(&["get", "pods", "-l", "app=echo", "-w"])?;
    let before = watch.wait_for("\n", SOON)?;
    ensure!(
        before.starts_with("NAME ") && before.contains("READY   STATUS    RESTARTS   AGE\n"),
        "{before}"
    );
    let told = s.tool.ok(&["scale", "deployment/echo", "--replicas=4"])?;
    ensure!(told == "deployment.apps/echo scaled\n", "{told}");
    watch.wait_for("ContainerCreating", SOON)?;
    until(SOON, || {
        let pods = ready_pods(s.cluster, "app=echo")?;
        ensure!(pods.len() == 4, "{} of 4 pods are Ready", pods.len());
        Ok(())
    })?;
    s.tool.ok(&["scale", "deployment/echo", "--replicas=3"])?;
    watch.wait_for("Terminating", SOON)?;
    until(SOON, || {
        let pods = s.cluster.get(&["pods", "-l", "app=echo"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        ensure!(count == 3, "{count} pods are left");
        Ok(())
    })?;
    ensure!(watch.complaints().is_empty(), "{}", watch.complaints());
    Ok(())
}

fn shell_pod(s: &Session<'_>) -> anyhow::Result<()> {
    let ticks = "n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.2; done";
    let at = "  nodeName: node-1\n";
    let told = s.tool.ok_file(&["apply"], &busybox_pod("shell", ticks, at))?;
    ensure!(told == "pod/shell created\n", "{told}");
    let told = s.tool.ok_file(&["apply"], &busybox_pod("listener", "cat", at))?;
    ensure!(told == "pod/listener created\n", "{told}");
    pod_ready(s.cluster, "shell")?;
    pod_ready(s.cluster, "listener")
}

fn logs(s: &Session<'_>) -> anyhow::Result<()> {
    let told = s.tool.ok(&["logs", "-l", "app=echo"])?;
    ensure!(told == "listening on port 8080\n".repeat(3), "{told}");
    let told = s.tool.ok(&["logs", "shell", "--tail=1"])?;
    ensure!(told.starts_with("tick ") && told.lines().count() == 1, "{told}");
    let follow = s.tool.background(&["logs", "-f", "shell"])?;
    let so_far = follow.wait_for("tick 1\n", SOON)?.lines().count();
    // What is printed after it began, and nothing left out before.
    let text = follow.wait_for(&format!("tick {}\n", so_far + 5), SOON)?;
    for (n, line) in text.lines().enumerate() {
        ensure!(line == format!("tick {}", n + 1), "line {n} is {line}");
    }
    Ok(())
}

fn exec(s: &Session<'_>) -> anyhow::Result<()> {
    let told = s.tool.ok(&["exec", "shell", "--", "echo", "from", "inside"])?;
    ensure!(told == "from inside\n", "{told}");
    let mut failing = s
        .tool
        .command(&["exec", "shell", "--", "sh", "-c", "echo no >&2; exit 7"]);
    let outcome = s.tool.outcome(&mut failing)?;
    ensure!(
        outcome.status.code() == Some(7)
            && outcome.stderr == "no\ncommand terminated with exit code 7\n"
            && outcome.stdout.is_empty(),
        "{outcome:?}"
    );
    Ok(())
}

fn exec_on_terminal(s: &Session<'_>) -> anyhow::Result<()> {
    let mut shell = s
        .tool
        .on_terminal(&["exec", "-it", "shell", "--", "sh"], 24, 80)?;
    shell.wait_for("# ", SOON)?;
    shell.send("stty size\r")?;
    shell.wait_for("24 80\r\n", SOON)?;
    shell.resize(43, 117)?;
    // The new size travels on its own: it may arrive after the next command.
    until(SOON, || {
        shell.send("stty size\r")?;
        shell.wait_for("43 117\r\n", std::time::Duration::from_millis(300))
    })?;
    shell.send("sleep 60\r")?;
    shell.wait_for("sleep 60\r\n", SOON)?;
    // Ctrl-C is the remote command's, not the program's.
    shell.send("\u{3}echo still $((40+2)) here\r")?;
    shell.wait_for("still 42 here\r\n", SOON)?;
    shell.send("exit\r")?;
    let code = shell.finish(SOON)?;
    ensure!(code == 0, "the shell's end is {code}");
    Ok(())
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    ensure!(output.status.success(), "sha256sum failed");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// Bytes that are no text and don't repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(length + 8);
    while all.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend(state.to_le_bytes());
    }
    all.truncate(length);
    all
}

fn exec_large(s: &Session<'_>) -> anyhow::Result<()> {
    let file = s.folder.join("large");
    std::fs::write(&file, noise(LARGE))?;
    let command = "sha256sum | cut -d' ' -f1; echo the end";
    let told = s
        .tool
        .ok_from(&["exec", "-i", "shell", "--", "sh", "-c", command], &file)?;
    let wanted = format!("{}\nthe end\n", sha256(&file)?);
    ensure!(told == wanted, "{told} is not {wanted}");
    let there_and_back = noise(20_000_000);
    std::fs::write(&file, &there_and_back)?;
    let mut command = s.tool.command(&["exec", "-i", "shell", "--", "cat"]);
    let output = command.stdin(std::fs::File::open(&file)?).output()?;
    ensure!(
        output.status.success() && output.stdout == there_and_back,
        "{} bytes came back: {}",
        output.stdout.len(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(std::fs::remove_file(file)?)
}

fn attach(s: &Session<'_>) -> anyhow::Result<()> {
    let mut attached = s.tool.background(&["attach", "-i", "listener"])?;
    until(SOON, || {
        ensure!(
            attached
                .complaints()
                .ends_with("If you don't see a command prompt, try pressing enter.\n"),
            "no hint: {}",
            attached.complaints()
        );
        Ok(())
    })?;
    attached.send("over there\n")?;
    attached.wait_for("over there\n", SOON)?;
    let hint: Vec<String> = attached.complaints().lines().map(str::to_owned).collect();
    ensure!(
        hint.iter().all(
            |line| line.starts_with("All commands and output from this session")
                || line.starts_with("If you don't see")
        ),
        "{hint:?}"
    );
    Ok(())
}

fn port_forward(s: &Session<'_>) -> anyhow::Result<()> {
    let forward = s.tool.background(&["port-forward", "service/echo", ":80"])?;
    let told = forward.wait_for("Forwarding from [::1]:", SOON).or_else(|_| {
        // Where there is no IPv6, the first line is all there is.
        forward.wait_for(" -> 8080\n", SOON)
    })?;
    let port = told
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split_once(" -> 8080\n"))
        .with_context(|| format!("no port in {told}"))?
        .0;
    let address = format!("127.0.0.1:{port}");
    let mut kept = plain_http::Connection::new(&address, true);
    for n in 0..20 {
        let body = plain_http::get(&address, &format!("/request-{n}"))?;
        ensure!(body.contains(&format!("path=/request-{n}\n")), "{body}");
        ensure!(kept.get("/")?.contains("hostname=echo-"), "a kept connection");
    }
    ensure!(forward.complaints().is_empty(), "{}", forward.complaints());
    Ok(())
}

fn copy(s: &Session<'_>) -> anyhow::Result<()> {
    let (from, to) = (s.folder.join("out"), s.folder.join("back"));
    std::fs::create_dir_all(from.join("deep/er"))?;
    std::fs::write(from.join("noise"), noise(3_000_001))?;
    std::fs::write(from.join("deep/er/empty"), "")?;
    std::fs::write(from.join("deep/text with space"), "some text\n")?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let told = s.tool.ok(&["cp", &path(&from), "shell:/tmp/there"])?;
    ensure!(told.is_empty(), "{told}");
    let listed = s.tool.ok(&[
        "exec",
        "shell",
        "--",
        "sh",
        "-c",
        "cd /tmp/there && find . -type f | sort",
    ])?;
    ensure!(
        listed == "./deep/er/empty\n./deep/text with space\n./noise\n",
        "{listed}"
    );
    let told = s.tool.ok(&["cp", "shell:tmp/there", &path(&to)])?;
    ensure!(told.is_empty(), "{told}");
    for file in ["noise", "deep/er/empty", "deep/text with space"] {
        ensure!(
            std::fs::read(from.join(file))? == std::fs::read(to.join(file))?,
            "{file} came back changed"
        );
    }
    Ok(())
}

fn first_image(s: &Session<'_>) -> anyhow::Result<()> {
    s.tool.ok(&["rollout", "status", "deployment/echo"])?;
    let path = "jsonpath={.spec.template.spec.containers[0].image}";
    let told = s.tool.ok(&["get", "deployment", "echo", "-o", path])?;
    ensure!(told == "rutter.example/echo:1", "{told}");
    Ok(())
}

fn edit(s: &Session<'_>) -> anyhow::Result<()> {
    let run = |script: &str| {
        let mut command = s.tool.command(&["edit", "deployment", "echo"]);
        command.env("EDITOR", script).env_remove("KUBE_EDITOR");
        s.tool.outcome(&mut command)?.clean("edit")
    };
    let told = run("sed -i -e 's/replicas: 3/replicas: 2/'")?;
    ensure!(told == "deployment.apps/echo edited\n", "{told}");
    until(SOON, || {
        let pods = ready_pods(s.cluster, "app=echo")?;
        ensure!(pods.len() == 2, "{} pods are Ready", pods.len());
        Ok(())
    })?;
    run("sed -i -e 's/replicas: 2/replicas: 3/'")?;
    until(SOON, || three_ready(s.cluster)).map(|_| ())
}

/// A token that says whose it is, and that lets nobody do more than its account may.
fn token(s: &Session<'_>) -> anyhow::Result<()> {
    let token = s.tool.ok(&["create", "token", "default", "--duration=10m"])?;
    ensure!(
        token.split('.').count() == 3 && !token.contains(char::is_whitespace),
        "{token:?} is no token"
    );
    let review = s.cluster.rctl.ok_file(
        &["create", "-o", "jsonpath={.status.authenticated} {.status.user.username}"],
        &format!(
            "apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nmetadata: {{}}\nspec:\n  token: {token}\n"
        ),
    )?;
    ensure!(review == "true system:serviceaccount:default:default", "{review}");
    Ok(())
}

fn drain(s: &Session<'_>) -> anyhow::Result<()> {
    let on = |pods: &[Pod], node: &str| pods.iter().filter(|pod| pod.node == node).count();
    let pods = three_ready(s.cluster)?;
    let node = ["node-2", "node-3"]
        .into_iter()
        .max_by_key(|node| on(&pods, node))
        .unwrap_or("node-2");
    let told = s.tool.ok(&["drain", node, "--ignore-daemonsets"])?;
    ensure!(told.starts_with(&format!("node/{node} cordoned\n")), "{told}");
    ensure!(told.ends_with(&format!("node/{node} drained\n")), "{told}");
    for pod in pods.iter().filter(|pod| pod.node == node) {
        ensure!(
            told.contains(&format!("evicting pod default/{}\n", pod.name)),
            "{told}"
        );
        ensure!(told.contains(&format!("pod/{} evicted\n", pod.name)), "{told}");
    }
    let shown = s.tool.ok(&["get", "node", node])?;
    ensure!(shown.contains("Ready,SchedulingDisabled"), "{shown}");
    until(SOON, || {
        let pods = three_ready(s.cluster)?;
        ensure!(on(&pods, node) == 0, "pods are left on {node}");
        Ok(())
    })?;
    let told = s.tool.ok(&["uncordon", node])?;
    ensure!(told == format!("node/{node} uncordoned\n"), "{told}");
    Ok(())
}

fn gone(s: &Session<'_>) -> anyhow::Result<()> {
    let told = s.tool.ok(&["delete", "pod", "shell", "listener"])?;
    ensure!(
        told.contains("pod \"shell\" deleted") && told.contains("pod \"listener\" deleted"),
        "{told}"
    );
    until(SOON, || {
        let pods = s.cluster.get(&["pods"])?;
        let left: Vec<&str> = pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| text(&pod["metadata"]["name"]))
            .collect();
        ensure!(left.is_empty(), "{left:?} are left");
        Ok(())
    })
}
