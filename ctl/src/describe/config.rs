//! Namespaces, configuration, accounts, roles, quotas, budgets and signing requests.

use super::writer::{Writer, int, items, labels, or, strings, text, time};
use crate::line;
use crate::resource::selector;
use base64::Engine;
use serde_json::Value;
use std::collections::BTreeMap;

fn sorted(map: &Value) -> Vec<(&String, &Value)> {
    let mut all: Vec<(&String, &Value)> = map.as_object().into_iter().flatten().collect();
    all.sort_by_key(|(k, _)| *k);
    all
}

fn decoded(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text(value))
        .unwrap_or_default()
}

/// A config map.
pub fn config_map(c: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    w.metadata(c, true);
    w.line(0, "\nData\n====");
    for (key, value) in sorted(&c["data"]) {
        line!(w, 0, "{key}:\n----\n{}\n", text(value));
    }
    w.line(0, "\nBinaryData\n====");
    for (key, value) in sorted(&c["binaryData"]) {
        line!(w, 0, "{key}: {} bytes", decoded(value).len());
    }
    w.line(0, "");
    w.events(events);
    w.finish()
}

/// A secret, its values hidden.
pub fn secret(s: &Value) -> String {
    let mut w = Writer::default();
    w.metadata(s, true);
    line!(w, 0, "\nType:\t{}", text(&s["type"]));
    w.line(0, "\nData\n====");
    for (key, value) in sorted(&s["data"]) {
        let bytes = decoded(value);
        if key == "token" && s["type"] == "kubernetes.io/service-account-token" {
            line!(w, 0, "{key}:\t{}", String::from_utf8_lossy(&bytes));
        } else {
            line!(w, 0, "{key}:\t{} bytes", bytes.len());
        }
    }
    w.finish()
}

/// A service account.
pub fn service_account(s: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    w.metadata(s, true);
    let names: Vec<String> = items(&s["imagePullSecrets"])
        .iter()
        .map(|p| text(&p["name"]))
        .collect();
    if names.is_empty() {
        w.line(0, "Image pull secrets:\t<none>");
    }
    for (at, name) in names.iter().enumerate() {
        line!(
            w,
            0,
            "{}\t{name}",
            if at == 0 {
                "Image pull secrets:"
            } else {
                "                   "
            }
        );
    }
    w.events(events);
    w.finish()
}

/// One row of a role: resource, URLs, names, and verbs.
type Rule = (String, Vec<String>, Vec<String>, Vec<String>);

/// Rules taken apart to single resources, those that differ only in verbs put together again, in upstream's order.
pub fn compact(rules: &[Value]) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    let mut urls: Vec<Rule> = Vec::new();
    let mut seen: BTreeMap<(String, Vec<String>, Vec<String>), usize> = BTreeMap::new();
    let mut push = |resource: String, urls: Vec<String>, names: Vec<String>, verbs: &[String]| {
        let key = (resource.clone(), urls.clone(), names.clone());
        let at = *seen.entry(key).or_insert_with(|| {
            out.push((resource, urls, names, Vec::new()));
            out.len() - 1
        });
        if let Some(rule) = out.get_mut(at) {
            for verb in verbs {
                if !rule.3.contains(verb) {
                    rule.3.push(verb.clone());
                }
            }
        }
    };
    for rule in rules {
        let verbs = strings(&rule["verbs"]);
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                let full = match resource.split_once('/') {
                    _ if group.is_empty() => resource.clone(),
                    Some((r, sub)) => format!("{r}.{group}/{sub}"),
                    None => format!("{resource}.{group}"),
                };
                let names = strings(&rule["resourceNames"]);
                if names.is_empty() {
                    push(full.clone(), Vec::new(), Vec::new(), &verbs);
                }
                for name in names {
                    push(full.clone(), Vec::new(), vec![name], &verbs);
                }
            }
        }
        urls.extend(
            strings(&rule["nonResourceURLs"])
                .into_iter()
                .map(|u| (String::new(), vec![u], Vec::new(), verbs.clone())),
        );
    }
    out.extend(urls);
    out.sort_by_key(sort_key);
    out
}

