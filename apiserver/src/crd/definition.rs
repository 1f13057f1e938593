//! A CustomResourceDefinition as the server goes by it. What a definition says is kept as the bytes that the cache has anyway;
//! schemas, types and columns are made of them when a resource is first used, so that a thousand definitions cost little.

use super::convert::Conversion;
use super::path::JsonPath;
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::schema::Types;
use rutter_api::strategy::Column;
use rutter_api::{GroupVersion, Value, crd};
use rutter_cel::rules::Rules;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, OnceLock};

/// Texts and columns of definitions live for ever, once each: descriptors speak in static ones.
static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
static COLUMNS: LazyLock<Mutex<Vec<&'static [Column]>>> = LazyLock::new(Mutex::default);
static FIELDS: LazyLock<Mutex<Vec<&'static [&'static str]>>> = LazyLock::new(Mutex::default);

fn keep(text: &str) -> &'static str {
    let mut texts = TEXTS.lock();
    if let Some(kept) = texts.get(text) {
        return kept;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(kept);
    kept
}

fn keep_all<T: PartialEq + 'static>(kept: &Mutex<Vec<&'static [T]>>, list: Vec<T>) -> &'static [T] {
    let mut kept = kept.lock();
    if let Some(found) = kept.iter().find(|have| ***have == *list) {
        return found;
    }
    let list: &'static [T] = Box::leak(list.into_boxed_slice());
    kept.push(list);
    list
}

/// Where a custom resource keeps what Scale shows, as dotted paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScalePaths {
    /// `specReplicasPath`
    pub spec: String,
    /// `statusReplicasPath`
    pub status: String,
    /// `labelSelectorPath`
    pub selector: Option<String>,
}

/// One version of a definition.
pub(super) struct Version {
    pub(super) name: String,
    pub(super) served: bool,
    pub(super) has_status: bool,
    pub(super) has_scale: bool,
    /// What users of a deprecated version are told.
    pub(super) deprecation: Option<String>,
    pub(super) fields: &'static [&'static str],
    made: OnceLock<Made>,
}

/// What is made of a version when it is first used.
pub(super) struct Made {
    /// The schema without what only people read.
    pub(super) schema: Value,
    pub(super) types: Types,
    pub(super) columns: &'static [Column],
    pub(super) cells: Vec<Option<JsonPath>>,
    pub(super) field_paths: Vec<Option<JsonPath>>,
    pub(super) scale: Option<ScalePaths>,
    rules: OnceLock<Option<Rules>>,
}

impl Made {
    /// The rules of the schema, compiled when they are first asked.
    pub(super) fn rules(&self) -> Option<&Rules> {
        self.rules.get_or_init(|| Rules::compile(&self.schema)).as_ref()
    }
}

/// A definition.
pub struct Definition {
    bytes: ArcSwap<Bytes>,
    fingerprint: u64,
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) versions: Vec<Version>,
    pub(super) storage: String,
    pub(super) stored: Vec<String>,
    pub(super) conversion: Conversion,
    preserve: bool,
    deleting: bool,
}

/// What matters of a definition to what is served.
pub(super) fn fingerprint(definition: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in ["spec", "status.acceptedNames", "status.storedVersions"] {
        definition.at(part).to_string().hash(&mut hasher);
    }
    definition.is_deleting().hash(&mut hasher);
    hasher.finish()
}

impl Definition {
    /// Takes over a definition that is stored as `bytes`.
    pub(super) fn new(definition: &Value, bytes: Bytes, conversion: Conversion) -> Self {
        let group = definition.str_at("spec.group");
        let kind = definition.str_at("status.acceptedNames.kind");
        let versions = definition.list_at("spec.versions");
        let storage = versions
            .iter()
            .find(|version| version.bool_at("storage") == Some(true));
        let stored = definition.list_at("status.storedVersions").iter();
        Self {
            bytes: ArcSwap::from_pointee(bytes),
            fingerprint: fingerprint(definition),
            group: group.to_owned(),
            kind: kind.to_owned(),
            versions: versions.iter().map(|v| Version::new(group, kind, v)).collect(),
            storage: storage.map(|v| v.str_at("name").to_owned()).unwrap_or_default(),
            stored: stored.filter_map(Value::as_str).map(str::to_owned).collect(),
            conversion,
            preserve: definition.bool_at("spec.preserveUnknownFields") == Some(true),
            deleting: definition.is_deleting(),
        }
    }

