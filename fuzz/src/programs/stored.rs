//! Values as other servers store them: every form becomes the same canonical one.

use super::now;
use crate::make::Maker;
use bytes::Bytes;
use rutter_api::codec::{json, protobuf};
use rutter_api::object::ObjectExt;
use rutter_api::outline::outline;
use rutter_api::schema::builtin;
use rutter_api::{Resource, Scheme, Value};
use rutter_apiserver::forms::Forms;
use rutter_storage::Revision;
use rutter_storage::cache::splice_resource_version;
use rutter_storage::engine::{Plain, Transform};
use std::sync::{Arc, LazyLock};

/// Keeps values as they are.
struct Plainly;

#[async_trait::async_trait]
impl Transform for Plainly {
    fn concerns(&self, _key: &str) -> bool {
        false
    }

    fn is_plain(&self, _key: &str, _stored: &[u8]) -> bool {
        true
    }

    async fn seal(&self, _key: &str, value: Bytes) -> Result<Bytes, String> {
        Ok(value)
    }

    async fn open(&self, _key: &str, value: Bytes) -> Result<Plain, String> {
        Ok(Plain { value, stale: false })
    }
}

static FORMS: LazyLock<Forms<Plainly>> = LazyLock::new(|| Forms::new(Arc::new(Plainly)));
static SCHEME: LazyLock<Scheme> = LazyLock::new(rutter_kinds::builtin);

/// The resources that are stored, in an order.
static STORED: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
    let mut all: Vec<Arc<Resource>> = SCHEME
        .iter()
        .filter(|r| r.storage_prefix.is_some())
        .cloned()
        .collect();
    all.sort_by_key(|resource| resource.gvk().to_string());
    all
});

fn open(key: &str, value: &[u8]) -> Result<Plain, String> {
    now(FORMS.open(key, Bytes::copy_from_slice(value)))
}

/// Objects in the forms that upstream writes, and bytes of any form.
pub fn values(data: &[u8]) {
    let mut maker = Maker::new(data);
    let resource = &STORED[maker.below(STORED.len())];
    let prefix = resource.storage_prefix.as_deref().unwrap_or_default();
    let key = format!("{prefix}/n");
    if maker.flip() {
        any(&key, maker.rest());
        return;
    }
    let object = maker.object_of(&(resource.gvk(), resource.schema.to_string()));
    let binary = protobuf::encode(builtin(), &resource.gvk(), &resource.schema, &object);
    let Ok(canonical) = open(&key, &binary) else {
        return;
    };
    assert!(canonical.stale, "protobuf is not this server's form");
    let again = open(&key, &canonical.value).expect("what is canonical is read");
    assert!(
        !again.stale && again.value == canonical.value,
        "made canonical twice"
    );
    // Upstream's JSON has the kind first; it is what protobuf has, which knows no empty lists.
    let (read, _) = protobuf::decode(builtin(), &binary, |_| Some(resource.schema.to_string()))
        .map(|(_, object)| (object, ()))
        .expect("it was read before");
    let mut text = format!("{{\"kind\":{}", Value::from(&*resource.kind));
    for (name, value) in read
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "kind")
    {
        text.push_str(&format!(",{}:{value}", Value::from(name.as_str())));
    }
    text.push('}');
    let of_json = open(&key, text.as_bytes()).expect("the same as JSON is read");
    assert_eq!(of_json.value, canonical.value, "{text}");
    spliced(&canonical.value);
}

fn any(key: &str, value: &[u8]) {
    if let Ok(first) = open(key, value)
        && first.stale
    {
        let again = open(key, &first.value).expect("what is canonical is read");
        assert!(!again.stale && again.value == first.value, "made canonical twice");
    }
    spliced(value);
}

/// The version is put into JSON as it is put into a tree; an outline says what the tree says.
fn spliced(bytes: &[u8]) {
    let Ok((tree, duplicates)) = json::parse(bytes) else {
        return;
    };
    if !duplicates.is_empty() || !tree.is_object() {
        return;
    }
    let metadata = tree.at("metadata");
    let Ok(spliced) = splice_resource_version(bytes, Revision(42)) else {
        assert!(
            !metadata.is_object() && tree.get("metadata").is_some(),
            "an object takes a version: {tree}"
        );
        return;
    };
    let mut wanted = tree.clone();
    wanted.set("metadata.resourceVersion", "42");
    let (read, duplicates) = json::parse(&spliced).expect("what was spliced is JSON");
    assert_eq!((read, duplicates), (wanted, Vec::new()));
    if let Ok(outlined) = outline(bytes, true) {
        assert_eq!(outlined.at("metadata.labels"), tree.at("metadata.labels"));
    }
}
