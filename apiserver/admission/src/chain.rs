//! The chain of plugins: which are on, and in what order they are asked.
//!
//! The order and the defaults are upstream's. All mutating parts run before all validating parts, so a validating part sees
//! the object as it will be stored.

use crate::metrics::WebhookMetrics;
use crate::plugins::*;
use crate::{Attributes, LiveReader, Operation, Plugin, QuotaWriter};
use rutter_api::{ObjectReader, Resource, StatusError};
use rutter_auth::{Authorizer, Clock};
use rutter_outbound::Outbound;
use std::sync::Arc;

/// What plugins need from the server.
#[derive(Clone)]
pub struct Dependencies {
    /// Cached reads.
    pub reader: Arc<dyn ObjectReader>,
    /// Reads that are never stale.
    pub live: Arc<dyn LiveReader>,
    /// Writes of quota status.
    pub quota: Arc<dyn QuotaWriter>,
    /// Rights that plugins check, such as `approve` on a signer.
    pub authorizer: Arc<dyn Authorizer>,
    /// The time.
    pub clock: Clock,
    /// `--default-not-ready-toleration-seconds`, 300 by default.
    pub not_ready_toleration_seconds: i64,
    /// `--default-unreachable-toleration-seconds`, 300 by default.
    pub unreachable_toleration_seconds: i64,
    /// `PodSecurity`'s part of `--admission-control-config-file`.
    pub pod_security: pod_security::Configuration,
    /// `EventRateLimit`'s part of it.
    pub event_rate_limit: event_rate_limit::Configuration,
    /// The way to webhooks that change objects.
    pub mutating_webhooks: Outbound,
    /// The way to webhooks that judge them.
    pub validating_webhooks: Outbound,
    /// What is measured of webhooks.
    pub webhook_metrics: WebhookMetrics,
}

/// Why a chain could not be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChainError {
    /// No plugin has the name.
    #[error("admission plugin {0:?} is unknown")]
    Unknown(String),
    /// It is both enabled and disabled.
    #[error("admission plugin {0:?} is both enabled and disabled")]
    Both(String),
}

/// All plugins by name in the order they are asked, and whether each is on by default.
const ORDER: &[(&str, bool)] = &[
    ("AlwaysAdmit", false),
    ("NamespaceLifecycle", true),
    ("NamespaceExists", false),
    ("LimitPodHardAntiAffinityTopology", false),
    ("LimitRanger", true),
    ("ServiceAccount", true),
    ("NodeRestriction", false),
    ("TaintNodesByCondition", true),
    ("AlwaysPullImages", false),
    ("PodSecurity", true),
    ("Priority", true),
    ("DefaultTolerationSeconds", true),
    ("EventRateLimit", false),
    ("ExtendedResourceToleration", false),
    ("DefaultStorageClass", true),
    ("StorageObjectInUseProtection", true),
    ("OwnerReferencesPermissionEnforcement", false),
    ("PersistentVolumeClaimResize", true),
    ("RuntimeClass", true),
    ("CertificateApproval", true),
    ("CertificateSigning", true),
    ("ClusterTrustBundleAttest", true),
    ("CertificateSubjectRestriction", true),
    ("DefaultIngressClass", true),
    ("DenyServiceExternalIPs", false),
    ("PodTopologyLabels", true),
    ("MutatingAdmissionPolicy", true),
    ("MutatingAdmissionWebhook", true),
    ("ValidatingAdmissionPolicy", true),
    ("ValidatingAdmissionWebhook", true),
    ("ResourceQuota", true),
    ("AlwaysDeny", false),
];

/// The plugins that are on.
pub struct Chain {
    plugins: Vec<Arc<dyn Plugin>>,
}

impl Chain {
    /// The default plugins, with those of `--enable-admission-plugins` and without those of `--disable-admission-plugins`.
    pub fn new(enable: &[String], disable: &[String], with: &Dependencies) -> Result<Self, ChainError> {
        let on = enabled(enable, disable)?;
        let plugins = on.into_iter().filter_map(|name| make(name, with)).collect();
        Ok(Self { plugins })
    }

    /// The names of the plugins that are on, in the order they are asked.
    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|plugin| plugin.name()).collect()
    }

    /// Whether any plugin has anything to say on such a write.
    pub fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.handles(operation, resource, subresource))
    }

    /// Adds a plugin at the place where webhooks and policies run: before ResourceQuota and AlwaysDeny.
    pub fn insert(&mut self, plugin: Arc<dyn Plugin>) {
        let last = |plugin: &Arc<dyn Plugin>| matches!(plugin.name(), "ResourceQuota" | "AlwaysDeny");
        let at = self.plugins.iter().position(last).unwrap_or(self.plugins.len());
        self.plugins.insert(at, plugin);
    }

    /// The first phase: plugins may change the object. All are asked a second time when a webhook or a policy changed it.
    pub async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        self.mutate_once(attributes).await?;
        if attributes.reinvocation.again() {
            self.mutate_once(attributes).await?;
        }
        Ok(())
    }

    async fn mutate_once(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        for plugin in &self.plugins {
            if plugin.handles(attributes.operation, attributes.resource, attributes.subresource) {
                plugin.mutate(attributes).await?;
            }
        }
        Ok(())
    }

    /// The second phase: plugins may refuse the object.
    pub async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        for plugin in &self.plugins {
            if plugin.handles(attributes.operation, attributes.resource, attributes.subresource) {
                plugin.validate(attributes).await?;
            }
        }
        Ok(())
    }
}

