//! `EventRateLimit`: token buckets before the creation of Events, so that a storm of them does not fill the store.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError, Value};
use rutter_auth::Clock;
use std::collections::HashMap;

/// What shares a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitType {
    /// All events.
    Server,
    /// The events of a namespace.
    Namespace,
    /// The events that a user writes.
    User,
    /// The events from a source about an object.
    SourceAndObject,
}

/// One kind of limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What shares a bucket.
    pub kind: LimitType,
    /// Events a second, in the long run.
    pub qps: i64,
    /// Events at once.
    pub burst: i64,
    /// How many buckets are remembered; 4096 by default.
    pub cache_size: usize,
}

/// `kind: Configuration` of `eventratelimit.admission.k8s.io/v1alpha1`.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The limits.
    pub limits: Vec<Limit>,
}

impl Configuration {
    /// Reads the configuration; the error says which field is wrong.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let mut limits = Vec::new();
        for (index, limit) in value.list_at("limits").iter().enumerate() {
            let at = |field: &str| format!("limits[{index}].{field}");
            let kind = match limit.str_at("type") {
                "Server" => LimitType::Server,
                "Namespace" => LimitType::Namespace,
                "User" => LimitType::User,
                "SourceAndObject" => LimitType::SourceAndObject,
                other => return Err(format!("{}: Unsupported value: {other:?}", at("type"))),
            };
            let positive = |field: &str| {
                let number = limit.int_at(field).filter(|number| *number > 0);
                number.ok_or_else(|| format!("{}: Invalid value: must be positive", at(field)))
            };
            let cache_size = match limit.int_at("cacheSize").unwrap_or_default() {
                0 => 4096,
                size => usize::try_from(size)
                    .map_err(|_| format!("{}: Invalid value: must not be negative", at("cacheSize")))?,
            };
            limits.push(Limit {
                kind,
                qps: positive("qps")?,
                burst: positive("burst")?,
                cache_size,
            });
        }
        if limits.is_empty() {
            Err("limits: Required value".to_owned())
        } else {
            Ok(Self { limits })
        }
    }
}

/// A bucket, in thousandths of an event.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    held: i64,
    at: Timestamp,
}

impl Bucket {
    /// Takes one event out, when there is one.
    fn take(&mut self, limit: &Limit, now: Timestamp) -> bool {
        let passed = now.duration_since(self.at).as_millis().clamp(0, 1 << 40);
        let gained = i64::try_from(passed)
            .unwrap_or_default()
            .saturating_mul(limit.qps);
        self.held = self
            .held
            .saturating_add(gained)
            .min(limit.burst.saturating_mul(1000));
        self.at = now;
        let good = self.held >= 1000;
        if good {
            self.held -= 1000;
        }
        good
    }
}

/// The plugin.
pub struct EventRateLimit {
    limits: Vec<(Limit, Mutex<HashMap<String, Bucket>>)>,
    clock: Clock,
}

impl EventRateLimit {
    /// Without limits it lets everything through.
    pub fn new(configuration: Configuration, clock: Clock) -> Self {
        Self {
            limits: configuration
                .limits
                .into_iter()
                .map(|limit| (limit, Mutex::default()))
                .collect(),
            clock,
        }
    }

    /// What the event is too much for, if anything.
    fn exceeded(&self, attributes: &Attributes<'_>, now: Timestamp) -> Vec<String> {
        let mut all = Vec::new();
        for (limit, buckets) in &self.limits {
            let key = key(limit.kind, attributes);
            let mut buckets = buckets.lock();
            if buckets.len() >= limit.cache_size && !buckets.contains_key(&key) {
                // The one unused for longest gives way.
                if let Some(oldest) = buckets
                    .iter()
                    .min_by_key(|(_, bucket)| bucket.at)
                    .map(|(key, _)| key.clone())
                {
                    buckets.remove(&oldest);
                }
            }
            let full = Bucket {
                held: limit.burst.saturating_mul(1000),
                at: now,
            };
            if !buckets.entry(key.clone()).or_insert(full).take(limit, now) {
                all.push(format!("limit reached on type {:?} for key {key}", limit.kind));
            }
        }
        all
    }
}

fn key(kind: LimitType, attributes: &Attributes<'_>) -> String {
    let event = &attributes.object;
    match kind {
        LimitType::Server => String::new(),
        LimitType::Namespace => attributes.namespace.to_owned(),
        LimitType::User => attributes.user.name.clone(),
        LimitType::SourceAndObject => {
            let about = if event.at("involvedObject").is_null() {
                event.at("regarding")
            } else {
                event.at("involvedObject")
            };
            let about = ["kind", "namespace", "name", "uid", "apiVersion"].map(|field| about.str_at(field));
            format!(
                "{}{}{}",
                event.str_at("source.component"),
                event.str_at("source.host"),
                about.concat()
            )
        }
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn name(&self) -> &'static str {
        "EventRateLimit"
    }

    fn handles(&self, operation: Operation, resource: &Resource, _: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && (is(resource, "", "events") || is(resource, "events.k8s.io", "events"))
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.dry_run {
            return Ok(());
        }
        match self.exceeded(attributes, (self.clock)()) {
            exceeded if exceeded.is_empty() => Ok(()),
            exceeded => Err(StatusError::too_many_requests(exceeded.join(", "), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bucket_empties_and_fills() {
        let configuration = json!({"limits": [{"type": "Namespace", "qps": 2, "burst": 3}]});
        let limit = Configuration::parse(&configuration).unwrap().limits[0];
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut bucket = Bucket {
            held: 3000,
            at: start,
        };
        let at = |ms: i64| Timestamp::from_millisecond(start.as_millisecond() + ms).unwrap();
        let got: Vec<bool> = [0, 0, 0, 0, 499, 500, 10_000]
            .map(|ms| bucket.take(&limit, at(ms)))
            .to_vec();
        assert_eq!(got, [true, true, true, false, false, true, true]);
        assert!(Configuration::parse(&json!({"limits": [{"type": "X"}]})).is_err());
    }
}
