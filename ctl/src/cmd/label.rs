//! `label` and `annotate`: change labels and annotations.

use super::common::{DryRun, Write, record};
use crate::cli::flags::{
    ALL, ALL_NAMESPACES, DRY_RUN, FIELD_SELECTOR, FILENAME, OUTPUT, RECORD, SELECTOR, TEMPLATE,
};
use crate::cli::{Args, Call, Command, Flag, bool, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::builder::{Query, info_of, list};
use crate::resource::{Info, builder};
use crate::rest::patch;
use serde_json::{Map, Value, json};

const SHARED: &[Flag] = &[
    bool(
        "list",
        "If true, display the labels or annotations for a given resource.",
    ),
    bool(
        "local",
        "If true, the command will NOT contact api-server but run locally.",
    ),
    bool(
        "overwrite",
        "If true, allow values to be overwritten, otherwise reject updates that overwrite existing ones.",
    ),
    text(
        "resource-version",
        "",
        "If non-empty, the update will only succeed if this is the current resource-version for the object. Only valid when specifying a single resource.",
    ),
];

/// `label`
pub static LABEL: Command = Command {
    name: "label",
    short: "Update the labels on a resource",
    long: "Update the labels on a resource.\n\n  *  A label key and value must begin with a letter or number, and may contain letters, numbers, hyphens, dots, and underscores, up to 63 characters each.\n  *  Optionally, the key can begin with a DNS subdomain prefix and a single '/', like example.com/my-app.\n  *  If --overwrite is true, then existing labels can be overwritten, otherwise attempting to overwrite a label will result in an error.\n  *  If --resource-version is specified, then updates will use this resource version, otherwise the existing resource-version will be used.",
    examples: "
        # Set, change, remove
        {} label pods web-0 tier=front
        {} label --overwrite pods web-0 tier=back
        {} label pods web-0 tier-

        # All pods of the namespace
        {} label pods --all checked=yes",
    usage: "[--overwrite] (-f FILENAME | TYPE NAME) KEY_1=VAL_1 ... KEY_N=VAL_N [--resource-version=version]",
    flags: &[
        ALL,
        ALL_NAMESPACES,
        DRY_RUN,
        FIELD_SELECTOR,
        FILENAME,
        OUTPUT,
        RECORD,
        SELECTOR,
        TEMPLATE,
        SHARED,
        &[text(
            "field-manager",
            "kubectl-label",
            "Name of the manager used to track field ownership.",
        )],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c, &LABELS))),
    ..Command::NEW
};

/// `annotate`
pub static ANNOTATE: Command = Command {
    name: "annotate",
    short: "Update the annotations on a resource",
    long: "Update the annotations on one or more resources.\n\n All Kubernetes objects support the ability to store additional data with the object as annotations. Annotations are key/value pairs that can be larger than labels and include arbitrary string values such as structured JSON.\n\n Attempting to set an annotation that already exists will fail unless --overwrite is set.",
    examples: "
        # Set, change, remove
        {} annotate pods web-0 note='a text'
        {} annotate --overwrite pods web-0 note='another'
        {} annotate pods web-0 note-",
    usage: "[--overwrite] (-f FILENAME | TYPE NAME) KEY_1=VAL_1 ... KEY_N=VAL_N [--resource-version=version]",
    flags: &[
        ALL,
        ALL_NAMESPACES,
        DRY_RUN,
        FIELD_SELECTOR,
        FILENAME,
        OUTPUT,
        RECORD,
        SELECTOR,
        TEMPLATE,
        SHARED,
        &[text(
            "field-manager",
            "kubectl-annotate",
            "Name of the manager used to track field ownership.",
        )],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c, &ANNOTATIONS))),
    ..Command::NEW
};

struct Words {
    field: &'static str,
    one: &'static str,
    done: &'static str,
    undone: &'static str,
    manager: &'static str,
}

