//! Help pages in kubectl's layout.

use super::{Command, Flag, Kind, PROGRAM};

/// Groups of the top-level page.
pub const GROUPS: &[(&str, &[&str])] = &[
    ("Basic Commands (Beginner):", &["create", "expose", "run", "set"]),
    (
        "Basic Commands (Intermediate):",
        &["explain", "get", "edit", "delete"],
    ),
    ("Deploy Commands:", &["rollout", "scale", "autoscale", "compose"]),
    (
        "Cluster Management Commands:",
        &[
            "cluster",
            "certificate",
            "cluster-info",
            "top",
            "cordon",
            "uncordon",
            "drain",
            "taint",
        ],
    ),
    (
        "Troubleshooting and Debugging Commands:",
        &[
            "describe",
            "logs",
            "attach",
            "exec",
            "port-forward",
            "proxy",
            "cp",
            "auth",
            "debug",
            "events",
        ],
    ),
    (
        "Advanced Commands:",
        &[
            "diff",
            "apply",
            "patch",
            "replace",
            "wait",
            "kustomize",
            "convert",
        ],
    ),
    ("Settings Commands:", &["label", "annotate", "completion"]),
    (
        "Other Commands:",
        &["api-resources", "api-versions", "config", "plugin", "version"],
    ),
];

/// The page of the program.
pub fn root(root: &Command) -> String {
    let mut out = format!("{PROGRAM} controls the cluster.\n");
    for (title, names) in GROUPS {
        out.push_str(&format!("\n{title}\n"));
        for name in *names {
            if let Some(c) = root.sub(name) {
                out.push_str(&format!("  {:<15} {}\n", c.name, c.short));
            }
        }
    }
    let plugins = crate::cmd::plugin::list();
    if !plugins.is_empty() {
        out.push_str("\nSubcommands provided by plugins:\n");
        for (name, path) in plugins {
            out.push_str(&format!(
                "  {name:<15} The command {name} is provided by {}\n",
                path.display()
            ));
        }
    }
    out.push_str(&format!(
        "\nUsage:\n  {PROGRAM} [flags] [options]\n\nUse \"{PROGRAM} <command> --help\" for more information about a given command.\nUse \"{PROGRAM} options\" for a list of global command-line options (applies to all commands).\n"
    ));
    out
}

/// A command's page.
pub fn page(command: &Command, path: &str) -> String {
    let mut out = String::new();
    let long = if command.long.is_empty() {
        command.short
    } else {
        command.long
    };
    out.push_str(long.trim());
    out.push('\n');
    if !command.aliases.is_empty() {
        out.push_str("\nAliases:\n");
        let mut all = vec![command.name];
        all.extend_from_slice(command.aliases);
        out.push_str(&format!("  {}\n", all.join(", ")));
    }
    if !command.examples.is_empty() {
        out.push_str("\nExamples:\n");
        for line in command.examples.trim_matches('\n').lines() {
            let line = line.trim();
            if line.is_empty() {
                out.push_str("  \n");
            } else if line.starts_with('#') {
                out.push_str(&format!("  {line}\n"));
            } else {
                out.push_str(&format!("  {}\n", line.replace("{}", PROGRAM)));
            }
        }
    }
    let subs: Vec<&&Command> = command.subs.iter().filter(|c| !c.hidden).collect();
    if !subs.is_empty() {
        out.push_str("\nAvailable Commands:\n");
        let width = subs.iter().map(|c| c.name.len()).max().unwrap_or(0).max(11);
        for c in subs {
            out.push_str(&format!("  {:<width$}   {}\n", c.name, c.short));
        }
    }
    let mut own: Vec<&Flag> = command.all_flags().filter(|f| !f.hidden).collect();
    own.sort_by_key(|f| f.name);
    own.dedup_by_key(|f| f.name);
    if !own.is_empty() {
        out.push_str("\nOptions:\n");
        out.push_str(&own.iter().map(|f| flag(f)).collect::<Vec<_>>().join("\n"));
    }
    let usage = if !command.usage.is_empty() {
        format!(" {}", command.usage)
    } else if command.run.is_none() {
        " SUBCOMMAND".to_owned()
    } else {
        String::new()
    };
    let options = " [options]";
    out.push_str(&format!("\nUsage:\n  {PROGRAM} {path}{usage}{options}\n\n"));
    if !command.subs.is_empty() {
        out.push_str(&format!(
            "Use \"{PROGRAM} {path} <command> --help\" for more information about a given command.\n"
        ));
    }
    out.push_str(&format!(
        "Use \"{PROGRAM} options\" for a list of global command-line options (applies to all commands).\n"
    ));
    out
}

/// One flag's lines.
pub fn flag(f: &Flag) -> String {
    let short = f.short.map(|c| format!("-{c}, ")).unwrap_or_default();
    let default = match f.kind {
        Kind::Str => format!("'{}'", f.default),
        Kind::Slice | Kind::Array => format!("[{}]", f.default),
        _ => f.default.to_owned(),
    };
    format!("    {short}--{}={default}:\n\t{}\n", f.name, f.help)
}

/// The page of the global flags.
pub fn options() -> String {
    let mut flags: Vec<&Flag> = super::flags::GLOBAL.iter().collect();
    flags.sort_by_key(|f| f.name);
    format!(
        "The following options can be passed to any command:\n\n{}",
        flags.iter().map(|f| flag(f)).collect::<Vec<_>>().join("\n")
    )
}
