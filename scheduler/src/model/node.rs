//! A node as placement sees it.

use super::{Labels, Resources, Str};
use k8s_openapi::api::core::v1 as core;

/// What a taint does to pods that don't tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Keeps them away.
    NoSchedule,
    /// Keeps them away when there is another place.
    PreferNoSchedule,
    /// Keeps them away and sends them away.
    NoExecute,
}

impl Effect {
    fn new(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A taint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    /// The key.
    pub key: Str,
    /// The value; may be empty.
    pub value: Str,
    /// The effect.
    pub effect: Effect,
}

/// A toleration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Toleration {
    /// The key; empty means every key.
    pub key: Str,
    /// Whether any value will do.
    pub exists: bool,
    /// The value otherwise.
    pub value: Str,
    /// The effect; none means every effect.
    pub effect: Option<Effect>,
}

impl Toleration {
    /// From the API's form; nothing when it can't tolerate anything.
    pub fn new(toleration: &core::Toleration) -> Option<Self> {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let effect = match effect {
            "" => None,
            text => Some(Effect::new(text)?),
        };
        let exists = match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => false,
            "Exists" => true,
            _ => return None,
        };
        Some(Self {
            key: Str::new(toleration.key.as_deref().unwrap_or_default()),
            exists,
            value: Str::new(toleration.value.as_deref().unwrap_or_default()),
            effect,
        })
    }

    /// Whether it tolerates a taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_none() || self.effect == Some(taint.effect))
            && (self.key.is_empty() || self.key == taint.key)
            && (self.exists || self.value == taint.value)
    }
}

/// The first taint that keeps a pod with these tolerations off: NoSchedule or NoExecute, and not tolerated.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|t| t.effect != Effect::PreferNoSchedule)
        .find(|t| !tolerations.iter().any(|toleration| toleration.tolerates(t)))
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Str,
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// What pods may use.
    pub allocatable: Resources,
    /// How many pods it may run.
    pub max_pods: i64,
    /// The names of its images, each with its image's size in bytes.
    pub images: Box<[(Str, i64)]>,
}

impl Node {
    /// From the API's object.
    pub fn new(node: &core::Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let allocatable = status.and_then(|s| s.allocatable.as_ref());
        let max_pods = allocatable
            .and_then(|a| a.get("pods"))
            .and_then(|q| q.0.parse::<rutter_api::quantity::Quantity>().ok())
            .map_or(0, |q| q.value());
        let taints = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten();
        let images = status.and_then(|s| s.images.as_ref()).into_iter().flatten();
        Self {
            name: Str::new(node.metadata.name.as_deref().unwrap_or_default()),
            labels: Labels::new(node.metadata.labels.as_ref()),
            taints: taints
                .filter_map(|t| {
                    Some(Taint {
                        key: Str::new(&t.key),
                        value: Str::new(t.value.as_deref().unwrap_or_default()),
                        effect: Effect::new(&t.effect)?,
                    })
                })
                .collect(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            allocatable: Resources::new(allocatable),
            max_pods,
            images: images
                .flat_map(|i| {
                    let size = i.size_bytes.unwrap_or(0);
                    i.names.iter().flatten().map(move |n| (Str::new(n), size))
                })
                .collect(),
        }
    }
}
