//! `autoscale`: makes a horizontal pod autoscaler.

use super::common::{DryRun, Write, annotate_applied, mapping_of};
use crate::cli::flags::{DRY_RUN, FILENAME, OUTPUT, RECORD, SAVE_CONFIG, TEMPLATE};
use crate::cli::{Args, Call, Command, int, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use crate::resource::Info;
use crate::resource::builder::Query;
use rutter_api::Quantity;
use serde_json::{Value, json};

/// The command.
pub static COMMAND: Command = Command {
    name: "autoscale",
    short: "Auto-scale a deployment, replica set, stateful set, or replication controller",
    long: "Creates an autoscaler that automatically chooses and sets the number of pods that run in a Kubernetes cluster.\n\n Looks up a deployment, replica set, stateful set, or replication controller by name and creates an autoscaler that uses the given resource as a reference.",
    examples: "
        # Between two and ten pods, by their use of CPU
        {} autoscale deployment web --min=2 --max=10 --cpu=80%",
    usage: "(-f FILENAME | TYPE NAME | TYPE/NAME) [--min=MINPODS] --max=MAXPODS [--cpu=CPU] [--memory=MEMORY]",
    flags: &[
        DRY_RUN,
        FILENAME,
        OUTPUT,
        RECORD,
        SAVE_CONFIG,
        TEMPLATE,
        &[
            text(
                "cpu",
                "",
                "Target CPU utilization over all the pods. When specified as a percentage (e.g.\"70%\" for 70% of requested CPU) it will target average utilization. When specified as quantity (e.g.\"500m\" for 500 milliCPU) it will target average value. Value without units is treated as a quantity with miliCPU being the unit (e.g.\"500\" is \"500m\").",
            ),
            int(
                "cpu-percent",
                "-1",
                "The target average CPU utilization (represented as a percent of requested CPU) over all the pods. If it's not specified or negative, a default autoscaling policy will be used.",
            ),
            text(
                "field-manager",
                "kubectl-autoscale",
                "Name of the manager used to track field ownership.",
            ),
            int(
                "max",
                "-1",
                "The upper limit for the number of pods that can be set by the autoscaler. Required.",
            ),
            text(
                "memory",
                "",
                "Target memory utilization over all the pods. When specified as a percentage (e.g.\"60%\" for 60% of requested memory) it will target average utilization. When specified as quantity (e.g.\"200Mi\" for 200 MiB, \"1Gi\" for 1 GiB) it will target average value.",
            ),
            int(
                "min",
                "-1",
                "The lower limit for the number of pods that can be set by the autoscaler. If it's not specified or negative, the server will apply a default value.",
            ),
            text(
                "name",
                "",
                "The name for the newly created object. If not specified, the name of the input resource will be used.",
            ),
        ],
    ],
    args: Args::Resources,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// A metric from `80%` or a quantity.
fn metric(name: &str, text: &str, unit: &str) -> Result<Value> {
    let target = match text.strip_suffix('%') {
        Some(percent) => {
            let n: i64 = percent
                .parse()
                .map_err(|_| Error::new(format!("invalid --{name} value: {text}")))?;
            json!({"type": "Utilization", "averageUtilization": n})
        }
        None => {
            let quantity = if text.bytes().all(|b| b.is_ascii_digit()) {
                format!("{text}{unit}")
            } else {
                text.to_owned()
            };
            if quantity.parse::<Quantity>().is_err() {
                return Err(Error::new(format!("invalid --{name} value: {text}")));
            }
            json!({"type": "AverageValue", "averageValue": quantity})
        }
    };
    Ok(json!({"type": "Resource", "resource": {"name": name, "target": target}}))
}

async fn run(call: Call) -> Result<()> {
    let (min, max) = (call.flags.int("min"), call.flags.int("max"));
    if !call.changed("max") {
        return Err(Error::new("required flag(s) \"max\" not set"));
    }
    if max < 1 {
        return Err(Error::new(format!(
            "--max=MAXPODS is required and must be at least 1, max: {max}"
        )));
    }
    if max < min {
        return Err(Error::new(format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}"
        )));
    }
    let write = Write::from_call(&call, "kubectl-autoscale")?;
    let printer = Printer::from_call(&call)?;
    let (infos, errors) = Query::from_call(&call).latest(&call.ctx).await?;
    Error::collect(errors)?;
    let rest = call.ctx.rest().await?;
    let mut metrics = Vec::new();
    let percent = call.flags.int("cpu-percent");
    if call.changed("cpu-percent") {
        crate::errln!(
            "Flag --cpu-percent has been deprecated, Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU)."
        );
    }
    if percent >= 0 {
        metrics.push(metric("cpu", &format!("{percent}%"), "")?);
    } else if !call.str("cpu").is_empty() {
        metrics.push(metric("cpu", call.str("cpu"), "m")?);
    }
    if !call.str("memory").is_empty() {
        metrics.push(metric("memory", call.str("memory"), "")?);
    }
    for info in infos {
        if !info.mapping.subresources.iter().any(|(s, _)| s == "scale") {
            return Err(Error::new(format!("cannot autoscale a {}", info.mapping.kind)));
        }
        let name = if call.str("name").is_empty() {
            info.name.clone()
        } else {
            call.str("name").to_owned()
        };
        let mut object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
            "spec": {"maxReplicas": max, "scaleTargetRef": {"apiVersion": info.mapping.api_version(), "kind": info.mapping.kind, "name": info.name}},
            "status": {"currentMetrics": null, "desiredReplicas": 0}});
        if min > 0 {
            object["spec"]["minReplicas"] = json!(min);
        }
        if !metrics.is_empty() {
            object["spec"]["metrics"] = json!(metrics);
        }
        if call.ctx.explicit_namespace() || write.dry != DryRun::Client {
            object["metadata"]["namespace"] = json!(info.namespace);
        }
        if call.bool("save-config") {
            annotate_applied(&mut object);
        }
        let mapping = mapping_of(
            &*call.ctx.discovery().await?,
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
        )?;
        let mut made = Info {
            mapping,
            namespace: info.namespace.clone(),
            name,
            object,
            source: String::new(),
        };
        if write.dry != DryRun::Client {
            made.object = write.create(&rest, &made).await?;
        }
        printer.result(&made, &format!("autoscaled{}", write.dry.suffix()))?;
    }
    Ok(())
}