/// A role or cluster role.
pub fn role(r: &Value) -> String {
    let mut w = Writer::default();
    w.metadata(r, false);
    w.line(0, "PolicyRule:");
    w.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    w.line(1, "---------\t-----------------\t--------------\t-----");
    for (resource, urls, names, verbs) in compact(items(&r["rules"])) {
        line!(
            w,
            1,
            "{resource}\t[{}]\t[{}]\t[{}]",
            urls.join(" "),
            names.join(" "),
            verbs.join(" ")
        );
    }
    w.finish()
}

fn sort_key(rule: &Rule) -> String {
    // Upstream orders by the rule's textual form, in which the verbs come first.
    let (resource, group) = match rule.0.split_once('.') {
        Some((r, rest)) => match rest.split_once('/') {
            Some((g, sub)) => (format!("{r}/{sub}"), g.to_owned()),
            None => (r.to_owned(), rest.to_owned()),
        },
        None => (rule.0.clone(), String::new()),
    };
    let has_resource = !rule.0.is_empty();
    let mut key = format!("&PolicyRule{{Verbs:[{}],", rule.3.join(" "));
    if has_resource {
        key.push_str(&format!("APIGroups:[{group}],Resources:[{resource}],"));
    } else {
        key.push_str("APIGroups:[],Resources:[],");
    }
    key.push_str(&format!(
        "ResourceNames:[{}],NonResourceURLs:[{}],}}",
        rule.2.join(" "),
        rule.1.join(" ")
    ));
    key
}

/// A role binding or cluster role binding.
pub fn binding(b: &Value) -> String {
    let mut w = Writer::default();
    w.metadata(b, false);
    w.line(0, "Role:");
    line!(w, 1, "Kind:\t{}", text(&b["roleRef"]["kind"]));
    line!(w, 1, "Name:\t{}", text(&b["roleRef"]["name"]));
    w.line(0, "Subjects:");
    w.line(1, "Kind\tName\tNamespace");
    w.line(1, "----\t----\t---------");
    for s in items(&b["subjects"]) {
        line!(
            w,
            1,
            "{}\t{}\t{}",
            text(&s["kind"]),
            text(&s["name"]),
            text(&s["namespace"])
        );
    }
    w.finish()
}

fn scope_help(scope: &str) -> &'static str {
    match scope {
        "Terminating" => {
            "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system."
        }
        "NotTerminating" => {
            "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate."
        }
        "BestEffort" => {
            "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service."
        }
        "NotBestEffort" => {
            "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service."
        }
        _ => "",
    }
}

fn quota_body(w: &mut Writer, q: &Value, level: usize, star: &str, rule: &str) {
    let mut scopes = strings(&q["spec"]["scopes"]);
    if !scopes.is_empty() {
        scopes.sort();
        line!(w, level, "Scopes:\t{}", scopes.join(", "));
        for scope in &scopes {
            if !scope_help(scope).is_empty() {
                line!(w, level, "{star}* {}", scope_help(scope));
            }
        }
    }
    w.line(level, "Resource\tUsed\tHard");
    w.line(level, rule);
    for (name, hard) in sorted(&q["status"]["hard"]) {
        line!(
            w,
            level,
            "{name}\t{}\t{}",
            or(&q["status"]["used"][name], "0"),
            text(hard)
        );
    }
}

/// A resource quota.
pub fn quota(q: &Value) -> String {
    let mut w = Writer::default();
    line!(w, 0, "Name:\t{}", text(&q["metadata"]["name"]));
    line!(w, 0, "Namespace:\t{}", text(&q["metadata"]["namespace"]));
    quota_body(&mut w, q, 0, " ", "--------\t----\t----");
    w.finish()
}

fn limits(w: &mut Writer, l: &Value, prefix: &str) {
    for item in items(&l["spec"]["limits"]) {
        let mut names: Vec<&String> = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
            .iter()
            .flat_map(|k| item[*k].as_object().into_iter().flatten().map(|(n, _)| n))
            .collect();
        names.sort();
        names.dedup();
        for name in names {
            let cell = |key: &str| or(&item[key][name], "-");
            line!(
                w,
                0,
                "{prefix}{}\t{name}\t{}\t{}\t{}\t{}\t{}",
                text(&item["type"]),
                cell("min"),
                cell("max"),
                cell("defaultRequest"),
                cell("default"),
                cell("maxLimitRequestRatio")
            );
        }
    }
}

