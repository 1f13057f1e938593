//! `logs`: what containers printed.

use super::pods;
use crate::cli::flags::SELECTOR;
use crate::cli::{Args, Call, Command, bool, duration, int, text};
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::resource::builder::{Query, info_of, list};
use crate::rest::{Rest, with_query};
use serde_json::Value;
use std::rc::Rc;

/// The command.
pub static COMMAND: Command = Command {
    name: "logs",
    short: "Print the logs for a container in a pod",
    long: "Print the logs for a container in a pod or specified resource. If the pod has only one container, the container name is optional.",
    examples: "
        # Of a pod, of a deployment's pod, of all pods with a label
        {} logs web-0
        {} logs deployment/web
        {} logs -l app=web --all-containers --prefix

        # As it grows, from the last twenty lines on
        {} logs -f --tail=20 web-0

        # Of the container before its last restart
        {} logs -p -c app web-0",
    usage: "[-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]",
    flags: &[
        SELECTOR,
        &[
            bool("all-containers", "Get all containers' logs in the pod(s)."),
            bool("all-pods", "Get logs from all pod(s). Sets prefix to true."),
            text("container", "", "Print the logs of this container").short('c'),
            bool("follow", "Specify if the logs should be streamed.").short('f'),
            bool(
                "ignore-errors",
                "If watching / following pod logs, allow for any errors that occur to be non-fatal",
            ),
            bool(
                "insecure-skip-tls-verify-backend",
                "Skip verifying the identity of the kubelet that logs are requested from.  In theory, an attacker could provide invalid log content back. You might want to use this if your kubelet serving certificates have expired.",
            ),
            int(
                "limit-bytes",
                "0",
                "Maximum bytes of logs to return. Defaults to no limit.",
            ),
            int(
                "max-log-requests",
                "5",
                "Specify maximum number of concurrent logs to follow when using by a selector. Defaults to 5.",
            ),
            duration(
                "pod-running-timeout",
                "20s",
                "The length of time (like 5s, 2m, or 3h, higher than zero) to wait until at least one pod is running",
            ),
            bool(
                "prefix",
                "Prefix each log line with the log source (pod name and container name)",
            ),
            bool(
                "previous",
                "If true, print the logs for the previous instance of the container in a pod if it exists.",
            )
            .short('p'),
            duration(
                "since",
                "0s",
                "Only return logs newer than a relative duration like 5s, 2m, or 3h. Defaults to all logs. Only one of since-time / since may be used.",
            ),
            text(
                "since-time",
                "",
                "Only return logs after a specific date (RFC3339). Defaults to all logs. Only one of since-time / since may be used.",
            ),
            int(
                "tail",
                "-1",
                "Lines of recent log file to display. Defaults to -1 with no selector, showing all log lines otherwise 10, if a selector is provided.",
            ),
            bool("timestamps", "Include timestamps on each line in the log output"),
        ],
    ],
    args: Args::PodContainers,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// One container whose log is read.
struct Source {
    path: String,
    prefix: String,
}

async fn run(call: Call) -> Result<()> {
    let selector = call.str("selector").to_owned();
    let mut asked = call.str("container").to_owned();
    if call.args.is_empty() && selector.is_empty() {
        return Err(call.usage("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command"));
    }
    if !selector.is_empty() && !call.args.is_empty() {
        return Err(call.usage("only a selector (-l) or a POD name is allowed"));
    }
    if call.args.len() > 2 {
        return Err(call.usage("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command"));
    }
    if let Some(container) = call.args.get(1) {
        if call.changed("container") {
            return Err(Error::new(
                "only one of -c or an inline [CONTAINER] arg is allowed",
            ));
        }
        asked.clone_from(container);
    }
    let all_containers = call.bool("all-containers");
    if all_containers && !asked.is_empty() {
        return Err(Error::new(format!(
            "--all-containers=true should not be specified with container name {asked}"
        )));
    }
    let params = params(&call)?;
    let rest = call.ctx.rest().await?;
    let all_pods = call.bool("all-pods");
    let pods = find(&call, &rest, &selector, all_pods).await?;
    let prefix = call.bool("prefix") || (all_pods && !call.changed("prefix"));
    let mut sources = Vec::new();
    for pod in &pods {
        let chosen: Vec<(String, &str)> = if all_containers {
            pods::containers(&pod.object)
                .map(|(l, c)| (c["name"].as_str().unwrap_or("").to_owned(), l))
                .collect()
        } else {
            let quiet = all_pods;
            vec![(pods::container(&pod.object, &asked, quiet)?, "")]
        };
        for (container, _) in chosen {
            let mut query = params.clone();
            query.push(("container", container.clone()));
            sources.push(Source {
                path: with_query(&pod.sub_path("log"), &query),
                prefix: if prefix {
                    format!("[pod/{}/{container}] ", pod.name)
                } else {
                    String::new()
                },
            });
        }
    }
    let follow = call.bool("follow");
    if follow && sources.len() > 1 {
        let most = call.flags.int("max-log-requests");
        if i64::try_from(sources.len()).unwrap_or(i64::MAX) > most {
            return Err(Error::new(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {most}, use --max-log-requests to increase the limit",
                sources.len()
            )));
        }
        let ignore = call.bool("ignore-errors");
        let streams = sources
            .iter()
            .map(|s| async { copy(&rest, s, ignore, true).await });
        return futures::future::try_join_all(streams).await.map(|_| ());
    }
    for source in &sources {
        copy(
            &rest,
            source,
            call.bool("ignore-errors"),
            !source.prefix.is_empty(),
        )
        .await?;
    }
    Ok(())
}

