//! Persistent volumes, claims and storage classes.

use super::writer::{Writer, go_list, items, labels, or, strings, text, time};
use crate::line;
use serde_json::Value;

fn modes(list: &Value) -> String {
    strings(list)
        .iter()
        .map(|m| match m.as_str() {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            other => other,
        })
        .collect::<Vec<_>>()
        .join(",")
}

fn status(w: &mut Writer, object: &Value) {
    let deleted = &object["metadata"]["deletionTimestamp"];
    if deleted.is_string() {
        line!(
            w,
            0,
            "Status:\tTerminating (lasts {})",
            crate::duration::age(deleted.as_str())
        );
    } else {
        line!(w, 0, "Status:\t{}", text(&object["status"]["phase"]));
    }
}

/// What claims and claim templates share.
pub fn claim(w: &mut Writer, c: &Value, full: bool) {
    let (meta, spec) = (&c["metadata"], &c["spec"]);
    if full {
        line!(w, 0, "Name:\t{}", text(&meta["name"]));
        line!(w, 0, "Namespace:\t{}", text(&meta["namespace"]));
    }
    let class = match meta["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str() {
        Some(c) => c.to_owned(),
        None => text(&spec["storageClassName"]),
    };
    line!(w, 0, "StorageClass:\t{class}");
    if full {
        status(w, c);
    }
    line!(w, 0, "Volume:\t{}", text(&spec["volumeName"]));
    w.pairs("Labels", &meta["labels"]);
    w.annotations("Annotations", &meta["annotations"]);
    if full {
        line!(w, 0, "Finalizers:\t{}", go_list(&meta["finalizers"]));
    }
    let bound = !text(&spec["volumeName"]).is_empty();
    let capacity = if bound {
        or(&c["status"]["capacity"]["storage"], "0")
    } else {
        String::new()
    };
    line!(w, 0, "Capacity:\t{capacity}");
    line!(
        w,
        0,
        "Access Modes:\t{}",
        if bound {
            modes(&c["status"]["accessModes"])
        } else {
            String::new()
        }
    );
    if spec["volumeMode"].is_string() {
        line!(w, 0, "VolumeMode:\t{}", text(&spec["volumeMode"]));
    }
    if spec["dataSource"].is_object() {
        w.line(0, "DataSource:");
        if spec["dataSource"]["apiGroup"].is_string() {
            line!(w, 1, "APIGroup:\t{}", text(&spec["dataSource"]["apiGroup"]));
        }
        line!(w, 1, "Kind:\t{}", text(&spec["dataSource"]["kind"]));
        line!(w, 1, "Name:\t{}", text(&spec["dataSource"]["name"]));
    }
}

/// A persistent volume claim and the pods that use it.
pub fn persistent_volume_claim(c: &Value, pods: &[Value], events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    claim(&mut w, c, true);
    let mut users: Vec<String> = pods
        .iter()
        .filter(|p| {
            items(&p["spec"]["volumes"])
                .iter()
                .any(|v| v["persistentVolumeClaim"]["claimName"] == c["metadata"]["name"])
        })
        .map(|p| text(&p["metadata"]["name"]))
        .collect();
    users.sort();
    if users.is_empty() {
        w.line(0, "Used By:\t<none>");
    }
    for (at, user) in users.iter().enumerate() {
        line!(w, 0, "{}\t{user}", if at == 0 { "Used By:" } else { "" });
    }
    if !items(&c["status"]["conditions"]).is_empty() {
        w.line(0, "Conditions:");
        w.line(
            1,
            "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage",
        );
        w.line(
            1,
            "----\t------\t-----------------\t------------------\t------\t-------",
        );
        for x in items(&c["status"]["conditions"]) {
            line!(
                w,
                1,
                "{} \t{} \t{} \t{} \t{} \t{}",
                text(&x["type"]),
                text(&x["status"]),
                time(&x["lastProbeTime"]),
                time(&x["lastTransitionTime"]),
                text(&x["reason"]),
                text(&x["message"])
            );
        }
    }
    w.events(events);
    w.finish()
}

