//! The controllers of certificate signing requests: approving kubelets' own, signing approved ones, and clearing old ones away.

pub mod plan;
mod signing;

use crate::common::owners::name;
use crate::common::time::time;
use crate::frame::{Context, Loop, Reconcile, ignore_not_found, own_key};
use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use rutter_client::informer::ObjectKey;
use rutter_client::{Requeue, Store};
use signing::Authority;
use std::collections::HashMap;
use std::time::Duration;

type Requests = Store<CertificateSigningRequest>;

fn answer(kind: &str, reason: &str, message: String) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(time(Timestamp::now())),
        last_transition_time: None,
    }
}

/// Approves kubelets' requests for client certificates when they may have them.
pub struct Approver {
    context: Context,
    requests: Requests,
}

/// Runs the approving controller until stopped.
pub async fn run_approver(context: Context) {
    let mut frame = Loop::<ObjectKey>::new(&context);
    let requests = frame.watch(own_key);
    frame.run(5, Approver { context, requests }).await;
}

#[async_trait]
impl Reconcile for Approver {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(csr) = self.requests.get("", &key.name) else {
            return Ok(Requeue::Done);
        };
        let decided =
            plan::condition(&csr, "Approved").is_some() || plan::condition(&csr, "Denied").is_some();
        if plan::is_issued(&csr) || decided {
            return Ok(Requeue::Done);
        }
        let request = match plan::parse(&csr.spec.request.0) {
            Ok(request) => request,
            Err(error) => {
                tracing::info!(request = key.name, "not looked at: {error}");
                return Ok(Requeue::Done);
            }
        };
        let approvals = plan::approvals(&csr, &request);
        for (subresource, message) in &approvals {
            if !self.may(&csr, subresource).await? {
                continue;
            }
            if *subresource == plan::SELF_NODE_SERVER && !self.is_nodes_own(&request).await? {
                tracing::info!(
                    request = key.name,
                    "it names addresses that its node doesn't report; not approved"
                );
                continue;
            }
            let mut after = CertificateSigningRequest::clone(&csr);
            let conditions = after
                .status
                .get_or_insert_default()
                .conditions
                .get_or_insert_default();
            conditions.push(answer("Approved", "AutoApproved", (*message).to_owned()));
            let api: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
            let approved = api
                .replace_subresource("approval", &key.name, &PostParams::default(), &after)
                .await;
            ignore_not_found(approved).context("approving a request")?;
            return Ok(Requeue::Done);
        }
        // Rights may be given later, so a kubelet's request is tried again.
        Ok(if approvals.is_empty() {
            Requeue::Done
        } else {
            Requeue::Backoff
        })
    }
}

impl Approver {
    /// Whether a serving certificate names only what its node reports. The Node is read now: what it reports may be new.
    async fn is_nodes_own(&self, request: &plan::Request) -> anyhow::Result<bool> {
        let Some(name) = request.common_name.strip_prefix("system:node:") else {
            return Ok(false);
        };
        let api: Api<Node> = Api::all(self.context.client.clone());
        let node = api
            .get_opt(name)
            .await
            .context("reading the node of a serving certificate")?;
        Ok(node.is_some_and(|node| plan::names_are_nodes(request, &node)))
    }

    async fn may(&self, csr: &CertificateSigningRequest, subresource: &str) -> anyhow::Result<bool> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: csr.spec.username.clone(),
                uid: csr.spec.uid.clone(),
                groups: csr.spec.groups.clone(),
                extra: csr.spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some("create".to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.context.client.clone());
        let review = api
            .create(&PostParams::default(), &review)
            .await
            .context("asking whether a request may be approved")?;
        Ok(review.status.is_some_and(|s| s.allowed))
    }
}

/// Signs approved requests.
pub struct Signer {
    context: Context,
    requests: Requests,
    authorities: HashMap<&'static str, Authority>,
}

/// Refuses flags that contradict each other.
///
/// # Errors
/// When a CA is given for all signers and for some of them.
pub fn check_options(options: &crate::options::CertificateOptions) -> anyhow::Result<()> {
    signing::authorities(options).map(drop)
}

/// Runs the signing controller until stopped. Without a CA there is nothing to sign with.
pub async fn run_signer(context: Context) {
    let authorities = signing::authorities(&context.options.certificates).unwrap_or_default();
    if authorities.is_empty() {
        return;
    }
    let mut frame = Loop::<ObjectKey>::new(&context);
    let requests = frame.watch(own_key);
    frame
        .run(
            5,
            Signer {
                context,
                requests,
                authorities,
            },
        )
        .await;
}

#[async_trait]
impl Reconcile for Signer {
    type Key = ObjectKey;

    async fn reconcile(&self, key: ObjectKey) -> anyhow::Result<Requeue> {
        let Some(csr) = self.requests.get("", &key.name) else {
            return Ok(Requeue::Done);
        };
        let is = |kind| plan::condition(&csr, kind).is_some_and(|c| c.status == "True");
        let Some(authority) = self.authorities.get(csr.spec.signer_name.as_str()) else {
            return Ok(Requeue::Done);
        };
        if !is("Approved") || is("Denied") || is("Failed") || plan::is_issued(&csr) {
            return Ok(Requeue::Done);
        }
        let usages = csr.spec.usages.clone().unwrap_or_default();
        let request =
            plan::parse(&csr.spec.request.0).with_context(|| format!("reading the request {}", key.name))?;
        let mut after = CertificateSigningRequest::clone(&csr);
        let status = after.status.get_or_insert_default();
        match plan::validate(&csr.spec.signer_name, &request, &usages) {
            Err(message) => {
                status.conditions.get_or_insert_default().push(answer(
                    "Failed",
                    "SignerValidationFailure",
                    message,
                ));
            }
            Ok(()) => {
                let longest = self.context.options.certificates.cluster_signing_duration;
                let asked = csr.spec.expiration_seconds;
                let pem = authority.sign(&csr.spec.request.0, &usages, asked, longest, Timestamp::now())?;
                status.certificate = Some(ByteString(pem.into_bytes()));
            }
        }
        let api: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
        ignore_not_found(
            api.replace_status(&key.name, &PostParams::default(), &after)
                .await,
        )
        .context("answering a request")?;
        Ok(Requeue::Done)
    }
}

/// Clears old requests away.
pub struct Cleaner {
    context: Context,
    requests: Requests,
}

/// Runs the cleaning controller until stopped.
pub async fn run_cleaner(context: Context) {
    let mut frame = Loop::<()>::new(&context);
    let requests = frame.read();
    frame.queue().add(());
    frame.run(1, Cleaner { context, requests }).await;
}

#[async_trait]
impl Reconcile for Cleaner {
    type Key = ();

    async fn reconcile(&self, (): ()) -> anyhow::Result<Requeue> {
        let api: Api<CertificateSigningRequest> = Api::all(self.context.client.clone());
        for csr in self.requests.list() {
            let issued = csr.status.as_ref().and_then(|s| s.certificate.as_ref());
            if plan::is_stale(
                &csr,
                issued.and_then(|c| signing::expires(&c.0)),
                Timestamp::now(),
            ) {
                let deleted = api.delete(name(&csr.metadata), &DeleteParams::default()).await;
                ignore_not_found(deleted).context("clearing a request away")?;
            }
        }
        Ok(Requeue::After(Duration::from_secs(3600)))
    }
}
