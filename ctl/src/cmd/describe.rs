//! `describe`: objects at length, for people.

use crate::cli::flags::{ALL_NAMESPACES, CHUNK, FILENAME, SELECTOR};
use crate::cli::{Args, Call, Command, bool};
use crate::describe::{Options, describe};
use crate::error::{Error, Result};
use crate::resource::builder::{Query, Target, info_of, list};

/// The command.
pub static COMMAND: Command = Command {
    name: "describe",
    short: "Show details of a specific resource or group of resources",
    long: "Show details of a specific resource or group of resources.\n\n Puts together what belongs to an object, such as its pods and its events. A name that matches nothing is taken as the beginning of names.",
    examples: "
        # A node, a pod, all pods with a label
        {} describe node worker-1
        {} describe pods/web-0
        {} describe pods -l app=web

        # All pods whose name begins so
        {} describe pods web",
    usage: "(-f FILENAME | TYPE [NAME_PREFIX | -l label] | TYPE/NAME)",
    flags: &[
        ALL_NAMESPACES,
        CHUNK,
        FILENAME,
        SELECTOR,
        &[bool(
            "show-events",
            "If true, display events related to the described object. Defaults to true for a single object, false for multiple objects and prefix matching.",
        )
        .on()],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let mut query = Query::from_call(&call);
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new(format!(
            "You must specify the type of resource to describe. Use \"{p} api-resources\" for a complete list of supported resources.\n",
            p = crate::cli::PROGRAM
        )));
    }
    query.list_types = true;
    let targets = query.targets(&call.ctx).await?;
    let rest = call.ctx.rest().await?;
    let mut by_prefix = false;
    let mut errors = targets.errors;
    let mut infos = Vec::new();
    for target in targets.items {
        match target {
            Target::Object(i) | Target::Named(i) => match rest.get(&i.path()).await {
                Ok(object) => infos.push(i.with(object)),
                Err(e)
                    if e.is_not_found()
                        && query.args.len() == 2
                        && !query.args.iter().any(|a| a.contains('/')) =>
                {
                    // Perhaps it is the beginning of names.
                    let found = list(&rest, &i.mapping, &i.namespace, &[], query.chunk).await?;
                    let before = infos.len();
                    by_prefix = true;
                    infos.extend(
                        found
                            .into_iter()
                            .map(|o| info_of(&i.mapping, o))
                            .filter(|x| x.name.starts_with(&i.name)),
                    );
                    if infos.len() == before {
                        errors.push(e);
                    }
                }
                Err(e) => errors.push(e),
            },
            Target::List { mapping, namespace } => {
                match list(&rest, &mapping, &namespace, &query.params(), query.chunk).await {
                    Ok(found) => infos.extend(found.into_iter().map(|o| info_of(&mapping, o))),
                    Err(e) => errors.push(e),
                }
            }
        }
    }
    let several = infos.len() > 1 || by_prefix || !errors.is_empty();
    let options = Options {
        events: call.bool("show-events") && (!several || call.changed("show-events")),
        chunk: query.chunk,
    };
    let mut first = true;
    for info in &infos {
        match describe(&call.ctx, &rest, info, options).await {
            Ok(text) => {
                if !first && !by_prefix {
                    crate::out::print("\n\n");
                }
                first = false;
                crate::out::print(&text);
                if by_prefix {
                    crate::out::print("\n");
                }
            }
            Err(e) => errors.push(e),
        }
    }
    if infos.is_empty() && errors.is_empty() {
        if query.all_namespaces {
            crate::errln!("No resources found");
        } else {
            crate::errln!("No resources found in {} namespace.", call.ctx.namespace()?);
        }
    }
    Error::collect(errors)
}
