//! What a controller has done that its informers have not shown yet.
//!
//! A controller that creates or deletes dependents must not decide again from a store that doesn't show them yet: it would create too many.
//! Each creation is remembered by the name it was given beforehand, each deletion by UID, until the informer shows it; after five minutes
//! it is given up, because a missed sighting must not stop the controller for good.

use parking_lot::Mutex;
use rutter_client::informer::ObjectKey;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long a sighting is waited for.
pub const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Pending {
    created: HashSet<String>,
    deleted: HashSet<String>,
    since: Option<Instant>,
}

/// Pending sightings by controller.
#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<ObjectKey, Pending>>,
}

impl Expectations {
    /// The controller is about to create dependents of these names.
    pub fn expect_creations<'a>(
        &self,
        owner: &ObjectKey,
        names: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) {
        let mut pending = self.pending.lock();
        let entry = pending.entry(owner.clone()).or_default();
        entry.created.extend(names.into_iter().map(str::to_owned));
        entry.since = Some(now);
    }

    /// The controller is about to delete dependents with these UIDs.
    pub fn expect_deletions<'a>(
        &self,
        owner: &ObjectKey,
        uids: impl IntoIterator<Item = &'a str>,
        now: Instant,
    ) {
        let mut pending = self.pending.lock();
        let entry = pending.entry(owner.clone()).or_default();
        entry.deleted.extend(uids.into_iter().map(str::to_owned));
        entry.since = Some(now);
    }

    /// A dependent of this name was seen, or won't be created after all.
    pub fn created(&self, owner: &ObjectKey, name: &str) {
        self.lower(owner, |pending| pending.created.remove(name));
    }

    /// A dependent was seen to be deleted or marked for it, or won't be deleted after all.
    pub fn deleted(&self, owner: &ObjectKey, uid: &str) {
        self.lower(owner, |pending| pending.deleted.remove(uid));
    }

    fn lower(&self, owner: &ObjectKey, remove: impl FnOnce(&mut Pending) -> bool) {
        let mut all = self.pending.lock();
        if let Some(pending) = all.get_mut(owner)
            && remove(pending)
            && pending.created.is_empty()
            && pending.deleted.is_empty()
        {
            all.remove(owner);
        }
    }

    /// Whether everything was seen (or given up), so that the store can be trusted.
    pub fn satisfied(&self, owner: &ObjectKey, now: Instant) -> bool {
        let pending = self.pending.lock();
        pending.get(owner).is_none_or(|p| {
            (p.created.is_empty() && p.deleted.is_empty())
                || p.since.is_none_or(|since| now.duration_since(since) >= PATIENCE)
        })
    }

    /// Forgets a controller that is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.pending.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_waits_for_each_dependent_it_made_or_removed_and_gives_up_after_five_minutes() {
        let (expectations, owner, now) = (
            Expectations::default(),
            ObjectKey::new("default", "web"),
            Instant::now(),
        );
        assert!(expectations.satisfied(&owner, now));
        expectations.expect_creations(&owner, ["a", "b"], now);
        expectations.expect_deletions(&owner, ["uid"], now);
        expectations.created(&owner, "a");
        expectations.created(&owner, "a");
        expectations.deleted(&owner, "uid");
        assert!(!expectations.satisfied(&owner, now), "b is not seen yet");
        assert!(expectations.satisfied(&owner, now + PATIENCE));
        expectations.created(&owner, "b");
        assert!(expectations.satisfied(&owner, now));
    }
}
