//! Where the amounts that a pod was given and those that were applied outlive the kubelet: two small files in the pod's folder, which
//! go when the folder does. What can't be read counts as not there; what can't be written is an error, since a promise must not be forgotten.

use super::Allocation;
use crate::pods::Uid;
use crate::volumes::pod_dir;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a pod was let in with and what it is promised now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Promise {
    pub(crate) admitted: Allocation,
    pub(crate) allocated: Allocation,
}

fn promise_path(root: &Path, uid: &Uid) -> PathBuf {
    pod_dir(root, uid).join("allocated.json")
}

fn actuated_path(root: &Path, uid: &Uid) -> PathBuf {
    pod_dir(root, uid).join("actuated.json")
}

fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a file of a pod's resources can't be read");
            None
        }
    }
}

fn save(path: &Path, value: &impl Serialize) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Whole or not at all.
    let next = path.with_extension("next");
    fs::write(&next, serde_json::to_vec(value)?)?;
    fs::rename(&next, path)
}

/// What a pod was promised; none when it never was let in here.
pub(crate) fn promise(root: &Path, uid: &Uid) -> Option<Promise> {
    load(&promise_path(root, uid))
}

/// Remembers a promise.
pub(crate) fn save_promise(root: &Path, uid: &Uid, promise: &Promise) -> io::Result<()> {
    save(&promise_path(root, uid), promise)
}

/// What was applied last: what the pod was let in with when nothing was changed since.
pub(crate) fn actuated(root: &Path, uid: &Uid) -> Option<Allocation> {
    load(&actuated_path(root, uid)).or_else(|| promise(root, uid).map(|p| p.admitted))
}

/// Remembers what was applied.
pub(crate) fn save_actuated(root: &Path, uid: &Uid, actuated: &Allocation) -> io::Result<()> {
    save(&actuated_path(root, uid), actuated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_what_was_admitted_until_it_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        let uid = Uid::new("u");
        assert_eq!(actuated(dir.path(), &uid), None);
        let given = |name: &str| Allocation {
            containers: [(name.to_owned(), Default::default())].into(),
            ..Allocation::default()
        };
        let promised = Promise {
            admitted: given("a"),
            allocated: given("b"),
        };
        save_promise(dir.path(), &uid, &promised).expect("saved");
        assert_eq!(promise(dir.path(), &uid), Some(promised));
        assert_eq!(actuated(dir.path(), &uid), Some(given("a")));
        save_actuated(dir.path(), &uid, &given("b")).expect("saved");
        assert_eq!(actuated(dir.path(), &uid), Some(given("b")));
    }
}
