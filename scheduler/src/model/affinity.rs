//! Pod affinity terms: which pods, in which namespaces, over which topology.

use super::{Labels, Selector, Str};
use k8s_openapi::api::core::v1 as core;

/// One term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AffinityTerm {
    /// The namespaces named, or the pod's own when neither names nor a selector are given.
    pub namespaces: Vec<Str>,
    /// Namespaces chosen by their labels, besides.
    pub namespace_selector: Selector,
    /// The pods.
    pub selector: Selector,
    /// The node label whose equal values make nodes one place.
    pub topology_key: Str,
}

impl AffinityTerm {
    /// From the API's form, for a pod of this namespace and these labels.
    pub fn new(term: &core::PodAffinityTerm, namespace: &Str, _labels: &Labels) -> Self {
        // matchLabelKeys and mismatchLabelKeys were merged into the selector when the pod was created.
        let mut namespaces: Vec<Str> = term.namespaces.iter().flatten().map(Str::from).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.clone());
        }
        Self {
            namespaces,
            namespace_selector: Selector::new(term.namespace_selector.as_ref()),
            selector: Selector::new(term.label_selector.as_ref()),
            topology_key: Str::new(&term.topology_key),
        }
    }

    /// Whether it means a pod of this namespace (with the namespace's labels) and these labels.
    pub fn matches(&self, namespace: &Str, namespace_labels: Option<&Labels>, labels: &Labels) -> bool {
        (self.namespaces.contains(namespace)
            || namespace_labels.is_some_and(|l| self.namespace_selector.matches(l)))
            && self.selector.matches(labels)
    }
}

/// A preferred term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedTerm {
    /// 1 to 100.
    pub weight: i32,
    /// What is preferred.
    pub term: AffinityTerm,
}
