//! The HorizontalPodAutoscaler controller: changes a target's replicas so that its metrics come near their targets.
//!
//! Once in `--horizontal-pod-autoscaler-sync-period` each autoscaler's target and metrics are read, [`plan`] decides, and the target's scale
//! subresource is written. What was recommended lately is kept in memory only: after a restart the windows begin anew from the size found.

pub mod metrics;
pub mod plan;
pub mod replicas;
pub mod scaling;

use crate::common::discovery::{Discovery, discover};
use crate::common::owners::{group_of, label};
use crate::common::time::time;
use crate::frame::{Context, Loop, Reconcile, is_conflict, message_of, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use plan::{Observed, Settings, set_condition};
use rutter_api::LabelSelector;
use rutter_client::events::EventType;
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use scaling::History;
use std::collections::HashMap;
use std::sync::Arc;

/// How often a write of the scale is tried again after a conflict.
const TRIES: usize = 5;

/// Scales targets.
pub struct HorizontalController {
    context: Context,
    autoscalers: Store<HorizontalPodAutoscaler>,
    pods: Store<Pod>,
    settings: Settings,
    known: Mutex<HashMap<ObjectKey, Known>>,
    served: tokio::sync::Mutex<Arc<Discovery>>,
}

/// What is remembered of an autoscaler.
#[derive(Default)]
struct Known {
    history: History,
    /// Its target's selector, by which two autoscalers of the same pods find out about each other.
    selector: Option<LabelSelector>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let autoscalers = frame.watch::<HorizontalPodAutoscaler>(|change, queue| {
        // A change of the status alone is our own.
        let spec = |o: &Option<Arc<HorizontalPodAutoscaler>>| o.as_ref().map(|o| o.spec.clone());
        if change.old.is_none() || change.new.is_none() || spec(&change.old) != spec(&change.new) {
            own_key(change, queue);
        }
    });
    let pods = frame.read::<Pod>();
    let options = &context.options.autoscaling;
    let signed = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let settings = Settings {
        tolerance: options.horizontal_pod_autoscaler_tolerance,
        window: signed(options.horizontal_pod_autoscaler_downscale_stabilization),
        warmup: replicas::Warmup {
            cpu_initialization: signed(options.horizontal_pod_autoscaler_cpu_initialization_period),
            readiness_delay: signed(options.horizontal_pod_autoscaler_initial_readiness_delay),
        },
    };
    let workers = options.concurrent_horizontal_pod_autoscaler_syncs;
    let controller = HorizontalController {
        context,
        autoscalers,
        pods,
        settings,
        known: Mutex::default(),
        served: tokio::sync::Mutex::default(),
    };
    frame.run(workers, controller).await;
}

#[async_trait]
impl Reconcile for HorizontalController {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(autoscaler) = self.autoscalers.get(&key.namespace, &key.name) else {
            self.known.lock().remove(&key);
            return Ok(Requeue::Done);
        };
        // A failure is shown in the status; the next period tries again, no sooner.
        if let Err(error) = self.sync(&key, &autoscaler).await {
            tracing::debug!("autoscaling failed: {error:#}");
        }
        let period = self
            .context
            .options
            .autoscaling
            .horizontal_pod_autoscaler_sync_period;
        Ok(Requeue::After(period))
    }
}

impl HorizontalController {
    async fn sync(&self, key: &ObjectKey, autoscaler: &HorizontalPodAutoscaler) -> anyhow::Result<()> {
        let mut status = autoscaler.status.clone().unwrap_or_default();
        let (path, scale) = match self.scale(autoscaler).await {
            Ok(found) => found,
            Err(why) => {
                self.warn(autoscaler, "FailedGetScale", &why);
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {why}");
                set_condition(
                    &mut status,
                    "AbleToScale",
                    false,
                    "FailedGetScale",
                    message,
                    Timestamp::now(),
                );
                return self.write_status(key, autoscaler, status).await;
            }
        };
        let selector = match self.selector(key, &scale) {
            Ok(selector) => selector,
            Err((event, reason, message)) => {
                self.warn(autoscaler, event, &message);
                status.current_replicas = scale.spec.as_ref().and_then(|spec| spec.replicas);
                set_condition(
                    &mut status,
                    "ScalingActive",
                    false,
                    reason,
                    message,
                    Timestamp::now(),
                );
                return self.write_status(key, autoscaler, status).await;
            }
        };
        let pods = self.pods_of(key, &selector);
        let served = self.served.lock().await.clone();
        let asker = metrics::Asker {
            client: &self.context.client,
            served: &served,
            namespace: &key.namespace,
            selector: scale
                .status
                .as_ref()
                .and_then(|s| s.selector.as_deref())
                .unwrap_or_default(),
        };
        let asked = plan::metrics(autoscaler).iter().map(|spec| asker.measure(spec));
        let measured = futures::future::join_all(asked).await;
        let observed = Observed {
            autoscaler,
            scale: &scale,
            pods: &pods,
            measured: &measured,
        };
        let plan = {
            let mut known = self.known.lock();
            let known = known.entry(key.clone()).or_default();
            plan::plan(&observed, &mut known.history, self.settings, Timestamp::now())
        };
        for (reason, message) in &plan.events {
            self.warn(autoscaler, reason, message);
        }
        status = plan.status;
        if let Some((size, reason)) = plan.rescale {
            self.rescale(key, autoscaler, &path, scale, (size, &reason), &mut status)
                .await;
        }
        self.write_status(key, autoscaler, status).await
    }