    /// Whether the definition still says the same, and if so its newest bytes.
    pub(super) fn refresh(&self, fingerprint: u64, bytes: &Bytes) -> bool {
        let same = self.fingerprint == fingerprint;
        if same {
            self.bytes.store(Arc::new(bytes.clone()));
        }
        same
    }

    /// Changes when what is served does.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What the definition says of a version.
    fn read(&self, index: usize) -> Value {
        // These bytes were decoded when they came.
        let mut definition: Value = serde_json::from_slice(&self.bytes.load()).unwrap_or_default();
        let versions = definition.list_at_mut("spec.versions");
        versions
            .and_then(|versions| versions.get_mut(index))
            .map(Value::take)
            .unwrap_or_default()
    }

    pub(super) fn made(&self, index: usize) -> Option<&Made> {
        let version = self.versions.get(index)?;
        Some(version.made.get_or_init(|| self.make(index)))
    }

    fn make(&self, index: usize) -> Made {
        let mut version = self.read(index);
        let mut schema = version.take_at("schema.openAPIV3Schema").unwrap_or_default();
        let preserve = self.preserve || schema.is_null();
        crd::strip(&mut schema);
        let name = self
            .versions
            .get(index)
            .map(|v| v.name.as_str())
            .unwrap_or_default();
        let types = crd::types(&type_name(&self.group, name, &self.kind), &schema, preserve);
        let (columns, cells) = columns(&version);
        let fields = version.list_at("selectableFields").iter();
        let scale = version.at("subresources.scale");
        let dotted = |field: &str| scale.str_at(field).trim_start_matches('.').to_owned();
        Made {
            types,
            columns,
            cells,
            field_paths: fields
                .map(|field| JsonPath::parse(field.str_at("jsonPath")))
                .collect(),
            scale: (!scale.is_null()).then(|| ScalePaths {
                spec: dotted("specReplicasPath"),
                status: dotted("statusReplicasPath"),
                selector: Some(dotted("labelSelectorPath")).filter(|path| !path.is_empty()),
            }),
            schema,
            rules: OnceLock::new(),
        }
    }

    /// The place of a version.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.versions.iter().position(|version| version.name == name)
    }

    /// Brings a stored object into the form that reads go by: what its version's schema doesn't know goes, and defaults that came
    /// later are there. Without a conversion webhook it is in the version that is stored now.
    pub(super) fn repair(&self, object: Value) -> Value {
        let version = GroupVersion::parse(object.str_at("apiVersion")).unwrap_or_default();
        let made = self
            .position(&version.version)
            .and_then(|index| Some((index, self.made(index)?)));
        let mut object = match made {
            Some((index, made)) => self.prune(index, made, object),
            None => object,
        };
        if let Some((_, made)) = made {
            apply_defaults(&made.schema, &mut object);
        }
        if !self.conversion.is_webhook() {
            let stored = GroupVersion::new(&*self.group, &*self.storage);
            object.set("apiVersion", stored.to_string());
        }
        object
    }

    /// Drops what the schema of a version doesn't know. An object that doesn't fit at all stays as it is.
    fn prune(&self, index: usize, made: &Made, object: Value) -> Value {
        let name = self
            .versions
            .get(index)
            .map(|v| v.name.as_str())
            .unwrap_or_default();
        let type_name = type_name(&self.group, name, &self.kind);
        crd::prune(&made.types, &type_name, object)
    }

    /// Drops what the schema of the version called `name` doesn't know.
    pub(super) fn prune_for(&self, name: &str, object: Value) -> Value {
        match self
            .position(name)
            .and_then(|index| Some((index, self.made(index)?)))
        {
            Some((index, made)) => self.prune(index, made, object),
            None => object,
        }
    }
}

/// Fills in the defaults of a schema. Metadata has none.
pub(super) fn apply_defaults(schema: &Value, object: &mut Value) {
    let metadata = object.take_at("metadata");
    crd::apply_defaults(schema, object);
    if let Some(metadata) = metadata {
        object.set("metadata", metadata);
    }
}

