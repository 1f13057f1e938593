//! Label selectors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use std::collections::BTreeMap;

/// Labels as objects carry them.
pub type Labels = BTreeMap<String, String>;

/// A selector ready for matching.
#[derive(Clone, Debug)]
pub struct Matcher {
    selector: Selector,
    nothing: bool,
}

impl Matcher {
    /// From an object's selector; `None` when an operator is unknown, in which case the object must be left alone.
    pub fn of(selector: &LabelSelector) -> Option<Self> {
        let selector = Selector::try_from(selector.clone()).ok()?;
        Some(Self {
            selector,
            nothing: false,
        })
    }

    /// From an object's selector, where none selects nothing.
    pub fn of_option(selector: Option<&LabelSelector>) -> Option<Self> {
        selector.map_or(
            Some(Self {
                selector: Selector::default(),
                nothing: true,
            }),
            Self::of,
        )
    }

    /// From a plain map; an empty one selects everything.
    pub fn of_map(labels: &Labels) -> Self {
        Self {
            selector: labels.clone().into_iter().collect(),
            nothing: false,
        }
    }

    /// Whether it selects every object there is.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.selector.selects_all()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        static EMPTY: Labels = Labels::new();
        !self.nothing && self.selector.matches(labels.unwrap_or(&EMPTY))
    }

    /// The query form.
    pub fn to_query(&self) -> String {
        self.selector.to_string()
    }
}