static LABELS: Words = Words {
    field: "labels",
    one: "label",
    done: "labeled",
    undone: "unlabeled",
    manager: "kubectl-label",
};
static ANNOTATIONS: Words = Words {
    field: "annotations",
    one: "annotation",
    done: "annotated",
    undone: "annotated",
    manager: "kubectl-annotate",
};

/// Resources and changes, told apart: the first argument with `=` or a trailing `-` begins the changes.
fn split(args: &[String]) -> (Vec<String>, Vec<String>) {
    let at = args
        .iter()
        .position(|a| a.contains('=') || (a.ends_with('-') && a != "-"))
        .unwrap_or(args.len());
    (
        args.get(..at).unwrap_or(&[]).to_vec(),
        args.get(at..).unwrap_or(&[]).to_vec(),
    )
}

type Pairs = Vec<(String, String)>;

/// Pairs to set and keys to remove.
fn changes(args: &[String], words: &Words) -> Result<(Pairs, Vec<String>)> {
    let (mut set, mut remove) = (Vec::new(), Vec::new());
    for arg in args {
        if let Some((key, value)) = arg.split_once('=') {
            if key.is_empty() {
                return Err(Error::new(format!("invalid {} spec: {arg}", words.one)));
            }
            if words.one == "label" && !valid_value(value) {
                return Err(Error::new(format!(
                    "invalid label value: {arg:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                )));
            }
            set.push((key.to_owned(), value.to_owned()));
        } else if let Some(key) = arg.strip_suffix('-') {
            remove.push(key.to_owned());
        } else {
            return Err(Error::new(format!("unknown {} spec: {arg}", words.one)));
        }
    }
    for key in &remove {
        if set.iter().any(|(k, _)| k == key) {
            return Err(Error::new(format!(
                "can not both modify and remove {} in the same command",
                if words.one == "label" {
                    "a label"
                } else {
                    "an annotation"
                }
            )));
        }
    }
    Ok((set, remove))
}

fn valid_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    value.is_empty()
        || (value.len() <= 63
            && value.chars().all(inner)
            && value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && value.ends_with(|c: char| c.is_ascii_alphanumeric()))
}

async fn run(call: Call, words: &'static Words) -> Result<()> {
    let (resources, pairs) = split(&call.args);
    let (set, remove) = changes(&pairs, words)?;
    let listing = call.bool("list");
    let mut query = Query::from_call(&call);
    query.args = resources;
    if query.args.is_empty() && !query.has_files() {
        return Err(Error::new(
            "one or more resources must be specified as <resource> <name> or <resource>/<name>",
        ));
    }
    if pairs.is_empty() && !listing {
        return Err(Error::new(format!(
            "at least one {} update is required",
            words.one
        )));
    }
    let write = Write::from_call(&call, words.manager)?;
    let printer = Printer::from_call(&call)?;
    let overwrite = call.bool("overwrite");
    let version = call.str("resource-version").to_owned();
    if call.bool("local") {
        return local(&query, &set, &remove, words, &printer).await;
    }
    let (infos, mut errors) = find(&call, &query).await?;
    if infos.len() > 1 && !version.is_empty() {
        return Err(Error::new(
            "--resource-version may only be used with a single resource",
        ));
    }
    let rest = call.ctx.rest().await?;
    for info in infos {
        let old = info.object.clone();
        let has = old["metadata"][words.field].clone();
        if !overwrite {
            let clash: Vec<String> = set
                .iter()
                .filter_map(|(k, v)| {
                    let now = has[k].as_str()?;
                    if words.one == "label" && now == v {
                        return None;
                    }
                    Some(if words.one == "label" {
                        format!("'{k}' already has a value ({now}), and --overwrite is false")
                    } else {
                        k.clone()
                    })
                })
                .collect();
            if !clash.is_empty() {
                if words.one == "label" {
                    errors.extend(clash.into_iter().map(Error::new));
                } else {
                    errors.extend(set.iter().filter_map(|(k, _)| {
                        let now = has[k].as_str()?;
                        Some(Error::new(format!("--overwrite is false but found the following declared annotation(s): '{k}' already has a value ({now})")))
                    }));
                }
                continue;
            }
        }
        let mut new = old.clone();
        apply(&mut new, words.field, &set, &remove);
        record(&call, &mut new);
        let changed = new != old;
        for key in &remove {
            if has[key].is_null() && words.one == "label" {
                crate::outln!("label {key:?} not found.");
            }
        }
        let mut object = new.clone();
        if changed && write.dry != DryRun::Client {
            let mut body = crate::patch::diff(&old, &new);
            if !version.is_empty() {
                body["metadata"]["resourceVersion"] = json!(version);
            }
            match write.patch(&rest, &info, "", patch::MERGE, &body).await {
                Ok(o) => object = o,
                Err(e) => {
                    errors.push(e);
                    continue;
                }
            }
        }
        if listing {
            for (k, v) in object["metadata"][words.field].as_object().into_iter().flatten() {
                crate::outln!("{k}={}", v.as_str().unwrap_or(""));
            }
            continue;
        }
        let word = if words.one == "annotation" {
            words.done.to_owned()
        } else if !changed {
            "not labeled".to_owned()
        } else if set.is_empty() {
            words.undone.to_owned()
        } else {
            words.done.to_owned()
        };
        printer.result(&info.with(object), &format!("{word}{}", write.dry.suffix()))?;
    }
    Error::collect(errors)
}

async fn find(call: &Call, query: &Query) -> Result<(Vec<Info>, Vec<Error>)> {
    let targets = query.targets(&call.ctx).await?;
    let rest = call.ctx.rest().await?;
    let (mut infos, mut errors) = (Vec::new(), targets.errors);
    for target in targets.items {
        match target {
            builder::Target::Object(i) | builder::Target::Named(i) => match rest.get(&i.path()).await {
                Ok(o) => infos.push(i.with(o)),
                Err(e) => errors.push(e),
            },
            builder::Target::List { mapping, namespace } => {
                match list(&rest, &mapping, &namespace, &query.params(), 500).await {
                    Ok(found) => infos.extend(found.into_iter().map(|o| info_of(&mapping, o))),
                    Err(e) => errors.push(e),
                }
            }
        }
    }
    Ok((infos, errors))
}

async fn local(
    query: &Query,
    set: &[(String, String)],
    remove: &[String],
    words: &Words,
    printer: &Printer,
) -> Result<()> {
    if !query.has_files() {
        return Err(Error::new(
            "when --local is specified, resources must be given by -f",
        ));
    }
    for document in query.documents().await? {
        let mut object = document.value;
        apply(&mut object, words.field, set, remove);
        if printer.is_human() {
            crate::outln!("{} {}", crate::print::object_name(&object), words.done);
        } else {
            printer.print(&object)?;
        }
    }
    Ok(())
}

/// Sets and removes keys of `metadata.labels` or `metadata.annotations`.
fn apply(object: &mut Value, field: &str, set: &[(String, String)], remove: &[String]) {
    if !object["metadata"][field].is_object() {
        if set.is_empty() {
            return;
        }
        object["metadata"][field] = Value::Object(Map::new());
    }
    if let Some(map) = object["metadata"][field].as_object_mut() {
        for key in remove {
            map.remove(key);
        }
        for (key, value) in set {
            map.insert(key.clone(), json!(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_apart_from_changes() {
        let words = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            split(&words("pods a b k=v j-")),
            (words("pods a b"), words("k=v j-"))
        );
        let (set, remove) = changes(&words("k=v j- e="), &LABELS).unwrap();
        assert_eq!(set, vec![("k".into(), "v".into()), ("e".into(), String::new())]);
        assert_eq!(remove, ["j"]);
        assert!(changes(&words("k=v k-"), &LABELS).is_err());
        assert!(changes(&words("k=-v"), &LABELS).is_err());
    }
}
