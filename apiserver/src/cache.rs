//! Between the stored bytes and those who read objects: the cache's decoder, and object trees for those who decide.

use ahash::HashMap;
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use rutter_api::object::ObjectExt;
use rutter_api::outline::outline;
use rutter_api::{GroupResource, ObjectReader, Resource, Scheme, StatusError, Value};
use rutter_storage::cache::{
    DecodeError, Decoder, Entry, Index, Interner, WatchCache, splice_resource_version,
};
use rutter_storage::{Engine, Revision};
use std::sync::Arc;

/// The resources by the folder that their objects are stored in; of several versions, the stored one.
#[derive(Default)]
pub struct Folders(HashMap<String, Arc<Resource>>);

impl Folders {
    /// The folders of a scheme.
    pub fn of(scheme: &Scheme) -> Self {
        let mut folders: HashMap<String, Arc<Resource>> = HashMap::default();
        for resource in scheme.iter() {
            let Some(prefix) = &resource.storage_prefix else {
                continue;
            };
            let stored = resource.group_version == resource.storage_version;
            if stored || !folders.contains_key(&**prefix) {
                folders.insert(prefix.clone().into_owned(), resource.clone());
            }
        }
        Self(folders)
    }

    /// All folders with their resources.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Resource>)> {
        self.0.iter()
    }

    /// The resource that a key belongs to.
    pub(crate) fn find(&self, key: &str) -> Option<&Arc<Resource>> {
        let mut end = key.len();
        while let Some(at) = key.get(..end).and_then(|head| head.rfind('/')) {
            if let Some(found) = key.get(..at).and_then(|folder| self.0.get(folder)) {
                return Some(found);
            }
            end = at;
        }
        None
    }
}

/// Makes cache entries of stored values.
pub struct ObjectDecoder {
    folders: Arc<ArcSwap<Folders>>,
    interner: Interner,
}

impl ObjectDecoder {
    /// Decodes what lies in these folders.
    pub fn new(folders: Arc<ArcSwap<Folders>>) -> Self {
        Self {
            folders,
            interner: Interner::default(),
        }
    }
}

impl Decoder for ObjectDecoder {
    fn decode(&self, key: &str, value: &Bytes, revision: Revision) -> Result<Entry, DecodeError> {
        let folders = self.folders.load();
        let resource = folders.find(key);
        let (object, repaired) = match resource {
            // The whole object is needed to see whether it is in the form that reads go by.
            Some(resource) if resource.strategy.repairs() => {
                let mut object = serde_json::from_slice(value).map_err(|e| DecodeError(e.to_string()))?;
                let repaired = repair(resource, &mut object);
                (object, repaired)
            }
            _ => {
                let plain = resource.is_none_or(|r| r.strategy.selectable_fields().is_empty());
                (
                    outline(value, plain).map_err(|e| DecodeError(e.to_string()))?,
                    None,
                )
            }
        };
        let value = repaired.as_ref().unwrap_or(value);
        let bytes = splice_resource_version(value, revision).map_err(|e| DecodeError(e.to_string()))?;
        let atom = |text: &str| self.interner.atom(text);
        let labels = object.map_at("metadata.labels").into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        let values = resource
            .map(|r| r.strategy.field_values(&object))
            .unwrap_or_default();
        let names = resource
            .map(|r| r.strategy.selectable_fields())
            .unwrap_or_default();
        let fields = names.iter().copied().zip(values.iter().map(String::as_str));
        let owners = object.list_at("metadata.ownerReferences");
        let index = Index {
            namespace: atom(object.namespace()),
            name: object.name().into(),
            uid: object.uid().into(),
            labels: self.interner.pairs(labels),
            fields: self.interner.pairs(fields),
            owners: owners.iter().map(|owner| owner.str_at("uid").into()).collect(),
        };
        Ok(Entry::new(key.into(), bytes, index, revision))
    }
}

/// Brings a stored object into the form that reads go by; its new bytes when that changed it.
fn repair(resource: &Resource, object: &mut Value) -> Option<Bytes> {
    if !resource.strategy.repairs() {
        return None;
    }
    let repaired = resource.strategy.repair(object.clone());
    if repaired == *object {
        return None;
    }
    *object = repaired;
    Some(rutter_api::codec::json::to_vec(object).into())
}

/// Stored bytes in the form that reads go by.
pub fn repaired(resource: &Resource, bytes: &Bytes) -> Result<Bytes, StatusError> {
    if !resource.strategy.repairs() {
        return Ok(bytes.clone());
    }
    let mut object = parse(bytes)?;
    Ok(repair(resource, &mut object).unwrap_or_else(|| bytes.clone()))
}

/// Parses what the cache or the store holds; these bytes were written by us or checked by the decoder.
pub fn parse(bytes: &[u8]) -> Result<Value, StatusError> {
    serde_json::from_slice(bytes).map_err(StatusError::internal)
}

/// Trees of objects that are read again and again: namespaces, service accounts, priority classes.
#[derive(Default)]
struct Trees(RwLock<TreesState>);

#[derive(Default)]
struct TreesState {
    trees: HashMap<Box<str>, (Revision, Arc<Value>)>,
    /// Of the objects as bytes; their trees take several times as much.
    bytes: usize,
}

/// Objects larger than this are parsed each time.
const TREE_BYTES: usize = 8 * 1024;
/// So many bytes of objects are kept as trees.
const TREES_BYTES: usize = 512 * 1024;
/// Lists longer than this are parsed each time.
const TREES_LIST: usize = 64;

