//! The three metrics APIs (`metrics.k8s.io`, `custom.metrics.k8s.io`, `external.metrics.k8s.io`), as far as autoscalers ask them. They are served by
//! extension servers; where none is, the failure is the answer.

use super::plan::Measured;
use super::replicas::{Sample, milli};
use crate::common::discovery::Discovery;
use crate::common::owners::group_of;
use crate::common::selector::Matcher;
use crate::frame::message_of;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use serde_json::Value;

/// The window of samples that don't name theirs.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Where and of what a metric is asked for.
pub struct Asker<'a> {
    /// The way.
    pub client: &'a kube::Client,
    /// What is served, for the resources of described objects.
    pub served: &'a Discovery,
    /// The autoscaler's namespace.
    pub namespace: &'a str,
    /// The selector of the target's pods.
    pub selector: &'a str,
}

impl Asker<'_> {
    /// Asks for one metric. The error is for people.
    pub async fn measure(&self, spec: &MetricSpec) -> Result<Measured, String> {
        if let Some(source) = &spec.resource {
            return self.resource(&source.name, None).await;
        }
        if let Some(source) = &spec.container_resource {
            return self.resource(&source.name, Some(&source.container)).await;
        }
        if let Some(source) = &spec.pods {
            return self.pods(&source.metric).await;
        }
        if let Some(source) = &spec.object {
            return self.object(&source.metric, &source.described_object).await;
        }
        if let Some(source) = &spec.external {
            return self.external(&source.metric).await;
        }
        Err(format!("unknown metric source type {:?}", spec.type_))
    }

    async fn resource(&self, resource: &str, container: Option<&str>) -> Result<Measured, String> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.namespace);
        let list = self
            .get("resource", &path, &[("labelSelector", self.selector)])
            .await?;
        let items = items(&list);
        if items.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let of = |item: &Value| Some((name(&item["metadata"]), usage(item, resource, container)?));
        Ok(Measured::Pods(items.iter().filter_map(of).collect()))
    }

    async fn pods(&self, metric: &MetricIdentifier) -> Result<Measured, String> {
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/*/{}",
            self.namespace, metric.name
        );
        let (selector, query) = (query(metric)?, self.selector);
        let list = self
            .get(
                "custom",
                &path,
                &[("labelSelector", query), ("metricLabelSelector", &selector)],
            )
            .await?;
        let items = items(&list);
        if items.is_empty() {
            return Err("no metrics returned from custom metrics API".to_owned());
        }
        let of = |item: &Value| {
            let window = item["windowSeconds"]
                .as_i64()
                .map_or(WINDOW, SignedDuration::from_secs);
            let sample = Sample {
                milli: milli(item["value"].as_str()?)?,
                at: at(item),
                window,
            };
            Some((name(&item["describedObject"]), sample))
        };
        Ok(Measured::Pods(items.iter().filter_map(of).collect()))
    }

    async fn object(
        &self,
        metric: &MetricIdentifier,
        object: &CrossVersionObjectReference,
    ) -> Result<Measured, String> {
        let group = group_of(object.api_version.as_deref().unwrap_or_default());
        let base = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}",
            self.namespace
        );
        // A Namespace is described by the autoscaler's own, whatever name the reference has.
        let path = if group.is_empty() && object.kind == "Namespace" {
            format!("{base}/metrics/{}", metric.name)
        } else {
            let served = self.served.of_kind(group, &object.kind);
            let served =
                served.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", object.kind))?;
            format!(
                "{base}/{}/{}/{}",
                served.group_resource(),
                object.name,
                metric.name
            )
        };
        let selector = query(metric)?;
        let list = self
            .get("custom", &path, &[("metricLabelSelector", &selector)])
            .await?;
        let [item] = items(&list) else {
            let found = items(&list).len();
            return Err(format!(
                "the custom metrics API server returned {found} results when we asked for exactly one"
            ));
        };
        let value = item["value"].as_str().and_then(milli);
        value
            .map(Measured::Value)
            .ok_or_else(|| "the metric's value is no quantity".to_owned())
    }

    async fn external(&self, metric: &MetricIdentifier) -> Result<Measured, String> {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}",
            self.namespace, metric.name
        );
        let selector = query(metric)?;
        let list = self
            .get("external", &path, &[("labelSelector", &selector)])
            .await?;
        let items = items(&list);
        if items.is_empty() {
            return Err("no metrics returned from external metrics API".to_owned());
        }
        let values = items
            .iter()
            .filter_map(|item| item["value"].as_str().and_then(milli));
        Ok(Measured::Value(values.fold(0, i64::saturating_add)))
    }

    async fn get(&self, api: &str, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let request = http::Request::get(format!("{path}?{}", encode(query)));
        let request = request.body(Vec::new()).map_err(|error| error.to_string())?;
        let answer = self.client.request::<Value>(request).await;
        answer.map_err(|error| {
            format!(
                "unable to fetch metrics from {api} metrics API: {}",
                message_of(&error)
            )
        })
    }
}

fn encode(query: &[(&str, &str)]) -> String {
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    encoded.finish()
}

fn query(metric: &MetricIdentifier) -> Result<String, String> {
    let Some(selector) = &metric.selector else {
        return Ok(String::new());
    };
    let matcher = Matcher::of(selector);
    matcher
        .map(|matcher| matcher.to_query())
        .ok_or_else(|| format!("the selector of metric {} is not valid", metric.name))
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn name(meta: &Value) -> String {
    meta["name"].as_str().unwrap_or_default().to_owned()
}

fn at(item: &Value) -> Timestamp {
    let text = item["timestamp"].as_str().unwrap_or_default();
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A pod's usage: of one container, or the sum of all, which is unknown when one says nothing.
fn usage(item: &Value, resource: &str, container: Option<&str>) -> Option<Sample> {
    let containers = item["containers"].as_array()?;
    let mut total = None::<i64>;
    for one in containers {
        if container.is_none_or(|wanted| one["name"] == wanted) {
            let value = milli(one["usage"][resource].as_str()?)?;
            total = Some(total.unwrap_or(0).saturating_add(value));
        }
    }
    let window = item["window"].as_str().and_then(|text| text.parse().ok());
    Some(Sample {
        milli: total?,
        at: at(item),
        window: window.unwrap_or(WINDOW),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_usage_is_the_sum_of_its_containers_and_unknown_when_one_is_missing() {
        let item = json!({"metadata": {"name": "p"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "containers": [
            {"name": "a", "usage": {"cpu": "250m", "memory": "1Ki"}}, {"name": "b", "usage": {"cpu": "1"}}]});
        for (resource, container, want) in [
            ("cpu", None, Some(1250)),
            ("cpu", Some("a"), Some(250)),
            ("memory", None, None),
            ("memory", Some("a"), Some(1_024_000)),
            ("cpu", Some("c"), None),
        ] {
            let got = usage(&item, resource, container);
            assert_eq!(
                got.map(|sample| sample.milli),
                want,
                "{resource} of {container:?}"
            );
            assert!(got.is_none_or(|sample| sample.window == SignedDuration::from_secs(30)));
        }
    }
}
