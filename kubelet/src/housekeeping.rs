//! Keeping the node tidy: images nobody uses, container logs that have grown.

use crate::shared::Shared;
use crate::worker::pool::Pool;
use jiff::Timestamp;
use rutter_proto::cri::{ContainerFilter, ImageSpec};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// When images are removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageRules {
    /// Above this part of the disk, in percent, images are removed.
    pub(crate) high_percent: u8,
    /// Down to this part.
    pub(crate) low_percent: u8,
    /// Never before they were unused for so long.
    pub(crate) minimum_age: Duration,
}

/// When logs are rotated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRules {
    /// The size in bytes above which a log is put aside.
    pub(crate) max_size: u64,
    /// How many files are kept for a container, the current one included.
    pub(crate) max_files: usize,
}

/// The bytes below a folder, as the disk has them.
pub(crate) fn disk_usage(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total: u64 = 0;
    let mut queue = vec![path.to_owned()];
    while let Some(at) = queue.pop() {
        let Ok(meta) = fs::symlink_metadata(&at) else {
            continue;
        };
        total += meta.blocks() * 512;
        if meta.is_dir() {
            queue.extend(
                fs::read_dir(&at)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|e| e.path()),
            );
        }
    }
    i64::try_from(total).unwrap_or(i64::MAX)
}

/// Looks after images every five minutes, until cancelled.
pub(crate) async fn keep_images(pool: Pool, rules: ImageRules) {
    loop {
        tokio::time::sleep(Duration::from_secs(300)).await;
        collect_images(&pool.shared().clone(), &pool, &rules, false).await;
    }
}

/// An image that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unused {
    id: String,
    size: u64,
    since: Timestamp,
}

/// Chooses the images to remove: the longest unused first, until enough is freed. Pure.
fn choose(mut unused: Vec<Unused>, free: u64, minimum_age: Duration, now: Timestamp) -> Vec<String> {
    unused.sort_by_key(|i| i.since);
    let age = i64::try_from(minimum_age.as_secs()).unwrap_or(i64::MAX);
    let mut freed = 0;
    let mut out = Vec::new();
    for image in unused {
        if freed >= free {
            break;
        }
        if now.duration_since(image.since).as_secs() < age {
            continue;
        }
        freed += image.size;
        out.push(image.id);
    }
    out
}

/// Removes unused images when the disk is fuller than it should be, or all of them when `all` is set.
pub(crate) async fn collect_images(shared: &Arc<Shared>, pool: &Pool, rules: &ImageRules, all: bool) {
    let Ok(images) = shared.cri.list_images().await else {
        return;
    };
    let Ok(containers) = shared.cri.list_containers(ContainerFilter::default()).await else {
        return;
    };
    let now = Timestamp::now();
    let mut used: BTreeSet<String> = containers
        .iter()
        .flat_map(|c| {
            [
                c.image_ref.clone(),
                c.image_id.clone(),
                c.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    for pod in pool.active() {
        use crate::pods::PodExt as _;
        used.extend(
            pod.spec()
                .volumes
                .iter()
                .flatten()
                .filter_map(|v| v.image.as_ref()?.reference.clone()),
        );
    }
    let unused: Vec<Unused> = {
        let mut last = shared.images.last_used.lock();
        last.retain(|id, _| images.iter().any(|i| i.id == *id));
        images
            .iter()
            .filter_map(|image| {
                let names = image
                    .repo_tags
                    .iter()
                    .chain(&image.repo_digests)
                    .chain([&image.id]);
                if image.pinned || names.clone().any(|n| used.contains(n)) {
                    last.insert(image.id.clone(), now);
                    return None;
                }
                let since = *last.entry(image.id.clone()).or_insert(now);
                Some(Unused {
                    id: image.id.clone(),
                    size: image.size,
                    since,
                })
            })
            .collect()
    };
    let (wanted, age) = if all {
        (u64::MAX, Duration::ZERO)
    } else {
        let info = shared.cri.image_fs_info().await.ok();
        let path = info.and_then(|i| {
            i.image_filesystems
                .first()?
                .fs_id
                .as_ref()
                .map(|f| f.mountpoint.clone())
        });
        let Some(Ok((total, free, ..))) = path.map(|p| crate::volumes::local::fs_space(Path::new(&p))) else {
            return;
        };
        let percent = 100 - free.saturating_mul(100) / total.max(1);
        if percent < u64::from(rules.high_percent) {
            return;
        }
        let target = total / 100 * u64::from(100 - rules.low_percent.min(100));
        (target.saturating_sub(free), rules.minimum_age)
    };
    for id in choose(unused, wanted, age, now) {
        tracing::info!(image = %id, "removing an unused image to free disk space");
        if let Err(error) = shared
            .cri
            .remove_image(ImageSpec {
                image: id,
                ..ImageSpec::default()
            })
            .await
        {
            tracing::warn!(%error, "removing an image failed");
        }
    }
}

/// Rotates the logs of running containers every ten seconds, until cancelled.
pub(crate) async fn keep_logs(pool: Pool, rules: LogRules) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        for (_, view) in pool.list() {
            for container in &view.observed.containers {
                let path = PathBuf::from(&container.log_path);
                if container.state != crate::runtime::observed::ContainerState::Running {
                    continue;
                }
                if fs::metadata(&path).is_ok_and(|m| m.len() > rules.max_size)
                    && let Err(error) = rotate(&pool, &container.id, &path, rules).await
                {
                    tracing::warn!(log = %path.display(), error = %format!("{error:#}"), "rotating a container's log failed");
                }
            }
        }
    }
}

async fn rotate(pool: &Pool, id: &str, path: &Path, rules: LogRules) -> anyhow::Result<()> {
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &aside)?;
    if let Err(error) = pool.shared().cri.reopen_log(id).await {
        // The container goes on writing where it did.
        fs::rename(&aside, path)?;
        return Err(error.into());
    }
    let current = path.to_owned();
    tokio::task::spawn_blocking(move || tidy_rotated(&current, &aside, rules)).await??;
    Ok(())
}

