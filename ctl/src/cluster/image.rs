//! Small container images made from programs on this machine, as OCI-layout tar files that `ctr images import` reads.
//!
//! A program that needs shared libraries gets them, with its loader, at the paths where it looks for them.

use anyhow::Context as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What goes into an image.
pub(super) struct Recipe<'a> {
    /// The full name with its tag, such as `registry.k8s.io/pause:3.10.2`.
    pub(super) name: &'a str,
    /// Files of this machine and where they go.
    pub(super) files: Vec<(PathBuf, String)>,
    /// Symbolic links: where, and to what.
    pub(super) links: Vec<(String, String)>,
    /// The entry point.
    pub(super) entrypoint: Vec<String>,
    /// The default arguments.
    pub(super) command: Vec<String>,
    /// `UID` or `UID:GID`; empty for root.
    pub(super) user: &'a str,
}

/// Writes the image to `to`.
pub(super) fn build(recipe: &Recipe<'_>, to: &Path) -> anyhow::Result<()> {
    let layer = layer(recipe)?;
    let layer_digest = digest(&layer);
    let config = serde_json::to_vec(&json!({
        "architecture": rutter_client::component::go_arch(),
        "os": "linux",
        "config": {
            "User": recipe.user,
            "Entrypoint": recipe.entrypoint,
            "Cmd": recipe.command,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    let tag = recipe.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] =
        json!({"io.containerd.image.name": recipe.name, "org.opencontainers.image.ref.name": tag});
    let index = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;

    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = fs::File::create(to).with_context(|| format!("writing {}", to.display()))?;
    let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
    let mut add = |path: &str, bytes: &[u8]| put(&mut archive, path, bytes, 0o644);
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", &index)?;
    for blob in [&layer, &config, &manifest] {
        add(
            &format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:")),
            blob,
        )?;
    }
    archive.finish()?;
    Ok(())
}

fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(blob) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn put<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    archive
        .append_data(&mut header, path, bytes)
        .with_context(|| format!("adding {path} to the image"))
}

fn layer(recipe: &Recipe<'_>) -> anyhow::Result<Vec<u8>> {
    let mut files: Vec<(PathBuf, String)> = recipe.files.clone();
    let mut placed: BTreeSet<String> = files.iter().map(|(_, to)| to.clone()).collect();
    for (from, _) in &recipe.files {
        for library in libraries(from)? {
            let to = library.to_string_lossy().into_owned();
            if placed.insert(to.clone()) {
                files.push((library, to));
            }
        }
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = BTreeSet::from([".".to_owned()]);
    for fixed in ["tmp", "etc", "proc", "sys", "dev"] {
        folder(&mut archive, &mut folders, fixed)?;
    }
    put(
        &mut archive,
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        0o644,
    )?;
    put(&mut archive, "etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)?;
    for (from, to) in &files {
        let to = to.trim_start_matches('/');
        if let Some((parent, _)) = to.rsplit_once('/') {
            folder(&mut archive, &mut folders, parent)?;
        }
        let bytes = fs::read(from).with_context(|| format!("reading {} for the image", from.display()))?;
        put(&mut archive, to, &bytes, 0o755)?;
    }
    for (path, target) in &recipe.links {
        let path = path.trim_start_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            folder(&mut archive, &mut folders, parent)?;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, path, target)?;
    }
    Ok(archive.into_inner()?)
}

fn folder(
    archive: &mut tar::Builder<Vec<u8>>,
    made: &mut BTreeSet<String>,
    path: &str,
) -> anyhow::Result<()> {
    if !made.insert(path.to_owned()) {
        return Ok(());
    }
    if let Some((parent, _)) = path.rsplit_once('/') {
        folder(archive, made, parent)?;
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(if path == "tmp" { 0o1777 } else { 0o755 });
    archive.append_data(&mut header, format!("{path}/"), std::io::empty())?;
    Ok(())
}

/// The shared libraries and the loader that a program needs, by asking the loader; none for a static one.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("running ldd")?;
    Ok(parse_ldd(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_ldd(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let path = line.split_once("=>").map_or(line, |(_, path)| path.trim());
            let path = path.split_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(
            parse_ldd(text),
            [
                PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"),
                PathBuf::from("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert!(parse_ldd("\tstatically linked\n").is_empty());
        assert!(parse_ldd("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn an_image_names_itself_and_its_blobs_are_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("hello");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let recipe = Recipe {
            name: "example.test/hello:1",
            files: vec![(program, "/bin/hello".to_owned())],
            links: vec![("/bin/hi".to_owned(), "hello".to_owned())],
            entrypoint: vec!["/bin/hello".to_owned()],
            command: vec![],
            user: "65534",
        };
        let to = dir.path().join("image.tar");
        build(&recipe, &to).unwrap();
        let mut names = BTreeSet::new();
        let mut index = String::new();
        for entry in tar::Archive::new(fs::File::open(&to).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            if path == "index.json" {
                std::io::Read::read_to_string(&mut entry, &mut index).unwrap();
            }
            names.insert(path);
        }
        let index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let manifest = &index["manifests"][0];
        assert_eq!(
            manifest["annotations"]["io.containerd.image.name"],
            "example.test/hello:1"
        );
        let digest = manifest["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "blobs/sha256/");
        assert!(names.contains(&digest));
        assert_eq!(names.iter().filter(|n| n.starts_with("blobs/")).count(), 3);
    }
}
