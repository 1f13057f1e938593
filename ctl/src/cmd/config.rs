//! `config`: reads and changes kubeconfig files.

use crate::cli::{Args, Call, Command, Flag, bool, text};
use crate::error::{Error, Result, io_text};
use crate::kubeconfig::{self, Kubeconfig, LISTS};
use crate::print::tab::Columns;
use crate::print::{Printer, parse as parse_format};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The command.
pub static COMMAND: Command = Command {
    name: "config",
    short: "Modify kubeconfig files",
    long: "Modify kubeconfig files using subcommands like \"rctl config set current-context my-context\".\n\n The file is the one that --kubeconfig names; else those of $KUBECONFIG, a list, which are merged: a changed value is written to the file that had it, a new one to the first; else ~/.kube/config.",
    usage: "SUBCOMMAND",
    subs: &[
        &CURRENT,
        &DELETE_CLUSTER,
        &DELETE_CONTEXT,
        &DELETE_USER,
        &GET_CLUSTERS,
        &GET_CONTEXTS,
        &GET_USERS,
        &RENAME_CONTEXT,
        &SET,
        &super::config_set::SET_CLUSTER,
        &super::config_set::SET_CONTEXT,
        &super::config_set::SET_CREDENTIALS,
        &UNSET,
        &USE_CONTEXT,
        &VIEW,
    ],
    ..Command::NEW
};

static CURRENT: Command = Command {
    name: "current-context",
    short: "Display the current-context",
    examples: "
        # The context that commands use
        {} config current-context",
    run: Some(|c| {
        Box::pin(async move {
            let config = c.ctx.kubeconfig()?;
            if config.current.is_empty() {
                return Err(Error::new("current-context is not set"));
            }
            crate::outln!("{}", config.current);
            Ok(())
        })
    }),
    ..Command::NEW
};

static DELETE_CLUSTER: Command = Command {
    name: "delete-cluster",
    short: "Delete the specified cluster from the kubeconfig",
    usage: "NAME",
    args: Args::Clusters,
    run: Some(|c| Box::pin(delete(c, "clusters", "cluster"))),
    ..Command::NEW
};
static DELETE_CONTEXT: Command = Command {
    name: "delete-context",
    short: "Delete the specified context from the kubeconfig",
    usage: "NAME",
    args: Args::Contexts,
    run: Some(|c| Box::pin(delete(c, "contexts", "context"))),
    ..Command::NEW
};
static DELETE_USER: Command = Command {
    name: "delete-user",
    short: "Delete the specified user from the kubeconfig",
    usage: "NAME",
    args: Args::Users,
    run: Some(|c| Box::pin(delete(c, "users", "user"))),
    ..Command::NEW
};
static GET_CLUSTERS: Command = Command {
    name: "get-clusters",
    short: "Display clusters defined in the kubeconfig",
    run: Some(|c| Box::pin(names(c, "clusters"))),
    ..Command::NEW
};
static GET_USERS: Command = Command {
    name: "get-users",
    short: "Display users defined in the kubeconfig",
    run: Some(|c| Box::pin(names(c, "users"))),
    ..Command::NEW
};
static GET_CONTEXTS: Command = Command {
    name: "get-contexts",
    short: "Describe one or many contexts",
    examples: "
        # All contexts, or one
        {} config get-contexts
        {} config get-contexts staging",
    usage: "[(-o|--output=)name)]",
    flags: &[&[
        bool(
            "no-headers",
            "When using the default or custom-column output format, don't print headers (default print headers).",
        ),
        text("output", "", "Output format. One of: (name).").short('o'),
    ]],
    args: Args::Contexts,
    run: Some(|c| Box::pin(get_contexts(c))),
    ..Command::NEW
};
static RENAME_CONTEXT: Command = Command {
    name: "rename-context",
    short: "Rename a context from the kubeconfig file",
    usage: "CONTEXT_NAME NEW_NAME",
    args: Args::Contexts,
    run: Some(|c| Box::pin(rename(c))),
    ..Command::NEW
};
static SET: Command = Command {
    name: "set",
    short: "Set an individual value in a kubeconfig file",
    examples: "
        # The server of a cluster
        {} config set clusters.dev.server https://10.0.0.1:6443",
    usage: "PROPERTY_NAME PROPERTY_VALUE",
    flags: &[SET_RAW],
    run: Some(|c| Box::pin(set(c))),
    ..Command::NEW
};
const SET_RAW: &[Flag] = &[bool(
    "set-raw-bytes",
    "When writing a []byte PROPERTY_VALUE, write the given string directly without base64 decoding.",
)];
static UNSET: Command = Command {
    name: "unset",
    short: "Unset an individual value in a kubeconfig file",
    examples: "
        # The current context
        {} config unset current-context",
    usage: "PROPERTY_NAME",
    run: Some(|c| Box::pin(unset(c))),
    ..Command::NEW
};
static USE_CONTEXT: Command = Command {
    name: "use-context",
    aliases: &["use"],
    short: "Set the current-context in a kubeconfig file",
    examples: "
        # Commands go to another cluster from now on
        {} config use-context staging",
    usage: "CONTEXT_NAME",
    args: Args::Contexts,
    run: Some(|c| Box::pin(use_context(c))),
    ..Command::NEW
};
static VIEW: Command = Command {
    name: "view",
    short: "Display merged kubeconfig settings or a specified kubeconfig file",
    examples: "
        # All merged, secrets hidden
        {} config view

        # What the current context needs, in one file that stands on its own
        {} config view --minify --flatten",
    flags: &[
        &[text("output", "yaml", "Output format. One of: (json, yaml, kyaml, name, go-template, go-template-file, template, templatefile, jsonpath, jsonpath-as-json, jsonpath-file).").short('o')],
        crate::cli::flags::TEMPLATE,
        &[
            bool("flatten", "Flatten the resulting kubeconfig file into self-contained output (useful for creating portable kubeconfig files)"),
            bool("merge", "Merge the full hierarchy of kubeconfig files").on(),
            bool("minify", "Remove all information not used by current-context from the output"),
            bool("raw", "Display raw byte data and sensitive data"),
        ],
    ],
    run: Some(|c| Box::pin(view(c))),
    ..Command::NEW
};

