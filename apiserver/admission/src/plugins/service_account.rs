//! `ServiceAccount`: every pod runs as a service account and finds its token in a projected volume.

use super::MIRROR;
use crate::{Attributes, LiveReader, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Resource, StatusError, Value};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// How often and in what rhythm the `default` account of a namespace just made is waited for.
const ATTEMPTS: u32 = 10;
const RETRY: Duration = Duration::from_millis(150);

/// The plugin.
pub struct ServiceAccount {
    reader: Arc<dyn ObjectReader>,
    live: Arc<dyn LiveReader>,
}

impl ServiceAccount {
    /// An account that the cache does not have is looked up live.
    pub fn new(reader: Arc<dyn ObjectReader>, live: Arc<dyn LiveReader>) -> Self {
        Self { reader, live }
    }

    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Value>, StatusError> {
        let resource = GroupResource::new("", "serviceaccounts");
        if let Some(found) = self.reader.get(&resource, attributes.namespace, name) {
            return Ok(found);
        }
        let attempts = if name == "default" { ATTEMPTS } else { 1 };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(RETRY).await;
            }
            if let Some(found) = self.live.get(&resource, attributes.namespace, name).await? {
                return Ok(found);
            }
        }
        let namespace = attributes.namespace;
        Err(attributes.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        )))
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        let whole = operation == Operation::Create && subresource.is_empty();
        let ephemeral = operation == Operation::Update && subresource == "ephemeralcontainers";
        (whole || ephemeral) && is(resource, "", "pods")
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.operation != Operation::Create || attributes.object.annotation(MIRROR).is_some() {
            return Ok(());
        }
        if attributes.object.str_at("spec.serviceAccountName").is_empty() {
            attributes.object.set("spec.serviceAccountName", "default");
        }
        let name = attributes.object.str_at("spec.serviceAccountName").to_owned();
        // The old name of the field is served beside the new one.
        attributes.object.set("spec.serviceAccount", name.as_str());
        let account = self.account(attributes, &name).await?;
        let automount = attributes
            .object
            .bool_at("spec.automountServiceAccountToken")
            .or_else(|| account.bool_at("automountServiceAccountToken"))
            .unwrap_or(true);
        if automount {
            mount_token(&mut attributes.object, || format!("{VOLUME_PREFIX}{}", suffix()));
        }
        let secrets = account.list_at("imagePullSecrets");
        if attributes.object.list_at("spec.imagePullSecrets").is_empty() && !secrets.is_empty() {
            let names: Vec<Value> = secrets
                .iter()
                .map(|s| json!({"name": s.str_at("name")}))
                .collect();
            attributes.object.set("spec.imagePullSecrets", names);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let pod = &attributes.object;
        if pod.annotation(MIRROR).is_some() {
            return match mirror_fault(pod) {
                Some(why) => Err(attributes.forbidden(why)),
                None => Ok(()),
            };
        }
        let name = pod.str_at("spec.serviceAccountName").to_owned();
        if name.is_empty() {
            let pod = format!("{}/{}", attributes.namespace, attributes.name);
            return Err(attributes.forbidden(format!("no service account specified for pod {pod}")));
        }
        let account = self.account(attributes, &name).await?;
        let enforced = account
            .annotation(ENFORCE_MOUNTABLE)
            .is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True"));
        if !enforced {
            return Ok(());
        }
        let lists: &[(&str, &str)] = if attributes.operation == Operation::Create {
            &[("initContainers", "init container"), ("containers", "container")]
        } else {
            &[("ephemeralContainers", "ephemeral container")]
        };
        let whole = attributes.operation == Operation::Create;
        match foreign_secret(&attributes.object, &account, lists, whole) {
            Some(why) => Err(attributes.forbidden(why)),
            None => Ok(()),
        }
    }
}

/// Five characters that make no words.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}

/// Mounts the token volume into every container that has nothing there yet.
fn mount_token(pod: &mut Value, name: impl FnOnce() -> String) {
    let existing = pod
        .list_at("spec.volumes")
        .iter()
        .map(|volume| volume.str_at("name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let had = existing.is_some();
    let volume = existing.unwrap_or_else(name);
    let mut needed = false;
    for list in ["spec.initContainers", "spec.containers"] {
        for container in pod.list_at_mut(list).into_iter().flatten() {
            if container
                .list_at("volumeMounts")
                .iter()
                .any(|mount| mount.str_at("mountPath") == MOUNT_PATH)
            {
                continue;
            }
            let mut mounts = container.list_at("volumeMounts").to_vec();
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            container.set("volumeMounts", mounts);
            needed = true;
        }
    }
    if needed && !had {
        let mut volumes = pod.list_at("spec.volumes").to_vec();
        volumes.push(json!({"name": volume, "projected": token_volume()}));
        pod.set("spec.volumes", volumes);
    }
}

/// The projected volume of token, cluster CA and namespace.
pub fn token_volume() -> Value {
    json!({
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{
                "path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
            }]}},
        ],
    })
}

