//! The ServiceCIDR controller: says which ranges are ready, and holds one that is deleted until no Service's address would be orphaned.

pub mod plan;

use crate::common::owners::{has_finalizer, name};
use crate::frame::{Context, Loop, Reconcile, ignore_not_found};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use plan::{FINALIZER, Step};
use rutter_client::{Requeue, Store};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// Keeps ServiceCIDRs.
pub struct ServiceCidrController {
    client: kube::Client,
    cidrs: Store<ServiceCIDR>,
    addresses: Store<IPAddress>,
}

/// Runs the controller until stopped.
pub async fn run(context: Context) {
    let mut frame = Loop::<String>::new(&context);
    let known = context.informers.of::<ServiceCIDR>().store();
    let all = known.clone();
    let cidrs = frame.watch::<ServiceCIDR>(move |change, queue| {
        // Another range may come to cover a deleted one, or cease to.
        let changed = change.object().map(|cidr| name(&cidr.metadata).to_owned());
        let going = all.list();
        let going = going
            .iter()
            .filter(|cidr| cidr.metadata.deletion_timestamp.is_some());
        for key in changed
            .into_iter()
            .chain(going.map(|cidr| name(&cidr.metadata).to_owned()))
        {
            queue.add(key);
        }
    });
    let addresses = frame.watch::<IPAddress>(move |change, queue| {
        let Some(address) = change.object().and_then(|address| given(address)) else {
            return;
        };
        for cidr in known.list() {
            let within = plan::ranges(&cidr)
                .iter()
                .any(|range| plan::usable(range, address));
            if within && cidr.metadata.deletion_timestamp.is_some() {
                queue.add(name(&cidr.metadata).to_owned());
            }
        }
    });
    frame
        .run(
            1,
            ServiceCidrController {
                client: context.client,
                cidrs,
                addresses,
            },
        )
        .await;
}

/// The address, if the apiserver gave it to a Service.
fn given(address: &IPAddress) -> Option<IpAddr> {
    let labels = address.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(ALLOCATOR) {
        return None;
    }
    name(&address.metadata).parse().ok()
}

#[async_trait]
impl Reconcile for ServiceCidrController {
    type Key = String;

    async fn reconcile(&self, key: String) -> anyhow::Result<Requeue> {
        let Some(cidr) = self.cidrs.get("", &key) else {
            return Ok(Requeue::Done);
        };
        let deleted = cidr.metadata.deletion_timestamp.as_ref().map(|at| {
            let since = Timestamp::now().duration_since(at.0);
            Duration::try_from(since).unwrap_or_default()
        });
        let addresses = self.addresses.list();
        let given = addresses.iter().filter_map(|address| given(address));
        match plan::step(&cidr, &self.cidrs.list(), given, deleted) {
            Step::Nothing => {}
            Step::Keep => {
                if !has_finalizer(&cidr.metadata, FINALIZER) {
                    self.set_finalizer(&cidr, true).await?;
                }
                self.say(&cidr, "True", "", "Kubernetes Service CIDR is ready")
                    .await?;
            }
            Step::Blocked => {
                let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
                self.say(&cidr, "False", "Terminating", why).await?;
            }
            Step::Wait(left) => return Ok(Requeue::After(left)),
            Step::LetGo => self.set_finalizer(&cidr, false).await?,
        }
        Ok(Requeue::Done)
    }
}

impl ServiceCidrController {
    async fn set_finalizer(&self, cidr: &ServiceCIDR, held: bool) -> anyhow::Result<()> {
        let mut after = cidr.clone();
        let finalizers = after.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if held {
            finalizers.push(FINALIZER.to_owned());
        }
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let written = api
            .replace(name(&cidr.metadata), &PostParams::default(), &after)
            .await;
        ignore_not_found(written).context("holding a ServiceCIDR, or letting it go")?;
        Ok(())
    }

    /// Writes the condition `Ready`, unless it is so already.
    async fn say(&self, cidr: &ServiceCIDR, status: &str, reason: &str, message: &str) -> anyhow::Result<()> {
        let conditions = cidr.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let same = conditions
            .filter(|known| known.type_ == "Ready")
            .any(|known| (&*known.status, &*known.reason, &*known.message) == (status, reason, message));
        if same {
            return Ok(());
        }
        let condition = json!({
            "type": "Ready", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": crate::common::time::time(Timestamp::now()),
        });
        let patch = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name(&cidr.metadata)},
            "status": {"conditions": [condition]},
        });
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let params = PatchParams::apply("service-cidr-controller").force();
        let written = api
            .patch_status(name(&cidr.metadata), &params, &Patch::Apply(patch))
            .await;
        ignore_not_found(written).context("writing the status of a ServiceCIDR")?;
        Ok(())
    }
}