/// The file that a new value goes to.
pub(super) fn default_file(call: &Call) -> PathBuf {
    let (files, _) = kubeconfig::files(call.flags.given("kubeconfig"));
    files
        .iter()
        .find(|f| f.exists())
        .or_else(|| files.last())
        .cloned()
        .unwrap_or_else(|| kubeconfig::home().join(".kube/config"))
}

/// Reads a file to change it; an empty one if it isn't there yet.
pub(super) fn open(path: &Path) -> Result<Value> {
    Ok(kubeconfig::read(path)?.unwrap_or_else(kubeconfig::empty))
}

/// The files that are read.
fn all_files(call: &Call) -> Vec<PathBuf> {
    kubeconfig::files(call.flags.given("kubeconfig")).0
}

async fn names(call: Call, list: &'static str) -> Result<()> {
    let config = call.ctx.kubeconfig()?;
    let mut names: Vec<&str> = config.list(list).iter().map(|e| e.name.as_str()).collect();
    names.sort_unstable();
    crate::outln!("NAME");
    for name in names {
        crate::outln!("{name}");
    }
    Ok(())
}

async fn delete(call: Call, list: &'static str, what: &'static str) -> Result<()> {
    let [name] = call.args.as_slice() else {
        return Err(call.usage(format!("you must specify a {what} to delete")).clone());
    };
    let config = call.ctx.kubeconfig()?;
    let path = default_file(&call);
    let Some(entry) = config.get(list, name) else {
        return Err(Error::new(format!(
            "cannot delete {what} {name}, not in {}",
            path.display()
        )));
    };
    let origin = entry.origin.clone();
    let mut file = open(&origin)?;
    if let Some(items) = file[list].as_array_mut() {
        items.retain(|i| i["name"].as_str() != Some(name));
    }
    if list == "contexts" && config.current == *name {
        crate::errln!(
            "warning: this removed your active context, use \"{} config use-context\" to select a different one",
            crate::cli::PROGRAM
        );
    }
    kubeconfig::write(&origin, &file)?;
    crate::outln!("deleted {what} {name} from {}", origin.display());
    Ok(())
}

