//! What Services, ReplicationControllers, ReplicaSets and StatefulSets select: the pods that default spreading keeps apart.

use super::FastMap;
use crate::model::template::OwnerKind;
use crate::model::{Labels, Selector, Str, Template};

/// A Service's or a controller's selector.
#[derive(Clone, Debug)]
pub enum OwnerSelectors {
    /// Labels that must be equal.
    Map(Labels),
    /// A selector.
    Selector(Selector),
}

/// Selectors by namespace and name.
#[derive(Default)]
pub struct Owners {
    services: FastMap<Str, FastMap<Str, Labels>>,
    controllers: FastMap<(OwnerKind, Str, Str), OwnerSelectors>,
}

impl Owners {
    /// Sets or, with none, drops a Service's selector.
    pub fn set_service(&mut self, namespace: Str, name: Str, selector: Option<Labels>) {
        match selector {
            Some(selector) if !selector.is_empty() => {
                self.services.entry(namespace).or_default().insert(name, selector);
            }
            _ => {
                if let Some(services) = self.services.get_mut(&namespace) {
                    services.swap_remove(&name);
                    if services.is_empty() {
                        self.services.swap_remove(&namespace);
                    }
                }
            }
        }
    }

    /// Sets or, with none, drops a controller's selector.
    pub fn set_controller(
        &mut self,
        kind: OwnerKind,
        namespace: Str,
        name: Str,
        selector: Option<OwnerSelectors>,
    ) {
        match selector {
            Some(selector) => self.controllers.insert((kind, namespace, name), selector),
            None => self.controllers.swap_remove(&(kind, namespace, name)),
        };
    }

    /// What selects the pods that belong with a pod: its Services' labels and its controller's selector. Everything when there are none.
    pub fn selector(&self, template: &Template) -> Selector {
        let mut equal: FastMap<Str, Str> = FastMap::default();
        let services = self.services.get(&template.namespace);
        for labels in services.into_iter().flat_map(|s| s.values()) {
            if labels.iter().all(|(k, v)| template.labels.get(k) == Some(v)) {
                equal.extend(labels.iter().cloned());
            }
        }
        let controller = template.owner.as_ref().and_then(|(kind, name)| {
            self.controllers
                .get(&(*kind, template.namespace.clone(), name.clone()))
        });
        let mut selector = Selector::default();
        match controller {
            Some(OwnerSelectors::Map(labels)) => equal.extend(labels.iter().cloned()),
            Some(OwnerSelectors::Selector(other)) => selector.and(other),
            None => {}
        }
        for (key, value) in &equal {
            selector.require(key, value);
        }
        selector
    }
}
