//! Namespaces, the `kubernetes` Service and its ServiceCIDR, priority classes, RBAC's roles, and what extension servers need to
//! authenticate.

use super::{Settings, internal, own};
use crate::registry::update::Change;
use crate::server::Server;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, Reason, StatusError, Value};
use rutter_auth::bootstrap::{self as rbac, Reconcile};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is missing.
pub(super) async fn make(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    let core = GroupVersion::new("", "v1");
    // What doesn't depend on each other is made side by side, so that it shares the store's transactions.
    together(NAMESPACES.iter().map(|name| {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(server, &core, "namespaces", namespace)
    }))
    .await?;
    futures::try_join!(
        priority_classes(server),
        roles(server, settings),
        service_cidr(server, settings),
        services_of_groups(server),
    )?;
    service(server, settings).await?;
    super::repair::run(server).await?;
    authentication(server, settings).await
}

/// All of them, whatever becomes of the others; the first failure.
async fn together(
    work: impl Iterator<Item = impl Future<Output = Result<(), StatusError>>>,
) -> Result<(), StatusError> {
    futures::future::join_all(work).await.into_iter().collect()
}

async fn priority_classes(server: &Arc<Server>) -> Result<(), StatusError> {
    let scheduling = GroupVersion::new("scheduling.k8s.io", "v1");
    let classes = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    together(classes.into_iter().map(|(name, value, what)| {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": what,
        });
        ensure(server, &scheduling, "priorityclasses", class)
    }))
    .await
}

async fn service_cidr(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    let ranges: Vec<String> = settings
        .ranges
        .iter()
        .map(|range| range.trunc().to_string())
        .collect();
    let cidr = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ranges},
    });
    ensure(
        server,
        &GroupVersion::new("networking.k8s.io", "v1"),
        "servicecidrs",
        cidr,
    )
    .await
}

/// Creates an object unless it is there.
pub(crate) async fn ensure(
    server: &Arc<Server>,
    version: &GroupVersion,
    plural: &str,
    object: Value,
) -> Result<(), StatusError> {
    let call = internal(server, version, plural, object.namespace())?;
    if call.load(object.name(), false).await?.is_some() {
        return Ok(());
    }
    match call.create_object(object, &own(), true).await {
        Err(error) if error.reason != Reason::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// An APIService for every built-in group version. Those of custom resources come and go with them.
async fn services_of_groups(server: &Arc<Server>) -> Result<(), StatusError> {
    let served = server.served.load_full();
    let version = GroupVersion::new("apiregistration.k8s.io", "v1");
    let local = served.scheme.group_versions();
    let local = local
        .filter(|gv| gv.group != "apiregistration.k8s.io")
        .filter(|gv| {
            let mut resources = served.scheme.resources(gv);
            !resources.all(|r| served.custom.contains_key(&*r.schema))
        });
    together(local.map(|gv| {
        let (group, priority) = priority(gv);
        let mut service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {
                "name": format!("{}.{}", gv.version, gv.group),
                "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
            },
            "spec": {
                "version": gv.version,
                "groupPriorityMinimum": group, "versionPriority": priority,
            },
        });
        if !gv.group.is_empty() {
            service.set("spec.group", gv.group.as_str());
        }
        ensure(server, &version, "apiservices", service)
    }))
    .await
}

/// How clients should rank a group and its version.
fn priority(version: &GroupVersion) -> (i32, i32) {
    let group = match version.group.as_str() {
        "" => return (18000, 1),
        "apps" => 17800,
        "events.k8s.io" => 17750,
        "authentication.k8s.io" => 17700,
        "authorization.k8s.io" => 17600,
        "autoscaling" => 17500,
        "batch" => 17400,
        "certificates.k8s.io" => 17300,
        "networking.k8s.io" => 17200,
        "policy" => 17100,
        "rbac.authorization.k8s.io" => 17000,
        "storage.k8s.io" => 16800,
        "admissionregistration.k8s.io" | "apiextensions.k8s.io" => 16700,
        "scheduling.k8s.io" => 16600,
        "coordination.k8s.io" => 16500,
        "node.k8s.io" => 16300,
        "discovery.k8s.io" => 16200,
        "flowcontrol.apiserver.k8s.io" => 16100,
        _ => 15900,
    };
    (group, if version.version == "v2" { 30 } else { 15 })
}