impl Trees {
    /// The tree of an object, kept for the next who asks.
    fn of(&self, entry: &Entry) -> Option<Arc<Value>> {
        if entry.size() > TREE_BYTES {
            return parse(&entry.bytes()).ok().map(Arc::new);
        }
        if let Some((revision, tree)) = self.0.read().trees.get(&entry.key)
            && *revision == entry.revision
        {
            return Some(tree.clone());
        }
        let tree = Arc::new(parse(&entry.bytes()).ok()?);
        let mut state = self.0.write();
        if state.bytes + entry.size() > TREES_BYTES {
            *state = TreesState::default();
        }
        state.bytes += entry.size();
        state
            .trees
            .insert(entry.key.clone(), (entry.revision, tree.clone()));
        Some(tree)
    }
}

/// Objects from the cache as trees, for authorizers, admission and hooks.
pub struct CacheReader {
    trees: Trees,
    cache: Arc<WatchCache>,
    engine: Arc<dyn Engine>,
    folders: Arc<ArcSwap<Folders>>,
    by_resource: RwLock<HashMap<GroupResource, Arc<Resource>>>,
}

impl CacheReader {
    /// Reads from `cache`; `engine` answers what may not be stale.
    pub fn new(cache: Arc<WatchCache>, engine: Arc<dyn Engine>, folders: Arc<ArcSwap<Folders>>) -> Self {
        let reader = Self {
            trees: Trees::default(),
            cache,
            engine,
            folders,
            by_resource: RwLock::default(),
        };
        reader.refresh();
        reader
    }

    /// Takes over a change of the folders.
    pub fn refresh(&self) {
        let folders = self.folders.load();
        let map = folders
            .iter()
            .map(|(_, resource)| (resource.group_resource(), resource.clone()));
        *self.by_resource.write() = map.collect();
    }

    /// Serves the resources of another scheme from now on.
    pub fn serve(&self, scheme: &Scheme) {
        let before = self.folders.swap(Arc::new(Folders::of(scheme)));
        self.refresh();
        let now = self.folders.load();
        for (folder, resource) in now.iter() {
            let same = before
                .0
                .get(folder)
                .is_some_and(|old| old.strategy.selectable_fields() == resource.strategy.selectable_fields());
            if !same {
                register(&self.cache, folder, resource);
            }
        }
        for (folder, _) in before.iter().filter(|(folder, _)| !now.0.contains_key(*folder)) {
            self.cache.deregister(&format!("{folder}/"));
        }
    }

    fn resource(&self, resource: &GroupResource) -> Option<Arc<Resource>> {
        self.by_resource.read().get(resource).cloned()
    }
}

impl ObjectReader for CacheReader {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = self.resource(resource)?.key(namespace, name)?;
        let entry = self.cache.get(&key)?;
        self.trees.of(&entry)
    }

    fn list(&self, resource: &GroupResource, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(resource) = self.resource(resource) else {
            return Vec::new();
        };
        let Some(prefix) = resource
            .storage_prefix
            .as_ref()
            .map(|prefix| format!("{prefix}/"))
        else {
            return Vec::new();
        };
        let Ok(snapshot) = self.cache.snapshot(&prefix) else {
            return Vec::new();
        };
        let range = match namespace.filter(|_| resource.namespaced) {
            Some(namespace) => format!("{prefix}{namespace}/"),
            None => prefix,
        };
        let tree = |entry: &Arc<Entry>| match snapshot.len() {
            0..=TREES_LIST => self.trees.of(entry),
            _ => parse(&entry.bytes()).ok().map(Arc::new),
        };
        snapshot.range(&range, None).filter_map(tree).collect()
    }

    fn select(
        &self,
        resource: &GroupResource,
        namespace: Option<&str>,
        field: &str,
        value: &str,
    ) -> Vec<Arc<Value>> {
        let Some(resource) = self.resource(resource) else {
            return Vec::new();
        };
        let Some(folder) = &resource.storage_prefix else {
            return Vec::new();
        };
        let prefix = format!("{folder}/");
        let Ok(found) = self.cache.lookup(&prefix, field, value) else {
            return Vec::new();
        };
        let range = match namespace.filter(|_| resource.namespaced) {
            Some(namespace) => format!("{prefix}{namespace}/"),
            None => prefix,
        };
        found
            .range(&range, None)
            .filter_map(|entry| parse(&entry.bytes()).ok().map(Arc::new))
            .collect()
    }

    fn generation(&self, resource: &GroupResource) -> u64 {
        let prefix = self.resource(resource).and_then(|resource| {
            resource
                .storage_prefix
                .as_ref()
                .map(|prefix| format!("{prefix}/"))
        });
        prefix
            .and_then(|prefix| self.cache.changed(&prefix))
            .unwrap_or_default()
            .0
    }
}

#[async_trait::async_trait]
impl rutter_admission::LiveReader for CacheReader {
    async fn get(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, StatusError> {
        let Some(of) = self.resource(resource) else {
            return Ok(None);
        };
        let Some(key) = of.key(namespace, name) else {
            return Ok(None);
        };
        match self
            .engine
            .get(&key)
            .await
            .map_err(|e| crate::registry::store_error(&e))?
        {
            None => Ok(None),
            Some(found) => {
                let bytes = repaired(&of, &found.value)?;
                let bytes = splice_resource_version(&bytes, found.modified).map_err(StatusError::internal)?;
                parse(&bytes).map(|value| Some(Arc::new(value)))
            }
        }
    }
}

/// Has the cache serve a resource's folder.
pub fn register(cache: &WatchCache, folder: &str, resource: &Resource) {
    let indexed: &[&str] = match (resource.group_version.group.as_str(), &*resource.plural) {
        ("", "pods") => &["spec.nodeName"],
        _ => &[],
    };
    cache.register(
        &format!("{folder}/"),
        &resource.group_version.group,
        &resource.plural,
        indexed,
    );
}
