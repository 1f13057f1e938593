//! What every step of the corridor shares: the scheme, the store with its cache, and who decides about callers.

use crate::cache::CacheReader;
use crate::metrics::Metrics;
use crate::registry::hooks::Hooks;
use crate::streaming::Streaming;
use arc_swap::ArcSwap;
use rutter_admission::Chain;
use rutter_api::schema::Types;
use rutter_api::{Resource, Scheme};
use rutter_auth::authenticate::service_account::issue::TokenRequests;
use rutter_auth::authenticate::service_account::keys::VerifyingKey;
use rutter_auth::authorize::rbac::Rbac;
use rutter_auth::{Authenticator, Authorizer, Clock};
use rutter_storage::Engine;
use rutter_storage::cache::WatchCache;
use std::collections::HashMap;
use std::sync::Arc;

/// All that is served at one moment.
#[derive(Clone, Default)]
pub struct Served {
    /// The resources.
    pub scheme: Scheme,
    /// The types of custom resources, by the name that their resource gives.
    pub custom: HashMap<String, Arc<Types>>,
    /// Where custom resources keep what Scale shows, by the same name.
    pub scales: HashMap<String, ScalePaths>,
    /// The `openAPIV3Schema` of custom resources, by the same name.
    pub schemas: HashMap<String, Arc<rutter_api::Value>>,
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

impl Served {
    /// The types in which a resource's schema is found.
    pub fn types(&self, resource: &Resource) -> &Types {
        match self.custom.get(&*resource.schema) {
            Some(types) => types,
            None => rutter_api::schema::builtin(),
        }
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
    /// RBAC by itself, for its check against escalation; none when the mode is off.
    pub rbac: Option<Arc<Rbac>>,
    /// What may change or refuse writes.
    pub admission: Chain,
    /// What is special about some kinds' writes.
    pub hooks: Hooks,
    /// The way to kubelets.
    pub streaming: Streaming,
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
    /// Bounds on requests in flight.
    pub limits: crate::corridor::inflight::Limits,
    /// The address that clients are told.
    pub external_address: String,
    /// Whether aggregated documents must be made anew.
    pub documents: crate::serve::documents::Documents,
}
