//! Writing a volume of files so that readers see either all of the old ones or all of the new ones.
//!
//! ```text
//! volume/..2026_11_21_07_00_00.123/app/conf     the files
//! volume/..data -> ..2026_11_21_07_00_00.123    replaced in one rename
//! volume/app    -> ..data/app                   what containers open
//! ```
//! Nothing is touched when the files are as they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// One file: what is in it and who may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileEntry {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    /// The owner, when it isn't root.
    pub(crate) owner: Option<u32>,
}

/// Files by path below the volume.
pub(crate) type Payload = BTreeMap<String, FileEntry>;

/// Brings a volume to the payload; the group, when given, gets read access to everything. Returns whether anything changed.
pub(crate) fn write(volume: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && is_current(&volume.join(old), payload)
    {
        link_visible(volume, payload)?;
        return Ok(false);
    }
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("{stamp}.{:09}", rand::random::<u32>() % 1_000_000_000);
    let fresh = volume.join(&name);
    make_dir(&fresh, group)?;
    let written = write_files(&fresh, payload, group).and_then(|()| {
        let link = volume.join(DATA_NEW);
        remove_if_there(&link)?;
        symlink(&name, &link)?;
        fs::rename(&link, volume.join(DATA))
    });
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    link_visible(volume, payload)?;
    if let Some(old) = old {
        let _ = fs::remove_dir_all(volume.join(old));
    }
    Ok(true)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Refuses paths that would leave the volume or hide its machinery.
fn check_path(path: &str) -> io::Result<()> {
    let bad = |why: &str| {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("file path {path:?} {why}"),
        ))
    };
    if path.is_empty() || path.starts_with('/') {
        return bad("must be relative and not empty");
    }
    if path.starts_with("..") {
        return bad("must not start with \"..\"");
    }
    if Path::new(path)
        .components()
        .any(|c| !matches!(c, Component::Normal(_)))
    {
        return bad("must not contain \".\" or \"..\"");
    }
    Ok(())
}

fn make_dir(path: &Path, group: Option<u32>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    if let Some(group) = group {
        chown(path, None, Some(group))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o2775))?;
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn write_files(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<()> {
    use std::io::Write as _;
    for (path, entry) in payload {
        let full = dir.join(path);
        let mut parents: Vec<PathBuf> = full
            .ancestors()
            .skip(1)
            .take_while(|p| *p != dir)
            .map(Path::to_owned)
            .collect();
        parents.reverse();
        for parent in parents {
            make_dir(&parent, group)?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&full)?;
        file.write_all(&entry.data)?;
        if entry.owner.is_some() || group.is_some() {
            chown(&full, entry.owner, group)?;
        }
        let mode = if group.is_some() {
            entry.mode | 0o440
        } else {
            entry.mode
        };
        fs::set_permissions(&full, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Whether a folder holds exactly the payload's files.
fn is_current(dir: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if collect_files(dir, dir, &mut found).is_err() || found.len() != payload.len() {
        return false;
    }
    payload.iter().all(|(path, entry)| {
        found.contains(&PathBuf::from(path)) && fs::read(dir.join(path)).is_ok_and(|data| data == entry.data)
    })
}

fn collect_files(root: &Path, dir: &Path, out: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_files(root, &path, out)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            out.insert(relative.to_owned());
        }
    }
    Ok(())
}

/// Makes the links that containers open and removes those whose files are gone.
fn link_visible(volume: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &wanted {
        let link = volume.join(name);
        let target = Path::new(DATA).join(name);
        if fs::read_link(&link).ok().as_deref() != Some(&target) {
            remove_if_there(&link)?;
            symlink(&target, &link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(p, d)| {
                (
                    (*p).to_owned(),
                    FileEntry {
                        data: d.as_bytes().to_vec(),
                        mode: 0o644,
                        owner: None,
                    },
                )
            })
            .collect()
    }

    #[test]
    fn an_update_replaces_the_whole_set_and_leaves_no_old_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = |p: &str| fs::read_to_string(dir.path().join(p)).ok();
        assert!(write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).expect("first"));
        assert_eq!((read("a"), read("d/b")), (Some("1".into()), Some("2".into())));
        assert!(!write(dir.path(), &payload(&[("a", "1"), ("d/b", "2")]), None).expect("same"));
        assert!(write(dir.path(), &payload(&[("a", "3")]), None).expect("second"));
        assert_eq!((read("a"), read("d/b")), (Some("3".into()), None));
        let left = fs::read_dir(dir.path()).expect("list").count();
        assert_eq!(left, 3, "the data folder, ..data and one link");
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "a/./b"] {
            let refused = write(dir.path(), &payload(&[(path, "x")]), None).is_err();
            assert!(refused || path == "a/./b", "{path:?}");
        }
    }
}