async fn get_contexts(call: Call) -> Result<()> {
    let output = call.str("output");
    if !matches!(output, "" | "name" | "wide") {
        return Err(Error::new(format!(
            "output {output:?} is not recognized or is not supported, expected \"name\""
        )));
    }
    let config = call.ctx.kubeconfig()?;
    let mut names: Vec<String> = if call.args.is_empty() {
        config.contexts.iter().map(|e| e.name.clone()).collect()
    } else {
        call.args.clone()
    };
    names.sort();
    let mut errors = Vec::new();
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !call.bool("no-headers") && output != "name" {
        rows.push(
            ["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    for name in names {
        let Some(entry) = config.get("contexts", &name) else {
            errors.push(Error::new(format!("context {name} not found")));
            continue;
        };
        if output == "name" {
            crate::outln!("{name}");
            continue;
        }
        let field = |key: &str| entry.value[key].as_str().unwrap_or("").to_owned();
        let mark = if name == config.current { "*" } else { "" };
        rows.push(vec![
            mark.to_owned(),
            name.clone(),
            field("cluster"),
            field("user"),
            field("namespace"),
        ]);
    }
    if output != "name" {
        crate::out::print(&Columns::default().format(&rows));
    }
    Error::collect(errors)
}

async fn rename(call: Call) -> Result<()> {
    let [old, new] = call.args.as_slice() else {
        return Err(call.usage(format!("Unexpected args: [{}]", call.args.join(" "))));
    };
    let config = call.ctx.kubeconfig()?;
    let Some(entry) = config.get("contexts", old) else {
        return Err(Error::new(format!(
            "cannot rename the context {old:?}, it's not in {}",
            default_file(&call).display()
        )));
    };
    if config.get("contexts", new).is_some() {
        return Err(Error::new(format!(
            "cannot rename the context {old:?}, the context {new:?} already exists in {}",
            default_file(&call).display()
        )));
    }
    let origin = entry.origin.clone();
    let mut file = open(&origin)?;
    for item in file["contexts"].as_array_mut().into_iter().flatten() {
        if item["name"].as_str() == Some(old) {
            item["name"] = json!(new);
        }
    }
    if file["current-context"].as_str() == Some(old) {
        file["current-context"] = json!(new);
    }
    kubeconfig::write(&origin, &file)?;
    if config.current == *old {
        set_current(&call, new)?;
    }
    crate::outln!("Context {old:?} renamed to {new:?}.");
    Ok(())
}

/// Writes the current context into the file that has one, or into the default one.
pub(super) fn set_current(call: &Call, name: &str) -> Result<()> {
    for path in all_files(call) {
        if let Some(mut file) = kubeconfig::read(&path)?
            && file["current-context"].as_str().is_some_and(|c| !c.is_empty())
        {
            file["current-context"] = json!(name);
            return kubeconfig::write(&path, &file);
        }
    }
    let path = default_file(call);
    let mut file = open(&path)?;
    file["current-context"] = json!(name);
    kubeconfig::write(&path, &file)
}

async fn use_context(call: Call) -> Result<()> {
    let name = match call.args.as_slice() {
        [one] => one.clone(),
        args => return Err(call.usage(format!("Unexpected args: [{}]", args.join(" ")))),
    };
    let config = call.ctx.kubeconfig()?;
    if config.get("contexts", &name).is_none() {
        return Err(Error::new(format!("no context exists with the name: \"{name}\"")));
    }
    set_current(&call, &name)?;
    crate::outln!("Switched to context \"{name}\".");
    Ok(())
}

/// `clusters.dev.server` as the list, the entry's name and the field; names may hold dots.
fn property<'a>(config: &Kubeconfig, path: &'a str) -> Result<(String, String, Vec<&'a str>)> {
    let (list, rest) = path.split_once('.').unwrap_or((path, ""));
    if !LISTS.iter().any(|(l, _)| *l == list) {
        return Ok((
            list.to_owned(),
            String::new(),
            rest.split('.').filter(|p| !p.is_empty()).collect(),
        ));
    }
    // An entry whose name has dots is found as the longest that fits.
    let known = config
        .list(list)
        .iter()
        .map(|e| e.name.as_str())
        .filter(|n| rest == *n || rest.starts_with(&format!("{n}.")))
        .max_by_key(|n| n.len());
    let (name, field) = match known {
        Some(n) => (
            n.to_owned(),
            rest.get(n.len()..).unwrap_or("").trim_start_matches('.'),
        ),
        None => match rest.rsplit_once('.') {
            Some((n, f)) => (n.to_owned(), f),
            None => (rest.to_owned(), ""),
        },
    };
    Ok((
        list.to_owned(),
        name,
        field.split('.').filter(|p| !p.is_empty()).collect(),
    ))
}

fn content_key(list: &str) -> &'static str {
    LISTS
        .iter()
        .find(|(l, _)| *l == list)
        .map_or("context", |(_, k)| k)
}