fn params(call: &Call) -> Result<Vec<(&'static str, String)>> {
    let mut out = Vec::new();
    for (flag, key) in [
        ("follow", "follow"),
        ("previous", "previous"),
        ("timestamps", "timestamps"),
        ("insecure-skip-tls-verify-backend", "insecureSkipTLSVerifyBackend"),
    ] {
        if call.bool(flag) {
            out.push((key, "true".to_owned()));
        }
    }
    let limit = call.flags.int("limit-bytes");
    if limit < 0 {
        return Err(Error::new("--limit-bytes must be greater than 0"));
    }
    if limit > 0 {
        out.push(("limitBytes", limit.to_string()));
    }
    let since = call.flags.nanos("since");
    let since_time = call.str("since-time");
    if !since_time.is_empty() && since != 0 {
        return Err(Error::new(
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    if since < 0 {
        return Err(Error::new("--since must be greater than 0"));
    }
    if since > 0 {
        out.push((
            "sinceSeconds",
            ((since + 500_000_000) / 1_000_000_000).to_string(),
        ));
    }
    if !since_time.is_empty() {
        let time: jiff::Timestamp = since_time.parse().map_err(|_| {
            Error::new(format!(
                "parsing time {since_time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {since_time:?} as \"2006\""
            ))
        })?;
        out.push(("sinceTime", time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
    }
    let tail = call.flags.int("tail");
    if tail < -1 {
        return Err(Error::new("--tail must be greater than or equal to -1"));
    }
    if !call.str("selector").is_empty() && !call.changed("tail") {
        out.push(("tailLines", "10".to_owned()));
    } else if tail != -1 {
        out.push(("tailLines", tail.to_string()));
    }
    Ok(out)
}

async fn find(call: &Call, rest: &Rc<Rest>, selector: &str, all_pods: bool) -> Result<Vec<Info>> {
    if !selector.is_empty() {
        let mapping = call.ctx.discovery().await?.resolve("pods")?;
        let namespace = call.ctx.namespace()?;
        let found = list(
            rest,
            &mapping,
            &namespace,
            &[("labelSelector", selector.to_owned())],
            500,
        )
        .await?;
        if found.is_empty() {
            crate::errln!("No resources found in {namespace} namespace.");
        }
        return Ok(found.into_iter().map(|p| info_of(&mapping, p)).collect());
    }
    let name = call.args.first().map_or("", String::as_str);
    let args = if name.contains('/') {
        vec![name.to_owned()]
    } else {
        vec!["pods".to_owned(), name.to_owned()]
    };
    let info = Query {
        args,
        ..Query::default()
    }
    .one(&call.ctx)
    .await
    .map_err(|e| match e {
        Error::Status(s) if s.reason == "NotFound" => {
            let namespace = call.ctx.namespace().unwrap_or_default();
            Error::new(format!(
                "error from server (NotFound): {} in namespace {namespace:?}",
                s.message
            ))
        }
        other => other,
    })?;
    let timeout = call.flags.duration("pod-running-timeout");
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let mut found = pods::of(&call.ctx, rest, &info, true).await?;
        if found.is_empty() {
            if tokio::time::Instant::now() >= deadline {
                return Err(Error::new("timed out waiting for the condition"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            continue;
        }
        if found.len() > 1 && !all_pods {
            if let Some(first) = found.first() {
                crate::errln!("Found {} pods, using pod/{}", found.len(), first.name);
            }
            found.truncate(1);
        }
        return Ok(found);
    }
}

/// Copies one log to standard output, line by line where lines of several may mix.
async fn copy(rest: &Rest, source: &Source, ignore_errors: bool, lines: bool) -> Result<()> {
    let outcome = async {
        let mut stream = rest.stream(&source.path, "*/*").await?;
        if lines {
            while let Some(line) = stream.line().await? {
                let mut out = source.prefix.clone().into_bytes();
                out.extend_from_slice(&line);
                out.push(b'\n');
                crate::out::bytes(&out);
            }
        } else {
            while let Some(bytes) = stream.next().await? {
                crate::out::bytes(&bytes);
            }
        }
        Ok(())
    };
    match outcome.await {
        Err(Error::Exit(code)) => Err(Error::Exit(code)),
        Err(e) if ignore_errors => {
            crate::outln!("error: {}", e.message());
            Ok(())
        }
        other => other,
    }
}

/// Reads the whole log of a container, for other commands.
pub async fn read(rest: &Rest, pod: &Info, container: &str) -> Result<Value> {
    let path = with_query(&pod.sub_path("log"), &[("container", container.to_owned())]);
    let bytes = rest.bytes(http::Method::GET, &path, "*/*", None).await?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}