/// A limit range.
pub fn limit_range(l: &Value) -> String {
    let mut w = Writer::default();
    line!(w, 0, "Name:\t{}", text(&l["metadata"]["name"]));
    line!(w, 0, "Namespace:\t{}", text(&l["metadata"]["namespace"]));
    w.line(
        0,
        "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio",
    );
    w.line(
        0,
        "----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
    );
    limits(&mut w, l, "");
    w.finish()
}

/// A namespace with its quotas and limits.
pub fn namespace(n: &Value, quotas: &[Value], ranges: &[Value]) -> String {
    let mut w = Writer::default();
    w.metadata(n, false);
    line!(w, 0, "Status:\t{}", text(&n["status"]["phase"]));
    if !items(&n["status"]["conditions"]).is_empty() {
        w.line(0, "Conditions:");
        w.line(1, "Type\tStatus\tLastTransitionTime\tReason\tMessage");
        w.line(1, "----\t------\t------------------\t------\t-------");
        for c in items(&n["status"]["conditions"]) {
            line!(
                w,
                1,
                "{}\t{}\t{}\t{}\t{}",
                text(&c["type"]),
                text(&c["status"]),
                time(&c["lastTransitionTime"]),
                text(&c["reason"]),
                text(&c["message"])
            );
        }
    }
    w.line(0, "");
    if quotas.is_empty() {
        w.line(0, "No resource quota.");
    } else {
        w.line(0, "Resource Quotas");
        for q in quotas {
            line!(w, 1, "Name:\t{}", text(&q["metadata"]["name"]));
            quota_body(&mut w, q, 1, "", "--------\t---\t---");
        }
    }
    w.line(0, "");
    if ranges.is_empty() {
        w.line(0, "No LimitRange resource.");
    } else {
        w.line(0, "Resource Limits\n Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
        w.line(
            0,
            " ----\t--------\t---\t---\t---------------\t-------------\t-----------------------",
        );
        for l in ranges {
            limits(&mut w, l, " ");
        }
    }
    w.finish()
}

/// A disruption budget.
pub fn budget(p: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    line!(w, 0, "Name:\t{}", text(&p["metadata"]["name"]));
    line!(w, 0, "Namespace:\t{}", text(&p["metadata"]["namespace"]));
    if !p["spec"]["minAvailable"].is_null() {
        line!(w, 0, "Min available:\t{}", text(&p["spec"]["minAvailable"]));
    } else if !p["spec"]["maxUnavailable"].is_null() {
        line!(w, 0, "Max unavailable:\t{}", text(&p["spec"]["maxUnavailable"]));
    }
    if p["spec"]["selector"].is_object() {
        let s = selector::to_text(&p["spec"]["selector"]);
        line!(w, 0, "Selector:\t{}", if s.is_empty() { "<none>" } else { &s });
    } else {
        w.line(0, "Selector:\t<unset>");
    }
    w.line(0, "Status:");
    for (key, title) in [
        ("disruptionsAllowed", "Allowed disruptions"),
        ("currentHealthy", "Current"),
        ("desiredHealthy", "Desired"),
        ("expectedPods", "Total"),
    ] {
        line!(w, 2, "{title}:\t{}", int(&p["status"][key]));
    }
    w.events(events);
    w.finish()
}

/// A priority class.
pub fn priority_class(p: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    line!(w, 0, "Name:\t{}", text(&p["metadata"]["name"]));
    line!(w, 0, "Value:\t{}", int(&p["value"]));
    line!(w, 0, "GlobalDefault:\t{}", p["globalDefault"] == true);
    line!(w, 0, "PreemptionPolicy:\t{}", text(&p["preemptionPolicy"]));
    line!(w, 0, "Description:\t{}", text(&p["description"]));
    line!(w, 0, "Annotations:\t{}", labels(&p["metadata"]["annotations"]));
    w.events(events);
    w.finish()
}

/// A certificate signing request.
pub fn signing_request(c: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    line!(w, 0, "Name:\t{}", text(&c["metadata"]["name"]));
    line!(w, 0, "Labels:\t{}", labels(&c["metadata"]["labels"]));
    line!(w, 0, "Annotations:\t{}", labels(&c["metadata"]["annotations"]));
    line!(
        w,
        0,
        "CreationTimestamp:\t{}",
        time(&c["metadata"]["creationTimestamp"])
    );
    line!(w, 0, "Requesting User:\t{}", text(&c["spec"]["username"]));
    if !text(&c["spec"]["signerName"]).is_empty() {
        line!(w, 0, "Signer:\t{}", text(&c["spec"]["signerName"]));
    }
    if let Some(seconds) = c["spec"]["expirationSeconds"].as_i64() {
        line!(w, 0, "Requested Duration:\t{}", crate::duration::human(seconds));
    }
    line!(w, 0, "Status:\t{}", request_status(c));
    let pem = decoded(&c["spec"]["request"]);
    if let Ok((_, block)) = x509_parser::pem::parse_x509_pem(&pem)
        && let Ok((_, request)) = <x509_parser::certification_request::X509CertificationRequest<'_> as x509_parser::prelude::FromDer<_>>::from_der(&block.contents)
    {
        subject(&mut w, &request);
    }
    w.events(events);
    w.finish()
}

fn subject(w: &mut Writer, request: &x509_parser::certification_request::X509CertificationRequest<'_>) {
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    let name = &request.certification_request_info.subject;
    let all = |oid: &x509_parser::der_parser::oid::Oid<'_>| -> Vec<String> {
        name.iter_by_oid(oid)
            .filter_map(|a| a.as_str().ok().map(str::to_owned))
            .collect()
    };
    use x509_parser::oid_registry as oids;
    w.line(0, "Subject:");
    line!(
        w,
        0,
        "\tCommon Name:\t{}",
        all(&oids::OID_X509_COMMON_NAME).join("")
    );
    line!(
        w,
        0,
        "\tSerial Number:\t{}",
        all(&oids::OID_X509_SERIALNUMBER).join("")
    );
    for (title, oid) in [
        ("Organization", &oids::OID_X509_ORGANIZATION_NAME),
        ("Organizational Unit", &oids::OID_X509_ORGANIZATIONAL_UNIT),
        ("Country", &oids::OID_X509_COUNTRY_NAME),
        ("Locality", &oids::OID_X509_LOCALITY_NAME),
        ("Province", &oids::OID_X509_STATE_OR_PROVINCE_NAME),
    ] {
        let values = all(oid);
        if !values.is_empty() {
            line!(w, 0, "\t{title}:\t{}", values.join("\n\t\t"));
        }
    }
    let mut names: Vec<(&str, Vec<String>)> = vec![
        ("DNS Names", vec![]),
        ("Email Addresses", vec![]),
        ("URIs", vec![]),
        ("IP Addresses", vec![]),
    ];
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(alternatives) = extension {
            for g in &alternatives.general_names {
                let (at, value) = match g {
                    GeneralName::DNSName(n) => (0, (*n).to_owned()),
                    GeneralName::RFC822Name(n) => (1, (*n).to_owned()),
                    GeneralName::URI(n) => (2, (*n).to_owned()),
                    GeneralName::IPAddress(bytes) => (3, address(bytes)),
                    _ => continue,
                };
                if let Some((_, list)) = names.get_mut(at) {
                    list.push(value);
                }
            }
        }
    }
    if names.iter().any(|(_, v)| !v.is_empty()) {
        w.line(0, "Subject Alternative Names:");
        for (title, values) in names {
            if !values.is_empty() {
                line!(w, 0, "\t{title}:\t{}", values.join("\n\t\t"));
            }
        }
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    <[u8; 16]>::try_from(bytes).map_or_else(|_| String::new(), |v6| std::net::Ipv6Addr::from(v6).to_string())
}

/// `Approved,Issued`
pub fn request_status(c: &Value) -> String {
    let has = |kind: &str| {
        items(&c["status"]["conditions"])
            .iter()
            .any(|x| x["type"] == kind)
    };
    let mut out = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        out.push_str(",Failed");
    }
    if !text(&c["status"]["certificate"]).is_empty() {
        out.push_str(",Issued");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_on_one_resource_are_put_together() {
        let rules = [
            json!({"apiGroups": ["", "apps"], "resources": ["pods"], "verbs": ["get"]}),
            json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]}),
            json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}),
        ];
        let got = compact(&rules);
        assert_eq!(
            got[0],
            ("pods".into(), vec![], vec![], vec!["get".into(), "list".into()])
        );
        assert_eq!(got[1].1, ["/x"]);
        assert_eq!(got[2].0, "pods.apps");
    }
}
