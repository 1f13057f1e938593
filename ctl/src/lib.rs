//! rctl: the command line of the cluster.
//!
//! Every command is kubectl's, with its flags, output and exit codes, so that scripts move over unchanged. Nothing is
//! compiled in about kinds but what descriptions and a few defaults need: what the server serves is asked of it.

pub mod cli;
pub mod cluster;
pub mod cmd;
pub mod compose;
pub mod context;
pub mod convert;
pub mod describe;
pub mod discovery;
pub mod duration;
pub mod error;
pub mod kubeconfig;
pub mod kustomize;
pub mod openapi;
pub mod out;
pub mod patch;
pub mod print;
pub mod request_log;
pub mod resource;
pub mod rest;
pub mod stream;
pub mod transport;

use cli::{Call, PROGRAM, flags, help, parse, root};
use context::Ctx;
use error::{Error, Result};
use std::process::ExitCode;
use std::rc::Rc;

/// Runs the program with its arguments, the name first.
pub fn main(args: Vec<String>) -> ExitCode {
    let args = args.get(1..).unwrap_or(&[]).to_vec();
    let error = match run(&args) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(e) => e,
    };
    let text = error.report();
    if !text.is_empty() {
        out::eprint(&text);
        if !text.ends_with('\n') {
            out::eprint("\n");
        }
    }
    ExitCode::from(u8::try_from(error.code()).unwrap_or(1))
}

/// Parses and runs one command line.
pub fn run(args: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::from)?;
    let local = tokio::task::LocalSet::new();
    let result = local.block_on(&runtime, dispatch(args));
    // Reads of standard input can't be interrupted and must not hold up the exit.
    runtime.shutdown_background();
    result
}

async fn dispatch(args: &[String]) -> Result<()> {
    if args
        .first()
        .is_some_and(|a| a == "__complete" || a == "__completeNoDesc")
    {
        return cli::complete::run(args).await;
    }
    let (path, rest) = parse::find(&root::ROOT, flags::GLOBAL, args);
    let name = path.iter().skip(1).map(|c| c.name).collect::<Vec<_>>().join(" ");
    let command = path.last().copied().unwrap_or(&root::ROOT);
    if command.raw {
        return run_raw(command, rest).await;
    }
    let parsed = parse::parse(command, flags::GLOBAL, &rest).map_err(|e| match e {
        Error::Flag(m) if name.is_empty() => Error::Plain(format!("{m}\nSee '{PROGRAM} --help' for usage.")),
        Error::Flag(m) => Error::Plain(format!("{m}\nSee '{PROGRAM} {name} --help' for usage.")),
        other => other,
    })?;
    if parsed.help {
        out::print(&if name.is_empty() {
            help::root(&root::ROOT)
        } else {
            help::page(command, &name)
        });
        return Ok(());
    }
    let Some(run) = command.run else {
        return without_run(command, &name, &parsed.args, args);
    };
    let ctx = Rc::new(Ctx::new(parsed.values.globals(command)));
    let call = Call {
        command,
        path: name,
        args: parsed.args,
        dash: parsed.dash,
        flags: parsed.values,
        ctx: ctx.clone(),
    };
    run(call).await?;
    ctx.finish()
}

async fn run_raw(command: &'static cli::Command, rest: Vec<String>) -> Result<()> {
    let Some(run) = command.run else {
        return Ok(());
    };
    run(Call {
        command,
        path: command.name.to_owned(),
        args: rest,
        dash: None,
        flags: cli::Values::default(),
        ctx: Rc::default(),
    })
    .await
}

fn without_run(command: &'static cli::Command, name: &str, rest: &[String], args: &[String]) -> Result<()> {
    let Some(word) = rest.first() else {
        if name.is_empty() {
            out::print(&help::root(&root::ROOT));
            return Ok(());
        }
        // A group of commands does nothing by itself. Scripts know where kubectl tells so, and with which code.
        let page = help::page(command, name);
        return match name {
            "certificate" => {
                out::print(&page);
                Ok(())
            }
            "rollout" => {
                out::print(&page);
                Err(Error::Exit(1))
            }
            _ => Err(Error::Code(1, page)),
        };
    };
    if name.is_empty() {
        cmd::plugin::execute(args)?;
        let close: Vec<&str> = command
            .subs
            .iter()
            .filter(|c| !c.hidden && (distance(c.name, word) <= 2 || c.name.starts_with(word.as_str())))
            .map(|c| c.name)
            .collect();
        let hint = if close.is_empty() {
            String::new()
        } else {
            format!("\n\nDid you mean this?\n\t{}\n", close.join("\n\t"))
        };
        return Err(Error::Plain(format!(
            "unknown command \"{word}\" for \"{PROGRAM}\"{hint}"
        )));
    }
    Err(Error::Plain(format!(
        "unknown command \"{word}\"\nSee '{PROGRAM} {name} -h' for help and examples"
    )))
}

/// Edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut previous = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (previous + usize::from(x != *y))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            previous = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
