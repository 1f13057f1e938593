//! Decides about certificate signing requests: who recognizes them, who may have them approved by itself, and when they are cleared away.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509CertificationRequest};

/// Client certificates of kubelets.
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Serving certificates of kubelets.
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Client certificates of anybody.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates without a promise of what they are good for.
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

const LATEST_ANSWERED: SignedDuration = SignedDuration::from_hours(1);
const LATEST_PENDING: SignedDuration = SignedDuration::from_hours(24);
const SHORTEST: Duration = Duration::from_secs(600);

/// The parts of a request that decide.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// How many DNS names it asks for.
    pub dns_names: usize,
    /// How many addresses.
    pub ip_addresses: usize,
    /// How many e-mail addresses.
    pub emails: usize,
    /// How many URIs.
    pub uris: usize,
    /// The DNS names and addresses themselves.
    pub names: Vec<String>,
}

/// Why a request can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not PEM of the right type.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// It is not a request.
    #[error("the request can't be decoded")]
    Der(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// It isn't signed by its own key.
    #[error("the request's signature does not fit its key")]
    Signature(#[source] x509_parser::error::X509Error),
}

/// Reads a request and checks that it is signed by its own key.
pub fn parse(pem: &[u8]) -> Result<Request, ParseError> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| ParseError::Pem)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(ParseError::Pem);
    }
    let (_, csr) = X509CertificationRequest::from_der(&block.contents).map_err(ParseError::Der)?;
    csr.verify_signature().map_err(ParseError::Signature)?;
    let subject = &csr.certification_request_info.subject;
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_owned();
    let mut request = Request {
        common_name: subject.iter_common_name().next().map(text).unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect(),
        ..Request::default()
    };
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    request.dns_names += 1;
                    request.names.push((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    request.ip_addresses += 1;
                    request.names.push(address(bytes));
                }
                GeneralName::RFC822Name(_) => request.emails += 1,
                GeneralName::URI(_) => request.uris += 1,
                _ => {}
            }
        }
    }
    Ok(request)
}

fn usages_are(usages: &[String], purpose: &str) -> bool {
    let usages: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    usages == BTreeSet::from(["digital signature", "key encipherment", purpose])
        || usages == BTreeSet::from(["digital signature", purpose])
}

fn is_node(request: &Request) -> Result<(), &'static str> {
    if request.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes");
    }
    Ok(())
}

fn named_node(request: &Request) -> Result<(), &'static str> {
    if request.common_name.starts_with("system:node:") {
        Ok(())
    } else {
        Err("subject common name does not begin with system:node:")
    }
}

/// Whether a request fits its signer; the message says why not.
pub fn validate(signer: &str, request: &Request, usages: &[String]) -> Result<(), String> {
    match signer {
        KUBELET_CLIENT => kubelet_client(request, usages).map_err(str::to_owned),
        KUBELET_SERVING => kubelet_serving(request, usages).map_err(str::to_owned),
        CLIENT => client_usages(usages),
        _ => Ok(()),
    }
}

fn kubelet_client(request: &Request, usages: &[String]) -> Result<(), &'static str> {
    is_node(request)?;
    for (count, message) in [
        (request.dns_names, "DNS subjectAltNames are not allowed"),
        (request.emails, "Email subjectAltNames are not allowed"),
        (request.ip_addresses, "IP subjectAltNames are not allowed"),
        (request.uris, "URI subjectAltNames are not allowed"),
    ] {
        if count > 0 {
            return Err(message);
        }
    }
    named_node(request)?;
    if usages_are(usages, "client auth") {
        Ok(())
    } else {
        Err("usages did not match [client auth digital signature key encipherment]")
    }
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Result<(), &'static str> {
    is_node(request)?;
    if request.dns_names + request.ip_addresses == 0 {
        return Err("DNS or IP subjectAltName is required");
    }
    if request.emails > 0 {
        return Err("Email subjectAltNames are not allowed");
    }
    if request.uris > 0 {
        return Err("URI subjectAltNames are not allowed");
    }
    if !usages_are(usages, "server auth") {
        return Err("usages did not match [digital signature key encipherment server auth]");
    }
    named_node(request)
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    if let Some(other) = usages.iter().find(|u| {
        !matches!(
            u.as_str(),
            "digital signature" | "key encipherment" | "client auth"
        )
    }) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.iter().any(|u| u == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".to_owned())
    }
}

/// An address of a certificate; none when its length is wrong.
pub(super) fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from))
        .ok()
}

