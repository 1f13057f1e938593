//! `CertificateApproval`, `CertificateSigning`, `ClusterTrustBundleAttest` and `CertificateSubjectRestriction`: who may
//! have what done by which signer.

use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{Resource, StatusError};
use rutter_auth::{Authorizer, Decision};
use std::sync::Arc;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

const GROUP: &str = "certificates.k8s.io";

fn is_request(resource: &Resource) -> bool {
    is(resource, GROUP, "certificatesigningrequests")
}

/// Whether the user may do `verb` with a signer, by its name or by its domain as `domain/*`.
async fn may(authorizer: &dyn Authorizer, attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let asked = rutter_auth::Attributes {
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name: name.into(),
            ..Default::default()
        };
        if matches!(
            authorizer.authorize(attributes.user, &asked).await,
            Decision::Allow(_)
        ) {
            return true;
        }
    }
    false
}

/// Who approves or denies a request may `approve` for its signer.
pub struct CertificateApproval {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateApproval {
    /// Asks `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Update && subresource == "approval" && is_request(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let signer = attributes.old.str_at("spec.signerName");
        if may(&*self.authorizer, attributes, "approve", signer).await {
            return Ok(());
        }
        Err(attributes.forbidden(format!(
            "user not permitted to approve requests with signerName {signer:?}"
        )))
    }
}

/// Who writes a certificate into a request's status may `sign` for its signer.
pub struct CertificateSigning {
    authorizer: Arc<dyn Authorizer>,
}

impl CertificateSigning {
    /// Asks `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Update && subresource == "status" && is_request(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let (new, old) = (&attributes.object, attributes.old);
        let same = |path: &str| new.at(path) == old.at(path);
        if same("status.certificate") && same("status.conditions") {
            return Ok(());
        }
        let signer = old.str_at("spec.signerName");
        if may(&*self.authorizer, attributes, "sign", signer).await {
            return Ok(());
        }
        Err(attributes.forbidden(format!(
            "user not permitted to sign requests with signerName {signer:?}"
        )))
    }
}

/// Who publishes trust for a signer may `attest` for it.
pub struct ClusterTrustBundleAttest {
    authorizer: Arc<dyn Authorizer>,
}

impl ClusterTrustBundleAttest {
    /// Asks `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }
}

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && subresource.is_empty()
            && is(resource, GROUP, "clustertrustbundles")
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        let signer = attributes.object.str_at("spec.signerName");
        // Bundles without a signer are free for all who may write them, and an unchanged bundle is no new claim.
        let unchanged = attributes.operation == Operation::Update
            && attributes.object.at("spec") == attributes.old.at("spec");
        if signer.is_empty() || unchanged || may(&*self.authorizer, attributes, "attest", signer).await {
            return Ok(());
        }
        Err(attributes.forbidden(format!("user not permitted to attest for signerName {signer:?}")))
    }
}

/// Nobody becomes `system:masters` by a certificate from a cluster's own signer.
#[derive(Clone, Copy, Debug)]
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        operation == Operation::Create && subresource.is_empty() && is_request(resource)
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if attributes.object.str_at("spec.signerName") != "kubernetes.io/kube-apiserver-client" {
            return Ok(());
        }
        match subject(attributes.object.str_at("spec.request")) {
            Err(why) => Err(attributes.forbidden(format!("unable to parse csr: {why}"))),
            Ok(subject) if subject.organizations.iter().any(|o| o == "system:masters") => Err(attributes.forbidden(
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            )),
            Ok(_) => Ok(()),
        }
    }
}

/// Whom a certificate request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub common_name: String,
    /// The organizations.
    pub organizations: Vec<String>,
}

/// The subject of a request as it stands in `spec.request`: base64 of PEM.
pub fn subject(request: &str) -> Result<Subject, &'static str> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let pem = STANDARD.decode(request).map_err(|_| "not base64")?;
    let pem = String::from_utf8(pem).map_err(|_| "PEM block type must be CERTIFICATE REQUEST")?;
    let body = pem
        .split_once("-----BEGIN CERTIFICATE REQUEST-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE REQUEST-----"))
        .map(|(body, _)| body.split_whitespace().collect::<String>())
        .ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let der = STANDARD.decode(body).map_err(|_| "malformed PEM")?;
    let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|_| "malformed request")?;
    let subject = &parsed.certification_request_info.subject;
    Ok(Subject {
        common_name: subject
            .iter_common_name()
            .last()
            .and_then(|a| a.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
        organizations: subject
            .iter_organization()
            .filter_map(|a| a.as_str().ok())
            .map(str::to_owned)
            .collect(),
    })
}