/// Changes an entry in the file it came from, or adds it to the default one.
pub(super) fn change(
    call: &Call,
    list: &str,
    name: &str,
    edit: impl Fn(&mut Value) -> Result<()>,
) -> Result<bool> {
    let config = call.ctx.kubeconfig_or_empty()?;
    let (path, existed) = match config.get(list, name) {
        Some(entry) => (entry.origin.clone(), true),
        None => (default_file(call), false),
    };
    let mut file = open(&path)?;
    if !file[list].is_array() {
        file[list] = json!([]);
    }
    let key = content_key(list);
    if let Some(items) = file[list].as_array_mut() {
        if !existed {
            items.push(json!({"name": name, key: {}}));
        }
        for item in items.iter_mut().filter(|i| i["name"].as_str() == Some(name)) {
            if !item[key].is_object() {
                item[key] = json!({});
            }
            edit(&mut item[key])?;
            if let Some(map) = item[key].as_object_mut() {
                map.retain(|_, v| !v.is_null());
            }
        }
    }
    kubeconfig::write(&path, &file)?;
    Ok(existed)
}

async fn set(call: Call) -> Result<()> {
    let [path, value] = call.args.as_slice() else {
        return Err(call.usage(format!("Unexpected args: [{}]", call.args.join(" "))));
    };
    let config = call.ctx.kubeconfig_or_empty()?;
    let (list, name, field) = property(&config, path)?;
    if list == "current-context" {
        set_current(&call, value)?;
    } else if LISTS.iter().any(|(l, _)| *l == list) {
        let [field] = field.as_slice() else {
            return Err(Error::new(format!("unable to parse path {path:?} at {name:?}")));
        };
        let value = if *field == "insecure-skip-tls-verify" || *field == "disable-compression" {
            json!(
                crate::cli::parse::parse_bool(value)
                    .ok_or_else(|| Error::new(format!("error parsing {value:?} as bool")))?
            )
        } else if field.ends_with("-data") && call.bool("set-raw-bytes") {
            use base64::Engine;
            json!(base64::engine::general_purpose::STANDARD.encode(value))
        } else {
            json!(value)
        };
        change(&call, &list, &name, |entry| {
            entry[*field] = value.clone();
            Ok(())
        })?;
    } else {
        let file_path = default_file(&call);
        let mut file = open(&file_path)?;
        let mut here = &mut file[&list];
        for part in field {
            here = &mut here[part];
        }
        *here = json!(value);
        kubeconfig::write(&file_path, &file)?;
    }
    crate::outln!("Property {path:?} set.");
    Ok(())
}

async fn unset(call: Call) -> Result<()> {
    let [path] = call.args.as_slice() else {
        return Err(call.usage(format!("Unexpected args: [{}]", call.args.join(" "))));
    };
    let config = call.ctx.kubeconfig_or_empty()?;
    let (list, name, field) = property(&config, path)?;
    for file_path in all_files(&call) {
        let Some(mut file) = kubeconfig::read(&file_path)? else {
            continue;
        };
        if name.is_empty() {
            if let Some(map) = file.as_object_mut() {
                map.remove(&list);
            }
        } else if let Some(items) = file[&list].as_array_mut() {
            if field.is_empty() {
                items.retain(|i| i["name"].as_str() != Some(&name));
            } else {
                for item in items.iter_mut().filter(|i| i["name"].as_str() == Some(&name)) {
                    if let (Some(map), Some(key)) = (item[content_key(&list)].as_object_mut(), field.first())
                    {
                        map.remove(*key);
                    }
                }
            }
        }
        kubeconfig::write(&file_path, &file)?;
    }
    crate::outln!("Property {path:?} unset.");
    Ok(())
}

