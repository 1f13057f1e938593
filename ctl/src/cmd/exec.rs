//! `exec`: runs a command in a container.

use super::pods;
use crate::cli::flags::{FILENAME, POD_TIMEOUT};
use crate::cli::{Args, Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::rest::with_query;
use crate::stream::exec::Session;
use crate::stream::terminal;

/// The command.
pub static COMMAND: Command = Command {
    name: "exec",
    short: "Execute a command in a container",
    examples: "
        # One command, in the first container or in a named one
        {} exec web-0 -- date
        {} exec web-0 -c app -- ls /srv

        # A shell
        {} exec -it deployment/web -- sh

        # A file into a pod
        {} exec -i web-0 -- sh -c 'cat > /tmp/x' < x",
    usage: "(POD | TYPE/NAME) [-c CONTAINER] [flags] -- COMMAND [args...]",
    flags: &[FILENAME, POD_TIMEOUT, &[
        text("container", "", "Container name. If omitted, use the kubectl.kubernetes.io/default-container annotation for selecting the container to be attached or the first container in the pod will be chosen").short('c'),
        bool("quiet", "Only print output from the remote session").short('q'),
        bool("stdin", "Pass stdin to the container").short('i'),
        bool("tty", "Stdin is a TTY").short('t'),
    ]],
    args: Args::Pod,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let files = call.list("filename");
    let (target, command): (Option<String>, Vec<String>) = match call.dash {
        Some(0) if files.is_empty() => {
            return Err(Error::new("pod, type/name or --filename must be specified"));
        }
        Some(_) => (call.before_dash().first().cloned(), call.after_dash().to_vec()),
        None if !files.is_empty() => (None, call.args.clone()),
        None => (
            call.args.first().cloned(),
            call.args.get(1..).unwrap_or(&[]).to_vec(),
        ),
    };
    if call.dash.is_none() && !command.is_empty() {
        return Err(call.usage(
            "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead".to_string(),
        ));
    }
    let Some(target) = target.or_else(|| files.first().map(|_| String::new())) else {
        return Err(Error::new("pod, type/name or --filename must be specified"));
    };
    if command.is_empty() {
        return Err(Error::new(
            "you must specify at least one command for the container",
        ));
    }
    let pod = if files.is_empty() {
        pods::attachable(&call, &target).await?
    } else {
        let query = crate::resource::builder::Query {
            filenames: files,
            ..Default::default()
        };
        let info = query.one(&call.ctx).await?;
        pods::attachable(&call, &format!("{}/{}", info.mapping.group_resource(), info.name)).await?
    };
    let phase = pod.object["status"]["phase"].as_str().unwrap_or("");
    if phase == "Succeeded" || phase == "Failed" {
        return Err(Error::new(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    let quiet = call.bool("quiet");
    let container = pods::container(&pod.object, call.str("container"), quiet)?;
    let (stdin, mut tty) = (call.bool("stdin"), call.bool("tty"));
    if tty && stdin && !terminal::is_terminal() {
        tty = false;
        if !quiet {
            crate::errln!("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
    }
    if tty && !stdin {
        tty = false;
    }
    let path = path(&pod, &container, &command, stdin, tty);
    let rest = call.ctx.rest().await?;
    Session::local(stdin, tty).run(&rest, &path).await
}

/// The request's path.
pub fn path(pod: &Info, container: &str, command: &[String], stdin: bool, tty: bool) -> String {
    let mut query: Vec<(&str, String)> = command.iter().map(|c| ("command", c.clone())).collect();
    query.push(("container", container.to_owned()));
    if stdin {
        query.push(("stdin", "true".to_owned()));
    }
    query.push(("stdout", "true".to_owned()));
    if tty {
        query.push(("tty", "true".to_owned()));
    } else {
        query.push(("stderr", "true".to_owned()));
    }
    with_query(&pod.sub_path("exec"), &query)
}