/// Compresses all logs put aside but the newest, and removes those that are too many.
fn tidy_rotated(current: &Path, newest: &Path, rules: LogRules) -> io::Result<()> {
    let (Some(dir), Some(name)) = (current.parent(), current.file_name().and_then(|n| n.to_str())) else {
        return Ok(());
    };
    let prefix = format!("{name}.");
    let mut old: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(&prefix))
        })
        .collect();
    for half in old.iter().filter(|p| p.extension().is_some_and(|e| e == "tmp")) {
        fs::remove_file(half)?;
    }
    old.retain(|p| p.extension().is_none_or(|e| e != "tmp"));
    old.sort();
    let keep = rules.max_files.saturating_sub(1).max(1);
    let surplus = old.len().saturating_sub(keep);
    for path in old.drain(..surplus) {
        fs::remove_file(path)?;
    }
    for path in old
        .iter()
        .filter(|p| *p != newest && p.extension().is_none_or(|e| e != "gz"))
    {
        compress(path)?;
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let half = PathBuf::from(format!("{}.tmp", path.display()));
    let mut from = fs::File::open(path)?;
    let mut to = flate2::write::GzEncoder::new(fs::File::create(&half)?, flate2::Compression::default());
    io::copy(&mut from, &mut to)?;
    to.finish()?;
    fs::rename(&half, format!("{}.gz", path.display()))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_images_go_until_enough_is_free() {
        let at = |s| Timestamp::from_second(s).expect("a time");
        let image = |id: &str, size, since| Unused {
            id: id.to_owned(),
            size,
            since: at(since),
        };
        let list = || vec![image("new", 10, 990), image("old", 10, 0), image("mid", 10, 500)];
        let age = Duration::from_secs(120);
        assert_eq!(choose(list(), 15, age, at(1000)), ["old", "mid"]);
        assert_eq!(choose(list(), 5, age, at(1000)), ["old"]);
        assert_eq!(choose(list(), 1000, age, at(1000)), ["old", "mid"]);
    }

    #[test]
    fn rotated_logs_are_compressed_and_limited() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |n: &str| dir.path().join(n);
        for name in [
            "0.log",
            "0.log.20260101-000001",
            "0.log.20260101-000002",
            "0.log.20260101-000003",
            "1.log",
        ] {
            fs::write(path(name), "x").expect("a file");
        }
        tidy_rotated(
            &path("0.log"),
            &path("0.log.20260101-000003"),
            LogRules {
                max_size: 1,
                max_files: 3,
            },
        )
        .expect("tidy");
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .expect("list")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "0.log",
                "0.log.20260101-000002.gz",
                "0.log.20260101-000003",
                "1.log"
            ]
        );
    }
}
