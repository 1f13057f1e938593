//! Where a request goes: pure functions over objects and names.

use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, GroupKind, Path, Reason, StatusError, Value};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// A kind of node address, as in `--kubelet-preferred-address-types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressType {
    Hostname,
    InternalDns,
    InternalIp,
    ExternalDns,
    ExternalIp,
}

impl AddressType {
    /// The order that Kubernetes has by default.
    pub const DEFAULT: [Self; 5] = [
        Self::Hostname,
        Self::InternalDns,
        Self::InternalIp,
        Self::ExternalDns,
        Self::ExternalIp,
    ];

    /// Reads a name of the flag.
    pub fn parse(name: &str) -> Option<Self> {
        Self::DEFAULT.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The name in a node's status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hostname => "Hostname",
            Self::InternalDns => "InternalDNS",
            Self::InternalIp => "InternalIP",
            Self::ExternalDns => "ExternalDNS",
            Self::ExternalIp => "ExternalIP",
        }
    }
}

/// The addresses of a node's kubelet, the preferred ones first, and its port.
pub fn node_place(node: &Value, order: &[AddressType]) -> Result<(Vec<String>, u16), StatusError> {
    let all = node.list_at("status.addresses");
    let hosts: Vec<String> = order
        .iter()
        .flat_map(|kind| {
            all.iter()
                .filter(|address| address.str_at("type") == kind.as_str())
        })
        .map(|address| address.str_at("address").to_owned())
        .filter(|address| !address.is_empty())
        .collect();
    if hosts.is_empty() {
        let wanted: Vec<&str> = order.iter().map(|kind| kind.as_str()).collect();
        let why = format!("no preferred addresses found; known addresses: {all:?}, wanted: {wanted:?}");
        return Err(StatusError::internal(why));
    }
    let port = node.int_at("status.daemonEndpoints.kubeletEndpoint.Port");
    let port = port
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0);
    Ok((hosts, port.unwrap_or(10250)))
}

