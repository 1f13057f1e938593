//! containerd inside a node: which release it is and the configuration that release reads. Pure but for asking the program its version.
//!
//! 1.x reads version 2 of the file and has one section for all of CRI; 2.x reads version 3, with sections of their own for images and for the
//! runtime, and 2.1 renames the place of the CNI plugins.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The image of every pod's sandbox.
pub(super) const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10.2";
/// Where the configuration lies inside a node.
pub(super) const CONFIG: &str = "/etc/containerd/config.toml";

/// A release of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    /// The release of the containerd of a root file system; `/` is this machine's own.
    pub(super) fn of(root: &Path) -> anyhow::Result<Self> {
        let output = Command::new("chroot")
            .arg(root)
            .args(["containerd", "--version"])
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::null())
            .output()
            .context("running chroot")?;
        if !output.status.success() {
            bail!(
                "containerd of {} does not run: {}",
                root.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Self::parse(&text).with_context(|| format!("{:?} names no release of containerd", text.trim()))
    }

    /// Reads what `containerd --version` prints: the program, its import path, the release, the commit.
    fn parse(text: &str) -> Option<Self> {
        let release = text.split_whitespace().nth(2)?.trim_start_matches('v');
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

/// A registry that answers for another, or for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mirror {
    /// The registry whose names it serves, such as `docker.io`; none for all.
    pub(crate) host: Option<String>,
    /// Where it listens, such as `http://172.30.0.1:5000`.
    pub(crate) url: String,
}

/// Reads `[HOST=]URL`.
pub(crate) fn parse_mirror(text: &str) -> Result<Mirror, String> {
    let (host, url) = match text.split_once('=') {
        Some((host, url)) if !host.contains("://") => (Some(host), url),
        _ => (None, text),
    };
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let quotable = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._:/[]".contains(c))
    };
    if !rest.is_some_and(quotable) {
        return Err(format!(
            "{url:?} is not the URL of a registry such as http://172.30.0.1:5000"
        ));
    }
    if let Some(host) = host
        && (!quotable(host) || host.contains('/'))
    {
        return Err(format!(
            "{host:?} is not the name of a registry such as docker.io"
        ));
    }
    Ok(Mirror {
        host: host.map(str::to_owned),
        url: url.trim_end_matches('/').to_owned(),
    })
}

/// The files below `certs.d`, as path and text: a folder for each registry, and `_default` for those without one.
pub(super) fn hosts_files(mirrors: &[Mirror]) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for mirror in mirrors {
        let path = format!("{}/hosts.toml", mirror.host.as_deref().unwrap_or("_default"));
        let entry = format!(
            "[host.\"{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
            mirror.url
        );
        match files.iter_mut().find(|(known, _)| *known == path) {
            // In the order in which they were given, each is tried after the one before.
            Some((_, text)) => text.push_str(&entry),
            None => files.push((path, entry)),
        }
    }
    files
}

