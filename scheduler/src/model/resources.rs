//! Amounts of resources as whole numbers: CPU in thousandths, everything else in units.

use super::Str;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use rutter_api::quantity::Quantity;
use std::collections::BTreeMap;

/// An amount of each resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral: i64,
    /// Extended resources, huge pages and the like, ordered by name.
    pub scalars: Vec<(Str, i64)>,
}

/// What a container without a CPU request counts as when nodes are scored, in thousandths.
pub const DEFAULT_CPU: i64 = 100;
/// What a container without a memory request counts as when nodes are scored, in bytes.
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

fn amount(name: &str, text: &Text) -> i64 {
    match text.0.parse::<Quantity>() {
        Ok(quantity) if name == "cpu" => quantity.milli_value(),
        Ok(quantity) => quantity.value(),
        Err(_) => 0,
    }
}

/// Whether the resource is one that only some nodes have: extended resources, huge pages, attachable volumes.
pub fn is_scalar(name: &str) -> bool {
    is_extended(name)
        || name.starts_with("hugepages-")
        || name.starts_with("attachable-volumes-")
        || name.contains("kubernetes.io/")
}

/// Whether the resource is an extended one: in a domain of its own.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

impl Resources {
    /// From a resource list. What isn't known and isn't scalar is left out; so is `pods`.
    pub fn new(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut all = Self::default();
        for (name, text) in list.into_iter().flatten() {
            let value = amount(name, text);
            match name.as_str() {
                "cpu" => all.cpu = value,
                "memory" => all.memory = value,
                "ephemeral-storage" => all.ephemeral = value,
                name if is_scalar(name) => all.scalars.push((Str::new(name), value)),
                _ => {}
            }
        }
        all.scalars.sort();
        all
    }

    /// The amount of a scalar resource.
    pub fn scalar(&self, name: &Str) -> i64 {
        self.scalars
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0, |(_, v)| *v)
    }

    /// The amount of any resource.
    pub fn get(&self, name: &Str) -> i64 {
        match name.as_str() {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral,
            _ => self.scalar(name),
        }
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral = with(self.ephemeral, other.ephemeral);
        for (name, value) in &other.scalars {
            match self.scalars.iter_mut().find(|(n, _)| n == name) {
                Some((_, mine)) => *mine = with(*mine, *value),
                None => {
                    self.scalars.push((name.clone(), with(0, *value)));
                    self.scalars.sort();
                }
            }
        }
    }

    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Subtracts.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.scalars.retain(|(_, value)| *value != 0);
    }

    /// Raises each to at least the other's.
    pub fn at_least(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// Whether nothing is asked for; scalars asked for with 0 count as asked.
    pub fn is_none(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.ephemeral == 0 && self.scalars.is_empty()
    }
}