/// A query's pairs, decoded, in their order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string.
    pub fn parse(text: &str) -> Self {
        let decode = |part: &str| decode(&part.replace('+', " "));
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The first value under a key.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values under a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set: anything but absent, `false` and `0`, as Kubernetes reads booleans of queries.
    pub fn flag(&self, key: &str) -> bool {
        self.first(key)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A path of segments with a query.
pub fn path(segments: &[&str], query: &[(&str, String)]) -> String {
    let mut out = String::new();
    for segment in segments {
        out.push('/');
        out.push_str(&encode(segment));
    }
    for (index, (key, value)) in query.iter().enumerate() {
        let _ = write!(
            out,
            "{}{}={}",
            if index == 0 { '?' } else { '&' },
            encode(key),
            encode(value)
        );
    }
    out
}

/// The container that a request means: the one it names, or the pod's only one.
pub fn container(pod: &Value, asked: &str, verb: &str) -> Result<String, StatusError> {
    let names = |list: &str| -> Vec<&str> {
        pod.at("spec")
            .list_at(list)
            .iter()
            .map(|container| container.str_at("name"))
            .collect()
    };
    let (plain, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    if !asked.is_empty() {
        if plain
            .iter()
            .chain(&init)
            .chain(&ephemeral)
            .any(|name| *name == asked)
        {
            return Ok(asked.to_owned());
        }
        return Err(StatusError::bad_request(format!(
            "container {asked} is not valid for pod {}",
            pod.name()
        )));
    }
    match plain.as_slice() {
        [only] => return Ok((*only).to_owned()),
        [] => {
            return Err(StatusError::bad_request(format!(
                "a container name must be specified for pod {}",
                pod.name()
            )));
        }
        _ => {}
    }
    let mut text = format!(
        "a container name must be specified for pod {}, choose one of: [{}]",
        pod.name(),
        plain.join(" ")
    );
    if !init.is_empty() {
        let _ = write!(text, " or one of the init containers: [{}]", init.join(" "));
    }
    if !ephemeral.is_empty() && verb != "log" {
        let _ = write!(
            text,
            " or one of the ephemeral containers: [{}]",
            ephemeral.join(" ")
        );
    }
    Err(StatusError::bad_request(text))
}

/// What is wrong with the options of a log request.
pub fn check_log_options(pod: &str, query: &Query) -> Result<(), StatusError> {
    let mut errors = Vec::new();
    for (key, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = query.first(key) else { continue };
        match text.parse::<i64>() {
            Ok(number) if number >= least => {}
            Ok(number) => errors.push(FieldError::invalid(&Path::new(key), number, why)),
            Err(_) => {
                return Err(StatusError::bad_request(format!(
                    "strconv.ParseInt: parsing {text:?}: invalid syntax"
                )));
            }
        }
    }
    if query.first("sinceSeconds").is_some() && query.first("sinceTime").is_some() {
        errors.push(FieldError::forbidden(
            &Path::root(),
            "at most one of `sinceTime` or `sinceSeconds` may be specified",
        ));
    }
    match query.first("stream") {
        None | Some("" | "All") => {}
        Some(stream @ ("Stdout" | "Stderr")) => {
            if query.first("tailLines").is_some() {
                let why = "`tailLines` and specific `stream` are mutually exclusive for now";
                errors.push(FieldError::forbidden(&Path::root(), why));
            }
            let _ = stream;
        }
        Some(other) => {
            errors.push(FieldError::not_supported(
                &Path::new("stream"),
                other,
                &["All", "Stdout", "Stderr"],
            ));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(StatusError::invalid(
            &GroupKind::new("", "PodLogOptions"),
            pod,
            &errors,
        ))
    }
}

/// The kubelet's query for logs.
pub fn log_query(query: &Query) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for key in ["follow", "previous", "timestamps"] {
        if query.flag(key) {
            out.push((key, "true".to_owned()));
        }
    }
    for key in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
        if let Some(value) = query.first(key).filter(|value| !value.is_empty()) {
            out.push((key, value.to_owned()));
        }
    }
    out
}

/// The kubelet's query for exec and attach.
pub fn process_query(query: &Query, verb: &str) -> Result<Vec<(&'static str, String)>, StatusError> {
    let mut out = Vec::new();
    // Output is on unless it is switched off for attach; for exec all are as asked.
    for (key, name) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if query.flag(key) {
            out.push((name, "1".to_owned()));
        }
    }
    if !out
        .iter()
        .any(|(name, _)| matches!(*name, "input" | "output" | "error"))
    {
        return Err(StatusError::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    if verb == "exec" {
        let before = out.len();
        out.extend(query.all("command").map(|word| ("command", word.to_owned())));
        if out.len() == before {
            return Err(StatusError::bad_request("you must specify a command to run"));
        }
    }
    Ok(out)
}

/// The kubelet's query for port-forward over WebSocket; over SPDY the ports come in the streams.
pub fn ports_query(query: &Query) -> Vec<(&'static str, String)> {
    let ports: Vec<&str> = query
        .all("ports")
        .flat_map(|ports| ports.split(','))
        .filter(|p| !p.is_empty())
        .collect();
    if ports.is_empty() {
        Vec::new()
    } else {
        vec![("port", ports.join(","))]
    }
}

/// What stands in a proxy path for a name: `[scheme:]name[:port]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyId {
    /// `http`, `https` or empty.
    pub scheme: String,
    /// The object's name.
    pub name: String,
    /// A port's number or name, or empty.
    pub port: String,
}

/// Reads it; none when it makes no sense.
pub fn proxy_id(text: &str) -> Option<ProxyId> {
    let parts: Vec<&str> = text.split(':').collect();
    let make = |scheme: &str, name: &str, port: &str| {
        let good = matches!(scheme, "" | "http" | "https") && !name.is_empty();
        good.then(|| ProxyId {
            scheme: scheme.to_owned(),
            name: name.to_owned(),
            port: port.to_owned(),
        })
    };
    match parts.as_slice() {
        [name] => make("", name, ""),
        [name, port] => make("", name, port),
        [scheme, name, port] => make(scheme, name, port),
        _ => None,
    }
}

/// Where a proxied request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `http`, `https` or empty for `http`.
    pub scheme: String,
    /// An IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The apiserver fetches nothing from itself or from link-local addresses for anybody.
fn check_address(host: &str) -> Result<(), StatusError> {
    let good = host.parse::<IpAddr>().is_ok_and(|ip| match ip {
        IpAddr::V4(ip) => {
            !ip.is_loopback() && !ip.is_link_local() && !ip.is_multicast() && !ip.is_unspecified()
        }
        IpAddr::V6(ip) => {
            !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_multicast() && !ip.is_unspecified()
        }
    });
    if good {
        Ok(())
    } else {
        Err(StatusError::bad_request("address not allowed"))
    }
}

/// A pod's place: its address and the port asked for, or its first one.
pub fn pod_place(pod: &Value, id: &ProxyId) -> Result<Place, StatusError> {
    let ports = || {
        pod.list_at("spec.containers")
            .iter()
            .flat_map(|container| container.list_at("ports"))
    };
    let number = if id.port.is_empty() {
        let first = ports().next().and_then(|port| port.int_at("containerPort"));
        first.unwrap_or(if id.scheme == "https" { 443 } else { 80 })
    } else {
        id.port
            .parse()
            .ok()
            .or_else(|| {
                ports()
                    .find(|port| port.str_at("name") == id.port)
                    .and_then(|port| port.int_at("containerPort"))
            })
            .unwrap_or_default()
    };
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| StatusError::bad_request(format!("invalid port {:?}", id.port)))?;
    let host = pod.str_at("status.podIP").to_owned();
    if host.is_empty() {
        return Err(unavailable(format!("pod {} has no address yet", pod.name())));
    }
    check_address(&host)?;
    Ok(Place {
        scheme: id.scheme.clone(),
        host,
        port,
    })
}

fn unavailable(message: String) -> StatusError {
    StatusError::new(Reason::ServiceUnavailable, message)
}

/// The ready places behind a Service's port; never empty.
pub fn service_places(
    service: &Value,
    slices: &[Arc<Value>],
    endpoints: Option<&Value>,
    id: &ProxyId,
) -> Result<Vec<Place>, StatusError> {
    let mut port_name = id.port.clone();
    if let Ok(number) = id.port.parse::<i64>() {
        let port = service
            .list_at("spec.ports")
            .iter()
            .find(|port| port.int_at("port") == Some(number));
        let Some(port) = port else {
            return Err(unavailable(format!(
                "no service port {number} found for service {:?}",
                id.name
            )));
        };
        port_name = port.str_at("name").to_owned();
    }
    let mut places = Vec::new();
    let mut add = |addresses: Vec<&str>, ports: &[Value]| {
        for port in ports.iter().filter(|port| port.str_at("name") == port_name) {
            let Some(number) = port.int_at("port").and_then(|n| u16::try_from(n).ok()) else {
                continue;
            };
            for address in &addresses {
                if check_address(address).is_ok() {
                    places.push(Place {
                        scheme: id.scheme.clone(),
                        host: (*address).to_owned(),
                        port: number,
                    });
                }
            }
        }
    };
    for slice in slices {
        let of = slice.label("kubernetes.io/service-name") == Some(id.name.as_str());
        if !of || slice.str_at("addressType") == "FQDN" {
            continue;
        }
        // An endpoint that says nothing about being ready is ready.
        let ready = slice
            .list_at("endpoints")
            .iter()
            .filter(|e| e.bool_at("conditions.ready") != Some(false));
        let addresses = ready
            .filter_map(|e| e.list_at("addresses").first()?.as_str())
            .collect();
        add(addresses, slice.list_at("ports"));
    }
    if slices
        .iter()
        .all(|slice| slice.label("kubernetes.io/service-name") != Some(id.name.as_str()))
    {
        for subset in endpoints
            .map(|endpoints| endpoints.list_at("subsets"))
            .unwrap_or_default()
        {
            let addresses = subset
                .list_at("addresses")
                .iter()
                .map(|address| address.str_at("ip"))
                .collect();
            add(addresses, subset.list_at("ports"));
        }
    }
    if places.is_empty() {
        return Err(unavailable(format!(
            "no endpoints available for service {:?}",
            id.name
        )));
    }
    Ok(places)
}
