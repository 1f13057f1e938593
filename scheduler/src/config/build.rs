//! From a configuration to profiles.

use super::{ConfigError, Configuration, PluginRef, PluginSet, ProfileConfiguration};
use crate::framework::{POINTS, Plugin, Point, Profile};
use crate::model::Str;
use crate::plugins::args::{
    BalancedAllocationArgs, Defaulting, InterPodAffinityArgs, NodeAffinityArgs, PreemptionArgs,
    ResourcesFitArgs, ScoringStrategy, StrategyType, TopologySpreadArgs, VolumeBindingArgs,
};
use crate::plugins::balanced_allocation::BalancedAllocation;
use crate::plugins::default_binder::DefaultBinder;
use crate::plugins::default_preemption::DefaultPreemption;
use crate::plugins::image_locality::ImageLocality;
use crate::plugins::inter_pod_affinity::InterPodAffinity;
use crate::plugins::node_affinity::NodeAffinity;
use crate::plugins::node_name::NodeName;
use crate::plugins::node_ports::NodePorts;
use crate::plugins::node_unschedulable::NodeUnschedulable;
use crate::plugins::node_volume_limits::NodeVolumeLimits;
use crate::plugins::pod_topology_spread::PodTopologySpread;
use crate::plugins::priority_sort::PrioritySort;
use crate::plugins::resources_fit::ResourcesFit;
use crate::plugins::scheduling_gates::SchedulingGates;
use crate::plugins::taint_toleration::TaintToleration;
use crate::plugins::volume_binding::VolumeBinding;
use crate::plugins::volume_restrictions::VolumeRestrictions;
use crate::plugins::volume_zone::VolumeZone;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// The default plugins in their order, with their weights.
const DEFAULTS: [(&str, i64); 18] = [
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
];

fn invalid(path: impl Into<String>, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        path: path.into(),
        problem: problem.into(),
    }
}

/// Arguments of the plugin's own form. `apiVersion` and `kind` may be given, as upstream wants them.
fn args<T: DeserializeOwned + Default>(path: &str, value: Option<&Value>) -> Result<T, ConfigError> {
    let Some(Value::Object(fields)) = value else {
        return Ok(T::default());
    };
    let mut fields = fields.clone();
    fields.remove("apiVersion");
    fields.remove("kind");
    serde_json::from_value(Value::Object(fields)).map_err(|e| invalid(path, e.to_string()))
}

fn check_strategy(path: &str, strategy: &ScoringStrategy) -> Result<(), ConfigError> {
    for resource in &strategy.resources {
        if resource.name.is_empty() || !(0..=100).contains(&resource.weight) {
            return Err(invalid(
                format!("{path}.resources"),
                "each needs a name and a weight of 1 to 100",
            ));
        }
    }
    if strategy.kind != StrategyType::RequestedToCapacityRatio {
        return Ok(());
    }
    let shape = strategy
        .requested_to_capacity_ratio
        .as_ref()
        .map(|r| r.shape.as_slice())
        .unwrap_or_default();
    let path = format!("{path}.requestedToCapacityRatio.shape");
    if shape.is_empty() {
        return Err(invalid(path, "at least one point must be specified"));
    }
    if shape
        .iter()
        .any(|p| !(0..=100).contains(&p.utilization) || !(0..=10).contains(&p.score))
    {
        return Err(invalid(path, "utilization is 0 to 100 and score 0 to 10"));
    }
    if shape.windows(2).any(|w| w[0].utilization >= w[1].utilization) {
        return Err(invalid(
            path,
            "utilization values must be sorted in increasing order",
        ));
    }
    Ok(())
}

