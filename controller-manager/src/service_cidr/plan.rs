//! What to do about a ServiceCIDR. Pure.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Keeps a ServiceCIDR while addresses of it are in use.
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long apiservers may take to notice that a ServiceCIDR is to go.
const GRACE: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is in use: hold it, and say that it is ready.
    Keep,
    /// It is to go and addresses would be orphaned: say so.
    Blocked,
    /// It may go, but not before this.
    Wait(Duration),
    /// Let it go.
    LetGo,
    /// Nothing holds it any more.
    Nothing,
}

/// What to do about `cidr`, among `all` of them, with these addresses given to Services. `deleted` is how long ago it was deleted.
pub fn step(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: impl Iterator<Item = IpAddr>,
    deleted: Option<Duration>,
) -> Step {
    let Some(deleted) = deleted else {
        return Step::Keep;
    };
    if !crate::common::owners::has_finalizer(&cidr.metadata, FINALIZER) {
        return Step::Nothing;
    }
    let own = ranges(cidr);
    let others: Vec<IpNet> = all
        .iter()
        .filter(|other| other.metadata.name != cidr.metadata.name)
        .filter(|other| other.metadata.deletion_timestamp.is_none())
        .flat_map(|other| ranges(other))
        .collect();
    let covered = own
        .iter()
        .all(|range| others.iter().any(|other| other.contains(range)));
    let orphan = |address: IpAddr| {
        own.iter().any(|range| usable(range, address)) && !others.iter().any(|other| usable(other, address))
    };
    if !covered && { addresses }.any(orphan) {
        return Step::Blocked;
    }
    match GRACE.checked_sub(deleted).filter(|left| !left.is_zero()) {
        Some(left) => Step::Wait(left),
        None => Step::LetGo,
    }
}

/// The ranges that it spans.
pub fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let texts = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// Whether an address of the range can be a Service's: not the network's own, nor the broadcast one.
pub fn usable(range: &IpNet, address: IpAddr) -> bool {
    let edge = address == range.network() || (address.is_ipv4() && address == range.broadcast());
    range.contains(&address) && !edge
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cidr(name: &str, ranges: &[&str], deleting: bool) -> Arc<ServiceCIDR> {
        let mut metadata = json!({"name": name, "finalizers": [FINALIZER]});
        if deleting {
            metadata["deletionTimestamp"] = Value::from("2026-01-01T00:00:00Z");
        }
        let value = json!({"metadata": metadata, "spec": {"cidrs": ranges}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    type Case = (
        &'static str,
        Arc<ServiceCIDR>,
        Vec<Arc<ServiceCIDR>>,
        &'static [&'static str],
        u64,
        Step,
    );

    #[test]
    fn a_range_goes_when_no_address_is_orphaned_and_everybody_knows() {
        let seconds = Duration::from_secs;
        let going = |ranges: &[&str]| cidr("a", ranges, true);
        let small = going(&["10.0.0.0/24"]);
        const USED: &[&str] = &["10.0.0.7"];
        let cases: [Case; 8] = [
            (
                "unused, fresh",
                small.clone(),
                vec![],
                &[],
                3,
                Step::Wait(seconds(7)),
            ),
            ("unused", small.clone(), vec![], &["10.0.1.7"], 11, Step::LetGo),
            ("used", small.clone(), vec![], USED, 11, Step::Blocked),
            (
                "within another",
                small.clone(),
                vec![cidr("b", &["10.0.0.0/16"], false)],
                USED,
                11,
                Step::LetGo,
            ),
            (
                "within another that goes too",
                small.clone(),
                vec![cidr("b", &["10.0.0.0/16"], true)],
                USED,
                11,
                Step::Blocked,
            ),
            (
                "the used part within another",
                going(&["10.0.0.0/16"]),
                vec![cidr("b", &["10.0.0.0/24"], false)],
                USED,
                11,
                Step::LetGo,
            ),
            (
                "the edge of another",
                going(&["10.0.0.0/16"]),
                vec![cidr("b", &["10.0.0.0/29"], false)],
                USED,
                11,
                Step::Blocked,
            ),
            (
                "one family is used",
                going(&["10.0.0.0/24", "fd00::/112"]),
                vec![],
                &["fd00::7"],
                11,
                Step::Blocked,
            ),
        ];
        for (what, cidr, others, addresses, ago, want) in cases {
            let all: Vec<_> = others.into_iter().chain([cidr.clone()]).collect();
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            assert_eq!(step(&cidr, &all, addresses, Some(seconds(ago))), want, "{what}");
        }
        let stays = cidr("a", &["10.0.0.0/24"], false);
        assert_eq!(step(&stays, &[], std::iter::empty(), None), Step::Keep);
    }
}