fn mirror_fault(pod: &Value) -> Option<&'static str> {
    let spec = pod.at("spec");
    if !spec.str_at("serviceAccountName").is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    let environment = super::containers(spec).any(|container| {
        container
            .list_at("envFrom")
            .iter()
            .any(|from| !from.at("secretRef").is_null())
            || container
                .list_at("env")
                .iter()
                .any(|env| !env.at("valueFrom.secretKeyRef").is_null())
    });
    let volumes = spec.list_at("volumes").iter().any(|volume| {
        !volume.at("secret").is_null()
            || volume
                .list_at("projected.sources")
                .iter()
                .any(|source| !source.at("secret").is_null())
            || volume.as_object().is_some_and(|map| {
                map.values().any(|source| {
                    source.get("secretRef").is_some_and(Value::is_object)
                        || source.get("nodePublishSecretRef").is_some_and(Value::is_object)
                })
            })
    });
    if environment || volumes || !spec.list_at("imagePullSecrets").is_empty() {
        return Some("a mirror pod may not reference secrets");
    }
    let tokens = |volume: &Value| {
        volume
            .list_at("projected.sources")
            .iter()
            .any(|source| !source.at("serviceAccountToken").is_null())
    };
    if spec.list_at("volumes").iter().any(tokens) {
        return Some("a mirror pod may not use ServiceAccountToken volume projections");
    }
    None
}

/// The first Secret that the pod uses and its account does not list.
fn foreign_secret(pod: &Value, account: &Value, lists: &[(&str, &str)], whole: bool) -> Option<String> {
    let owner = account.name();
    let listed = |key: &str, name: &str| account.list_at(key).iter().any(|s| s.str_at("name") == name);
    let spec = pod.at("spec");
    if whole {
        for volume in spec.list_at("volumes") {
            let name = volume.str_at("secret.secretName");
            if !volume.at("secret").is_null() && !listed("secrets", name) {
                return Some(format!(
                    "volume with secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret"
                ));
            }
        }
    }
    for (list, what) in lists {
        for container in spec.list_at(list) {
            let of = container.str_at("name");
            for env in container.list_at("env") {
                let reference = env.at("valueFrom.secretKeyRef");
                let name = reference.str_at("name");
                if !reference.is_null() && !listed("secrets", name) {
                    return Some(format!(
                        "{what} {of} with envVar {} referencing secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret",
                        env.str_at("name")
                    ));
                }
            }
            for from in container.list_at("envFrom") {
                let name = from.str_at("secretRef.name");
                if !from.at("secretRef").is_null() && !listed("secrets", name) {
                    return Some(format!(
                        "{what} {of} with envFrom referencing secret.secretName=\"{name}\" is not allowed because service account {owner} does not reference that secret"
                    ));
                }
            }
        }
    }
    if whole {
        for (index, secret) in spec.list_at("imagePullSecrets").iter().enumerate() {
            let name = secret.str_at("name");
            if !listed("imagePullSecrets", name) {
                return Some(format!(
                    "imagePullSecrets[{index}].name=\"{name}\" is not allowed because service account {owner} does not reference that imagePullSecret"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Objects, create, pods};

    fn plugin() -> ServiceAccount {
        let objects = Objects::default();
        objects.put(
            "serviceaccounts",
            json!({"metadata": {"name": "default", "namespace": "a"}, "imagePullSecrets": [{"name": "pull"}]}),
        );
        objects.put(
            "serviceaccounts",
            json!({"metadata": {"name": "quiet", "namespace": "a"}, "automountServiceAccountToken": false}),
        );
        objects.put(
            "serviceaccounts",
            json!({"metadata": {"name": "strict", "namespace": "a", "annotations": {ENFORCE_MOUNTABLE: "true"}}}),
        );
        ServiceAccount::new(Arc::new(objects.clone()), Arc::new(objects))
    }

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec})
    }

    #[tokio::test]
    async fn a_pod_gets_its_account_and_token() {
        let plugin = plugin();
        let spec = json!({"containers": [{"name": "c"}, {"name": "own", "volumeMounts": [{"name": "v", "mountPath": MOUNT_PATH}]}]});
        let got = create(&plugin, &pods(), pod(spec)).await.unwrap();
        assert_eq!(got.str_at("spec.serviceAccountName"), "default");
        assert_eq!(got["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
        let volume = &got["spec"]["volumes"][0];
        assert!(volume.str_at("name").starts_with(VOLUME_PREFIX));
        assert_eq!(volume["projected"], token_volume());
        let mounts = &got["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(
            mounts,
            &json!([{"name": volume["name"], "readOnly": true, "mountPath": MOUNT_PATH}])
        );
        assert_eq!(
            got["spec"]["containers"][1]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn accounts_and_pods_can_decline_and_must_exist() {
        let plugin = plugin();
        for (spec, want) in [
            (json!({"serviceAccountName": "quiet", "containers": [{}]}), 0),
            (
                json!({"serviceAccountName": "quiet", "automountServiceAccountToken": true, "containers": [{}]}),
                1,
            ),
            (
                json!({"automountServiceAccountToken": false, "containers": [{}]}),
                0,
            ),
        ] {
            let got = create(&plugin, &pods(), pod(spec)).await.unwrap();
            assert_eq!(got.list_at("spec.volumes").len(), want);
        }
        let error = create(&plugin, &pods(), pod(json!({"serviceAccountName": "gone"})))
            .await
            .unwrap_err();
        assert_eq!(
            error.message,
            r#"pods "p" is forbidden: error looking up service account a/gone: serviceaccount "gone" not found"#
        );
        let foreign = json!({"serviceAccountName": "strict", "volumes": [{"name": "v", "secret": {"secretName": "s"}}]});
        assert!(
            create(&plugin, &pods(), pod(foreign))
                .await
                .unwrap_err()
                .message
                .contains("does not reference that secret")
        );
        let mirror = json!({"metadata": {"name": "m", "namespace": "a", "annotations": {MIRROR: "x"}},
                            "spec": {"serviceAccountName": "default"}});
        assert!(
            create(&plugin, &pods(), mirror)
                .await
                .unwrap_err()
                .message
                .contains("a mirror pod may not")
        );
    }
}