fn plugin(name: &str, path: &str, given: Option<&Value>) -> Result<Arc<dyn Plugin>, ConfigError> {
    let without = |plugin: Arc<dyn Plugin>| match given {
        None => Ok(plugin),
        Some(_) => Err(invalid(path, "this plugin takes no arguments")),
    };
    match name {
        "SchedulingGates" => without(Arc::new(SchedulingGates)),
        "PrioritySort" => without(Arc::new(PrioritySort)),
        "NodeUnschedulable" => without(Arc::new(NodeUnschedulable)),
        "NodeName" => without(Arc::new(NodeName)),
        "TaintToleration" => without(Arc::new(TaintToleration)),
        "NodePorts" => without(Arc::new(NodePorts)),
        "ImageLocality" => without(Arc::new(ImageLocality)),
        "VolumeRestrictions" => without(Arc::new(VolumeRestrictions)),
        "NodeVolumeLimits" => without(Arc::new(NodeVolumeLimits)),
        "VolumeZone" => without(Arc::new(VolumeZone)),
        "VolumeBinding" => {
            let args: VolumeBindingArgs = args(path, given)?;
            Ok(Arc::new(VolumeBinding::new(args)))
        }
        "DefaultBinder" => without(Arc::new(DefaultBinder)),
        "NodeAffinity" => {
            let args: NodeAffinityArgs = args(path, given)?;
            Ok(Arc::new(NodeAffinity::new(args.added_affinity.as_ref())))
        }
        "NodeResourcesFit" => {
            let args: ResourcesFitArgs = args(path, given)?;
            if let Some(strategy) = &args.scoring_strategy {
                check_strategy(&format!("{path}.scoringStrategy"), strategy)?;
            }
            Ok(Arc::new(ResourcesFit::new(args)))
        }
        "NodeResourcesBalancedAllocation" => {
            let args: BalancedAllocationArgs = args(path, given)?;
            if args
                .resources
                .iter()
                .any(|r| r.name.is_empty() || !(0..=1).contains(&r.weight))
            {
                return Err(invalid(
                    format!("{path}.resources"),
                    "each needs a name and a weight of 1",
                ));
            }
            Ok(Arc::new(BalancedAllocation::new(args)))
        }
        "InterPodAffinity" => {
            let args: InterPodAffinityArgs = args(path, given)?;
            if !(0..=100).contains(&args.hard_pod_affinity_weight) {
                return Err(invalid(
                    format!("{path}.hardPodAffinityWeight"),
                    "not in valid range [0, 100]",
                ));
            }
            Ok(Arc::new(InterPodAffinity::new(args)))
        }
        "PodTopologySpread" => {
            let args: TopologySpreadArgs = args(path, given)?;
            let path = format!("{path}.defaultConstraints");
            if args.defaulting_type == Defaulting::System && !args.default_constraints.is_empty() {
                return Err(invalid(path, "only with defaultingType List"));
            }
            for c in &args.default_constraints {
                let how = ["DoNotSchedule", "ScheduleAnyway"].contains(&c.when_unsatisfiable.as_str());
                if c.max_skew <= 0 || c.topology_key.is_empty() || !how {
                    return Err(invalid(
                        path,
                        "each needs maxSkew > 0, a topologyKey and whenUnsatisfiable",
                    ));
                }
                if c.label_selector.is_some() {
                    return Err(invalid(
                        path,
                        "constraint must not define a selector, as they deduced for each pod",
                    ));
                }
            }
            Ok(Arc::new(PodTopologySpread::new(&args)))
        }
        "DefaultPreemption" => {
            let args: PreemptionArgs = args(path, given)?;
            if args.min_candidate_nodes_percentage > 100 {
                return Err(invalid(
                    format!("{path}.minCandidateNodesPercentage"),
                    "not in valid range [0, 100]",
                ));
            }
            if args.min_candidate_nodes_percentage == 0 && args.min_candidate_nodes_absolute == 0 {
                return Err(invalid(
                    path,
                    "both minCandidateNodesPercentage and minCandidateNodesAbsolute cannot be zero",
                ));
            }
            Ok(Arc::new(DefaultPreemption::new(args)))
        }
        _ => Err(invalid(path, format!("there is no plugin {name:?}"))),
    }
}

/// The defaults with a set's changes: what is disabled goes, what is enabled takes the place of its like or comes at the end.
fn merged(defaults: Vec<PluginRef>, set: Option<&PluginSet>) -> Vec<PluginRef> {
    let Some(set) = set else { return defaults };
    let off = |name: &str| set.disabled.iter().any(|d| d.name == name || d.name == "*");
    let mut replaced = Vec::new();
    let mut all: Vec<PluginRef> = defaults
        .into_iter()
        .filter(|d| !off(&d.name))
        .map(|d| match set.enabled.iter().find(|e| e.name == d.name) {
            Some(own) => {
                replaced.push(own.name.clone());
                own.clone()
            }
            None => d,
        })
        .collect();
    all.extend(
        set.enabled
            .iter()
            .filter(|e| !replaced.contains(&e.name))
            .cloned(),
    );
    all
}

