//! Ingress and IngressClass.

use crate::check::{enumerated, name_of};
use crate::fill::{absent, inside, spec};
use crate::print::{self, AGE, NAME, NONE};
use crate::service::load_balancer_addresses;
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{
    At, dns_label, dns_subdomain, ip, path_segment, port_name, port_number, wildcard_subdomain,
};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// Hosts that a row shows.
const SHOWN: usize = 3;

/// Ingress.
pub(crate) struct Ingress;

/// IngressClass.
pub(crate) struct IngressClass;

impl Strategy for Ingress {
    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        let mut errors = validate_ingress(object);
        let note = object.annotation("kubernetes.io/ingress.class");
        let class = object.at("spec.ingressClassName");
        if let Some(note) = note
            && class.is_string()
            && class != note
        {
            let path = "annotations.kubernetes.io/ingress.class".into();
            errors.push(FieldError::invalid(
                &path,
                note,
                "must match `ingressClassName` when both are specified",
            ));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = old;
        if cx.subresource == "status" {
            validate_ingress_status(object)
        } else {
            validate_ingress(object)
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Class", "Its ingress class."),
            print::text("Hosts", "The hosts it serves."),
            print::text("Address", "Where it can be reached."),
            print::text("Ports", "The ports it can be reached at."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let ports = if object.list_at("spec.tls").is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            print::name(object),
            print::text_or(object, "spec.ingressClassName", NONE),
            Value::from(hosts(object.list_at("spec.rules"))),
            Value::from(load_balancer_addresses(object)),
            Value::from(ports),
            print::age(object, cx),
        ]
    }
}

fn hosts(rules: &[Value]) -> String {
    let mut list: Vec<&str> = Vec::new();
    let mut more = false;
    for host in rules.iter().map(|rule| rule.str_at("host")) {
        if list.len() == SHOWN {
            more = true;
        }
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match list.join(",") {
        text if text.is_empty() => "*".to_owned(),
        text if more => format!("{text} + {} more...", rules.len() - SHOWN),
        text => text,
    }
}

impl Strategy for IngressClass {
    fn default_object(&self, object: &mut Value) {
        if let Some(parameters) = spec(object).and_then(|spec| inside(spec, "parameters")) {
            absent(parameters, "scope", "Cluster");
        }
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, _object: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate_class(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = validate_class(object);
        let root = At::root(object);
        let spec = root.child("spec");
        crate::check::immutable(&spec.child("controller"), old.at("spec.controller"), &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Controller", "Who serves it."),
            print::text("Parameters", "Where more parameters are."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let parameters = match object.at("spec.parameters") {
            Value::Null => NONE.to_owned(),
            parameters => {
                let group = match parameters.at("apiGroup").as_str() {
                    Some(group) => format!(".{group}"),
                    None => String::new(),
                };
                format!(
                    "{}{group}/{}",
                    parameters.str_at("kind"),
                    parameters.str_at("name")
                )
            }
        };
        let default = object.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true");
        vec![
            Value::from(format!(
                "{}{}",
                object.name(),
                if default { " (default)" } else { "" }
            )),
            Value::from(object.str_at("spec.controller")),
            Value::from(parameters),
            print::age(object, cx),
        ]
    }
}

fn validate_ingress(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    if spec.child("rules").is_empty() && spec.child("defaultBackend").is_null() {
        errors.push(spec.invalid_as(
            spec.child("rules").value.clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if spec.child("defaultBackend").is_set() {
        backend(&spec.child("defaultBackend"), &mut errors);
    }
    for rule in spec.child("rules").items() {
        let host = rule.child("host");
        if !host.is_empty() {
            if ip(host.text()).is_some() {
                errors.push(host.invalid("must be a DNS name, not an IP address"));
            }
            let check = if host.text().contains('*') {
                wildcard_subdomain
            } else {
                dns_subdomain
            };
            name_of(&host, check, &mut errors);
        }
        let http = rule.child("http");
        if http.is_set() {
            let paths = http.child("paths");
            if paths.is_empty() {
                errors.push(paths.required(""));
            }
            for path in paths.items() {
                validate_path(&path, &mut errors);
            }
        }
    }
    for tls in spec.child("tls").items() {
        for host in tls.child("hosts").items() {
            let check = if host.text().contains('*') {
                wildcard_subdomain
            } else {
                dns_subdomain
            };
            host.all(&mut errors, check(host.text()));
        }
        let secret = tls.child("secretName");
        if !secret.is_empty() {
            name_of(&secret, dns_subdomain, &mut errors);
        }
    }
    if spec.child("ingressClassName").is_set() {
        name_of(&spec.child("ingressClassName"), dns_subdomain, &mut errors);
    }
    errors
}

fn validate_path(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (kind, path) = (at.child("pathType"), at.child("path"));
    if kind.is_null() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    let text = path.text();
    match kind.text() {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(path.invalid_as(text, "must be an absolute path"));
            }
            for wrong in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(wrong) {
                    errors.push(path.invalid(format!("must not contain '{wrong}'")));
                }
            }
            for wrong in ["/..", "/."] {
                if text.ends_with(wrong) {
                    errors.push(path.invalid(format!("cannot end with '{wrong}'")));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(path.invalid("must be an absolute path"));
            }
        }
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&at.child("backend"), errors);
}

fn backend(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (service, resource) = (at.child("service"), at.child("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.push(at.invalid_as("", "cannot set both resource and service backends")),
        (false, false) => errors.push(at.invalid_as("", "resource or service backend is required")),
        (false, true) => {
            for field in ["kind", "name"] {
                let part = resource.child(field);
                if part.is_empty() {
                    errors.push(part.required(""));
                } else {
                    part.all(errors, path_segment(part.text(), false));
                }
            }
            if resource.child("apiGroup").is_set() {
                name_of(&resource.child("apiGroup"), dns_subdomain, errors);
            }
        }
        (true, false) => {
            let name = service.child("name");
            if name.is_empty() {
                errors.push(name.required(""));
            } else {
                name_of(&name, dns_label, errors);
            }
            let port = service.child("port");
            let number = port.child("number").int().unwrap_or_default();
            match (port.child("name").is_empty(), number) {
                (false, 0) => name_of(&port.child("name"), port_name, errors),
                (false, _) => errors.push(at.invalid_as("", "cannot set both port name & port number")),
                (true, 0) => errors.push(at.required("port name or number is required")),
                (true, n) => port.child("number").all(errors, port_number(n)),
            }
        }
    }
}

fn validate_class(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.child("spec");
    let controller = spec.child("controller");
    if controller.text().len() > 250 {
        errors.push(FieldError::too_long(&controller.path(), 250));
    }
    domain_path(&controller, &mut errors);
    let parameters = spec.child("parameters");
    if parameters.is_null() {
        return errors;
    }
    for field in ["kind", "name"] {
        let part = parameters.child(field);
        if part.is_empty() {
            errors.push(part.required(""));
        } else {
            part.all(&mut errors, path_segment(part.text(), false));
        }
    }
    if parameters.child("apiGroup").is_set() {
        name_of(&parameters.child("apiGroup"), dns_subdomain, &mut errors);
    }
    let (scope, namespace) = (parameters.child("scope"), parameters.child("namespace"));
    enumerated(&scope, &["Cluster", "Namespace"], &mut errors);
    match (scope.text(), namespace.is_set()) {
        ("Namespace", false) => errors.push(namespace.required("`parameters.scope` is set to 'Namespace'")),
        ("Namespace", true) => name_of(&namespace, dns_label, &mut errors),
        ("Cluster", true) => errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'")),
        _ => {}
    }
    errors
}

/// `example.com/some-controller`
fn domain_path(at: &At<'_, '_>, errors: &mut ErrorList) {
    let text = at.text();
    if text.is_empty() {
        errors.push(at.required(""));
        return;
    }
    match text.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            errors.extend(dns_subdomain(host).into_iter().map(|e| at.invalid_as(host, e)));
            let legal = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !path.bytes().all(legal) {
                errors.push(at.invalid_as(
                    path,
                    r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')",
                ));
            }
        }
        _ => errors.push(at.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
}

fn validate_ingress_status(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let status = root.child("status");
    for point in status.child("loadBalancer.ingress").items() {
        let (address, host) = (point.child("ip"), point.child("hostname"));
        if !address.is_empty() && ip(address.text()).is_none() {
            errors.push(address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
        }
        if !host.is_empty() {
            name_of(&host, dns_subdomain, &mut errors);
            if ip(host.text()).is_some() {
                errors.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
    errors
}
