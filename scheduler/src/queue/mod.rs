//! The pods that wait for a node.
//!
//! A pod is in one of four places: *active* (tried next, by priority and then age), *backing off* (tried again when its pause is over, or
//! earlier when nothing is active), *unschedulable* (until an event may help it, or five minutes have passed), *gated* (a plugin holds it back).
//! No clock of its own: every method takes `now`, in milliseconds since some start.

use crate::framework::Interest;
use crate::model::{Pod, Str, Uid};
use ahash::AHashMap;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// Milliseconds since some start.
pub type Millis = u64;

/// How long pods pause and wait.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The first pause.
    pub initial_backoff: Millis,
    /// The longest pause.
    pub max_backoff: Millis,
    /// How long a pod stays unschedulable without any event.
    pub max_unschedulable: Millis,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            initial_backoff: 1_000,
            max_backoff: 10_000,
            max_unschedulable: 300_000,
        }
    }
}

/// A pod that waits, and what it has been through.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The pod.
    pub pod: Arc<Pod>,
    /// When it came to where it is now.
    pub since: Millis,
    /// When it was first tried.
    pub first_try: Option<Millis>,
    /// How often it has been tried.
    pub attempts: u32,
    /// How often it found no node; sets its pause.
    pub unschedulable: u32,
    /// How often in a row something went wrong; sets its pause.
    pub errors: u32,
    /// The plugins that turned it down.
    pub plugins: BTreeSet<&'static str>,
    /// Whether it was last let out because it had waited too long.
    pub flushed: bool,
}

impl Waiting {
    /// A pod that has just come.
    pub fn new(pod: Arc<Pod>, now: Millis) -> Self {
        Self {
            pod,
            since: now,
            first_try: None,
            attempts: 0,
            unschedulable: 0,
            errors: 0,
            plugins: BTreeSet::new(),
            flushed: false,
        }
    }
}

struct Turn {
    priority: i32,
    since: Millis,
    order: u64,
    uid: Uid,
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority
            .cmp(&other.priority)
            .then(other.since.cmp(&self.since))
            .then(other.order.cmp(&self.order))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    // The turn's order, so that a stale turn in the heap is known.
    Active(u64),
    // When the pause is over, and the order among equals.
    Backoff(Millis, u64),
    Unschedulable,
    Gated,
}

/// How many pods wait where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// Tried next.
    pub active: usize,
    /// Pausing.
    pub backoff: usize,
    /// Until an event.
    pub unschedulable: usize,
    /// Held back.
    pub gated: usize,
}