/// An address of a certificate as text; one of a wrong length fits no node's.
fn address(bytes: &[u8]) -> String {
    ip(bytes).map(|ip| ip.to_string()).unwrap_or_default()
}

/// Whether a serving certificate names nothing but its node's own addresses, as the Node object has them.
pub fn names_are_nodes(request: &Request, node: &Node) -> bool {
    let own: Vec<&str> = node
        .status
        .iter()
        .flat_map(|s| s.addresses.iter().flatten())
        .map(|a| a.address.as_str())
        .collect();
    !request.names.is_empty() && request.names.iter().all(|name| own.contains(&name.as_str()))
}

/// The right under which a node's request for a serving certificate is approved, once its names are found to be the node's. Nobody has it by
/// default, as in upstream, where a person approves such requests.
pub const SELF_NODE_SERVER: &str = "selfnodeserver";

/// The rights under which a kubelet's request may be approved by itself, and what is said then.
pub fn approvals(csr: &CertificateSigningRequest, request: &Request) -> Vec<(&'static str, &'static str)> {
    let usages = csr.spec.usages.as_deref().unwrap_or_default();
    if csr.spec.signer_name == KUBELET_SERVING {
        let own = csr.spec.username.as_deref() == Some(&request.common_name);
        return if own && kubelet_serving(request, usages).is_ok() {
            vec![(
                SELF_NODE_SERVER,
                "Auto approving self kubelet serving certificate after SubjectAccessReview.",
            )]
        } else {
            Vec::new()
        };
    }
    if csr.spec.signer_name != KUBELET_CLIENT || kubelet_client(request, usages).is_err() {
        return Vec::new();
    }
    let mut approvals = Vec::new();
    if csr.spec.username.as_deref() == Some(&request.common_name) {
        approvals.push((
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ));
    }
    approvals.push((
        "nodeclient",
        "Auto approving kubelet client certificate after SubjectAccessReview.",
    ));
    approvals
}

/// A condition of a request.
pub fn condition<'a>(
    csr: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    csr.status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == kind)
}

/// Whether a certificate was issued.
pub fn is_issued(csr: &CertificateSigningRequest) -> bool {
    csr.status
        .as_ref()
        .and_then(|s| s.certificate.as_ref())
        .is_some_and(|c| !c.0.is_empty())
}

/// When the certificate begins and ends. Short-lived ones are not shortened by the backdating, and none outlives its CA.
pub fn validity(
    asked_seconds: Option<i32>,
    longest: Duration,
    now: Timestamp,
    ca_ends: Timestamp,
) -> Result<(Timestamp, Timestamp), String> {
    let backdate = SignedDuration::from_mins(5);
    let lasts = match asked_seconds.map(|s| Duration::from_secs(u64::try_from(s).unwrap_or(0))) {
        None => longest,
        Some(asked) => asked.max(SHORTEST).min(longest),
    };
    if now >= ca_ends {
        return Err(format!(
            "refusing to sign a certificate that expired in the past: NotAfter={ca_ends}"
        ));
    }
    let lasts = SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX);
    let lasts = if lasts < SignedDuration::from_hours(8) {
        lasts
    } else {
        lasts - backdate
    };
    let end = now.checked_add(lasts).unwrap_or(ca_ends).min(ca_ends);
    Ok((now - backdate, end))
}

