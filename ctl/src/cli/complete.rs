//! Dynamic completion: what `rctl __complete WORDS...` prints for a shell.
//!
//! Lines of candidates with a description behind a tab, then `:N`, cobra's directive (4: no files), as the scripts
//! of `rctl completion` and kubectl's own expect.

use super::{Args, Command, Flag, flags, parse, root};
use crate::context::Ctx;
use crate::error::Result;
use crate::rest::with_query;

const NO_FILES: u8 = 4;
const DEFAULT: u8 = 0;
const NO_SPACE: u8 = 2;

/// Answers one question: `__complete` and the words so far, the last of which is being typed.
pub async fn run(args: &[String]) -> Result<()> {
    let describe = args.first().is_some_and(|a| a == "__complete");
    let words = args.get(1..).unwrap_or(&[]);
    let (candidates, directive) = complete(words).await;
    for (word, about) in candidates {
        if describe && !about.is_empty() {
            crate::outln!("{word}\t{about}");
        } else {
            crate::outln!("{word}");
        }
    }
    crate::outln!(":{directive}");
    crate::errln!(
        "Completion ended with directive: {}",
        if directive == DEFAULT {
            "ShellCompDirectiveDefault"
        } else {
            "ShellCompDirectiveNoFileComp"
        }
    );
    Ok(())
}

type Candidates = Vec<(String, String)>;