fn build(index: usize, config: &ProfileConfiguration) -> Result<Profile, ConfigError> {
    let path = format!("profiles[{index}]");
    let defaults = DEFAULTS.map(|(name, weight)| PluginRef {
        name: name.to_owned(),
        weight,
    });
    let multi = merged(defaults.to_vec(), config.plugins.get("multiPoint"));
    let given = |name: &str| {
        let found = config.plugin_config.iter().find(|c| c.name == name);
        found.map(|c| &c.args).filter(|a| !a.is_null())
    };
    let mut plugins: Vec<Arc<dyn Plugin>> = Vec::new();
    let mut weights = Vec::new();
    let mut number = |reference: &PluginRef| -> Result<usize, ConfigError> {
        if let Some(i) = plugins.iter().position(|p| p.name() == reference.name) {
            return Ok(i);
        }
        let at = format!("{path}.pluginConfig[{}].args", reference.name);
        plugins.push(plugin(&reference.name, &at, given(&reference.name))?);
        weights.push(reference.weight.max(1));
        Ok(plugins.len() - 1)
    };
    let mut multi_numbers = Vec::new();
    for reference in &multi {
        multi_numbers.push((number(reference)?, reference));
    }
    let mut specific = Vec::new();
    for (point, name) in POINTS {
        let set = config.plugins.get(name).cloned().unwrap_or_default();
        let mut numbers = Vec::new();
        for reference in &set.enabled {
            numbers.push((number(reference)?, reference.weight));
        }
        specific.push((point, name, set, numbers));
    }
    let mut points: [Vec<usize>; POINTS.len()] = Default::default();
    for (point, name, set, numbers) in specific {
        let order = &mut points[point as usize];
        let off = |name: &str| set.disabled.iter().any(|d| d.name == name || d.name == "*");
        // Those that replace one of all points come first, then those of all points, then the others.
        let of_all = |i: usize| multi_numbers.iter().any(|(m, _)| *m == i);
        order.extend(numbers.iter().filter(|(i, _)| of_all(*i)).map(|(i, _)| *i));
        for (i, reference) in &multi_numbers {
            if plugins[*i].points().has(point) && !off(&reference.name) && !order.contains(i) {
                order.push(*i);
            }
        }
        order.extend(numbers.iter().filter(|(i, _)| !of_all(*i)).map(|(i, _)| *i));
        for (i, weight) in numbers {
            if !plugins[i].points().has(point) {
                return Err(invalid(
                    format!("{path}.plugins.{name}"),
                    format!("plugin {:?} does not extend {name} plugin", plugins[i].name()),
                ));
            }
            if point == Point::Score && weight > 0 {
                weights[i] = weight;
            }
        }
    }
    for (point, name) in [(Point::QueueSort, "queueSort"), (Point::Bind, "bind")] {
        if points[point as usize].is_empty() {
            return Err(invalid(
                format!("{path}.plugins.{name}"),
                format!("at least one {name} plugin is needed"),
            ));
        }
    }
    if let Some(unused) = config
        .plugin_config
        .iter()
        .find(|c| !plugins.iter().any(|p| p.name() == c.name))
    {
        return Err(invalid(
            format!("{path}.pluginConfig"),
            format!("{:?} is no plugin of this profile", unused.name),
        ));
    }
    let name = config.scheduler_name.as_deref().unwrap_or("default-scheduler");
    Ok(Profile::new(
        Str::new(name),
        plugins,
        points,
        weights,
        config.percentage_of_nodes_to_score,
    ))
}

/// The profiles of a configuration; the default one when it has none.
pub fn profiles(config: &Configuration) -> Result<Vec<Profile>, ConfigError> {
    if config.profiles.is_empty() {
        return Ok(vec![build(0, &ProfileConfiguration::default())?]);
    }
    config
        .profiles
        .iter()
        .enumerate()
        .map(|(i, p)| build(i, p))
        .collect()
}

/// The profile that there is without a configuration.
///
/// # Errors
/// None that can happen: the defaults fit.
pub fn default_profile() -> Result<Profile, ConfigError> {
    build(0, &ProfileConfiguration::default())
}
