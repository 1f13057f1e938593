//! Kubernetes' own values: addresses, quantities, versions, formats, checks of rights.

use crate::library::format::Format;
use rutter_api::Quantity;
use std::net::IpAddr;
use std::sync::Arc;

/// One of Kubernetes' own values.
#[derive(Clone, Debug)]
pub enum Native {
    /// A parsed URL.
    Url(Arc<Url>),
    /// An address.
    Ip(IpAddr),
    /// A network.
    Cidr(CidrValue),
    /// A quantity.
    Quantity(Quantity),
    /// A version.
    Semver(Arc<Semver>),
    /// A format of texts.
    Format(&'static Format),
    /// Somebody whose rights can be asked for.
    Authorizer(Subject),
    /// A path of the API, and who asks.
    PathCheck(Arc<(Subject, String)>),
    /// A group of the API, and who asks.
    GroupCheck(Arc<(Subject, String)>),
    /// A resource, and who asks.
    ResourceCheck(Arc<ResourceCheck>),
    /// What was decided.
    Decision(Arc<Decision>),
}

/// Whose rights are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Whoever sent the request.
    #[default]
    Caller,
    /// A service account: its namespace and name.
    ServiceAccount(Arc<(String, String)>),
}

/// A right that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuthorizationCheck {
    /// Whose.
    pub subject: Subject,
    /// To do what.
    pub verb: String,
    /// The path, when it is no resource.
    pub path: String,
    /// The group of the resource.
    pub group: String,
    /// The resource; empty for a path.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace; empty for all.
    pub namespace: String,
    /// The name; empty for any.
    pub name: String,
    /// The field selector of the request.
    pub field_selector: String,
    /// The label selector of the request.
    pub label_selector: String,
}

/// What was decided about a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while deciding.
    pub error: Option<String>,
}

/// A check that is being put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceCheck {
    pub(crate) check: AuthorizationCheck,
}

/// A network: an address and how many bits of it count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CidrValue {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(crate) text: String,
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
}

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub(crate) numbers: [u64; 3],
    pub(crate) pre: Vec<PreRelease>,
}

/// A part of what comes behind the dash. Numbers come before texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PreRelease {
    Number(u64),
    Text(String),
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, false) => std::cmp::Ordering::Greater,
                (false, true) => std::cmp::Ordering::Less,
                _ => self.pre.cmp(&other.pre),
            })
    }
}

impl Native {
    pub(crate) const URL: &'static str = "kubernetes.URL";
    pub(crate) const IP: &'static str = "net.IP";
    pub(crate) const CIDR: &'static str = "net.CIDR";
    pub(crate) const QUANTITY: &'static str = "kubernetes.Quantity";
    pub(crate) const SEMVER: &'static str = "kubernetes.Semver";
    pub(crate) const FORMAT: &'static str = "kubernetes.NamedFormat";
    pub(crate) const AUTHORIZER: &'static str = "kubernetes.authorization.Authorizer";
    pub(crate) const PATH_CHECK: &'static str = "kubernetes.authorization.PathCheck";
    pub(crate) const GROUP_CHECK: &'static str = "kubernetes.authorization.GroupCheck";
    pub(crate) const RESOURCE_CHECK: &'static str = "kubernetes.authorization.ResourceCheck";
    pub(crate) const DECISION: &'static str = "kubernetes.authorization.Decision";

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => Self::URL,
            Self::Ip(_) => Self::IP,
            Self::Cidr(_) => Self::CIDR,
            Self::Quantity(_) => Self::QUANTITY,
            Self::Semver(_) => Self::SEMVER,
            Self::Format(_) => Self::FORMAT,
            Self::Authorizer(_) => Self::AUTHORIZER,
            Self::PathCheck(_) => Self::PATH_CHECK,
            Self::GroupCheck(_) => Self::GROUP_CHECK,
            Self::ResourceCheck(_) => Self::RESOURCE_CHECK,
            Self::Decision(_) => Self::DECISION,
        }
    }

    /// Its size in bytes, as far as cost goes by it; else 1.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(cidr) => u64::from(cidr.bits.div_ceil(8)),
            _ => 1,
        }
    }

    /// As text, where it has one.
    pub(crate) fn text(&self) -> Option<String> {
        Some(match self {
            Self::Url(url) => url.text.clone(),
            Self::Ip(address) => address.to_string(),
            Self::Cidr(cidr) => format!("{}/{}", cidr.address, cidr.bits),
            Self::Quantity(quantity) => quantity.to_string(),
            _ => return None,
        })
    }
}

impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.cmp(b).is_eq(),
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            (Self::Authorizer(a), Self::Authorizer(b)) => a == b,
            (Self::PathCheck(a), Self::PathCheck(b)) | (Self::GroupCheck(a), Self::GroupCheck(b)) => a == b,
            (Self::ResourceCheck(a), Self::ResourceCheck(b)) => a == b,
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }
}
