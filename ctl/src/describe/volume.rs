//! Volumes of pods, and the sources of persistent volumes.

use super::writer::{Writer, int, items, or, text};
use crate::line;
use serde_json::Value;

/// (key, what it is, fields as (title, key, kind))
type Source = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str, Kind)],
);

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Number,
    None_,
}

const SOURCES: &[Source] = &[
    (
        "hostPath",
        "HostPath (bare host directory volume)",
        &[
            ("Path", "path", Kind::Text),
            ("HostPathType", "type", Kind::None_),
        ],
    ),
    (
        "secret",
        "Secret (a volume populated by a Secret)",
        &[
            ("SecretName", "secretName", Kind::Text),
            ("Optional", "optional", Kind::Flag),
        ],
    ),
    (
        "configMap",
        "ConfigMap (a volume populated by a ConfigMap)",
        &[("Name", "name", Kind::Text), ("Optional", "optional", Kind::Flag)],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[
            ("Server", "server", Kind::Text),
            ("Path", "path", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[
            ("ClaimName", "claimName", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "local",
        "LocalVolume (a persistent volume backed by local storage on a node)",
        &[("Path", "path", Kind::Text)],
    ),
    (
        "image",
        "Image (a container image or OCI artifact)",
        &[
            ("Reference", "reference", Kind::Text),
            ("PullPolicy", "pullPolicy", Kind::Text),
        ],
    ),
    (
        "iscsi",
        "ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)",
        &[
            ("TargetPortal", "targetPortal", Kind::Text),
            ("IQN", "iqn", Kind::Text),
            ("Lun", "lun", Kind::Number),
            ("ISCSIInterface", "iscsiInterface", Kind::Text),
            ("FSType", "fsType", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "cephfs",
        "CephFS (a CephFS mount on the host that shares a pod's lifetime)",
        &[
            ("Monitors", "monitors", Kind::Text),
            ("Path", "path", Kind::Text),
            ("User", "user", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "rbd",
        "RBD (a Rados Block Device mount on the host that shares a pod's lifetime)",
        &[
            ("CephMonitors", "monitors", Kind::Text),
            ("RBDImage", "image", Kind::Text),
            ("FSType", "fsType", Kind::Text),
            ("RBDPool", "pool", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "fc",
        "FC (a Fibre Channel disk)",
        &[
            ("TargetWWNs", "targetWWNs", Kind::Text),
            ("LUN", "lun", Kind::Number),
            ("FSType", "fsType", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "flexVolume",
        "FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)",
        &[
            ("Driver", "driver", Kind::Text),
            ("FSType", "fsType", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "gcePersistentDisk",
        "GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)",
        &[
            ("PDName", "pdName", Kind::Text),
            ("FSType", "fsType", Kind::Text),
            ("Partition", "partition", Kind::Number),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "awsElasticBlockStore",
        "AWSElasticBlockStore (a Persistent Disk resource in AWS)",
        &[
            ("VolumeID", "volumeID", Kind::Text),
            ("FSType", "fsType", Kind::Text),
            ("Partition", "partition", Kind::Number),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "azureDisk",
        "AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)",
        &[
            ("DiskName", "diskName", Kind::Text),
            ("DiskURI", "diskURI", Kind::Text),
            ("Kind", "kind", Kind::Text),
            ("FSType", "fsType", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "azureFile",
        "AzureFile (an Azure File Service mount on the host and bind mount to the pod)",
        &[
            ("SecretName", "secretName", Kind::Text),
            ("ShareName", "shareName", Kind::Text),
            ("ReadOnly", "readOnly", Kind::Flag),
        ],
    ),
    (
        "vsphereVolume",
        "vSphereVolume (a Persistent Disk resource in vSphere)",
        &[
            ("VolumePath", "volumePath", Kind::Text),
            ("FSType", "fsType", Kind::Text),
        ],
    ),
];

/// The volumes of a pod or a template.
pub fn volumes(w: &mut Writer, list: &Value, space: &str) {
    if items(list).is_empty() {
        line!(w, 0, "{space}Volumes:\t<none>");
        return;
    }
    line!(w, 0, "{space}Volumes:");
    let name_indent = if space.is_empty() { "" } else { " " };
    for volume in items(list) {
        line!(w, 1, "{name_indent}{}:", text(&volume["name"]));
        source(w, volume, 2);
    }
}

/// What a volume is made from.
pub fn source(w: &mut Writer, volume: &Value, level: usize) {
    if volume["emptyDir"].is_object() {
        let e = &volume["emptyDir"];
        w.line(
            level,
            "Type:\tEmptyDir (a temporary directory that shares a pod's lifetime)",
        );
        line!(w, 2, "Medium:\t{}", text(&e["medium"]));
        line!(w, 2, "SizeLimit:\t{}", or(&e["sizeLimit"], "<unset>"));
        return;
    }
    if volume["projected"].is_object() {
        return projected(w, &volume["projected"]);
    }
    if volume["downwardAPI"].is_object() {
        w.line(
            level,
            "Type:\tDownwardAPI (a volume populated by information about the pod)\n    Items:",
        );
        for item in items(&volume["downwardAPI"]["items"]) {
            let from = if item["fieldRef"].is_object() {
                text(&item["fieldRef"]["fieldPath"])
            } else {
                text(&item["resourceFieldRef"]["resource"])
            };
            line!(w, 3, "{from} -> {}", text(&item["path"]));
        }
        return;
    }
    if volume["csi"].is_object() {
        return csi(w, &volume["csi"], level);
    }
    if volume["ephemeral"].is_object() {
        w.line(level, "Type:\tEphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)");
        let claim = &volume["ephemeral"]["volumeClaimTemplate"];
        if claim.is_object() {
            w.nest(2);
            super::storage::claim(w, claim, false);
            w.unnest(2);
        }
        return;
    }
    for (key, what, fields) in SOURCES {
        if volume[*key].is_object() {
            line!(w, level, "Type:\t{what}");
            for (title, field, kind) in *fields {
                let value = &volume[*key][*field];
                let shown = match kind {
                    Kind::Text => text(value),
                    Kind::Flag => (*value == true).to_string(),
                    Kind::Number => int(value).to_string(),
                    Kind::None_ => {
                        if value.is_null() {
                            "<none>".to_owned()
                        } else {
                            text(value)
                        }
                    }
                };
                line!(w, 2, "{title}:\t{shown}");
            }
            return;
        }
    }
    w.line(1, "<unknown>");
}

fn projected(w: &mut Writer, p: &Value) {
    w.line(
        2,
        "Type:\tProjected (a volume that contains injected data from multiple sources)",
    );
    for s in items(&p["sources"]) {
        if s["secret"].is_object() {
            line!(w, 2, "SecretName:\t{}", text(&s["secret"]["name"]));
            line!(w, 2, "Optional:\t{}", s["secret"]["optional"] == true);
        } else if s["downwardAPI"].is_object() {
            w.line(2, "DownwardAPI:\ttrue");
        } else if s["configMap"].is_object() {
            line!(w, 2, "ConfigMapName:\t{}", text(&s["configMap"]["name"]));
            line!(w, 2, "Optional:\t{}", s["configMap"]["optional"] == true);
        } else if s["serviceAccountToken"].is_object() {
            line!(
                w,
                2,
                "TokenExpirationSeconds:\t{}",
                int(&s["serviceAccountToken"]["expirationSeconds"])
            );
        }
    }
}

fn csi(w: &mut Writer, c: &Value, level: usize) {
    w.line(
        level,
        "Type:\tCSI (a Container Storage Interface (CSI) volume source)",
    );
    line!(w, 2, "Driver:\t{}", text(&c["driver"]));
    line!(w, 2, "FSType:\t{}", text(&c["fsType"]));
    if c["volumeHandle"].is_string() {
        line!(w, 2, "VolumeHandle:\t{}", text(&c["volumeHandle"]));
    }
    line!(w, 2, "ReadOnly:\t{}", c["readOnly"] == true);
    w.pairs("    VolumeAttributes", &c["volumeAttributes"]);
}
