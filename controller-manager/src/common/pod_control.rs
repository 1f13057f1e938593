//! Creating and deleting pods for a controller: with expectations, and with the events that people look for.

use crate::common::expectations::Expectations;
use crate::common::owners::{controller_reference, name, namespace, uid};
use crate::common::{batch, hash, pods};
use crate::frame::{ignore_not_found, is_already_exists, is_namespace_terminating, message_of};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Resource};
use rutter_client::events::{EventType, Recorder};
use rutter_client::informer::ObjectKey;
use std::sync::Arc;
use std::time::Instant;

/// Pods on behalf of one kind of controller.
pub struct PodControl {
    client: kube::Client,
    recorder: Recorder,
    /// What was done and not seen yet.
    pub expectations: Arc<Expectations>,
}

impl PodControl {
    /// Control that writes through `client`.
    pub fn new(client: kube::Client, recorder: Recorder, expectations: Arc<Expectations>) -> Self {
        Self {
            client,
            recorder,
            expectations,
        }
    }

    /// The pods of a namespace.
    pub fn api(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates `count` pods from a template, slowly at first. A namespace on its way out is no error.
    pub async fn create_from_template<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        template: &PodTemplateSpec,
        count: usize,
    ) -> Result<(), kube::Error> {
        let pod = pods::from_template(template, namespace(owner.meta()), controller_reference(owner));
        let prefix = pods::name_prefix(name(owner.meta()));
        self.create(owner, vec![(prefix, pod); count]).await
    }

    /// Creates pods, each with a name generated from its prefix, slowly at first.
    pub async fn create<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        wanted: Vec<(String, Pod)>,
    ) -> Result<(), kube::Error> {
        let key = ObjectKey::of(owner);
        let named: Vec<(String, Pod)> = wanted
            .into_iter()
            .map(|(prefix, mut pod)| {
                let name = generate(&prefix);
                pod.metadata.generate_name = Some(prefix);
                (name, pod)
            })
            .collect();
        let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).collect();
        self.expectations
            .expect_creations(&key, names.iter().map(String::as_str), Instant::now());
        let (tried, result) =
            batch::slow_start(named, |(name, pod)| self.create_one(owner, &key, name, pod)).await;
        for skipped in names.iter().skip(tried) {
            self.expectations.created(&key, skipped);
        }
        result
    }

    async fn create_one<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        key: &ObjectKey,
        mut name: String,
        mut pod: Pod,
    ) -> Result<(), kube::Error> {
        let api = self.api(&key.namespace);
        for _ in 0..8 {
            pod.metadata.name = Some(name.clone());
            match api.create(&PostParams::default(), &pod).await {
                Ok(_) => {
                    self.recorder.event(
                        owner,
                        EventType::Normal,
                        "SuccessfulCreate",
                        format!("Created pod: {name}"),
                    );
                    return Ok(());
                }
                Err(error) if is_already_exists(&error) => {
                    self.expectations.created(key, &name);
                    name = generate(pod.metadata.generate_name.as_deref().unwrap_or_default());
                    self.expectations
                        .expect_creations(key, [name.as_str()], Instant::now());
                }
                Err(error) => {
                    self.expectations.created(key, &name);
                    if is_namespace_terminating(&error) {
                        return Ok(());
                    }
                    let message = format!("Error creating: {}", message_of(&error));
                    self.recorder
                        .event(owner, EventType::Warning, "FailedCreate", message);
                    return Err(error);
                }
            }
        }
        self.expectations.created(key, &name);
        Ok(())
    }

    /// Deletes pods. One that is gone is no error.
    pub async fn delete<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        doomed: Vec<Arc<Pod>>,
    ) -> Result<(), kube::Error> {
        let key = ObjectKey::of(owner);
        self.expectations
            .expect_deletions(&key, doomed.iter().map(|p| uid(&p.metadata)), Instant::now());
        batch::each(doomed, |pod| self.delete_one(owner, &key, pod)).await
    }

    async fn delete_one<K: Resource<DynamicType = ()>>(
        &self,
        owner: &K,
        key: &ObjectKey,
        pod: Arc<Pod>,
    ) -> Result<(), kube::Error> {
        let name = name(&pod.metadata);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match ignore_not_found(self.api(&key.namespace).delete(name, &params).await) {
            Ok(Some(_)) => {
                self.recorder.event(
                    owner,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted pod: {name}"),
                );
                Ok(())
            }
            // Another pod of that name is as good as gone.
            Ok(None) => {
                self.expectations.deleted(key, uid(&pod.metadata));
                Ok(())
            }
            Err(error) => {
                self.expectations.deleted(key, uid(&pod.metadata));
                let message = format!("Error deleting: {}", message_of(&error));
                self.recorder
                    .event(owner, EventType::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }
}

fn generate(prefix: &str) -> String {
    // The apiserver cuts prefixes the same way, so that the suffix always fits.
    let cut: String = prefix.chars().take(248).collect();
    cut + &hash::suffix(rand::random())
}
