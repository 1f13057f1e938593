//! Parts of the cluster's pod ranges for nodes.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The largest number of parts that a pool keeps track of: a node's part is at most 16 bits longer than the cluster's range.
const MAX_DIFFERENCE: u8 = 16;

/// One cluster range cut into parts of equal size.
#[derive(Debug)]
pub struct Pool {
    range: IpNet,
    part_bits: u8,
    used: BTreeSet<u32>,
    next: u32,
}

/// What is wrong with the ranges as flags give them.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PoolError {
    /// A node's part must be smaller than the range.
    #[error(
        "the node mask /{part} does not fit into the cluster range {range}: it must be between the range's and 16 bits longer, and within the address"
    )]
    Mask {
        /// The cluster range.
        range: IpNet,
        /// The part's prefix length.
        part: u8,
    },
}

impl Pool {
    /// A pool with nothing in use.
    pub fn new(range: IpNet, part_bits: u8) -> Result<Self, PoolError> {
        if part_bits < range.prefix_len()
            || part_bits - range.prefix_len() > MAX_DIFFERENCE
            || part_bits > range.max_prefix_len()
        {
            return Err(PoolError::Mask {
                range,
                part: part_bits,
            });
        }
        Ok(Self {
            range: range.trunc(),
            part_bits,
            used: BTreeSet::new(),
            next: 0,
        })
    }

    fn count(&self) -> u32 {
        1 << (self.part_bits - self.range.prefix_len())
    }

    fn part(&self, index: u32) -> Option<IpNet> {
        let shift = u32::from(self.range.max_prefix_len() - self.part_bits);
        match self.range.network() {
            IpAddr::V4(base) => {
                let address = u32::from(base) | index.checked_shl(shift).unwrap_or(0);
                Ipv4Net::new(Ipv4Addr::from(address), self.part_bits)
                    .ok()
                    .map(IpNet::V4)
            }
            IpAddr::V6(base) => {
                let address = u128::from(base) | u128::from(index).checked_shl(shift).unwrap_or(0);
                Ipv6Net::new(Ipv6Addr::from(address), self.part_bits)
                    .ok()
                    .map(IpNet::V6)
            }
        }
    }

    /// The first and last part that overlap a net; `None` when none does.
    fn overlap(&self, net: &IpNet) -> Option<(u32, u32)> {
        let index = |ip: IpAddr| -> Option<u32> {
            let shift = u32::from(self.range.max_prefix_len() - self.part_bits);
            let offset = match (ip, self.range.network()) {
                (IpAddr::V4(ip), IpAddr::V4(base)) => u128::from(u32::from(ip) - u32::from(base)),
                (IpAddr::V6(ip), IpAddr::V6(base)) => u128::from(ip) - u128::from(base),
                _ => return None,
            };
            u32::try_from(offset.checked_shr(shift).unwrap_or(0)).ok()
        };
        if self.range.contains(net) {
            Some((index(net.network())?, index(net.broadcast())?))
        } else if net.contains(&self.range) {
            Some((0, self.count() - 1))
        } else {
            None
        }
    }

    /// Marks a net as used; says whether it overlaps the range at all.
    pub fn occupy(&mut self, net: &IpNet) -> bool {
        let Some((first, last)) = self.overlap(net) else {
            return false;
        };
        self.used.extend(first..=last);
        true
    }

    /// Gives a net back.
    pub fn release(&mut self, net: &IpNet) {
        if let Some((first, last)) = self.overlap(net) {
            self.used.retain(|i| *i < first || *i > last);
        }
    }

    /// Takes the next free part, round robin, so that a part that was just given back rests.
    pub fn take(&mut self) -> Option<IpNet> {
        let count = self.count();
        let free = (self.next..count)
            .chain(0..self.next)
            .find(|i| !self.used.contains(i))?;
        self.used.insert(free);
        self.next = (free + 1) % count;
        self.part(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str, bits: u8) -> Pool {
        Pool::new(range.parse().unwrap(), bits).unwrap()
    }

    #[test]
    fn parts_are_given_out_in_turn_and_come_back_late() {
        let mut pool = pool("10.244.0.0/22", 24);
        let mut take = || pool.take().map(|n| n.to_string());
        assert_eq!(take().as_deref(), Some("10.244.0.0/24"));
        assert_eq!(take().as_deref(), Some("10.244.1.0/24"));
        pool.release(&"10.244.0.0/24".parse().unwrap());
        let rest: Vec<String> = std::iter::from_fn(|| pool.take().map(|n| n.to_string())).collect();
        assert_eq!(rest, ["10.244.2.0/24", "10.244.3.0/24", "10.244.0.0/24"]);
    }

    #[test]
    fn what_is_in_use_already_is_left_out() {
        let mut pool = pool("10.244.0.0/22", 24);
        assert!(pool.occupy(&"10.244.0.0/24".parse().unwrap()));
        assert!(
            pool.occupy(&"10.244.2.16/28".parse().unwrap()),
            "a part of a part uses it up"
        );
        assert!(!pool.occupy(&"192.168.0.0/24".parse().unwrap()));
        let rest: Vec<String> = std::iter::from_fn(|| pool.take().map(|n| n.to_string())).collect();
        assert_eq!(rest, ["10.244.1.0/24", "10.244.3.0/24"]);
        pool.occupy(&"10.0.0.0/8".parse().unwrap());
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn ranges_of_both_families_are_cut() {
        assert_eq!(
            pool("fd00:10::/48", 64).take().unwrap().to_string(),
            "fd00:10::/64"
        );
        let mut six = pool("fd00:10::/48", 64);
        six.take();
        assert_eq!(six.take().unwrap().to_string(), "fd00:10:0:1::/64");
        for (range, bits) in [("10.0.0.0/16", 8), ("10.0.0.0/8", 25), ("10.0.0.0/24", 33)] {
            assert!(
                Pool::new(range.parse().unwrap(), bits).is_err(),
                "{range} /{bits}"
            );
        }
    }
}