fn terms(w: &mut Writer, level: usize, title: &str, expressions: &Value) {
    let head = "  ".repeat(level);
    let all = items(expressions);
    if all.is_empty() {
        line!(w, 0, "{head}{title}:\t<none>");
        return;
    }
    for (at, e) in all.iter().enumerate() {
        let lead = if at == 0 {
            format!("{head}{title}:\t")
        } else {
            format!("{head}\t")
        };
        let values = strings(&e["values"]);
        let operator = text(&e["operator"]).to_lowercase();
        if values.is_empty() && !operator.is_empty() {
            line!(w, 0, "{lead}{} {operator}", text(&e["key"]));
        } else {
            line!(
                w,
                0,
                "{lead}{} {} [{}]",
                text(&e["key"]),
                if operator.is_empty() { "in" } else { &operator },
                values.join(", ")
            );
        }
    }
}

/// A persistent volume.
pub fn persistent_volume(v: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let spec = &v["spec"];
    w.metadata(v, false);
    line!(w, 0, "Finalizers:\t{}", go_list(&v["metadata"]["finalizers"]));
    line!(w, 0, "StorageClass:\t{}", text(&spec["storageClassName"]));
    status(&mut w, v);
    let claim = &spec["claimRef"];
    if claim.is_object() {
        line!(
            w,
            0,
            "Claim:\t{}/{}",
            text(&claim["namespace"]),
            text(&claim["name"])
        );
    } else {
        w.line(0, "Claim:\t");
    }
    line!(
        w,
        0,
        "Reclaim Policy:\t{}",
        text(&spec["persistentVolumeReclaimPolicy"])
    );
    line!(w, 0, "Access Modes:\t{}", modes(&spec["accessModes"]));
    if spec["volumeMode"].is_string() {
        line!(w, 0, "VolumeMode:\t{}", text(&spec["volumeMode"]));
    }
    line!(w, 0, "Capacity:\t{}", or(&spec["capacity"]["storage"], "0"));
    let required = &spec["nodeAffinity"]["required"];
    if required.is_object() {
        w.line(0, "Node Affinity:\t");
        w.line(1, "Required Terms:\t");
        for (at, term) in items(&required["nodeSelectorTerms"]).iter().enumerate() {
            terms(&mut w, 2, &format!("Term {at}"), &term["matchExpressions"]);
        }
    } else {
        w.line(0, "Node Affinity:\t<none>");
    }
    line!(w, 0, "Message:\t{}", text(&v["status"]["message"]));
    w.line(0, "Source:");
    super::volume::source(&mut w, spec, 2);
    w.events(events);
    w.finish()
}

/// A storage class.
pub fn storage_class(s: &Value, events: Option<&[Value]>) -> String {
    let mut w = Writer::default();
    let annotations = &s["metadata"]["annotations"];
    let default = [
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ]
    .iter()
    .any(|k| annotations[*k] == "true");
    line!(w, 0, "Name:\t{}", text(&s["metadata"]["name"]));
    line!(w, 0, "IsDefaultClass:\t{}", if default { "Yes" } else { "No" });
    line!(w, 0, "Annotations:\t{}", labels(annotations));
    line!(w, 0, "Provisioner:\t{}", text(&s["provisioner"]));
    line!(w, 0, "Parameters:\t{}", labels(&s["parameters"]));
    let expand = match s["allowVolumeExpansion"].as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    line!(w, 0, "AllowVolumeExpansion:\t{expand}");
    let options = strings(&s["mountOptions"]);
    if options.is_empty() {
        w.line(0, "MountOptions:\t<none>");
    } else {
        w.line(0, "MountOptions:");
        for o in options {
            w.line(1, &o);
        }
    }
    for (key, title) in [
        ("reclaimPolicy", "ReclaimPolicy"),
        ("volumeBindingMode", "VolumeBindingMode"),
    ] {
        if s[key].is_string() {
            line!(w, 0, "{title}:\t{}", text(&s[key]));
        }
    }
    if s["allowedTopologies"].is_array() {
        let all = items(&s["allowedTopologies"]);
        line!(
            w,
            0,
            "AllowedTopologies:\t{}",
            if all.is_empty() { "<none>" } else { "" }
        );
        for (at, term) in all.iter().enumerate() {
            terms(&mut w, 1, &format!("Term {at}"), &term["matchLabelExpressions"]);
        }
    }
    w.events(events);
    w.finish()
}
