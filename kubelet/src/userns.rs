//! Ids for pods with user namespaces (`hostUsers: false`): each pod gets a block of its own among the node's high ids, written in the
//! pod's folder, so that it keeps it for as long as it lives and however often the kubelet restarts.

use crate::pods::Uid;
use crate::volumes::pod_dir;
use parking_lot::Mutex;
use rutter_proto::cri;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Ids in a block: all that a container can name.
const BLOCK: u32 = 65_536;
/// The node keeps the first block.
const FIRST: u32 = 1;

/// The ids of one pod: 0 inside is `first` on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    first: u32,
}

impl IdMap {
    /// As the runtime wants it.
    pub(crate) fn mappings(self) -> Vec<cri::IdMapping> {
        vec![cri::IdMapping {
            host_id: self.first,
            container_id: 0,
            length: BLOCK,
        }]
    }

    /// The namespace's options.
    pub(crate) fn options(self) -> cri::UserNamespace {
        cri::UserNamespace {
            mode: cri::NamespaceMode::Pod.into(),
            uids: self.mappings(),
            gids: self.mappings(),
        }
    }
}

/// Which blocks are taken.
pub(crate) struct IdMaps {
    root: PathBuf,
    blocks: u32,
    taken: Mutex<BTreeMap<u32, Uid>>,
}

impl IdMaps {
    /// The blocks of a node that runs at most so many pods; what pods have already is read from their folders.
    pub(crate) fn new(root: PathBuf, max_pods: i64) -> Self {
        let mut taken = BTreeMap::new();
        for entry in fs::read_dir(root.join("pods")).into_iter().flatten().flatten() {
            let uid = Uid::new(&entry.file_name().to_string_lossy());
            if let Ok(text) = fs::read_to_string(entry.path().join("userns"))
                && let Ok(block) = text.trim().parse()
            {
                taken.insert(block, uid);
            }
        }
        // Pods that are ending hold theirs for a while.
        let wanted = u32::try_from(max_pods).unwrap_or(110).saturating_mul(2);
        Self {
            root,
            blocks: wanted.clamp(1, u32::MAX / BLOCK - FIRST),
            taken: Mutex::new(taken),
        }
    }

    /// A pod's ids, the same ones each time.
    pub(crate) fn of(&self, uid: &Uid) -> Result<IdMap, String> {
        let mut taken = self.taken.lock();
        let map = |block: u32| IdMap { first: block * BLOCK };
        if let Some((block, _)) = taken.iter().find(|(_, owner)| *owner == uid) {
            return Ok(map(*block));
        }
        let free = (FIRST..FIRST + self.blocks).find(|b| !taken.contains_key(b));
        let block = free.ok_or("no ids are left for one more pod with a user namespace")?;
        let dir = pod_dir(&self.root, uid);
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(dir.join("userns"), block.to_string()))
            .map_err(|e| format!("remembering the ids of the pod's user namespace: {e}"))?;
        taken.insert(block, uid.clone());
        Ok(map(block))
    }

    /// Takes a pod's ids back.
    pub(crate) fn release(&self, uid: &Uid) {
        self.taken.lock().retain(|_, owner| owner != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_keeps_a_block_of_its_own() {
        let dir = tempfile::tempdir().expect("a folder");
        let maps = IdMaps::new(dir.path().to_owned(), 1);
        let (a, b) = (Uid::new("a"), Uid::new("b"));
        let first = maps.of(&a).expect("a block");
        assert_eq!(first.first, 65_536);
        assert_eq!(maps.of(&a), Ok(first));
        assert_eq!(maps.of(&b).expect("a block").first, 131_072);
        assert!(maps.of(&Uid::new("c")).is_err());
        // After a restart the same.
        let again = IdMaps::new(dir.path().to_owned(), 1);
        assert_eq!(again.of(&a), Ok(first));
        again.release(&b);
        assert_eq!(again.of(&Uid::new("c")).expect("a block").first, 131_072);
    }
}