async fn complete(words: &[String]) -> (Candidates, u8) {
    let Some((typing, before)) = words.split_last() else {
        return (Vec::new(), NO_FILES);
    };
    let (path, rest) = parse::find(&root::ROOT, flags::GLOBAL, before);
    let command = path.last().copied().unwrap_or(&root::ROOT);
    if let Some(name) = typing.strip_prefix("--") {
        if let Some((flag, value)) = name.split_once('=') {
            return flag_values(&rest, command, flag, value, &format!("--{flag}=")).await;
        }
        let mut out: Candidates = command
            .all_flags()
            .chain(flags::GLOBAL)
            .filter(|f| !f.hidden && f.name.starts_with(name))
            .map(|f| {
                (
                    format!("--{}{}", f.name, if f.bare.is_none() { "=" } else { "" }),
                    first_line(f.help),
                )
            })
            .collect();
        out.sort();
        out.dedup();
        let space = out.iter().any(|(w, _)| w.ends_with('='));
        return (out, if space { NO_FILES | NO_SPACE } else { NO_FILES });
    }
    if let Some(previous) = rest.last().filter(|p| p.starts_with('-'))
        && let Some(flag) = expects_value(command, previous)
    {
        return flag_values(&rest, command, flag.name, typing, "").await;
    }
    if typing.starts_with('-') {
        return (Vec::new(), NO_FILES);
    }
    let subs: Candidates = command
        .subs
        .iter()
        .filter(|c| !c.hidden && c.name.starts_with(typing.as_str()))
        .map(|c| (c.name.to_owned(), c.short.to_owned()))
        .collect();
    if !subs.is_empty() || (command.run.is_none() && !command.subs.is_empty()) {
        return (subs, NO_FILES);
    }
    let parsed = parse::parse(command, flags::GLOBAL, &rest).unwrap_or_default();
    let ctx = Ctx::new(parsed.values);
    let found = arguments(&ctx, command.args, &parsed.args, typing)
        .await
        .unwrap_or_default();
    (
        found
            .into_iter()
            .filter(|w| w.starts_with(typing.as_str()))
            .map(|w| (w, String::new()))
            .collect(),
        NO_FILES,
    )
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

fn expects_value(command: &'static Command, word: &str) -> Option<&'static Flag> {
    if word.contains('=') {
        return None;
    }
    let mut all = command.all_flags().chain(flags::GLOBAL);
    let flag = match word.strip_prefix("--") {
        Some(name) => all.find(|f| f.name == name)?,
        None => {
            let c = word.chars().last()?;
            all.find(|f| f.short == Some(c))?
        }
    };
    flag.bare.is_none().then_some(flag)
}

async fn flag_values(
    rest: &[String],
    command: &'static Command,
    flag: &str,
    typing: &str,
    prefix: &str,
) -> (Candidates, u8) {
    let parsed = parse::parse(
        command,
        flags::GLOBAL,
        rest.get(..rest.len().saturating_sub(usize::from(prefix.is_empty())))
            .unwrap_or(&[]),
    )
    .unwrap_or_default();
    let ctx = Ctx::new(parsed.values);
    let values: Option<Vec<String>> = match flag {
        "namespace" => names(&ctx, "namespaces").await.ok(),
        "context" => ctx
            .kubeconfig()
            .ok()
            .map(|k| k.contexts.into_iter().map(|e| e.name).collect()),
        "cluster" => ctx
            .kubeconfig()
            .ok()
            .map(|k| k.clusters.into_iter().map(|e| e.name).collect()),
        "user" => ctx
            .kubeconfig()
            .ok()
            .map(|k| k.users.into_iter().map(|e| e.name).collect()),
        "output" => Some(
            [
                "json",
                "yaml",
                "kyaml",
                "name",
                "wide",
                "jsonpath=",
                "jsonpath-as-json=",
                "jsonpath-file=",
                "go-template=",
                "go-template-file=",
                "custom-columns=",
                "custom-columns-file=",
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
        "dry-run" => Some(["none", "server", "client"].map(str::to_owned).to_vec()),
        "cascade" => Some(["background", "orphan", "foreground"].map(str::to_owned).to_vec()),
        "container" => match parsed.args.first() {
            Some(pod) => containers(&ctx, pod).await.ok(),
            None => None,
        },
        "filename"
        | "kubeconfig"
        | "kustomize"
        | "certificate-authority"
        | "client-certificate"
        | "client-key"
        | "from-file"
        | "from-env-file"
        | "patch-file"
        | "cert"
        | "key" => {
            return (Vec::new(), DEFAULT);
        }
        _ => None,
    };
    let out = values
        .unwrap_or_default()
        .into_iter()
        .filter(|v| v.starts_with(typing))
        .map(|v| (format!("{prefix}{v}"), String::new()))
        .collect();
    (out, NO_FILES)
}

async fn names(ctx: &Ctx, kind: &str) -> Result<Vec<String>> {
    let mapping = ctx.discovery().await?.resolve(kind)?;
    let rest = ctx.rest().await?;
    let path = with_query(
        &mapping.collection(&ctx.namespace()?),
        &[("limit", "500".to_owned())],
    );
    let list = rest
        .get_as(
            &path,
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
        )
        .await?;
    Ok(list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|i| i["metadata"]["name"].as_str().map(str::to_owned))
        .collect())
}

async fn containers(ctx: &Ctx, pod: &str) -> Result<Vec<String>> {
    let name = pod.rsplit('/').next().unwrap_or(pod);
    let mapping = ctx.discovery().await?.resolve("pods")?;
    let object = ctx
        .rest()
        .await?
        .get(&mapping.path(&ctx.namespace()?, name))
        .await?;
    Ok(crate::cmd::pods::containers(&object)
        .filter_map(|(_, c)| c["name"].as_str().map(str::to_owned))
        .collect())
}

async fn types(ctx: &Ctx) -> Result<Vec<String>> {
    let mut out: Vec<String> = ctx
        .discovery()
        .await?
        .preferred()
        .iter()
        .filter(|m| m.can("get") || m.can("list"))
        .map(|m| m.group_resource())
        .collect();
    out.sort();
    Ok(out)
}

async fn arguments(ctx: &Ctx, kind: Args, before: &[String], typing: &str) -> Result<Vec<String>> {
    let unused =
        |all: Vec<String>| -> Vec<String> { all.into_iter().filter(|n| !before.contains(n)).collect() };
    match kind {
        Args::None => Ok(Vec::new()),
        Args::Words(words) => Ok(if before.is_empty() {
            words.iter().map(|w| (*w).to_owned()).collect()
        } else {
            Vec::new()
        }),
        Args::Types => {
            if before.is_empty() {
                types(ctx).await
            } else {
                Ok(Vec::new())
            }
        }
        Args::Names(kind) => Ok(unused(names(ctx, kind).await?)),
        Args::Contexts => Ok(ctx.kubeconfig()?.contexts.into_iter().map(|e| e.name).collect()),
        Args::Clusters => Ok(ctx.kubeconfig()?.clusters.into_iter().map(|e| e.name).collect()),
        Args::Users => Ok(ctx.kubeconfig()?.users.into_iter().map(|e| e.name).collect()),
        Args::PodContainers if before.len() == 1 => {
            containers(ctx, before.first().map_or("", String::as_str)).await
        }
        Args::Resources | Args::Pod | Args::PodContainers => {
            if let Some((kind, _)) = typing.split_once('/') {
                return Ok(names(ctx, kind)
                    .await?
                    .into_iter()
                    .map(|n| format!("{kind}/{n}"))
                    .collect());
            }
            match (kind, before.first()) {
                (Args::Resources, None) => types(ctx).await,
                (Args::Resources, Some(first)) if !first.contains('/') => {
                    Ok(unused(names(ctx, first).await?))
                }
                (Args::Resources, Some(_)) => Ok(Vec::new()),
                (_, None) => {
                    let mut out = names(ctx, "pods").await?;
                    for kind in [
                        "deployments",
                        "daemonsets",
                        "jobs",
                        "replicasets",
                        "services",
                        "statefulsets",
                    ] {
                        if kind.starts_with(typing) && !typing.is_empty() {
                            out.push(format!("{kind}/"));
                        }
                    }
                    Ok(out)
                }
                _ => Ok(Vec::new()),
            }
        }
    }
}