impl Version {
    fn new(group: &str, kind: &str, version: &Value) -> Self {
        let name = version.str_at("name");
        let told = version.at("deprecationWarning").as_str();
        let deprecation = (version.bool_at("deprecated") == Some(true))
            .then(|| told.map_or_else(|| format!("{group}/{name} {kind} is deprecated"), str::to_owned));
        let fields = version.list_at("selectableFields").iter();
        let fields = fields.map(|field| keep(field.str_at("jsonPath").trim_start_matches('.')));
        Self {
            name: name.to_owned(),
            served: version.bool_at("served") == Some(true),
            has_status: !version.at("subresources.status").is_null(),
            has_scale: !version.at("subresources.scale").is_null(),
            deprecation,
            fields: keep_all(&FIELDS, fields.collect()),
            made: OnceLock::new(),
        }
    }
}

/// The printed columns of a version, and where their cells come from.
fn columns(version: &Value) -> (&'static [Column], Vec<Option<JsonPath>>) {
    let mut list = vec![Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "The object's name.",
        priority: 0,
    }];
    let mut cells = Vec::new();
    for column in version.list_at("additionalPrinterColumns") {
        list.push(Column {
            name: keep(column.str_at("name")),
            kind: keep(column.str_at("type")),
            format: keep(column.str_at("format")),
            description: keep(column.str_at("description")),
            priority: column
                .int_at("priority")
                .and_then(|p| i32::try_from(p).ok())
                .unwrap_or_default(),
        });
        cells.push(JsonPath::parse(column.str_at("jsonPath")));
    }
    if cells.is_empty() {
        list.push(Column {
            name: "Age",
            kind: "date",
            format: "",
            description: "How long ago the object was created.",
            priority: 0,
        });
        cells.push(JsonPath::parse(".metadata.creationTimestamp"));
    }
    (keep_all(&COLUMNS, list), cells)
}

/// The name of a custom type: the group's parts turned round, the version, the kind.
pub(super) fn type_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// A served version of a definition.
#[derive(Clone)]
pub struct Custom {
    pub(super) definition: Arc<Definition>,
    pub(super) index: usize,
}

impl Custom {
    pub(super) fn made(&self) -> Option<&Made> {
        self.definition.made(self.index)
    }

    pub(super) fn version(&self) -> Option<&Version> {
        self.definition.versions.get(self.index)
    }

    /// The types of its objects.
    pub fn types(&self) -> Option<&Types> {
        self.made().map(|made| &made.types)
    }

    /// Where its objects keep what Scale shows.
    pub fn scale(&self) -> Option<&ScalePaths> {
        self.made()?.scale.as_ref()
    }

    /// The whole schema, descriptions included; null when there is none.
    pub fn schema(&self) -> Value {
        let mut version = self.definition.read(self.index);
        version.take_at("schema.openAPIV3Schema").unwrap_or_default()
    }

    /// Changes when what is served does.
    pub fn fingerprint(&self) -> u64 {
        self.definition.fingerprint()
    }

    /// What users of a deprecated version are told.
    pub fn deprecation(&self) -> Option<&str> {
        self.version()?.deprecation.as_deref()
    }

    /// Whether the definition is being deleted, so that nothing new is made.
    pub fn is_terminating(&self) -> bool {
        self.definition.deleting
    }

    /// How objects of other versions become this one's.
    pub(crate) fn conversion(&self) -> &Conversion {
        &self.definition.conversion
    }

    /// Drops what this version's schema doesn't know.
    pub(crate) fn prune(&self, object: Value) -> Value {
        match self.version() {
            Some(version) => self.definition.prune_for(&version.name, object),
            None => object,
        }
    }

    /// Drops what the stored version's schema doesn't know.
    pub(crate) fn prune_for_store(&self, object: Value) -> Value {
        self.definition.prune_for(&self.definition.storage, object)
    }

    /// The version that is stored.
    pub(crate) fn storage(&self) -> GroupVersion {
        GroupVersion::new(&*self.definition.group, &*self.definition.storage)
    }
}
