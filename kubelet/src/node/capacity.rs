//! What the machine has: from the kernel, from the control group that the node is confined to, or from flags.

use crate::resources::{self, ResourceList, bytes, millis, units};
use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The node's memory in bytes as the kernel says it.
pub(crate) fn kernel_memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    meminfo(&text, "MemTotal").unwrap_or(0)
}

/// A line of meminfo in bytes.
pub(crate) fn meminfo(text: &str, name: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<i64>()
        .ok()
        .map(|kb| kb * 1024)
}

/// What the node has in all.
pub(crate) fn capacity(
    root: &Path,
    max_pods: i64,
    overrides: &BTreeMap<String, String>,
) -> anyhow::Result<ResourceList> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut out = ResourceList::new();
    out.insert("cpu".to_owned(), units(i64::try_from(cpus).unwrap_or(1)));
    out.insert("memory".to_owned(), bytes(kernel_memory()));
    out.insert("pods".to_owned(), units(max_pods));
    if let Ok((total, ..)) = crate::volumes::local::fs_space(root) {
        out.insert(
            "ephemeral-storage".to_owned(),
            bytes(i64::try_from(total).unwrap_or(i64::MAX)),
        );
    }
    for entry in fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = name
            .strip_prefix("hugepages-")
            .and_then(|n| n.strip_suffix("kB"))
            .and_then(|n| n.parse::<i64>().ok());
        let count = fs::read_to_string(entry.path().join("nr_hugepages"))
            .ok()
            .and_then(|t| t.trim().parse::<i64>().ok());
        if let (Some(size), Some(count)) = (size, count) {
            let shown = match size {
                s if s % (1 << 20) == 0 => format!("{}Gi", s >> 20),
                s if s % (1 << 10) == 0 => format!("{}Mi", s >> 10),
                s => format!("{s}Ki"),
            };
            out.insert(format!("hugepages-{shown}"), bytes(size * 1024 * count));
        }
    }
    for (name, amount) in overrides {
        let given = Quantity(amount.clone());
        resources::milli(&given).with_context(|| format!("--capacity: {name}={amount} is no quantity"))?;
        out.insert(name.clone(), given);
    }
    Ok(out)
}

/// What pods may have: the capacity less what is reserved and less the point where eviction begins.
pub(crate) fn allocatable(
    capacity: &ResourceList,
    reserved: &[&BTreeMap<String, String>],
    eviction: &BTreeMap<String, i64>,
) -> ResourceList {
    let mut out = ResourceList::new();
    for (name, quantity) in capacity {
        let taken: Vec<Quantity> = reserved
            .iter()
            .filter_map(|r| r.get(name))
            .map(|a| Quantity(a.clone()))
            .collect();
        if name == "cpu" {
            let taken: i64 = taken.iter().filter_map(resources::milli).sum();
            let left = resources::milli(quantity).unwrap_or(0) - taken;
            out.insert(name.clone(), millis(left.max(0)));
            continue;
        }
        let taken: i64 =
            taken.iter().filter_map(resources::value).sum::<i64>() + eviction.get(name).copied().unwrap_or(0);
        if taken == 0 {
            out.insert(name.clone(), quantity.clone());
            continue;
        }
        let left = (resources::value(quantity).unwrap_or(0) - taken).max(0);
        out.insert(
            name.clone(),
            if name == "pods" { units(left) } else { bytes(left) },
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_not_for_pods() {
        let list = |pairs: &[(&str, &str)]| -> ResourceList {
            pairs
                .iter()
                .map(|(n, a)| ((*n).to_owned(), Quantity((*a).to_owned())))
                .collect()
        };
        let reserved: BTreeMap<String, String> = [
            ("cpu".to_owned(), "250m".to_owned()),
            ("memory".to_owned(), "1Gi".to_owned()),
        ]
        .into();
        let eviction = [("memory".to_owned(), 100 << 20)].into();
        let out = allocatable(
            &list(&[("cpu", "2"), ("memory", "4Gi"), ("pods", "110")]),
            &[&reserved],
            &eviction,
        );
        assert_eq!(
            out,
            list(&[("cpu", "1750m"), ("memory", "2972Mi"), ("pods", "110")])
        );
    }
}
