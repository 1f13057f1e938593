//! Addresses and networks.

use super::{Authorizations, Functions, native_of};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{CidrValue, Native, Value, as_text};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int, String};
    let ip_type = || Type::Opaque(Native::IP);
    let cidr_type = || Type::Opaque(Native::CIDR);
    f.global(
        "ip",
        "string_to_ip",
        &[String],
        ip_type(),
        |_: &dyn Authorizations, args| Ok(Value::Native(Native::Ip(address(as_text(&args[0])?)?))),
    );
    f.member("family", "ip_family", &[ip_type()], Int, |_, args| {
        Ok(Value::Int(if ip(&args[0])?.is_ipv4() { 4 } else { 6 }))
    });
    f.global("ip.isCanonical", "ip_is_canonical", &[String], Bool, |_, args| {
        let text = as_text(&args[0])?;
        Ok(Value::Bool(address(text)?.to_string() == text))
    });
    f.member(
        "isUnspecified",
        "ip_is_unspecified",
        &[ip_type()],
        Bool,
        |_, args| Ok(Value::Bool(ip(&args[0])?.is_unspecified())),
    );
    f.member("isLoopback", "ip_is_loopback", &[ip_type()], Bool, |_, args| {
        Ok(Value::Bool(ip(&args[0])?.is_loopback()))
    });
    f.member(
        "isLinkLocalMulticast",
        "ip_is_link_local_multicast",
        &[ip_type()],
        Bool,
        |_, args| {
            Ok(Value::Bool(match ip(&args[0])? {
                IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
                IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
            }))
        },
    );
    f.member(
        "isLinkLocalUnicast",
        "ip_is_link_local_unicast",
        &[ip_type()],
        Bool,
        |_, args| Ok(Value::Bool(link_local(ip(&args[0])?))),
    );
    f.member(
        "isGlobalUnicast",
        "ip_is_global_unicast",
        &[ip_type()],
        Bool,
        |_, args| {
            let address = ip(&args[0])?;
            let everybody = address == IpAddr::V4(Ipv4Addr::BROADCAST);
            let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            Ok(Value::Bool(!everybody && !special && !link_local(address)))
        },
    );
    f.global("isIP", "is_ip", &[String], Bool, |_, args| {
        Ok(Value::Bool(address(as_text(&args[0])?).is_ok()))
    });
    f.global("cidr", "string_to_cidr", &[String], cidr_type(), |_, args| {
        network(as_text(&args[0])?).map(|n| Value::Native(Native::Cidr(n)))
    });
    f.member(
        "containsIP",
        "cidr_contains_ip_string",
        &[cidr_type(), String],
        Bool,
        |_, args| {
            Ok(Value::Bool(contains(
                cidr(&args[0])?,
                address(as_text(&args[1])?)?,
            )))
        },
    );
    f.member(
        "containsIP",
        "cidr_contains_ip_ip",
        &[cidr_type(), ip_type()],
        Bool,
        |_, args| Ok(Value::Bool(contains(cidr(&args[0])?, ip(&args[1])?))),
    );
    f.member(
        "containsCIDR",
        "cidr_contains_cidr_string",
        &[cidr_type(), String],
        Bool,
        |_, args| {
            Ok(Value::Bool(includes(
                cidr(&args[0])?,
                network(as_text(&args[1])?)?,
            )))
        },
    );
    f.member(
        "containsCIDR",
        "cidr_contains_cidr",
        &[cidr_type(), cidr_type()],
        Bool,
        |_, args| Ok(Value::Bool(includes(cidr(&args[0])?, cidr(&args[1])?))),
    );
    f.member("ip", "cidr_ip", &[cidr_type()], ip_type(), |_, args| {
        Ok(Value::Native(Native::Ip(cidr(&args[0])?.address)))
    });
    f.member(
        "prefixLength",
        "cidr_prefix_length",
        &[cidr_type()],
        Int,
        |_, args| Ok(Value::Int(i64::from(cidr(&args[0])?.bits))),
    );
    f.member("masked", "cidr_masked", &[cidr_type()], cidr_type(), |_, args| {
        let CidrValue { address, bits } = cidr(&args[0])?;
        let address = masked(address, bits);
        Ok(Value::Native(Native::Cidr(CidrValue { address, bits })))
    });
    f.global("isCIDR", "is_cidr", &[String], Bool, |_, args| {
        Ok(Value::Bool(network(as_text(&args[0])?).is_ok()))
    });
}

fn ip(value: &Value<'_>) -> Result<IpAddr> {
    match native_of(value)? {
        Native::Ip(address) => Ok(*address),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn cidr(value: &Value<'_>) -> Result<CidrValue> {
    match native_of(value)? {
        Native::Cidr(network) => Ok(*network),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn address(text: &str) -> Result<IpAddr> {
    if text.contains('%')
        && text
            .split('%')
            .next()
            .is_some_and(|a| a.parse::<Ipv6Addr>().is_ok())
    {
        return Err(EvalError::new(format!(
            "IP address {text:?} with zone value is not allowed"
        )));
    }
    let parsed = text.parse().map_err(|_| {
        EvalError::new(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))
    })?;
    if is_mapped(parsed) {
        return Err(EvalError::new(format!(
            "IPv4-mapped IPv6 address {text:?} is not allowed"
        )));
    }
    Ok(parsed)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn network(text: &str) -> Result<CidrValue> {
    const WHAT: &str = "network address parse error during conversion from string";
    let bad = |why: &str| EvalError::new(format!("{WHAT}: {WHAT}: netip.ParsePrefix({text:?}): {why}"));
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| bad("no '/'"))?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| bad(&format!("ParseAddr({address:?}): unable to parse IP")))?;
    let digits = !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = bits.parse::<u8>().ok().filter(|n| digits && *n <= most);
    let Some(bits) = length else {
        return Err(bad(if digits {
            "prefix length out of range"
        } else {
            "bad bits after slash"
        }));
    };
    if is_mapped(address) {
        return Err(EvalError::new(format!(
            "{WHAT}: IPv4-mapped IPv6 address {text:?} is not allowed"
        )));
    }
    Ok(CidrValue { address, bits })
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

fn contains(network: CidrValue, address: IpAddr) -> bool {
    network.address.is_ipv4() == address.is_ipv4()
        && masked(address, network.bits) == masked(network.address, network.bits)
}

fn includes(outer: CidrValue, inner: CidrValue) -> bool {
    outer.bits <= inner.bits && contains(outer, inner.address)
}
