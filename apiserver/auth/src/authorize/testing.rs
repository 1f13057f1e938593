//! An [`ObjectReader`] over a map, for tests.

use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

type Key = (String, String, String);
/// A generation, and the objects as of it.
type Held = (u64, BTreeMap<Key, Arc<Value>>);

#[derive(Clone, Default)]
pub(crate) struct Objects(Arc<Mutex<Held>>);

impl Objects {
    pub(crate) fn put(&self, plural: &str, object: Value) {
        let key = (
            plural.to_owned(),
            object.namespace().to_owned(),
            object.name().to_owned(),
        );
        let mut inner = self.0.lock();
        inner.0 += 1;
        inner.1.insert(key, Arc::new(object));
    }

    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut inner = self.0.lock();
        inner.0 += 1;
        inner
            .1
            .remove(&(plural.to_owned(), namespace.to_owned(), name.to_owned()));
    }
}

impl ObjectReader for Objects {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (resource.resource.clone(), namespace.to_owned(), name.to_owned());
        self.0.lock().1.get(&key).cloned()
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let inner = self.0.lock();
        let of = |key: &Key| key.0 == resource.resource && namespace.is_none_or(|n| n == key.1);
        inner
            .1
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, object)| object.clone())
            .collect()
    }

    fn generation(&self, _resource: &GroupResource) -> u64 {
        self.0.lock().0
    }
}
