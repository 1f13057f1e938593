//! What every step of the corridor shares: the scheme, the store with its cache, and who decides about callers.

use crate::cache::CacheReader;
use crate::crd::Custom;
use crate::metrics::Metrics;
use crate::registry::hooks::Hooks;
use crate::streaming::Streaming;
use arc_swap::ArcSwap;
use rutter_admission::{Chain, Versions};
use rutter_api::object::ObjectExt;
use rutter_api::schema::Types;
use rutter_api::{Resource, Scheme, StatusError, Value};
use rutter_auth::authenticate::service_account::issue::TokenRequests;
use rutter_auth::authenticate::service_account::keys::VerifyingKey;
use rutter_auth::authorize::rbac::Rbac;
use rutter_auth::{Authenticator, Authorizer, Clock};
use rutter_outbound::Outbound;
use rutter_storage::Engine;
use rutter_storage::cache::WatchCache;
use std::collections::HashMap;
use std::sync::Arc;

/// All that is served at one moment.
#[derive(Clone, Default)]
pub struct Served {
    /// The resources.
    pub scheme: Scheme,
    /// The custom resources, by the name of the schema that their resource gives.
    pub custom: HashMap<String, Custom>,
}

impl Served {
    /// The types in which a resource's schema is found.
    pub fn types(&self, resource: &Resource) -> &Types {
        self.custom(resource)
            .and_then(Custom::types)
            .unwrap_or_else(|| rutter_api::schema::builtin())
    }

    /// What is known of a custom resource; none for a built-in one.
    pub fn custom(&self, resource: &Resource) -> Option<&Custom> {
        self.custom.get(&*resource.schema)
    }

    /// The custom resource whose objects a webhook converts.
    pub fn converted(&self, resource: &Resource) -> Option<&Custom> {
        self.custom(resource)
            .filter(|custom| custom.conversion().is_webhook())
    }
}

#[async_trait::async_trait]
impl Versions for Served {
    fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    fn types(&self, resource: &Resource) -> &Types {
        Self::types(self, resource)
    }

    async fn convert(&self, from: &Resource, to: &Resource, object: Value) -> Result<Value, StatusError> {
        if from.group_version == to.group_version {
            return Ok(object);
        }
        let mut object = match self.converted(to) {
            Some(custom) => {
                let converted = custom
                    .conversion()
                    .convert(vec![object], &to.group_version)
                    .await?;
                custom.prune(converted.into_iter().next().unwrap_or_default())
            }
            None => to.strategy.to_served(from.strategy.to_stored(object)),
        };
        object.set("apiVersion", to.group_version.to_string());
        object.set("kind", &*to.kind);
        Ok(object)
    }
}

/// Who the tokens are from, for the discovery of their keys.
pub struct TokenKeys {
    /// `--service-account-issuer`, the first.
    pub issuer: String,
    /// Where the keys are found.
    pub jwks_uri: String,
    /// The keys.
    pub keys: Vec<VerifyingKey>,
    /// `--api-audiences`
    pub audiences: Vec<String>,
}

/// The server.
pub struct Server {
    /// What is served. A change makes a new one; a request keeps the one it began with.
    pub served: ArcSwap<Served>,
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// The cache over it.
    pub cache: Arc<WatchCache>,
    /// Objects for those who decide.
    pub reader: Arc<CacheReader>,
    /// Who is it?
    pub authenticator: Arc<dyn Authenticator>,
    /// May they?
    pub authorizer: Arc<dyn Authorizer>,
    /// Who may act as whom.
    pub impersonation: rutter_auth::impersonate::Impersonation,
    /// RBAC by itself, for its check against escalation; none when the mode is off.
    pub rbac: Option<Arc<Rbac>>,
    /// What may change or refuse writes.
    pub admission: Chain,
    /// What is special about some kinds' writes.
    pub hooks: Hooks,
    /// The way to kubelets.
    pub streaming: Streaming,
    /// The way to webhooks and aggregated servers.
    pub outbound: Outbound,
    /// The aggregated servers.
    pub aggregate: crate::aggregate::Aggregate,
    /// Issues tokens.
    pub tokens: TokenRequests,
    /// Tells others how to verify them.
    pub token_keys: TokenKeys,
    /// The time.
    pub clock: Clock,
    /// What is measured.
    pub metrics: Metrics,
    /// Health, readiness and what is in flight.
    pub health: crate::serve::health::Health,
    /// The audit log; none without a policy.
    pub audit: Option<Arc<crate::audit::Audit>>,
    /// Bounds on requests in time.
    pub bounds: crate::corridor::Bounds,
    /// Bounds on requests in flight, where priority and fairness is off.
    pub limits: crate::corridor::inflight::Limits,
    /// The bound on the memory that requests hold together.
    pub memory: crate::corridor::memory::Memory,
    /// Who is served now, who waits, who is sent away; none when it is off.
    pub fairness: Option<Arc<crate::fairness::Fairness>>,
    /// The address that clients are told.
    pub external_address: String,
    /// Whether aggregated documents must be made anew.
    pub documents: crate::serve::documents::Documents,
}
