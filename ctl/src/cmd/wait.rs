//! `wait`: until a condition holds for objects.

use crate::cli::flags::{ALL, ALL_NAMESPACES, FIELD_SELECTOR, FILENAME, OUTPUT, SELECTOR, TEMPLATE};
use crate::cli::{Args, Call, Command, array, duration};
use crate::error::{Error, Result};
use crate::print::{Printer, jsonpath};
use crate::resource::Info;
use crate::resource::builder::{Query, Target, info_of, list};
use crate::rest::Rest;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// The command.
pub static COMMAND: Command = Command {
    name: "wait",
    short: "Wait for a specific condition on one or many resources",
    long: "Wait for a specific condition on one or many resources.\n\n The command takes multiple resources and waits until the specified condition is seen in the Status field of every given resource, or until it has a value at a JSONPath, is created, or is deleted.",
    examples: "
        # Until a pod is ready, until one is gone
        {} wait --for=condition=Ready pod/web-0
        {} wait --for=delete pod/web-0 --timeout=60s

        # Until a field has a value, or any at all
        {} wait --for=jsonpath='{.status.phase}'=Running pod/web-0
        {} wait --for=jsonpath='{.status.loadBalancer.ingress}' service/web",
    usage: "([-f FILENAME] | resource.group/resource.name | resource.group [(-l label | --all)]) [--for=create|--for=delete|--for condition=available|--for=jsonpath='{}'[=value]]",
    flags: &[
        ALL,
        ALL_NAMESPACES,
        FIELD_SELECTOR,
        FILENAME,
        OUTPUT,
        SELECTOR,
        TEMPLATE,
        &[
            array(
                "for",
                "The condition to wait on: [create|delete|condition=condition-name[=condition-value]|jsonpath='{JSONPath expression}'=[JSONPath value]]. The default condition-value is true.",
            ),
            duration(
                "timeout",
                "30s",
                "The length of time to wait before giving up.  Zero means check once and don't wait, negative means wait for a week.",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

enum Condition {
    Create,
    Delete,
    Status(String, String),
    Path(jsonpath::Template, Option<String>),
}

fn parse(text: &str) -> Result<Condition> {
    let lower = text.to_lowercase();
    if lower == "create" {
        return Ok(Condition::Create);
    }
    if lower == "delete" {
        return Ok(Condition::Delete);
    }
    if lower.starts_with("condition=") {
        let rest = text.get("condition=".len()..).unwrap_or("");
        let (name, value) = rest.split_once('=').unwrap_or((rest, "true"));
        return Ok(Condition::Status(name.to_owned(), value.to_owned()));
    }
    if lower.starts_with("jsonpath=") {
        let rest = text.get("jsonpath=".len()..).unwrap_or("");
        // The value follows the expression's closing brace.
        let (path, value) = match rest.rfind('}') {
            Some(at) => {
                let (path, tail) = rest.split_at(at + 1);
                let tail = tail.strip_prefix('\'').unwrap_or(tail);
                match tail.strip_prefix('=') {
                    Some("") => return Err(Error::new("jsonpath wait has to have a value after equal sign, like --for=jsonpath='{.status.readyReplicas}'=3")),
                    Some(v) => (path.to_owned(), Some(v.trim_matches(['\'', '"']).to_owned())),
                    None if tail.is_empty() => (path.to_owned(), None),
                    None => return Err(Error::new("jsonpath wait format must be --for=jsonpath='{.status.readyReplicas}'=3 or --for=jsonpath='{.status.readyReplicas}'".to_string())),
                }
            }
            None => match rest.split_once('=') {
                Some((p, v)) => (p.to_owned(), Some(v.to_owned())),
                None => (rest.to_owned(), None),
            },
        };
        let path = jsonpath::relaxed(path.trim_matches('\'')).map_err(Error::new)?;
        return Ok(Condition::Path(
            jsonpath::parse(&path).map_err(Error::new)?,
            value,
        ));
    }
    Err(Error::new(format!(
        "unrecognized condition: {}",
        crate::error::go_quote(text)
    )))
}

impl Condition {
    fn holds(&self, object: &Value) -> Result<bool> {
        Ok(match self {
            Self::Create => true,
            Self::Delete => false,
            Self::Status(name, value) => {
                let generation = object["metadata"]["generation"].as_i64();
                let observed = object["status"]["observedGeneration"].as_i64();
                if let (Some(g), Some(o)) = (generation, observed)
                    && o < g
                {
                    return Ok(false);
                }
                object["status"]["conditions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|c| {
                        c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(name))
                            && c["status"]
                                .as_str()
                                .is_some_and(|s| s.eq_ignore_ascii_case(value))
                            && match (generation, c["observedGeneration"].as_i64()) {
                                (Some(g), Some(o)) => o >= g,
                                _ => true,
                            }
                    })
            }
            Self::Path(template, value) => {
                let found: Vec<Value> = template
                    .find(object, true)
                    .map_err(Error::new)?
                    .into_iter()
                    .flatten()
                    .collect();
                match (found.as_slice(), value) {
                    ([], _) => false,
                    (_, None) => true,
                    ([one], Some(wanted)) => match one {
                        Value::Object(_) | Value::Array(_) => {
                            return Err(Error::new(
                                "jsonpath leads to a nested object or list which is not supported",
                            ));
                        }
                        scalar => jsonpath::to_text(scalar) == *wanted,
                    },
                    _ => {
                        return Err(Error::new(
                            "given jsonpath expression matches more than one value",
                        ));
                    }
                }
            }
        })
    }
}

async fn run(call: Call) -> Result<()> {
    let wanted = call.list("for");
    let [wanted] = wanted.as_slice() else {
        return Err(Error::new(if wanted.is_empty() {
            "unrecognized condition: []".to_owned()
        } else {
            "only a single --for is supported".to_owned()
        }));
    };
    let condition = parse(wanted)?;
    let nanos = call.flags.nanos("timeout");
    let timeout = match nanos {
        0 => Duration::ZERO,
        n if n < 0 => Duration::from_secs(7 * 86_400),
        n => Duration::from_nanos(u64::try_from(n).unwrap_or(0)),
    };
    let deadline = Instant::now() + timeout;
    let printer = Printer::from_call(&call)?;
    let query = Query::from_call(&call);
    let targets = query.targets(&call.ctx).await?;
    Error::collect(targets.errors)?;
    let rest = call.ctx.rest().await?;
    let mut infos: Vec<Info> = Vec::new();
    for target in targets.items {
        match target {
            Target::Object(i) | Target::Named(i) => infos.push(i),
            Target::List { mapping, namespace } => loop {
                let found = list(&rest, &mapping, &namespace, &query.params(), 500).await?;
                if found.is_empty() && matches!(condition, Condition::Create) && Instant::now() < deadline {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                infos.extend(found.into_iter().map(|o| info_of(&mapping, o)));
                break;
            },
        }
    }
    if infos.is_empty() {
        if matches!(condition, Condition::Delete) {
            return Ok(());
        }
        return Err(Error::new("no matching resources found"));
    }
    let mut errors = Vec::new();
    for info in infos {
        match until(&rest, &info, &condition, deadline, timeout.is_zero()).await {
            // It was gone before the waiting began.
            Ok(Value::Null) => {}
            Ok(object) => {
                let shown = info.with(object);
                if printer.is_human() {
                    crate::outln!("{} condition met", shown.display());
                } else {
                    printer.result(&shown, "condition met")?;
                }
            }
            Err(e) => errors.push(e),
        }
    }
    Error::collect(errors)
}

async fn until(
    rest: &Rest,
    info: &Info,
    condition: &Condition,
    deadline: Instant,
    once: bool,
) -> Result<Value> {
    let late = || {
        let verb = if once {
            "condition not met for"
        } else {
            "timed out waiting for the condition on"
        };
        Error::new(format!("{verb} {}/{}", info.mapping.plural, info.name))
    };
    match tokio::time::timeout_at(
        deadline + Duration::from_secs(u64::from(once) * 30),
        watch(rest, info, condition, once),
    )
    .await
    {
        Ok(Ok(Some(object))) => Ok(object),
        Ok(Ok(None)) | Err(_) => Err(late()),
        Ok(Err(e)) => Err(e),
    }
}

/// Watches the object; None if it is only to be looked at once and the condition doesn't hold.
async fn watch(rest: &Rest, info: &Info, condition: &Condition, once: bool) -> Result<Option<Value>> {
    let mut uid: Option<String> = None;
    loop {
        let object = match rest.get(&info.path()).await {
            Ok(o) => o,
            Err(e) if e.is_not_found() => match condition {
                Condition::Delete => return Ok(Some(Value::Null)),
                Condition::Create if !once => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        };
        let this = object["metadata"]["uid"].as_str().map(str::to_owned);
        if matches!(condition, Condition::Delete) && uid.is_some() && uid != this {
            return Ok(Some(object));
        }
        uid = this;
        if condition.holds(&object)? {
            return Ok(Some(object));
        }
        if once {
            return Ok(None);
        }
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        let query = [
            ("fieldSelector", format!("metadata.name={}", info.name)),
            ("resourceVersion", version),
        ];
        let mut stream = match rest.watch(&info.collection(), &query, "application/json").await {
            Ok(s) => s,
            Err(Error::Status(s)) if s.reason == "Expired" => continue,
            Err(e) => return Err(e),
        };
        loop {
            match stream.event().await {
                Ok(Some((kind, object))) if kind == "DELETED" => {
                    if matches!(condition, Condition::Delete) {
                        return Ok(Some(object));
                    }
                    break;
                }
                Ok(Some((_, object))) => {
                    if condition.holds(&object)? {
                        return Ok(Some(object));
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_hold_when_they_are_seen() {
        let ready = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "phase": "Running", "n": 3,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        for (text, expected) in [
            ("condition=Ready", true),
            ("condition=ready=False", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Pending", false),
            ("jsonpath={.status.n}=3", true),
            ("jsonpath={.status.x}", false),
            ("jsonpath={.status.phase}", true),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(parse(text).unwrap().holds(&ready).unwrap(), expected, "{text}");
        }
        let stale = json!({"metadata": {"generation": 3}, "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(!parse("condition=Ready").unwrap().holds(&stale).unwrap());
        assert!(parse("foo").is_err());
    }
}