    /// Where the target's scale is, and what it says.
    async fn scale(&self, autoscaler: &HorizontalPodAutoscaler) -> Result<(String, Scale), String> {
        let target = &autoscaler.spec.scale_target_ref;
        let group = group_of(target.api_version.as_deref().unwrap_or_default());
        let space = autoscaler.metadata.namespace.as_deref().unwrap_or_default();
        let found = {
            let mut served = self.served.lock().await;
            if served.of_kind(group, &target.kind).is_none() {
                let fresh = discover(&self.context.client)
                    .await
                    .map_err(|error| format!("{error:#}"))?;
                *served = Arc::new(fresh);
            }
            served.of_kind(group, &target.kind).cloned()
        };
        let Some(found) = found else {
            return Err(format!(
                "no matches for kind {:?} in group {group:?}",
                target.kind
            ));
        };
        let resource = &found.resource;
        let root = if resource.group.is_empty() {
            "/api/"
        } else {
            "/apis/"
        };
        let path = format!(
            "{root}{}/namespaces/{space}/{}/{}/scale",
            resource.api_version, resource.plural, target.name
        );
        let request = http::Request::get(&path)
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let scale = self.context.client.request::<Scale>(request).await;
        scale
            .map(|scale| (path, scale))
            .map_err(|error| message_of(&error))
    }

    /// The selector of the target's pods; otherwise an event's reason, a condition's reason and the message.
    fn selector(
        &self,
        key: &ObjectKey,
        scale: &Scale,
    ) -> Result<LabelSelector, (&'static str, &'static str, String)> {
        let text = scale
            .status
            .as_ref()
            .and_then(|s| s.selector.as_deref())
            .unwrap_or_default();
        if text.is_empty() {
            let message = "the HPA target's scale is missing a selector".to_owned();
            return Err(("SelectorRequired", "InvalidSelector", message));
        }
        let selector = LabelSelector::parse(text).map_err(|error| {
            let message =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            ("InvalidSelector", "InvalidSelector", message)
        })?;
        let mut known = self.known.lock();
        known.entry(key.clone()).or_default().selector = Some(selector.clone());
        let pods = self.pods_of(key, &selector);
        let mut rivals: Vec<String> = known
            .iter()
            .filter(|(other, known)| {
                let theirs = known
                    .selector
                    .as_ref()
                    .filter(|_| other.namespace == key.namespace);
                theirs.is_some_and(|theirs| pods.iter().any(|pod| selects(theirs, pod)))
            })
            .map(|(other, _)| other.to_string())
            .collect();
        if rivals.len() > 1 {
            rivals.sort();
            let message = format!(
                "pods by selector {text} are controlled by multiple HPAs: [{}]",
                rivals.join(" ")
            );
            return Err(("AmbiguousSelector", "AmbiguousSelector", message));
        }
        Ok(selector)
    }

    fn pods_of(&self, key: &ObjectKey, selector: &LabelSelector) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| selects(selector, pod));
        pods
    }

    /// Writes the target's size, and into the status what came of it.
    async fn rescale(
        &self,
        key: &ObjectKey,
        autoscaler: &HorizontalPodAutoscaler,
        path: &str,
        scale: Scale,
        (size, reason): (i32, &str),
        status: &mut HorizontalPodAutoscalerStatus,
    ) {
        let before = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let (written, now) = (self.write_scale(path, scale, size).await, Timestamp::now());
        if let Err(error) = written {
            let error = message_of(&error);
            let message = format!("New size: {size}; reason: {reason}; error: {error}");
            self.warn(autoscaler, "FailedRescale", &message);
            status.desired_replicas = autoscaler.status.as_ref().map_or(0, |s| s.desired_replicas);
            let message = format!("the HPA controller was unable to update the target scale: {error}");
            set_condition(status, "AbleToScale", false, "FailedUpdateScale", message, now);
            return;
        }
        let message = format!("the HPA controller was able to update the target scale to {size}");
        set_condition(status, "AbleToScale", true, "SucceededRescale", message, now);
        status.last_scale_time = Some(time(now));
        let message = format!("New size: {size}; reason: {reason}");
        self.context
            .recorder
            .event(autoscaler, EventType::Normal, "SuccessfulRescale", message);
        let behavior = autoscaler.spec.behavior.as_ref();
        let mut known = self.known.lock();
        let history = &mut known.entry(key.clone()).or_default().history;
        history.changed(behavior, before, size, now);
    }

    async fn write_scale(&self, path: &str, mut scale: Scale, size: i32) -> Result<(), kube::Error> {
        let client = &self.context.client;
        for tried in 1.. {
            scale.spec.get_or_insert_default().replicas = Some(size);
            let body = serde_json::to_vec(&scale).map_err(kube::Error::SerdeError)?;
            let request = http::Request::put(path)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body)
                .map_err(kube::Error::HttpError)?;
            match client.request::<Scale>(request).await {
                Err(error) if is_conflict(&error) && tried < TRIES => {
                    let request = http::Request::get(path)
                        .body(Vec::new())
                        .map_err(kube::Error::HttpError)?;
                    scale = client.request::<Scale>(request).await?;
                }
                other => return other.map(|_| ()),
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        autoscaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) -> anyhow::Result<()> {
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut after = autoscaler.clone();
        after.status = Some(status);
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.context.client.clone(), &key.namespace);
        api.replace_status(&key.name, &PostParams::default(), &after)
            .await
            .context("updating the autoscaler's status")?;
        Ok(())
    }

    fn warn(&self, autoscaler: &HorizontalPodAutoscaler, reason: &'static str, message: &str) {
        self.context
            .recorder
            .event(autoscaler, EventType::Warning, reason, message);
    }
}

fn selects(selector: &LabelSelector, pod: &Pod) -> bool {
    selector.matches(|key| label(&pod.metadata, key))
}