/// The configuration that a release reads.
pub(super) fn config(version: Version) -> String {
    let modern = version.major >= 2;
    let (images, runtime, streams) = if modern {
        (
            "io.containerd.cri.v1.images",
            "io.containerd.cri.v1.runtime",
            "io.containerd.grpc.v1.cri",
        )
    } else {
        let one = "io.containerd.grpc.v1.cri";
        (one, one, one)
    };
    let table = |plugin: &str, rest: &str| format!("[plugins.\"{plugin}\"{rest}]\n");
    let mut text = format!(
        "version = {}\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n\
         [grpc]\n  address = \"/run/containerd/containerd.sock\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"/var/lib/containerd/opt\"\n",
        if modern { 3 } else { 2 }
    );
    let limits = "  restrict_oom_score_adj = true\n  disable_apparmor = true\n";
    let stream = "  stream_server_address = \"127.0.0.1\"\n";
    if modern {
        text += &table(streams, "");
        text += stream;
        text += &table(images, "");
        text += "  snapshotter = \"overlayfs\"\n";
        text += &table(images, ".pinned_images");
        let _ = writeln!(text, "  sandbox = \"{PAUSE_IMAGE}\"");
        text += &table(runtime, "");
        text += limits;
    } else {
        text += &table(runtime, "");
        let _ = writeln!(text, "  sandbox_image = \"{PAUSE_IMAGE}\"");
        text += limits;
        text += stream;
    }
    text += &table(runtime, ".cni");
    text += if version >= (Version { major: 2, minor: 1 }) {
        "  bin_dirs = [\"/opt/cni/bin\"]\n"
    } else {
        "  bin_dir = \"/opt/cni/bin\"\n"
    };
    text += "  conf_dir = \"/etc/cni/net.d\"\n";
    text += &table(runtime, ".containerd");
    if !modern {
        text += "  snapshotter = \"overlayfs\"\n";
    }
    text += "  default_runtime_name = \"runc\"\n";
    text += &table(runtime, ".containerd.runtimes.runc");
    text += "  runtime_type = \"io.containerd.runc.v2\"\n";
    text += &table(runtime, ".containerd.runtimes.runc.options");
    text += "  SystemdCgroup = false\n";
    text += &table(images, ".registry");
    text += "  config_path = \"/etc/containerd/certs.d\"\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_from_what_the_program_prints() {
        for (text, want) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1",
                Some((1, 6)),
            ),
            ("containerd containerd.io v1.7.24 88bf19b", Some((1, 7))),
            (
                "containerd github.com/containerd/containerd/v2 2.1.9~ds1 x",
                Some((2, 1)),
            ),
            ("containerd", None),
            ("a b dev c", None),
        ] {
            let version = Version::parse(text);
            assert_eq!(
                version,
                want.map(|(major, minor)| Version { major, minor }),
                "{text}"
            );
        }
    }

    #[test]
    fn each_release_gets_the_sections_it_reads() {
        let one = config(Version { major: 1, minor: 6 });
        assert!(one.starts_with("version = 2\n"));
        assert!(one.contains("sandbox_image = \"registry.k8s.io/pause:3.10.2\""));
        assert!(one.contains("[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path"));
        assert!(!one.contains("cri.v1"));
        let two = config(Version { major: 2, minor: 0 });
        assert!(two.starts_with("version = 3\n"));
        assert!(two.contains("[plugins.\"io.containerd.cri.v1.images\".pinned_images]\n  sandbox = "));
        assert!(two.contains("[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path"));
        assert!(two.contains("[plugins.\"io.containerd.grpc.v1.cri\"]\n  stream_server_address"));
        assert!(two.contains("bin_dir = \"/opt/cni/bin\""));
        let later = config(Version { major: 2, minor: 1 });
        assert!(later.contains("bin_dirs = [\"/opt/cni/bin\"]"));
        for text in [one, two, later] {
            let mut tables: Vec<_> = text.lines().filter(|l| l.starts_with('[')).collect();
            let count = tables.len();
            tables.sort_unstable();
            tables.dedup();
            assert_eq!(tables.len(), count, "a table stands twice in\n{text}");
        }
    }

    #[test]
    fn mirrors_are_read_and_written_in_order() {
        let all = parse_mirror("http://172.30.0.1:5000/").unwrap();
        assert_eq!(
            (all.host.as_deref(), all.url.as_str()),
            (None, "http://172.30.0.1:5000")
        );
        let one = parse_mirror("docker.io=https://mirror.example").unwrap();
        let other = parse_mirror("docker.io=http://10.0.0.1:5000").unwrap();
        for bad in ["", "5000", "docker.io=", "a/b=http://x", "ftp://x", "http://x\"y"] {
            assert!(parse_mirror(bad).is_err(), "{bad}");
        }
        let files = hosts_files(&[all, one, other]);
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].0, "_default/hosts.toml");
        assert!(files[0].1.starts_with("[host.\"http://172.30.0.1:5000\"]\n"));
        assert_eq!(files[1].0, "docker.io/hosts.toml");
        assert_eq!(files[1].1.matches("[host.").count(), 2);
    }
}