/// See the module.
pub struct Queue {
    timing: Timing,
    pods: AHashMap<Uid, (Waiting, Place)>,
    active: BinaryHeap<Turn>,
    backoff: BTreeMap<(Millis, u64), Uid>,
    // Those among `unschedulable` by each plugin that turned them down; the empty name for those that none did.
    waiting_for: BTreeMap<&'static str, BTreeSet<Uid>>,
    flush: BTreeSet<(Millis, Uid)>,
    depths: Depths,
    order: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            pods: AHashMap::new(),
            active: BinaryHeap::new(),
            backoff: BTreeMap::new(),
            waiting_for: BTreeMap::new(),
            flush: BTreeSet::new(),
            depths: Depths::default(),
            order: 0,
        }
    }

    /// How many pods wait where.
    pub fn depths(&self) -> Depths {
        self.depths
    }

    /// A waiting pod.
    pub fn get(&self, uid: &Uid) -> Option<&Waiting> {
        self.pods.get(uid).map(|(waiting, _)| waiting)
    }

    /// All waiting pods.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.pods.values().map(|(waiting, _)| waiting)
    }

    /// How long a pod pauses.
    fn pause(&self, waiting: &Waiting) -> Millis {
        let times = if waiting.errors > 0 {
            waiting.errors
        } else {
            waiting.unschedulable
        };
        if times == 0 {
            return 0;
        }
        self.timing
            .initial_backoff
            .saturating_mul(1 << (times - 1).min(30))
            .min(self.timing.max_backoff)
    }

    /// How many pods are aside, by profile and by the plugin that turned them down.
    pub fn aside(&self) -> Vec<(Str, &'static str, usize)> {
        let mut counts: BTreeMap<(Str, &'static str), usize> = BTreeMap::new();
        for (plugin, uids) in self.waiting_for.iter().filter(|(p, _)| !p.is_empty()) {
            for (waiting, _) in uids.iter().filter_map(|uid| self.pods.get(uid)) {
                let profile = waiting.pod.template.scheduler_name.clone();
                *counts.entry((profile, *plugin)).or_default() += 1;
            }
        }
        counts.into_iter().map(|((a, b), n)| (a, b, n)).collect()
    }

    /// Puts a pod in the active queue.
    pub fn activate(&mut self, mut waiting: Waiting, now: Millis) {
        self.take(&waiting.pod.uid);
        self.order += 1;
        waiting.since = now;
        self.active.push(Turn {
            priority: waiting.pod.priority(),
            since: now,
            order: self.order,
            uid: waiting.pod.uid.clone(),
        });
        self.depths.active += 1;
        let place = Place::Active(self.order);
        self.pods.insert(waiting.pod.uid.clone(), (waiting, place));
    }

    /// Holds a pod back until [`Queue::activate`].
    pub fn gate(&mut self, waiting: Waiting) {
        self.take(&waiting.pod.uid);
        self.depths.gated += 1;
        self.pods.insert(waiting.pod.uid.clone(), (waiting, Place::Gated));
    }

    /// Puts a pod aside for which no node would do.
    pub fn set_aside(&mut self, mut waiting: Waiting, now: Millis) {
        self.take(&waiting.pod.uid);
        waiting.since = now;
        self.depths.unschedulable += 1;
        let uid = waiting.pod.uid.clone();
        for plugin in rejectors(&waiting) {
            self.waiting_for.entry(plugin).or_default().insert(uid.clone());
        }
        self.flush.insert((now, uid.clone()));
        self.pods.insert(uid, (waiting, Place::Unschedulable));
    }

    /// Tries a pod again after its pause, counted from when it was put aside; at once when that is over.
    pub fn retry(&mut self, waiting: Waiting, now: Millis) {
        let until = waiting.since.saturating_add(self.pause(&waiting));
        if until <= now {
            return self.activate(waiting, now);
        }
        self.take(&waiting.pod.uid);
        self.order += 1;
        let uid = waiting.pod.uid.clone();
        self.backoff.insert((until, self.order), uid.clone());
        self.depths.backoff += 1;
        self.pods
            .insert(uid, (waiting, Place::Backoff(until, self.order)));
    }

    /// Replaces a waiting pod's content where it is.
    pub fn update(&mut self, pod: &Arc<Pod>, now: Millis) {
        let Some((waiting, place)) = self.pods.get_mut(&pod.uid) else {
            return;
        };
        let resort = waiting.pod.priority() != pod.priority();
        waiting.pod = pod.clone();
        if let (Place::Active(_), true) = (*place, resort) {
            let waiting = waiting.clone();
            self.activate(waiting, now);
        }
    }

    /// Takes a pod out.
    pub fn take(&mut self, uid: &Uid) -> Option<Waiting> {
        let (waiting, place) = self.pods.remove(uid)?;
        match place {
            Place::Active(_) => self.depths.active -= 1,
            Place::Backoff(until, order) => {
                self.backoff.remove(&(until, order));
                self.depths.backoff -= 1;
            }
            Place::Gated => self.depths.gated -= 1,
            Place::Unschedulable => {
                self.depths.unschedulable -= 1;
                self.flush.remove(&(waiting.since, uid.clone()));
                for plugin in rejectors(&waiting) {
                    if let Some(uids) = self.waiting_for.get_mut(plugin) {
                        uids.remove(uid);
                        if uids.is_empty() {
                            self.waiting_for.remove(plugin);
                        }
                    }
                }
            }
        }
        Some(waiting)
    }

    /// The next pod to try. When none is active, one that pauses because no node would do may come early.
    pub fn pop(&mut self, now: Millis) -> Option<Waiting> {
        self.wake(now);
        while let Some(turn) = self.active.pop() {
            let current =
                matches!(self.pods.get(&turn.uid), Some((_, Place::Active(order))) if *order == turn.order);
            if current {
                return self.popped(&turn.uid, now);
            }
        }
        let early = self
            .backoff
            .values()
            .find(|uid| self.pods.get(uid).is_some_and(|(w, _)| w.errors == 0))
            .cloned()?;
        self.popped(&early, now)
    }

    fn popped(&mut self, uid: &Uid, now: Millis) -> Option<Waiting> {
        let mut waiting = self.take(uid)?;
        waiting.attempts += 1;
        waiting.first_try.get_or_insert(now);
        Some(waiting)
    }

    /// Activates pods whose pause is over, and lets out those that have been aside for too long.
    pub fn wake(&mut self, now: Millis) {
        while let Some((_, uid)) = self
            .backoff
            .first_key_value()
            .filter(|((until, _), _)| *until <= now)
        {
            let uid = uid.clone();
            if let Some(waiting) = self.take(&uid) {
                self.activate(waiting, now);
            }
        }
        let longest = self.timing.max_unschedulable;
        while let Some((_, uid)) = self.flush.first().filter(|(since, _)| since + longest <= now) {
            let uid = uid.clone();
            if let Some(mut waiting) = self.take(&uid) {
                waiting.flushed = true;
                self.retry(waiting, now);
            }
        }
    }

    /// When [`Queue::wake`] has something to do next.
    pub fn next_wake(&self) -> Option<Millis> {
        let pause = self.backoff.keys().next().map(|(until, _)| *until);
        let flush = self
            .flush
            .first()
            .map(|(since, _)| since + self.timing.max_unschedulable);
        pause.into_iter().chain(flush).min()
    }

    /// Whether [`Queue::pop`] gives a pod now.
    pub fn is_ready(&self, now: Millis) -> bool {
        self.depths.active > 0
            || self.next_wake().is_some_and(|at| at <= now)
            || self
                .backoff
                .values()
                .any(|uid| self.pods.get(uid).is_some_and(|(w, _)| w.errors == 0))
    }

    /// The pods aside that may be helped, given what each plugin is interested in and whether it sees help in this event. A pod that no plugin
    /// turned down may be helped by anything.
    pub fn helped(
        &self,
        kinds: Interest,
        interest: impl Fn(&'static str) -> Interest,
        hint: impl Fn(&Waiting, &'static str) -> bool,
    ) -> Vec<Uid> {
        let mut helped = BTreeSet::new();
        for (plugin, uids) in &self.waiting_for {
            if !plugin.is_empty() && !interest(plugin).meets(kinds) {
                continue;
            }
            for uid in uids {
                if !helped.contains(uid)
                    && let Some((waiting, _)) = self.pods.get(uid)
                    && hint(waiting, plugin)
                {
                    helped.insert(uid.clone());
                }
            }
        }
        helped.into_iter().collect()
    }
}

fn rejectors(waiting: &Waiting) -> Vec<&'static str> {
    if waiting.plugins.is_empty() {
        return vec![""];
    }
    waiting.plugins.iter().copied().collect()
}

/// Pods for which room is being made, by node.
#[derive(Default)]
pub struct Nominator {
    by_node: AHashMap<Str, Vec<Arc<Pod>>>,
    of_pod: AHashMap<Uid, Str>,
}

impl Nominator {
    /// Sets where room is being made for a pod; none when nowhere.
    pub fn set(&mut self, pod: &Arc<Pod>, node: Option<&Str>) {
        if let Some(before) = self.of_pod.remove(&pod.uid)
            && let Some(pods) = self.by_node.get_mut(&before)
        {
            pods.retain(|p| p.uid != pod.uid);
            if pods.is_empty() {
                self.by_node.remove(&before);
            }
        }
        if let Some(node) = node {
            self.of_pod.insert(pod.uid.clone(), node.clone());
            let pods = self.by_node.entry(node.clone()).or_default();
            pods.push(pod.clone());
            pods.sort_by_key(|p| Reverse(p.priority()));
        }
    }

    /// Where room is being made for a pod.
    pub fn of(&self, uid: &Uid) -> Option<&Str> {
        self.of_pod.get(uid)
    }
}

impl crate::framework::Nominated for Nominator {
    fn on(&self, node: &Str) -> &[Arc<Pod>] {
        if self.by_node.is_empty() {
            return &[];
        }
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }
}
