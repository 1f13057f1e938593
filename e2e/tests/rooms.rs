//! Checks the table of rooms against what the packages really link.

// A test may unwrap; clippy knows that of test functions and not of their helpers.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// Package, and the packages of this workspace that it may link. A room imports only from lower floors; programs never import each other.
const ROOMS: &[(&str, &[&str])] = &[
    ("rutter-proto", &[]),
    ("rutter-api", &[]),
    ("rutter-api-docs", &["rutter-api"]),
    ("rutter-cel", &["rutter-api"]),
    ("rutter-kinds", &["rutter-api", "rutter-cel"]),
    ("rutter-storage", &[]),
    ("rutter-client", &["rutter-api"]),
    ("rutter-outbound", &["rutter-api", "rutter-client"]),
    (
        "rutter-auth",
        &["rutter-api", "rutter-cel", "rutter-kinds", "rutter-outbound"],
    ),
    (
        "rutter-admission",
        &[
            "rutter-api",
            "rutter-cel",
            "rutter-kinds",
            "rutter-outbound",
            "rutter-auth",
        ],
    ),
    ("rutter-fairness", &["rutter-api"]),
    ("rutter-audit", &["rutter-api"]),
    (
        "rutter-encryption",
        &["rutter-api", "rutter-proto", "rutter-storage"],
    ),
    (
        "rutter-apiserver",
        &[
            "rutter-api",
            "rutter-cel",
            "rutter-kinds",
            "rutter-api-docs",
            "rutter-storage",
            "rutter-client",
            "rutter-outbound",
            "rutter-auth",
            "rutter-admission",
            "rutter-fairness",
            "rutter-audit",
            "rutter-encryption",
        ],
    ),
    ("rutter-scheduler", &["rutter-api", "rutter-client"]),
    ("rutter-controller-manager", &["rutter-api", "rutter-client"]),
    ("rutter-kubelet", &["rutter-api", "rutter-client", "rutter-proto"]),
    ("rutter-proxy", &["rutter-api", "rutter-client"]),
    ("rutter-dns", &["rutter-api", "rutter-client"]),
    ("rutter-ctl", &["rutter-api", "rutter-kinds", "rutter-client"]),
    ("rutter-e2e", &["rutter-api", "rutter-client"]),
    ("rutter-e2e-images", &[]),
    ("rutter-bench", &["rutter-api"]),
];

/// What lower rooms must never link: I/O in the object model, kinds in the store.
const NEVER: &[(&str, &[&str])] = &[
    ("rutter-api", &["tokio", "kube", "reqwest", "hyper"]),
    ("rutter-kinds", &["tokio", "kube", "hyper"]),
    ("rutter-storage", &["k8s-openapi", "kube", "rutter-kinds"]),
    ("rutter-fairness", &["tokio", "kube", "hyper", "rand"]),
];

fn links() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |v: &Value| v["name"].as_str().unwrap().to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            (
                name(package),
                dependencies.filter(|d| d["kind"].is_null()).map(name).collect(),
            )
        })
        .collect()
}

#[test]
fn every_room_links_only_what_the_table_allows() {
    let links = links();
    let listed: Vec<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for room in links.keys() {
        assert!(
            listed.contains(&room.as_str()),
            "{room} is missing in the table of rooms"
        );
    }
    for (room, allowed) in ROOMS {
        let linked = links
            .get(*room)
            .unwrap_or_else(|| panic!("{room} is in the table and not in the workspace"));
        for other in linked.iter().filter(|d| d.starts_with("rutter-")) {
            assert!(allowed.contains(&other.as_str()), "{room} must not link {other}");
        }
    }
    for (room, never) in NEVER {
        for other in &links[*room] {
            assert!(!never.contains(&other.as_str()), "{room} must never link {other}");
        }
    }
}
