//! `attach`: joins the streams of a container that runs.

use super::pods;
use crate::cli::flags::POD_TIMEOUT;
use crate::cli::{Args, Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::resource::Info;
use crate::rest::{Rest, with_query};
use crate::stream::exec::Session;
use crate::stream::terminal;

/// The command.
pub static COMMAND: Command = Command {
    name: "attach",
    short: "Attach to a running container",
    long: "Attach to a process that is already running inside an existing container.",
    examples: "
        # See what a pod prints, or talk to it
        {} attach web-0
        {} attach web-0 -c shell -i -t",
    usage: "(POD | TYPE/NAME) -c CONTAINER",
    flags: &[POD_TIMEOUT, &[
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
    let target = match call.args.as_slice() {
        [one] => one.clone(),
        [kind, name] => format!("{kind}/{name}"),
        [] => return Err(Error::new("at least 1 argument is required for attach")),
        more => {
            return Err(call.usage(format!(
                "expected POD, TYPE/NAME, or TYPE NAME, (at most 2 arguments) saw {}: {more:?}",
                more.len()
            )));
        }
    };
    let pod = pods::attachable(&call, &target).await?;
    let rest = call.ctx.rest().await?;
    let (stdin, tty) = (call.bool("stdin"), call.bool("tty"));
    to(&rest, &pod, call.str("container"), stdin, tty, call.bool("quiet")).await
}

/// Attaches to a container of a pod.
pub async fn to(rest: &Rest, pod: &Info, asked: &str, stdin: bool, tty: bool, quiet: bool) -> Result<()> {
    let phase = pod.object["status"]["phase"].as_str().unwrap_or("");
    if phase == "Succeeded" || phase == "Failed" {
        return Err(Error::new(format!(
            "cannot attach a container in a completed pod; current phase is {phase}"
        )));
    }
    let container = pods::container(&pod.object, asked, quiet)?;
    let has_tty =
        pods::containers(&pod.object).any(|(_, c)| c["name"] == container.as_str() && c["tty"] == true);
    let mut tty = tty;
    if tty && !has_tty {
        tty = false;
        if !quiet {
            crate::errln!("error: Unable to use a TTY - container {container} did not allocate one");
        }
    } else if !tty && has_tty && stdin {
        tty = true;
    }
    let raw = tty && stdin && terminal::is_terminal();
    if !quiet {
        crate::errln!(
            "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt."
        );
        crate::errln!("If you don't see a command prompt, try pressing enter.");
    }
    let mut query = vec![("container", container.clone())];
    if stdin {
        query.push(("stdin", "true".to_owned()));
    }
    query.push(("stdout", "true".to_owned()));
    query.push(if tty {
        ("tty", "true".to_owned())
    } else {
        ("stderr", "true".to_owned())
    });
    Session::local(stdin, raw)
        .run(rest, &with_query(&pod.sub_path("attach"), &query))
        .await?;
    if stdin && raw && pod.object["spec"]["restartPolicy"] == "Always" && !quiet {
        crate::outln!(
            "Session ended, resume using '{} attach {} -c {container} -i -t' command when the pod is running",
            crate::cli::PROGRAM,
            pod.name
        );
    }
    Ok(())
}
