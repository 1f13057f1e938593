//! Webhook configurations, compiled once per change.

use super::review::Version;
use crate::matching::Matcher;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, ObjectReader, Value};
use rutter_cel::conditions::Conditions;
use rutter_outbound::{Caller, Endpoint, Outbound};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What a webhook does beside answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SideEffects {
    /// Nothing, or nothing when `dryRun` is set.
    None,
    /// Something, or nobody knows.
    Some,
}

/// One webhook.
pub(super) struct Hook {
    /// The kind and the name of its configuration.
    pub(super) configuration: (&'static str, String),
    pub(super) name: String,
    /// What tells it apart from others of its name.
    pub(super) uid: String,
    pub(super) matcher: Matcher,
    /// `matchConditions`
    pub(super) conditions: Conditions,
    pub(super) version: Option<Version>,
    /// Whether a write goes on when the webhook cannot be asked.
    pub(super) ignore: bool,
    pub(super) side_effects: SideEffects,
    pub(super) timeout: Duration,
    /// Whether it is asked again when later plugins changed the object.
    pub(super) reinvoke: bool,
    /// Its place, or what is wrong with it.
    pub(super) caller: Result<Caller, String>,
}

impl Hook {
    /// The webhooks of a configuration, with `caller` to reach them.
    fn all(
        kind: &'static str,
        configuration: &Value,
        mut caller: impl FnMut(&Value) -> Result<Caller, String>,
    ) -> Vec<Self> {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        let mut hooks = Vec::new();
        for webhook in configuration.list_at("webhooks") {
            let name = webhook.str_at("name");
            let count = seen.entry(name).or_default();
            let uid = format!("{}/{name}/{count}", configuration.name());
            *count += 1;
            let seconds = webhook
                .int_at("timeoutSeconds")
                .and_then(|s| u64::try_from(s).ok());
            hooks.push(Self {
                configuration: (kind, configuration.name().to_owned()),
                name: name.to_owned(),
                uid,
                matcher: Matcher::of(webhook),
                conditions: Conditions::admission(webhook.list_at("matchConditions"), false),
                version: Version::first_of(webhook.list_at("admissionReviewVersions")),
                ignore: webhook.str_at("failurePolicy") == "Ignore",
                side_effects: match webhook.str_at("sideEffects") {
                    "None" | "NoneOnDryRun" => SideEffects::None,
                    _ => SideEffects::Some,
                },
                timeout: Duration::from_secs(seconds.unwrap_or(10)),
                reinvoke: webhook.str_at("reinvocationPolicy") == "IfNeeded",
                caller: caller(webhook.at("clientConfig")),
            });
        }
        hooks
    }
}

/// All webhooks of one kind of configuration, as of a generation of it.
pub(super) struct Hooks {
    kind: &'static str,
    resource: GroupResource,
    reader: Arc<dyn ObjectReader>,
    outbound: Outbound,
    compiled: ArcSwapOption<(u64, Vec<Hook>)>,
    /// Callers by what they call: they outlive a change of the configuration, and their connections with them.
    callers: Mutex<HashMap<Endpoint, Caller>>,
}

impl Hooks {
    pub(super) fn new(
        kind: &'static str,
        plural: &str,
        reader: Arc<dyn ObjectReader>,
        outbound: Outbound,
    ) -> Self {
        Self {
            kind,
            resource: GroupResource::new("admissionregistration.k8s.io", plural),
            reader,
            outbound,
            compiled: ArcSwapOption::empty(),
            callers: Mutex::default(),
        }
    }

    /// The webhooks as they are configured now, ordered by configuration. Costs a number's comparison unless they changed.
    pub(super) fn current(&self) -> Arc<(u64, Vec<Hook>)> {
        let generation = self.reader.generation(&self.resource);
        if let Some(compiled) = self.compiled.load_full()
            && compiled.0 == generation
        {
            return compiled;
        }
        let compiled = Arc::new((generation, self.compile()));
        self.compiled.store(Some(compiled.clone()));
        compiled
    }

    fn compile(&self) -> Vec<Hook> {
        let mut configurations = self.reader.list(&self.resource, None);
        configurations.sort_by(|a, b| a.name().cmp(b.name()));
        let mut callers = self.callers.lock();
        let mut used = HashSet::new();
        let mut hooks = Vec::new();
        for configuration in &configurations {
            hooks.extend(Hook::all(self.kind, configuration, |config| {
                let endpoint = Endpoint::of_client_config(config).map_err(|error| chain(&error))?;
                used.insert(endpoint.clone());
                if let Some(known) = callers.get(&endpoint) {
                    return Ok(known.clone());
                }
                let made = self
                    .outbound
                    .caller(endpoint.clone())
                    .map_err(|error| chain(&error))?;
                callers.insert(endpoint, made.clone());
                Ok(made)
            }));
        }
        callers.retain(|endpoint, _| used.contains(endpoint));
        hooks
    }
}

/// An error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