/// Whether a request has stayed long enough. `expires` is when the issued certificate ends.
pub fn is_stale(csr: &CertificateSigningRequest, expires: Option<Timestamp>, now: Timestamp) -> bool {
    let older = |t: Option<&Time>, limit| t.is_some_and(|t| now.duration_since(t.0) > limit);
    let conditions: Vec<&CertificateSigningRequestCondition> = csr
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .collect();
    if conditions.is_empty() {
        return older(csr.metadata.creation_timestamp.as_ref(), LATEST_PENDING);
    }
    conditions.iter().any(|c| match c.type_.as_str() {
        "Denied" | "Failed" => older(c.last_update_time.as_ref(), LATEST_ANSWERED),
        "Approved" if is_issued(csr) => {
            older(c.last_update_time.as_ref(), LATEST_ANSWERED) || expires.is_some_and(|e| e < now)
        }
        "Approved" => older(c.last_update_time.as_ref(), LATEST_PENDING),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node() -> Request {
        Request {
            common_name: "system:node:n1".to_owned(),
            organizations: vec!["system:nodes".to_owned()],
            ..Request::default()
        }
    }

    fn usages(purpose: &str) -> Vec<String> {
        ["digital signature", "key encipherment", purpose]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn each_signer_takes_only_what_it_is_for() {
        let serving = Request {
            ip_addresses: 1,
            ..node()
        };
        let outsider = Request {
            organizations: vec!["system:masters".to_owned()],
            ..node()
        };
        for (what, signer, request, usages, want) in [
            (
                "a kubelet's client",
                KUBELET_CLIENT,
                node(),
                usages("client auth"),
                None,
            ),
            (
                "with an address",
                KUBELET_CLIENT,
                serving.clone(),
                usages("client auth"),
                Some("IP subjectAltNames are not allowed"),
            ),
            (
                "another group",
                KUBELET_CLIENT,
                outsider,
                usages("client auth"),
                Some("subject organization is not system:nodes"),
            ),
            (
                "a kubelet's server",
                KUBELET_SERVING,
                serving,
                usages("server auth"),
                None,
            ),
            (
                "without an address",
                KUBELET_SERVING,
                node(),
                usages("server auth"),
                Some("DNS or IP subjectAltName is required"),
            ),
            (
                "any client",
                CLIENT,
                Request::default(),
                usages("client auth"),
                None,
            ),
            (
                "a server",
                CLIENT,
                Request::default(),
                usages("server auth"),
                Some("invalid usage for client certificate: server auth"),
            ),
            (
                "anything",
                LEGACY_UNKNOWN,
                Request::default(),
                usages("server auth"),
                None,
            ),
        ] {
            assert_eq!(
                validate(signer, &request, &usages).err().as_deref(),
                want,
                "{what}"
            );
        }
    }

    #[test]
    fn a_serving_certificate_may_name_only_its_nodes_addresses() {
        let node: Node = serde_json::from_value(serde_json::json!({"status": {"addresses": [
            {"type": "InternalIP", "address": "172.30.0.2"}, {"type": "Hostname", "address": "node-1"},
        ]}}))
        .unwrap();
        for (names, want) in [
            (vec!["172.30.0.2", "node-1"], true),
            (vec!["node-1"], true),
            (vec!["node-1", "kubernetes.default"], false),
            (vec![], false),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let request = Request {
                names: names.clone(),
                ..Request::default()
            };
            assert_eq!(names_are_nodes(&request, &node), want, "{names:?}");
        }
        assert_eq!(address(&[172, 30, 0, 2]), "172.30.0.2");
        assert_eq!(address(&[1, 2]), "");
    }

    #[test]
    fn a_certificate_lasts_as_asked_within_bounds() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let ca_ends: Timestamp = "2026-12-31T00:00:00Z".parse().unwrap();
        let year = Duration::from_secs(365 * 86400);
        for (asked, longest, want) in [
            (Some(3600), year, "2026-01-01T01:00:00Z"),
            (Some(1), year, "2026-01-01T00:10:00Z"),
            (Some(86400), year, "2026-01-01T23:55:00Z"),
            (None, Duration::from_secs(86400), "2026-01-01T23:55:00Z"),
            (None, year * 2, "2026-12-31T00:00:00Z"),
        ] {
            let (begin, end) = validity(asked, longest, now, ca_ends).unwrap();
            assert_eq!(
                (begin.to_string(), end.to_string()),
                ("2025-12-31T23:55:00Z".to_owned(), want.to_owned()),
                "{asked:?}"
            );
        }
        assert!(validity(None, year, ca_ends, ca_ends).is_err());
    }

    #[test]
    fn answered_requests_go_after_an_hour_and_others_after_a_day() {
        let csr = |condition: Option<&str>, issued: bool| -> CertificateSigningRequest {
            let conditions: Vec<Value> = condition
                .iter()
                .map(|c| json!({"type": c, "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}))
                .collect();
            serde_json::from_value(json!({
                "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"request": "", "signerName": "x"},
                "status": {"conditions": conditions, "certificate": if issued { json!("eA==") } else { Value::Null }},
            }))
            .unwrap()
        };
        let at = |hours: i64| {
            "2026-01-01T00:00:01Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
        };
        for (what, csr, stays, goes) in [
            ("pending", csr(None, false), 23, 24),
            ("denied", csr(Some("Denied"), false), 0, 1),
            ("issued", csr(Some("Approved"), true), 0, 1),
            ("approved", csr(Some("Approved"), false), 23, 24),
        ] {
            assert!(!is_stale(&csr, None, at(stays)), "{what}");
            assert!(is_stale(&csr, None, at(goes)), "{what}");
        }
        assert!(
            is_stale(&csr(Some("Approved"), true), Some(at(-1)), at(0)),
            "expired"
        );
    }
}
