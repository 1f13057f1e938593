//! Whether an aggregated server is there: what the objects say, and what asking it says, as the `Available` condition.

use rutter_api::object::ObjectExt;
use rutter_api::{GroupVersion, Value};
use serde_json::json;
use std::sync::Arc;

/// What is found out about an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is available.
    pub available: bool,
    /// Upstream's word for it.
    pub reason: &'static str,
    /// What was found.
    pub message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self {
            available: false,
            reason,
            message,
        }
    }

    /// The server answered.
    pub fn passed() -> Self {
        Self {
            available: true,
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    /// The server did not answer as it should.
    pub fn failed_check(why: String) -> Self {
        Self::no("FailedDiscoveryCheck", why)
    }

    /// This server answers itself.
    pub fn local() -> Self {
        Self {
            available: true,
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        }
    }
}

/// What the objects say; nothing when the server must be asked. `slices` are those of the namespace.
pub fn of_objects(api_service: &Value, service: Option<&Value>, slices: &[Arc<Value>]) -> Option<Verdict> {
    let reference = api_service.at("spec.service");
    let (namespace, name) = (reference.str_at("namespace"), reference.str_at("name"));
    let port = reference.int_at("port").unwrap_or(443);
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Verdict::no("ServiceNotFound", message));
    };
    if service.str_at("spec.type") != "ClusterIP" {
        return None;
    }
    let mut ports = service.list_at("spec.ports").iter();
    let Some(found) = ports.find(|have| have.int_at("port") == Some(port)) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Verdict::no("ServicePortError", message));
    };
    let port_name = found.str_at("name");
    let of_service = |slice: &&Arc<Value>| slice.label("kubernetes.io/service-name") == Some(name);
    let mut own = slices.iter().filter(of_service).peekable();
    if own.peek().is_none() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Verdict::no("EndpointsNotFound", message));
    }
    let serves = |slice: &Arc<Value>| {
        let ready = |endpoint: &Value| endpoint.bool_at("conditions.ready") != Some(false);
        let listens = |port: &Value| port.str_at("name") == port_name && port.int_at("port").is_some();
        slice.list_at("endpoints").iter().any(ready) && slice.list_at("ports").iter().any(listens)
    };
    if own.any(serves) {
        return None;
    }
    let message = format!(
        "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
    );
    Some(Verdict::no("MissingEndpoints", message))
}

/// The path that every server of a group version answers.
pub fn checked_path(group_version: &GroupVersion) -> String {
    format!("/apis/{}/{}", group_version.group, group_version.version)
}

fn condition(api_service: &Value) -> Option<&Value> {
    let mut all = api_service.list_at("status.conditions").iter();
    all.find(|condition| condition.str_at("type") == "Available")
}

/// Whether an APIService says that it is available.
pub fn is_available(api_service: &Value) -> bool {
    condition(api_service).is_some_and(|condition| condition.str_at("status") == "True")
}

/// The APIService with the verdict in its status; nothing when it says so already.
pub fn with(api_service: &Value, verdict: &Verdict, now: &str) -> Option<Value> {
    let status = if verdict.available { "True" } else { "False" };
    let old = condition(api_service);
    let said = |key: &str| old.map(|old| old.str_at(key)).unwrap_or_default();
    if said("status") == status && said("reason") == verdict.reason && said("message") == verdict.message {
        return None;
    }
    let since = if said("status") == status {
        said("lastTransitionTime")
    } else {
        now
    };
    let condition = json!({
        "type": "Available", "status": status, "lastTransitionTime": since,
        "reason": verdict.reason, "message": verdict.message,
    });
    let mut changed = api_service.clone();
    if !changed.at("status.conditions").is_array() {
        changed.set("status.conditions", json!([]));
    }
    if let Some(list) = changed.list_at_mut("status.conditions") {
        match list
            .iter_mut()
            .find(|condition| condition.str_at("type") == "Available")
        {
            Some(place) => *place = condition,
            None => list.push(condition),
        }
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_service() -> Value {
        json!({
            "metadata": {"name": "v1.a"},
            "spec": {"group": "a", "version": "v1", "service": {"namespace": "n", "name": "s", "port": 443}},
        })
    }

    fn slice(ready: Value, port: Value) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [port],
        }))
    }

    #[test]
    fn what_is_missing_between_here_and_there_is_named() {
        let https = json!({"name": "https", "port": 8443});
        let service = |kind: &str, port: i64| json!({"spec": {"type": kind, "ports": [{"name": "https", "port": port}]}});
        let other = Arc::new(json!({"metadata": {"labels": {"kubernetes.io/service-name": "t"}}}));
        for (service, slices, want) in [
            (
                None,
                vec![],
                Some(("ServiceNotFound", "service/s in \"n\" is not present")),
            ),
            (
                Some(service("ClusterIP", 80)),
                vec![],
                Some((
                    "ServicePortError",
                    "service/s in \"n\" is not listening on port 443",
                )),
            ),
            (
                Some(service("ClusterIP", 443)),
                vec![other],
                Some((
                    "EndpointsNotFound",
                    "cannot find endpointslices for service/s in \"n\"",
                )),
            ),
            (
                Some(service("ClusterIP", 443)),
                vec![slice(json!(false), https.clone())],
                Some((
                    "MissingEndpoints",
                    "endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
                )),
            ),
            (
                Some(service("ClusterIP", 443)),
                vec![slice(json!(true), json!({"name": "other", "port": 1}))],
                Some((
                    "MissingEndpoints",
                    "endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
                )),
            ),
            (
                Some(service("ClusterIP", 443)),
                vec![slice(Value::Null, https)],
                None,
            ),
            (Some(service("ExternalName", 443)), vec![], None),
        ] {
            let got = of_objects(&api_service(), service.as_ref(), &slices);
            let got = got
                .as_ref()
                .map(|verdict| (verdict.reason, verdict.message.as_str()));
            assert_eq!(got, want);
        }
    }

    #[test]
    fn the_condition_changes_with_what_is_found_and_keeps_its_time_otherwise() {
        let first = with(&api_service(), &Verdict::passed(), "t1").unwrap();
        assert!(is_available(&first));
        assert_eq!(with(&first, &Verdict::passed(), "t2"), None);
        let gone = with(&first, &Verdict::failed_check("x".into()), "t2").unwrap();
        assert!(!is_available(&gone));
        let still = with(&gone, &Verdict::failed_check("y".into()), "t3").unwrap();
        let condition = condition(&still).unwrap();
        assert_eq!(
            (
                condition.str_at("message"),
                condition.str_at("lastTransitionTime")
            ),
            ("y", "t2")
        );
    }
}
