//! `create quota`, `poddisruptionbudget` and `priorityclass`.

use super::generate::{finish, name, object};
use crate::cli::flags::{DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE};
use crate::cli::{Call, Command, bool, int, text};
use crate::error::{Error, Result};
use rutter_api::Quantity;
use serde_json::{Map, Value, json};

/// `create quota`
pub static QUOTA: Command = Command {
    name: "quota",
    aliases: &["resourcequota"],
    short: "Create a quota with the specified name",
    examples: "
        # Limits of a namespace
        {} create quota limits --hard=cpu=4,memory=8Gi,pods=20

        # For pods without requests only
        {} create quota besteffort --hard=pods=10 --scopes=BestEffort",
    usage: "NAME [--hard=key1=value1,key2=value2] [--scopes=Scope1,Scope2] [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            text(
                "hard",
                "",
                "A comma-delimited set of resource=quantity pairs that define a hard limit.",
            ),
            text(
                "scopes",
                "",
                "A comma-delimited set of quota scopes that must all match each object tracked by the quota.",
            ),
        ],
    ],
    run: Some(|c| Box::pin(quota(c))),
    ..Command::NEW
};

/// `create poddisruptionbudget`
pub static PDB: Command = Command {
    name: "poddisruptionbudget",
    aliases: &["pdb"],
    short: "Create a pod disruption budget with the specified name",
    examples: "
        # At least half stay up
        {} create poddisruptionbudget web --selector=app=web --min-available=50%",
    usage: "NAME --selector=SELECTOR --min-available=N [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            text(
                "max-unavailable",
                "",
                "The maximum number or percentage of unavailable pods this budget requires.",
            ),
            text(
                "min-available",
                "",
                "The minimum number or percentage of available pods this budget requires.",
            ),
            text(
                "selector",
                "",
                "A label selector to use for this budget. Only equality-based selector requirements are supported.",
            ),
        ],
    ],
    run: Some(|c| Box::pin(pdb(c))),
    ..Command::NEW
};

/// `create priorityclass`
pub static PRIORITYCLASS: Command = Command {
    name: "priorityclass",
    aliases: &["pc"],
    short: "Create a priority class with the specified name",
    examples: "
        # Goes before everything else
        {} create priorityclass high --value=1000 --description='important'",
    usage: "NAME --value=VALUE --global-default=BOOL [--dry-run=server|client|none]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            text(
                "description",
                "",
                "description is an arbitrary string that usually provides guidelines on when this priority class should be used.",
            ),
            bool(
                "global-default",
                "global-default specifies whether this PriorityClass should be considered as the default priority.",
            ),
            text(
                "preemption-policy",
                "PreemptLowerPriority",
                "preemption-policy is the policy for preempting pods with lower priority.",
            ),
            int("value", "0", "the value of this priority class."),
        ],
    ],
    run: Some(|c| Box::pin(priorityclass(c))),
    ..Command::NEW
};

async fn quota(call: Call) -> Result<()> {
    let mut out = object("v1", "ResourceQuota", &name(&call)?);
    let mut spec = json!({});
    let hard = call.str("hard");
    if !hard.is_empty() {
        let mut map = Map::new();
        for pair in hard.split(',') {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::new(format!(
                    "invalid argument syntax {pair}, expected <resource>=<value>"
                )));
            };
            let value = Quantity::canonical(value).map_err(|e| Error::new(e.to_string()))?;
            map.insert(key.to_owned(), Value::from(value));
        }
        spec["hard"] = Value::Object(map);
    }
    let scopes = call.str("scopes");
    if !scopes.is_empty() {
        spec["scopes"] = json!(scopes.split(',').collect::<Vec<_>>());
    }
    out["spec"] = spec;
    out["status"] = json!({});
    finish(&call, out, true, "failed to create quota:").await
}

fn int_or_percent(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| json!(text), |n| json!(n))
}

async fn pdb(call: Call) -> Result<()> {
    let mut out = object("policy/v1", "PodDisruptionBudget", &name(&call)?);
    let (selector, min, max) = (
        call.str("selector"),
        call.str("min-available"),
        call.str("max-unavailable"),
    );
    if selector.is_empty() {
        return Err(Error::new("a selector must be specified"));
    }
    if min.is_empty() && max.is_empty() {
        return Err(Error::new(
            "one of min-available or max-unavailable must be specified",
        ));
    }
    if !min.is_empty() && !max.is_empty() {
        return Err(Error::new(
            "min-available and max-unavailable cannot be both specified",
        ));
    }
    let mut labels = Map::new();
    for pair in selector.split(',') {
        let (key, value) = pair
            .split_once("==")
            .or_else(|| pair.split_once('='))
            .ok_or_else(|| Error::new("only equality-based selector requirements are supported"))?;
        labels.insert(key.trim().to_owned(), json!(value.trim()));
    }
    let mut spec = json!({"selector": {"matchLabels": labels}});
    if min.is_empty() {
        spec["maxUnavailable"] = int_or_percent(max);
    } else {
        spec["minAvailable"] = int_or_percent(min);
    }
    out["spec"] = spec;
    out["status"] =
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    finish(&call, out, true, "failed to create poddisruptionbudgets:").await
}

async fn priorityclass(call: Call) -> Result<()> {
    let mut out = object("scheduling.k8s.io/v1", "PriorityClass", &name(&call)?);
    if !call.changed("value") {
        return Err(Error::new("required flag(s) \"value\" not set"));
    }
    out["value"] = json!(call.flags.int("value"));
    out["preemptionPolicy"] = json!(call.str("preemption-policy"));
    if !call.str("description").is_empty() {
        out["description"] = json!(call.str("description"));
    }
    if call.bool("global-default") {
        out["globalDefault"] = json!(true);
    }
    finish(&call, out, false, "failed to create priorityclass:").await
}