async fn roles(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    if !settings.rbac {
        return Ok(());
    }
    let reconciled: [(&str, Vec<Value>, bool); 4] = [
        ("clusterroles", rbac::cluster_roles(), true),
        ("clusterrolebindings", rbac::cluster_role_bindings(), false),
        ("roles", rbac::roles(), true),
        ("rolebindings", rbac::role_bindings(), false),
    ];
    let all = reconciled.into_iter().flat_map(|(plural, objects, is_role)| {
        let objects = objects.into_iter();
        objects.map(move |object| async move { reconcile(server, plural, &object, is_role).await })
    });
    together(all).await
}

async fn reconcile(
    server: &Arc<Server>,
    plural: &str,
    expected: &Value,
    is_role: bool,
) -> Result<(), StatusError> {
    let version = GroupVersion::new("rbac.authorization.k8s.io", "v1");
    let mut call = internal(server, &version, plural, expected.namespace())?;
    expected.name().clone_into(&mut call.info.name);
    let stored = call
        .load(expected.name(), false)
        .await?
        .map(|stored| stored.object);
    let plan = if is_role {
        rbac::reconcile_role(stored.as_ref(), expected)
    } else {
        rbac::reconcile_binding(stored.as_ref(), expected)
    };
    match plan {
        Reconcile::Keep => Ok(()),
        Reconcile::Create(object) => ensure(server, &version, plural, object).await,
        Reconcile::Update(object) => {
            let change = Change {
                make: &|_| Ok(object.clone()),
                creates: false,
                direct: false,
                managed: true,
            };
            match call.change(&change, &own()).await {
                // Another server was first; it wrote the same.
                Err(error) if error.reason != Reason::Conflict => Err(error),
                _ => Ok(()),
            }
        }
        Reconcile::Recreate(object) => {
            call.delete_object(expected.name(), &Default::default()).await?;
            ensure(server, &version, plural, object).await
        }
    }
}

/// The first address of the first range.
pub(super) fn first_address(settings: &Settings) -> Option<IpAddr> {
    let range = settings.ranges.first()?;
    Some(match range.network() {
        IpAddr::V4(base) => IpAddr::V4(std::net::Ipv4Addr::from_bits(base.to_bits().checked_add(1)?)),
        IpAddr::V6(base) => IpAddr::V6(std::net::Ipv6Addr::from_bits(base.to_bits().checked_add(1)?)),
    })
}

async fn service(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    let Some(address) = first_address(settings) else {
        return Ok(());
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address.to_string(), "sessionAffinity": "None",
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": settings.port}],
        },
    });
    ensure(server, &GroupVersion::new("", "v1"), "services", service).await
}

/// The config map from which extension servers learn whom to believe.
pub(super) async fn authentication(server: &Arc<Server>, settings: &Settings) -> Result<(), StatusError> {
    let mut data = serde_json::Map::new();
    if let Some(pem) = &settings.client_ca {
        data.insert("client-ca-file".to_owned(), Value::from(pem.as_str()));
    }
    if let Some(pem) = &settings.proxy_ca {
        data.insert(
            "requestheader-client-ca-file".to_owned(),
            Value::from(pem.as_str()),
        );
        for (key, list) in [
            ("requestheader-allowed-names", &settings.proxy_names),
            ("requestheader-username-headers", &settings.user_headers),
            ("requestheader-uid-headers", &settings.uid_headers),
            ("requestheader-group-headers", &settings.group_headers),
            ("requestheader-extra-headers-prefix", &settings.extra_prefixes),
        ] {
            data.insert(key.to_owned(), Value::from(json!(list).to_string()));
        }
    }
    if data.is_empty() {
        return Ok(());
    }
    let name = "extension-apiserver-authentication";
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "kube-system"}, "data": data,
    });
    let core = GroupVersion::new("", "v1");
    ensure(server, &core, "configmaps", object.clone()).await?;
    let mut call = internal(server, &core, "configmaps", "kube-system")?;
    name.clone_into(&mut call.info.name);
    let make = |old: Option<&Value>| {
        let mut object = old.cloned().ok_or_else(|| call.not_found(name))?;
        object.set("data", Value::Object(data.clone()));
        Ok(object)
    };
    let change = Change {
        make: &make,
        creates: false,
        direct: false,
        managed: true,
    };
    call.change(&change, &own()).await.map(|_| ())
}