/// The names of all plugins.
#[cfg(test)]
pub(crate) fn names() -> Vec<String> {
    ORDER.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Whether a name is one of the plugins'.
pub fn is_known(name: &str) -> bool {
    ORDER.iter().any(|(known, _)| *known == name)
}

/// The names that are on, in order.
fn enabled(enable: &[String], disable: &[String]) -> Result<Vec<&'static str>, ChainError> {
    for name in enable.iter().chain(disable) {
        if !is_known(name) {
            return Err(ChainError::Unknown(name.clone()));
        }
    }
    if let Some(name) = enable.iter().find(|name| disable.contains(name)) {
        return Err(ChainError::Both(name.clone()));
    }
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let on = ORDER
        .iter()
        .filter(|(name, default)| has(enable, name) || (*default && !has(disable, name)));
    Ok(on.map(|(name, _)| *name).collect())
}

fn make(name: &str, with: &Dependencies) -> Option<Arc<dyn Plugin>> {
    let reader = || with.reader.clone();
    let authorizer = || with.authorizer.clone();
    Some(match name {
        "AlwaysAdmit" => Arc::new(always::AlwaysAdmit),
        "NamespaceExists" => namespace_exists::make(with),
        "NamespaceLifecycle" => Arc::new(namespace_lifecycle::NamespaceLifecycle::new(
            reader(),
            with.live.clone(),
        )),
        "LimitPodHardAntiAffinityTopology" => Arc::new(anti_affinity::LimitPodHardAntiAffinityTopology),
        "ServiceAccount" => Arc::new(service_account::ServiceAccount::new(reader(), with.live.clone())),
        "NodeRestriction" => Arc::new(node_restriction::NodeRestriction::new(reader(), authorizer())),
        "TaintNodesByCondition" => Arc::new(taint_nodes::TaintNodesByCondition),
        "AlwaysPullImages" => Arc::new(always_pull::AlwaysPullImages),
        "PodSecurity" => Arc::new(pod_security::PodSecurity::new(
            reader(),
            with.live.clone(),
            with.pod_security.clone(),
        )),
        "Priority" => Arc::new(priority::Priority::new(reader())),
        "DefaultTolerationSeconds" => Arc::new(toleration_seconds::DefaultTolerationSeconds {
            not_ready: with.not_ready_toleration_seconds,
            unreachable: with.unreachable_toleration_seconds,
        }),
        "EventRateLimit" => Arc::new(event_rate_limit::EventRateLimit::new(
            with.event_rate_limit.clone(),
            with.clock.clone(),
        )),
        "ExtendedResourceToleration" => Arc::new(extended_resource::ExtendedResourceToleration),
        "DefaultStorageClass" => Arc::new(storage_class::DefaultStorageClass::new(reader())),
        "StorageObjectInUseProtection" => Arc::new(in_use_protection::StorageObjectInUseProtection),
        "OwnerReferencesPermissionEnforcement" => Arc::new(
            owner_references::OwnerReferencesPermissionEnforcement::new(authorizer()),
        ),
        "PersistentVolumeClaimResize" => Arc::new(claim_resize::PersistentVolumeClaimResize::new(reader())),
        "RuntimeClass" => Arc::new(runtime_class::RuntimeClass::new(reader(), with.live.clone())),
        "CertificateApproval" => Arc::new(certificates::CertificateApproval::new(authorizer())),
        "CertificateSigning" => Arc::new(certificates::CertificateSigning::new(authorizer())),
        "ClusterTrustBundleAttest" => Arc::new(certificates::ClusterTrustBundleAttest::new(authorizer())),
        "CertificateSubjectRestriction" => Arc::new(certificates::CertificateSubjectRestriction),
        "DefaultIngressClass" => Arc::new(ingress_class::DefaultIngressClass::new(reader())),
        "DenyServiceExternalIPs" => Arc::new(external_ips::DenyServiceExternalIPs),
        "MutatingAdmissionPolicy" => Arc::new(policy::MutatingAdmissionPolicy::new(
            reader(),
            with.live.clone(),
            authorizer(),
        )),
        "ValidatingAdmissionPolicy" => Arc::new(policy::ValidatingAdmissionPolicy::new(
            reader(),
            with.live.clone(),
            authorizer(),
        )),
        "MutatingAdmissionWebhook" => Arc::new(webhook::MutatingAdmissionWebhook::new(
            reader(),
            with.live.clone(),
            authorizer(),
            with.mutating_webhooks.clone(),
            with.webhook_metrics.clone(),
        )),
        "ValidatingAdmissionWebhook" => Arc::new(webhook::ValidatingAdmissionWebhook::new(
            reader(),
            with.live.clone(),
            authorizer(),
            with.validating_webhooks.clone(),
            with.webhook_metrics.clone(),
        )),
        "PodTopologyLabels" => Arc::new(topology_labels::PodTopologyLabels::new(reader())),
        "LimitRanger" => Arc::new(limit_ranger::LimitRanger::new(reader())),
        "ResourceQuota" => Arc::new(resource_quota::ResourceQuota::new(
            reader(),
            with.live.clone(),
            with.quota.clone(),
        )),
        "AlwaysDeny" => Arc::new(always::AlwaysDeny),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_ordered() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let on = enabled(&list(&["NodeRestriction"]), &list(&["RuntimeClass"])).unwrap();
        assert!(on.contains(&"NodeRestriction") && !on.contains(&"RuntimeClass"));
        assert_eq!(on.first(), Some(&"NamespaceLifecycle"));
        assert_eq!(on.last(), Some(&"ResourceQuota"));
        assert_eq!(
            enabled(&list(&["Nonsense"]), &[]),
            Err(ChainError::Unknown("Nonsense".into()))
        );
        assert_eq!(
            enabled(&list(&["Priority"]), &list(&["Priority"])),
            Err(ChainError::Both("Priority".into()))
        );
        for (name, _) in ORDER {
            assert!(make(name, &crate::testing::dependencies()).is_some(), "{name}");
        }
    }
}
