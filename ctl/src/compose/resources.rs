//! CPU, memory and devices.

use super::Cx;
use super::value::{bytes, float, int, strings};
use serde_json::{Value, json};

/// `resources` of the container; null if nothing is said.
pub(super) fn resources(cx: &mut Cx<'_>, spec: &Value, path: &str) -> Value {
    let mut out = json!({});
    let deploy = &spec["deploy"]["resources"];
    // What services say directly is older and yields.
    for (kind, place, old_cpu, old_memory) in [
        ("limits", "limits", "cpus", "mem_limit"),
        ("requests", "reservations", "", "mem_reservation"),
    ] {
        let said = |new: &'static str, old: &'static str| {
            let value = &deploy[place][new];
            if value.is_null() {
                (spec[old].clone(), format!("{path}.{old}"))
            } else {
                (value.clone(), format!("{path}.deploy.resources.{place}.{new}"))
            }
        };
        let (cpu, at) = said("cpus", old_cpu);
        if !cpu.is_null() {
            match float(&cpu).filter(|c| *c >= 0.0) {
                // Zero is no limit.
                Some(0.0) => {}
                Some(cpus) => out[kind]["cpu"] = json!(cpu_quantity(cpus)),
                None => cx.report.refuse(at, "is no number of CPUs"),
            }
        }
        let (memory, at) = said("memory", old_memory);
        if !memory.is_null() {
            match bytes(&memory) {
                Some(0) => {}
                Some(n) => out[kind]["memory"] = json!(rutter_api::Quantity::bytes(n).to_string()),
                None => cx.report.refuse(at, "is no size: write 512M or 2g"),
            }
        }
    }
    gpus(cx, spec, path, &mut out);
    if out.as_object().is_some_and(serde_json::Map::is_empty) {
        Value::Null
    } else {
        out
    }
}

fn cpu_quantity(cpus: f64) -> String {
    #[allow(clippy::cast_possible_truncation)]
    let milli = (cpus * 1000.0).ceil() as i64;
    rutter_api::Quantity::from_milli(milli, rutter_api::quantity::Format::DecimalSi).to_string()
}

/// Devices that are graphics cards; others have no name here.
fn gpus(cx: &mut Cx<'_>, spec: &Value, path: &str, out: &mut Value) {
    let asked = spec["gpus"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| (d, format!("{path}.gpus"), true));
    let reserved = spec["deploy"]["resources"]["reservations"]["devices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| (d, format!("{path}.deploy.resources.reservations.devices"), false));
    let mut all: Vec<(&Value, String, bool)> = asked.chain(reserved).collect();
    let everything = json!({"count": "all"});
    if spec["gpus"] == "all" {
        all.push((&everything, format!("{path}.gpus"), true));
    }
    for (device, at, implied) in all {
        let gpu = implied
            || strings(&device["capabilities"])
                .iter()
                .any(|c| c == "gpu" || c == "nvidia");
        let driver = device["driver"].as_str().unwrap_or("nvidia");
        let count = match (&device["count"], &device["device_ids"]) {
            (count, _) if int(count).is_some() => int(count),
            (_, Value::Array(ids)) => i64::try_from(ids.len()).ok(),
            _ => None,
        };
        match (gpu, count) {
            (true, Some(count)) => out["limits"][format!("{driver}.com/gpu")] = json!(count.to_string()),
            (true, None) => cx
                .report
                .refuse(at, "say how many: pods ask for a number of devices"),
            (false, _) => cx
                .report
                .refuse(at, "only devices of the capability gpu have a name here"),
        }
    }
}