/// The one file that commands write to by default, without what others add.
fn only_file(call: &Call) -> Result<Kubeconfig> {
    let (files, _) = kubeconfig::files(call.ctx.flags().given("kubeconfig"));
    let file = files.iter().find(|f| f.exists()).or(files.last());
    match file.filter(|f| f.exists()) {
        Some(file) => kubeconfig::load(Some(&file.to_string_lossy())),
        None => Ok(Kubeconfig::default()),
    }
}

async fn view(call: Call) -> Result<()> {
    let mut config = if call.bool("merge") {
        call.ctx.kubeconfig_or_empty()?
    } else {
        only_file(&call)?
    };
    let (flatten, minify, raw) = (call.bool("flatten"), call.bool("minify"), call.bool("raw"));
    let wanted = call.ctx.overrides().context;
    if !wanted.is_empty() {
        config.current = wanted;
    }
    if minify {
        minimise(&mut config)?;
    }
    let mut entries_changed = config.clone();
    for (list, _) in LISTS {
        for entry in entries_changed.list_mut(list) {
            let base = entry.origin.parent().unwrap_or(Path::new(".")).to_owned();
            for (path_key, data_key) in [
                ("certificate-authority", "certificate-authority-data"),
                ("client-certificate", "client-certificate-data"),
                ("client-key", "client-key-data"),
            ] {
                let Some(path) = entry.value[path_key]
                    .as_str()
                    .filter(|p| !p.is_empty())
                    .map(|p| base.join(p))
                else {
                    continue;
                };
                if flatten {
                    use base64::Engine;
                    let bytes = std::fs::read(&path)
                        .map_err(|e| Error::new(format!("open {}: {}", path.display(), io_text(&e))))?;
                    entry.value[data_key] = json!(base64::engine::general_purpose::STANDARD.encode(bytes));
                    if let Some(map) = entry.value.as_object_mut() {
                        map.remove(path_key);
                    }
                } else {
                    entry.value[path_key] = json!(path.to_string_lossy());
                }
            }
            if !raw && !flatten {
                hide(&mut entry.value);
            }
        }
    }
    let mut value = entries_changed.to_value();
    if value["preferences"].is_null()
        && let Some(map) = value.as_object_mut()
    {
        map.remove("preferences");
    }
    let mut printer = Printer::from_call(&call)?;
    printer.format = parse_format(call.str("output"), call.str("template"), false)?;
    printer.print(&value)
}

/// Secrets are shown as that they are there.
fn hide(entry: &mut Value) {
    for (key, shown) in [
        ("certificate-authority-data", "DATA+OMITTED"),
        ("client-certificate-data", "DATA+OMITTED"),
        ("client-key-data", "DATA+OMITTED"),
        ("token", "REDACTED"),
        ("password", "REDACTED"),
    ] {
        if entry[key].as_str().is_some_and(|v| !v.is_empty()) {
            entry[key] = json!(shown);
        }
    }
}

fn minimise(config: &mut Kubeconfig) -> Result<()> {
    if config.current.is_empty() {
        return Err(Error::new("current-context must exist in order to minify"));
    }
    let Some(context) = config.get("contexts", &config.current).map(|e| e.value.clone()) else {
        return Err(Error::new(format!("cannot locate context {}", config.current)));
    };
    let current = config.current.clone();
    config.contexts.retain(|e| e.name == current);
    config
        .clusters
        .retain(|e| Some(e.name.as_str()) == context["cluster"].as_str());
    config
        .users
        .retain(|e| Some(e.name.as_str()) == context["user"].as_str());
    Ok(())
}
