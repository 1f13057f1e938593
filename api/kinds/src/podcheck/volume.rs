//! Volumes, their sources, and where containers mount them.

use super::container::Scope;
use super::env::{field_ref, resource_field_ref};
use crate::amount::quantity;
use crate::check::{enumerated, in_range, name_of, required_text};
use rutter_api::object::ObjectExt;
use rutter_api::validation::{At, dns_label, dns_subdomain, label_selector};
use rutter_api::{ErrorList, FieldError, Quantity, Value};
use std::collections::BTreeSet;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const PARTITION: &str = "must be a number between 0 and 255 (inclusive)";

/// Fields of the downward API for files.
const FILE_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Sources, in the order in which they are looked at, with the texts each requires.
const SOURCES: &[(&str, &[&str])] = &[
    ("emptyDir", &[]),
    ("hostPath", &[]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &[]),
    ("downwardAPI", &[]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("projected", &[]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &[]),
    ("ephemeral", &[]),
    ("image", &[]),
];

/// The volumes of a pod.
pub(super) fn volumes(at: &At<'_, '_>, pod: Option<&Value>, errors: &mut ErrorList) {
    let pod_name = pod.map(Value::name).unwrap_or_default();
    let mut names = BTreeSet::new();
    for volume in at.items() {
        let before = errors.len();
        source(&volume, pod_name, errors);
        let name = volume.child("name");
        if name.is_empty() {
            errors.push(name.required(""));
        } else {
            name_of(&name, dns_label, errors);
        }
        if names.contains(name.text()) {
            errors.push(name.duplicate());
        }
        if before == errors.len() {
            names.insert(name.text());
        }
        let claim = volume.child("persistentVolumeClaim.claimName");
        let made = at.items().any(|other| {
            other.child("ephemeral").is_set()
                && claim
                    .text()
                    .strip_prefix(pod_name)
                    .and_then(|rest| rest.strip_prefix('-'))
                    == Some(other.child("name").text())
        });
        if !pod_name.is_empty() && claim.is_set() && made {
            errors.push(claim.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
    }
}

fn source(volume: &At<'_, '_>, pod_name: &str, errors: &mut ErrorList) {
    let mut found = false;
    for (name, required) in SOURCES {
        let at = volume.child(name);
        if at.is_null() {
            continue;
        }
        if found {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        let shown = if *name == "gcePersistentDisk" {
            volume.field("persistentDisk", at.value)
        } else {
            at
        };
        for field in *required {
            required_text(&shown.child(field), errors);
        }
        of_kind(name, &shown, volume, pod_name, errors);
    }
    if !found {
        errors.push(volume.required("must specify a volume type"));
    }
}

fn of_kind(kind: &str, at: &At<'_, '_>, volume: &At<'_, '_>, pod_name: &str, errors: &mut ErrorList) {
    match kind {
        "emptyDir" => {
            if quantity(at.child("sizeLimit").value).is_some_and(|size| size < Quantity::ZERO) {
                errors.push(
                    at.child("sizeLimit")
                        .forbidden("SizeLimit field must be a valid resource quantity"),
                );
            }
        }
        "gitRepo" => local_descending_path(&at.child("directory"), at.child("directory").text(), errors),
        "secret" | "configMap" => {
            mode(&at.child("defaultMode"), errors);
            for item in at.child("items").items() {
                key_to_path(&item, errors);
            }
        }
        "iscsi" => {
            let name = volume.child("name");
            if at.child("initiatorName").is_set()
                && name.text().len() + 1 + at.child("targetPortal").text().len() > 64
            {
                errors.push(name.invalid("Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."));
            }
            shared_source(kind, at, errors);
        }
        "downwardAPI" => {
            mode(&at.child("defaultMode"), errors);
            for file in at.child("items").items() {
                downward_file(at, &file, errors);
            }
        }
        "projected" => {
            mode(&at.child("defaultMode"), errors);
            projected(at, errors);
        }
        "csi" => {
            csi_driver_name(&at.child("driver"), errors);
            let secret = at.child("nodePublishSecretRef");
            if secret.is_set() {
                let name = secret.child("name");
                if name.is_empty() {
                    errors.push(name.required(""));
                } else {
                    errors.extend(
                        dns_subdomain(name.text())
                            .into_iter()
                            .map(|e| at.field("name", name.value).invalid(e)),
                    );
                }
            }
        }
        "ephemeral" => ephemeral(at, volume, pod_name, errors),
        "image" => {
            required_text(&at.child("reference"), errors);
            let policy = at.child("pullPolicy");
            if !policy.is_empty() {
                enumerated(&policy, &["Always", "IfNotPresent", "Never"], errors);
            }
        }
        _ => shared_source(kind, at, errors),
    }
}

fn mode(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.push(at.invalid(FILE_MODE));
    }
}

/// What sources of pods and of persistent volumes share.
pub(crate) fn shared_source(kind: &str, at: &At<'_, '_>, errors: &mut ErrorList) {
    match kind {
        "hostPath" => host_path(at, errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = at.child("partition");
            if partition.int().is_some_and(|n| !(0..=255).contains(&n)) {
                errors.push(partition.invalid(PARTITION));
            }
        }
        "nfs" => {
            let path = at.child("path");
            if !path.text().starts_with('/') {
                errors.push(path.invalid_as(path.text(), "must be an absolute path"));
            }
        }
        "iscsi" => iscsi(at, errors),
        "flocker" => {
            let (name, uuid) = (at.child("datasetName"), at.child("datasetUUID"));
            if name.is_empty() && uuid.is_empty() {
                errors.push(at.required("one of datasetName and datasetUUID is required"));
            }
            if !name.is_empty() && !uuid.is_empty() {
                errors.push(at.invalid_as(
                    "resource",
                    "datasetName and datasetUUID can not be specified simultaneously",
                ));
            }
            if name.text().contains('/') {
                errors.push(name.invalid("must not contain '/'"));
            }
        }
        "quobyte" => quobyte(at, errors),
        "fc" => fibre_channel(at, errors),
        "flexVolume" => {
            for (key, _) in at.child("options").entries() {
                let domain = key.split('/').next().unwrap_or_default().to_lowercase();
                let dotted = format!(".{domain}");
                if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
                    let path = at.child("options").path().key(key);
                    let detail = "kubernetes.io and k8s.io namespaces are reserved";
                    errors.push(FieldError::invalid(&path, key, detail));
                }
            }
        }
        "azureDisk" => azure_disk(at, errors),
        _ => {}
    }
}

/// `hostPath`
fn host_path(at: &At<'_, '_>, errors: &mut ErrorList) {
    let path = at.child("path");
    if path.is_empty() {
        errors.push(path.required(""));
        return;
    }
    backsteps(&path, path.text(), errors);
    if at.child("type").is_set() {
        enumerated(
            &at.child("type"),
            &[
                "",
                "BlockDevice",
                "CharDevice",
                "Directory",
                "DirectoryOrCreate",
                "File",
                "FileOrCreate",
                "Socket",
            ],
            errors,
        );
    }
}

fn iscsi(at: &At<'_, '_>, errors: &mut ErrorList) {
    let iqn = at.child("iqn");
    if iqn.is_empty() {
        errors.push(iqn.required(""));
    } else {
        iscsi_name(&iqn, &iqn, errors);
    }
    let lun = at.child("lun");
    in_range(&lun, 0, 255, errors);
    if (at.child("chapAuthDiscovery").flag() || at.child("chapAuthSession").flag())
        && at.child("secretRef").is_null()
    {
        errors.push(at.child("secretRef").required(""));
    }
    let initiator = at.child("initiatorName");
    if initiator.is_set() {
        iscsi_name(&initiator, &at.field("initiatorname", initiator.value), errors);
    }
}

fn iscsi_name(name: &At<'_, '_>, shown: &At<'_, '_>, errors: &mut ErrorList) {
    let text = name.text();
    let hex = |text: &str, sizes: &[usize]| {
        sizes.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let right = if let Some(rest) = text.strip_prefix("iqn") {
        let mut parts = rest.trim_start_matches('.').splitn(2, '.');
        let date = parts.next().unwrap_or_default().split_once('-');
        let date = date.is_some_and(|(y, m)| {
            y.len() == 4 && m.len() == 2 && y.bytes().chain(m.bytes()).all(|b| b.is_ascii_digit())
        });
        let host = parts
            .next()
            .unwrap_or_default()
            .split(':')
            .next()
            .unwrap_or_default();
        rest.starts_with('.')
            && date
            && host
                .split('.')
                .all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    } else if let Some(rest) = text.strip_prefix("eui.") {
        hex(rest, &[16])
    } else if let Some(rest) = text.strip_prefix("naa.") {
        hex(rest, &[16, 32])
    } else if text.starts_with("eui") || text.starts_with("naa") {
        false
    } else {
        errors.push(shown.invalid("must be valid format starting with iqn, eui, or naa"));
        return;
    };
    if !right {
        errors.push(shown.invalid("must be valid format"));
    }
}

fn quobyte(at: &At<'_, '_>, errors: &mut ErrorList) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.child("registry");
    if registry.is_empty() {
        errors.push(registry.required(PAIRS));
    } else if at.child("tenant").text().len() >= 65 {
        errors.push(
            at.child("tenant")
                .required("must be a UUID and may not exceed a length of 64 characters"),
        );
    } else {
        for pair in registry.text().split(',') {
            if pair.rsplit_once(':').is_none() {
                errors.push(registry.invalid(PAIRS));
            }
        }
    }
    required_text(&at.child("volume"), errors);
}

fn fibre_channel(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (names, ids) = (at.child("targetWWNs"), at.child("wwids"));
    if names.is_empty() && ids.is_empty() {
        errors.push(names.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        errors.push(names.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    if !names.is_empty() {
        let lun = at.child("lun");
        if lun.is_null() {
            errors.push(lun.required("lun is required if targetWWNs is specified"));
        } else {
            in_range(&lun, 0, 255, errors);
        }
    }
}

fn azure_disk(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.child("cachingMode").is_set() {
        enumerated(
            &at.child("cachingMode"),
            &["None", "ReadOnly", "ReadWrite"],
            errors,
        );
    }
    let kind = at.child("kind");
    if kind.is_null() {
        return;
    }
    enumerated(&kind, &["Dedicated", "Managed", "Shared"], errors);
    let uri = at.child("diskURI");
    let managed = kind.text() == "Managed";
    if managed && !uri.text().starts_with("/subscriptions/") {
        errors.push(uri.not_supported(&[
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ]));
    } else if !managed && !uri.text().starts_with("https://") {
        errors.push(uri.not_supported(&[
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ]));
    }
}

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_empty() {
        errors.push(at.required(""));
        return;
    }
    if at.text().len() > 63 {
        errors.push(FieldError::too_long(&at.path(), 63));
    }
    errors.extend(
        dns_subdomain(&at.text().to_lowercase())
            .into_iter()
            .map(|e| at.invalid_as(at.text(), e)),
    );
}

fn key_to_path(at: &At<'_, '_>, errors: &mut ErrorList) {
    required_text(&at.child("key"), errors);
    let path = at.child("path");
    required_text(&path, errors);
    local_non_reserved_path(&path, path.text(), errors);
    mode(&at.child("mode"), errors);
}

fn downward_file(source: &At<'_, '_>, file: &At<'_, '_>, errors: &mut ErrorList) {
    let path = source.field("path", file.child("path").value);
    required_text(&path, errors);
    local_non_reserved_path(&path, path.text(), errors);
    let (field, resource) = (file.child("fieldRef"), file.child("resourceFieldRef"));
    if field.is_set() {
        field_ref(&source.field("fieldRef", field.value), FILE_FIELDS, errors);
        if resource.is_set() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(source.invalid_as("resource", detail));
        }
    } else if resource.is_set() {
        resource_field_ref(&source.field("resourceFieldRef", resource.value), true, errors);
    } else {
        errors.push(source.required("one of fieldRef and resourceFieldRef is required"));
    }
    mode(&source.field("mode", file.child("mode").value), errors);
}

fn projected(at: &At<'_, '_>, errors: &mut ErrorList) {
    let mut paths: BTreeSet<String> = BTreeSet::new();
    let sources = at.child("sources");
    for source in sources.items() {
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let part = source.child(kind);
            if part.is_null() {
                continue;
            }
            count += 1;
            required_text(&part.child("name"), errors);
            for item in part.child("items").items() {
                key_to_path(&item, errors);
                let path = item.child("path").text();
                if !path.is_empty() && !paths.insert(path.to_owned()) {
                    errors.push(at.invalid_as(part.child("name").text(), "conflicting duplicate paths"));
                }
            }
        }
        let downward = source.child("downwardAPI");
        if downward.is_set() {
            count += 1;
            for file in downward.child("items").items() {
                downward_file(&downward, &file, errors);
                unique(at, file.child("path").text(), &mut paths, errors);
            }
        }
        let token = source.child("serviceAccountToken");
        if token.is_set() {
            count += 1;
            service_account_token(at, &token, errors);
        }
        let bundle = source.child("clusterTrustBundle");
        if bundle.is_set() {
            count += 1;
            cluster_trust_bundle(&bundle, errors);
            unique(at, bundle.child("path").text(), &mut paths, errors);
        }
        let certificate = source.child("podCertificate");
        if certificate.is_set() {
            count += 1;
            pod_certificate(at, &certificate, &mut paths, errors);
        }
        if count > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

fn unique(at: &At<'_, '_>, path: &str, paths: &mut BTreeSet<String>, errors: &mut ErrorList) {
    if !path.is_empty() && !paths.insert(path.to_owned()) {
        errors.push(at.invalid_as(path, "conflicting duplicate paths"));
    }
}

fn service_account_token(at: &At<'_, '_>, token: &At<'_, '_>, errors: &mut ErrorList) {
    let seconds = token.child("expirationSeconds");
    match seconds.int().unwrap_or_default() {
        n if n < 600 => errors.push(seconds.invalid_as(n, "may not specify a duration less than 10 minutes")),
        n if n > 1 << 32 => {
            errors.push(seconds.invalid_as(n, "may not specify a duration larger than 2^32 seconds"))
        }
        _ => {}
    }
    let path = at.field("path", token.child("path").value);
    if path.is_empty() {
        errors.push(path.required(""));
    } else {
        local_non_reserved_path(&path, path.text(), errors);
    }
}

fn cluster_trust_bundle(at: &At<'_, '_>, errors: &mut ErrorList) {
    let (name, signer) = (at.child("name"), at.child("signerName"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.push(at.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.is_empty() {
                errors.push(name.required("must be a valid object name"));
            }
            if at.child("labelSelector").is_set() {
                errors.push(
                    at.child("labelSelector")
                        .invalid("labelSelector must be unset if name is specified"),
                );
            }
        }
        (false, true) => {
            if signer.is_empty() {
                errors.push(signer.required("must be a valid signer name"));
            }
            crate::csr::signer_name(&signer, errors);
            label_selector(&at.child("labelSelector"), false, errors);
        }
        (false, false) => errors.push(at.required("either name or signerName must be specified")),
    }
    let path = at.child("path");
    required_text(&path, errors);
    local_non_reserved_path(&path, path.text(), errors);
}

fn pod_certificate(at: &At<'_, '_>, own: &At<'_, '_>, paths: &mut BTreeSet<String>, errors: &mut ErrorList) {
    crate::csr::signer_name(&own.child("signerName"), errors);
    enumerated(
        &own.child("keyType"),
        &[
            "RSA3072",
            "RSA4096",
            "ECDSAP256",
            "ECDSAP384",
            "ECDSAP521",
            "ED25519",
        ],
        errors,
    );
    let seconds = own.child("maxExpirationSeconds");
    if let Some(n) = seconds.int() {
        let kubernetes = own.child("signerName").text().starts_with("kubernetes.io/");
        let most = if kubernetes { 86_400 } else { 7_862_400 };
        if n < 3600 {
            errors.push(seconds.invalid("if provided, maxExpirationSeconds must be >= 3600"));
        }
        if n > most {
            errors.push(seconds.invalid(format!("if provided, maxExpirationSeconds must be <= {most}")));
        }
    }
    let mut any = false;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = own.child(field);
        if path.is_empty() {
            continue;
        }
        any = true;
        local_non_reserved_path(&path, path.text(), errors);
        unique(at, path.text(), paths, errors);
    }
    if !any {
        errors.push(
            own.required("specify at least one of credentialBundlePath, keyPath, and certificateChainPath"),
        );
    }
}

fn ephemeral(at: &At<'_, '_>, volume: &At<'_, '_>, pod_name: &str, errors: &mut ErrorList) {
    let template = at.child("volumeClaimTemplate");
    if template.is_null() {
        errors.push(template.required(""));
    } else {
        crate::persistent_volume_claim::claim_template(&template, errors);
    }
    let name = volume.child("name");
    if !pod_name.is_empty() && !name.is_empty() {
        let claim = format!("{pod_name}-{}", name.text());
        for wrong in dns_subdomain(&claim) {
            errors.push(name.invalid(format!("PVC name {claim:?}: {wrong}")));
        }
    }
}

/// A relative path that stays below where it starts.
pub(super) fn local_descending_path(at: &At<'_, '_>, path: &str, errors: &mut ErrorList) {
    if path.starts_with('/') {
        errors.push(at.invalid_as(path, "must be a relative path"));
    }
    backsteps(at, path, errors);
}

/// A path without `..`.
pub(crate) fn backsteps(at: &At<'_, '_>, path: &str, errors: &mut ErrorList) {
    if path.split('/').any(|part| part == "..") {
        errors.push(at.invalid_as(path, "must not contain '..'"));
    }
}

/// A relative path whose first part doesn't begin with `..`, which volumes keep for themselves.
pub(crate) fn local_non_reserved_path(at: &At<'_, '_>, path: &str, errors: &mut ErrorList) {
    local_descending_path(at, path, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.push(at.invalid_as(path, "must not start with '..'"));
    }
}

/// Where a container mounts volumes.
pub(super) fn mounts(container: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    let at = container.child("volumeMounts");
    let devices = container.child("volumeDevices");
    let mut paths = BTreeSet::new();
    for mount in at.items() {
        let name = mount.child("name");
        let path = mount.child("mountPath");
        required_text(&name, errors);
        if scope.volume(name.text()).is_none() {
            errors.push(FieldError::not_found(&name.path(), name.text()));
        }
        required_text(&path, errors);
        if !paths.insert(path.text()) {
            errors.push(path.invalid_as(path.text(), "must be unique"));
        }
        if devices.items().any(|d| d.child("name").text() == name.text()) {
            errors.push(name.invalid_as(name.text(), "must not already exist in volumeDevices"));
        }
        if devices
            .items()
            .any(|d| d.child("devicePath").text() == path.text())
        {
            errors.push(path.invalid_as(path.text(), "must not already exist as a path in volumeDevices"));
        }
        let (sub, expression) = (mount.child("subPath"), mount.child("subPathExpr"));
        if !sub.is_empty() {
            local_descending_path(&at.field("subPath", sub.value), sub.text(), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                errors.push(expression.invalid("subPathExpr and subPath are mutually exclusive"));
            }
            local_descending_path(
                &at.field("subPathExpr", expression.value),
                expression.text(),
                errors,
            );
        }
        propagation(
            &at.field("mountPropagation", mount.child("mountPropagation").value),
            container,
            errors,
        );
        recursive_read_only(
            &at.field("recursiveReadOnly", mount.child("recursiveReadOnly").value),
            &mount,
            errors,
        );
    }
}

fn propagation(at: &At<'_, '_>, container: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    enumerated(at, &["Bidirectional", "HostToContainer", "None"], errors);
    if at.text() == "Bidirectional" && !container.child("securityContext.privileged").flag() {
        errors
            .push(at.forbidden("Bidirectional mount propagation is available only to privileged containers"));
    }
}

fn recursive_read_only(at: &At<'_, '_>, mount: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        return;
    }
    enumerated(at, &["Disabled", "Enabled", "IfPossible"], errors);
    if matches!(at.text(), "Enabled" | "IfPossible") {
        if !mount.child("readOnly").flag() {
            errors.push(at.forbidden("may only be specified when readOnly is true"));
        }
        if !matches!(mount.child("mountPropagation").text(), "" | "None") {
            errors.push(at.forbidden("may only be specified when mountPropagation is None or not specified"));
        }
    }
}

/// Where a container finds block devices.
pub(super) fn devices(container: &At<'_, '_>, scope: &Scope<'_>, errors: &mut ErrorList) {
    let mounts = container.child("volumeMounts");
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.child("volumeDevices").items() {
        let name = device.child("name");
        let path = device.child("devicePath");
        required_text(&name, errors);
        if names.contains(name.text()) {
            errors.push(name.invalid("must be unique"));
        }
        match scope.volume(name.text()) {
            None => errors.push(FieldError::not_found(&name.path(), name.text())),
            Some(volume)
                if volume.at("persistentVolumeClaim").is_null() && volume.at("ephemeral").is_null() =>
            {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(name.invalid(detail));
            }
            Some(_) => {}
        }
        required_text(&path, errors);
        if paths.contains(path.text()) {
            errors.push(path.invalid("must be unique"));
        }
        if path.text().split('/').any(|part| part == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        } else {
            paths.insert(path.text());
        }
        if mounts.items().any(|m| m.child("name").text() == name.text()) {
            errors.push(name.invalid_as(name.text(), "must not already exist in volumeMounts"));
        }
        if mounts.items().any(|m| m.child("mountPath").text() == path.text()) {
            errors.push(path.invalid_as(path.text(), "must not already exist as a path in volumeMounts"));
        }
        if !name.is_empty() {
            names.insert(name.text());
        }
    }
}
