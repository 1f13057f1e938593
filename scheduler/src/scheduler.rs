//! The scheduler without its surroundings: what it observes is told to it, what it decides it returns. No I/O and no clock.
//!
//! Invariants: a pod is in the queue, or assumed (it has been given a node and its binding is on the way), or known to have a node, never in two of
//! these. What an assumed pod takes counts at once, so decisions never wait for bindings.

use crate::framework::profile::Unplaced;
use crate::framework::{ClusterEvent, Code, Context, Interest, PreBindAction, Profile, Rejection, Rng};
use crate::model::{Node, Pod, Str, Uid};
use crate::queue::{Millis, Nominator, Queue, Timing, Waiting};
use crate::snapshot::Snapshot;
use ahash::AHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pod that has been given a node, to be bound.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The pod, with its node.
    pub pod: Arc<Pod>,
    /// The node.
    pub node: Str,
    /// What must be written before.
    pub actions: Vec<PreBindAction>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was first tried.
    pub first_try: Millis,
    /// Whether it was let out because it had waited too long.
    pub flushed: bool,
}

/// A pod that got no node, to be told.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The pod.
    pub pod: Arc<Pod>,
    /// `Unschedulable` or `SchedulerError`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What to set its nominated node to: `Some(None)` clears it.
    pub nominate: Option<Option<Str>>,
    /// Pods to send away for it.
    pub victims: Vec<Arc<Pod>>,
    /// Pods of a lower priority that were nominated to the same node and aren't any more.
    pub displaced: Vec<Arc<Pod>>,
    /// The plugins that turned it down.
    pub plugins: Vec<&'static str>,
    /// Whether others were considered for being sent away.
    pub preemption_tried: bool,
}

/// What was decided about one pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Bind it, and then tell [`Scheduler::bound`].
    Bind(Box<Binding>),
    /// Tell why not.
    Fail(Box<Failure>),
}

/// How a binding ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Well.
    Done,
    /// The pod is gone, or somebody else has bound it: nothing is left to do.
    Moot,
    /// With an error, for people.
    Failed(String),
}

/// Settings of all profiles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// How many percent of the nodes are scored; 0 adapts to their number.
    pub percentage_of_nodes_to_score: u32,
    /// How long pods pause.
    pub timing: Timing,
}

struct Assumed {
    waiting: Waiting,
    actions: Vec<PreBindAction>,
    expires: Option<Millis>,
}

/// How long a bound pod is taken to be there without being seen.
const EXPIRES_AFTER: Millis = 300_000;
const NO_NODES: &str = "no nodes available to schedule pods";

/// See the module.
pub struct Scheduler {
    snapshot: Snapshot,
    queue: Queue,
    nominator: Nominator,
    profiles: BTreeMap<Str, Arc<Profile>>,
    interests: AHashMap<&'static str, Interest>,
    assumed: AHashMap<Uid, Assumed>,
    settings: Settings,
    start: usize,
    rng: Rng,
    incoming: BTreeMap<(&'static str, &'static str), u64>,
    verdict: Option<Verdict>,
}

/// What was found out about the last pod that no node would take. It holds for every pod of its template until something changes: a decision is a
/// function of the template, the snapshot and the nominations alone, for pods without a nomination and without volumes of their own.
#[derive(Clone)]
struct Verdict {
    template: u64,
    message: String,
    plugins: BTreeSet<&'static str>,
    nominate: Option<Option<Str>>,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    pub fn new(profiles: Vec<Profile>, settings: Settings, seed: u64) -> Self {
        let mut interests: AHashMap<&'static str, Interest> = AHashMap::new();
        let mut snapshot = Snapshot::default();
        for plugin in profiles.iter().flat_map(|p| &p.plugins) {
            for key in plugin.topology_keys() {
                snapshot.register_topology(&key);
            }
            let all = interests.entry(plugin.name()).or_insert(Interest::NONE);
            *all = all.and(plugin.interests());
        }
        Self {
            snapshot,
            queue: Queue::new(settings.timing),
            nominator: Nominator::default(),
            profiles: profiles
                .into_iter()
                .map(|p| (p.name.clone(), Arc::new(p)))
                .collect(),
            interests,
            assumed: AHashMap::new(),
            settings,
            start: 0,
            rng: Rng::new(seed),
            incoming: BTreeMap::new(),
            verdict: None,
        }
    }

    /// The cluster.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The cluster, to change what [`Scheduler::node_changed`] and [`Scheduler::pod_changed`] don't.
    pub fn snapshot_mut(&mut self) -> &mut Snapshot {
        self.verdict = None;
        &mut self.snapshot
    }

    /// The waiting pods.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// How many pods are on their way to being bound.
    pub fn assumed(&self) -> usize {
        self.assumed.len()
    }

    /// Pods put into queues since the last call: by queue and event.
    pub fn take_incoming(&mut self) -> BTreeMap<(&'static str, &'static str), u64> {
        std::mem::take(&mut self.incoming)
    }

    fn count(&mut self, queue: &'static str, event: &'static str) {
        *self.incoming.entry((queue, event)).or_default() += 1;
    }

    /// Takes in a node's change.
    pub fn node_changed(&mut self, old: Option<Arc<Node>>, new: Option<Arc<Node>>, now: Millis) {
        self.verdict = None;
        match (old, new) {
            (None, Some(new)) => {
                self.snapshot.set_node(new.clone());
                self.event(&ClusterEvent::NodeAdded(&new), now);
            }
            (Some(old), Some(new)) => {
                if *old != *new {
                    self.snapshot.set_node(new.clone());
                    self.event(&ClusterEvent::NodeUpdated(&old, &new), now);
                }
            }
            (Some(old), None) => {
                self.snapshot.remove_node(&old.name);
                self.event(&ClusterEvent::NodeDeleted(&old), now);
            }
            (None, None) => {}
        }
    }

    /// Takes in a pod's change: its new state, or with none its end after this last state.
    pub fn pod_changed(&mut self, last: &Arc<Pod>, new: Option<Arc<Pod>>, now: Millis) {
        match new {
            None => self.pod_deleted(last, now),
            Some(new) if new.uid != last.uid => {
                self.pod_deleted(last, now);
                self.pod_changed(&new.clone(), Some(new), now);
            }
            Some(new) if new.node.is_some() => self.pod_assigned(new, now),
            Some(new) => self.pod_waits(new, now),
        }
    }

    fn pod_deleted(&mut self, last: &Arc<Pod>, now: Millis) {
        self.queue.take(&last.uid);
        self.nominator.set(last, None);
        self.verdict = None;
        let assumed = self.assumed.remove(&last.uid);
        if let Some(assumed) = &assumed
            && let Some(profile) = self.profile(last)
        {
            profile.unreserve(&mut self.snapshot, &assumed.actions);
        }
        let known = self.snapshot.remove_pod(&last.uid);
        if known.is_some() || last.nominated.is_some() {
            let gone = known.unwrap_or_else(|| last.clone());
            self.event(&ClusterEvent::PodDeleted(&gone), now);
        }
    }

    fn pod_assigned(&mut self, new: Arc<Pod>, now: Millis) {
        self.queue.take(&new.uid);
        self.nominator.set(&new, None);
        self.verdict = None;
        let assumed = self.assumed.remove(&new.uid).is_some();
        let old = self.snapshot.pod(&new.uid).cloned();
        self.snapshot.add_pod(new.clone());
        match old {
            Some(old) if !assumed => self.event(&ClusterEvent::PodUpdated(&old, &new), now),
            _ => self.event(&ClusterEvent::PodAdded(&new), now),
        }
    }

    fn pod_waits(&mut self, new: Arc<Pod>, now: Millis) {
        let Some(profile) = self.profile(&new) else { return };
        if self.assumed.contains_key(&new.uid) {
            return;
        }
        if new.terminating {
            self.queue.take(&new.uid);
            self.verdict = None;
            self.nominator.set(&new, None);
            return;
        }
        // What is decided about a nomination here is newer than what the server shows.
        let nominated = self
            .nominator
            .of(&new.uid)
            .cloned()
            .or_else(|| new.nominated.clone());
        if nominated.is_some() {
            self.verdict = None;
            self.nominator.set(&new, nominated.as_ref());
        }
        let Some(waiting) = self.queue.get(&new.uid) else {
            let waiting = Waiting::new(new, now);
            return self.admit(&profile, waiting, now, "PodAdd", true);
        };
        let old = waiting.pod.clone();
        self.queue.update(&new, now);
        let event = ClusterEvent::Itself(&old, &new);
        let gated = profile.pre_enqueue(&old).is_err();
        if gated && profile.pre_enqueue(&new).is_ok() {
            if let Some(waiting) = self.queue.take(&new.uid) {
                self.admit(&profile, waiting, now, event.label(), true);
            }
        } else if !gated {
            self.event_for(&event, Some(&new.uid), now);
        }
    }

    fn profile(&self, pod: &Pod) -> Option<Arc<Profile>> {
        self.profiles.get(&pod.template.scheduler_name).cloned()
    }

    /// Lets a pod into the active queue, holds it back when a plugin wants that, or lets it pause first.
    fn admit(
        &mut self,
        profile: &Profile,
        mut waiting: Waiting,
        now: Millis,
        event: &'static str,
        at_once: bool,
    ) {
        match profile.pre_enqueue(&waiting.pod) {
            Err(rejection) => {
                waiting.plugins.insert(rejection.plugin);
                self.queue.gate(waiting);
                self.count("gated", event);
            }
            Ok(()) if at_once => {
                self.queue.activate(waiting, now);
                self.count("active", event);
            }
            Ok(()) => {
                let before = self.queue.depths().backoff;
                self.queue.retry(waiting, now);
                let paused = self.queue.depths().backoff > before;
                self.count(if paused { "backoff" } else { "active" }, event);
            }
        }
    }

    /// Takes in something that may help pods that wait.
    pub fn event(&mut self, event: &ClusterEvent<'_>, now: Millis) {
        self.event_for(event, None, now);
    }

    fn event_for(&mut self, event: &ClusterEvent<'_>, only: Option<&Uid>, now: Millis) {
        let kinds = event.kinds();
        if kinds == Interest::NONE || self.queue.depths().unschedulable == 0 {
            return;
        }
        let cx = Context {
            snapshot: &self.snapshot,
            nominated: &self.nominator,
        };
        let helped = self.queue.helped(
            kinds,
            |plugin| self.interests.get(plugin).copied().unwrap_or(Interest::NONE),
            |waiting, plugin| {
                only.is_none_or(|uid| *uid == waiting.pod.uid)
                    && self
                        .profiles
                        .get(&waiting.pod.template.scheduler_name)
                        .and_then(|p| p.plugin(plugin))
                        .is_none_or(|p| p.hint(cx, &waiting.pod, event))
            },
        );
        for uid in helped {
            let Some(waiting) = self.queue.take(&uid) else {
                continue;
            };
            if let Some(profile) = self.profile(&waiting.pod) {
                self.admit(&profile, waiting, now, event.label(), false);
            }
        }
    }

    /// Decides about the next pod; nothing when none is to be tried now.
    pub fn decide(&mut self, now: Millis) -> Option<Decision> {
        let waiting = self.queue.pop(now)?;
        let pod = waiting.pod.clone();
        let profile = self.profile(&pod)?;
        let plain = pod.nominated.is_none() && pod.template.wishes().volumes.is_empty();
        if let Some(verdict) = self
            .verdict
            .as_ref()
            .filter(|v| plain && v.template == pod.template.id)
        {
            let verdict = verdict.clone();
            let waiting = Waiting {
                plugins: verdict.plugins,
                ..waiting
            };
            return Some(self.aside(waiting, verdict.message, verdict.nominate, Vec::new(), true, now));
        }
        self.snapshot.refresh(&pod.template);
        let cx = Context {
            snapshot: &self.snapshot,
            nominated: &self.nominator,
        };
        let percentage = self.settings.percentage_of_nodes_to_score;
        let placed = profile.place(cx, &pod, &mut self.start, percentage, &mut self.rng);
        match placed {
            Ok((placement, state)) => {
                let reserved = profile
                    .reserve(&mut self.snapshot, &state, &pod, &placement.node)
                    .and_then(|actions| {
                        let cx = Context {
                            snapshot: &self.snapshot,
                            nominated: &self.nominator,
                        };
                        match profile.permit(cx, &pod, &placement.node) {
                            Ok(()) => Ok(actions),
                            Err(rejection) => {
                                profile.unreserve(&mut self.snapshot, &actions);
                                Err(rejection)
                            }
                        }
                    });
                Some(match reserved {
                    Ok(actions) => Decision::Bind(Box::new(self.assume(waiting, placement.node, actions))),
                    Err(rejection) => self.turned_down_late(waiting, rejection, now),
                })
            }
            Err((unplaced, state)) => Some(self.unplaced(&profile, waiting, unplaced, state, now)),
        }
    }

    fn assume(&mut self, waiting: Waiting, node: Str, actions: Vec<PreBindAction>) -> Binding {
        let pod = Arc::new(Pod {
            node: Some(node.clone()),
            condition: None,
            ..waiting.pod.as_ref().clone()
        });
        self.verdict = None;
        self.nominator.set(&pod, None);
        self.snapshot.add_pod(pod.clone());
        let binding = Binding {
            pod,
            node,
            actions: actions.clone(),
            attempts: waiting.attempts,
            first_try: waiting.first_try.unwrap_or(0),
            flushed: waiting.flushed,
        };
        let uid = waiting.pod.uid.clone();
        self.assumed.insert(
            uid,
            Assumed {
                waiting,
                actions,
                expires: None,
            },
        );
        binding
    }

    fn turned_down_late(&mut self, mut waiting: Waiting, rejection: Rejection, now: Millis) -> Decision {
        if rejection.code == Code::Error {
            return self.errored(waiting, rejection.message(), now);
        }
        waiting.plugins = [rejection.plugin].into();
        let message = format!("0/1 nodes are available: 1 {}.", rejection.message());
        self.aside(waiting, message, Some(None), Vec::new(), false, now)
    }

    fn unplaced(
        &mut self,
        profile: &Profile,
        mut waiting: Waiting,
        unplaced: Unplaced,
        state: Option<crate::framework::CycleState>,
        now: Millis,
    ) -> Decision {
        let pod = waiting.pod.clone();
        match unplaced {
            Unplaced::Error(rejection) => self.errored(waiting, rejection.message(), now),
            Unplaced::NoNodes => {
                waiting.plugins.clear();
                self.aside(waiting, NO_NODES.to_owned(), Some(None), Vec::new(), false, now)
            }
            Unplaced::NoFit(mut diagnosis) => {
                let cx = Context {
                    snapshot: &self.snapshot,
                    nominated: &self.nominator,
                };
                let found = profile.post_filter(cx, state, &pod, &diagnosis, &mut self.rng);
                diagnosis.post_filter = found.message;
                let message = diagnosis.message(self.snapshot.len());
                waiting.plugins = std::mem::take(&mut diagnosis.plugins);
                let clear = !matches!(found.nominate, Some(Some(_))) && pod.nominated.is_none();
                let verdict = Verdict {
                    template: pod.template.id,
                    message: message.clone(),
                    plugins: waiting.plugins.clone(),
                    nominate: found.nominate.clone(),
                };
                let decision = self.aside(waiting, message, found.nominate, found.victims, true, now);
                self.verdict = (clear && pod.template.wishes().volumes.is_empty()).then_some(verdict);
                decision
            }
        }
    }

    /// Puts a pod aside until something may help it.
    fn aside(
        &mut self,
        mut waiting: Waiting,
        message: String,
        nominate: Option<Option<Str>>,
        victims: Vec<Arc<Pod>>,
        preemption_tried: bool,
        now: Millis,
    ) -> Decision {
        let before = waiting.pod.clone();
        if before.nominated.is_some() || matches!(nominate, Some(Some(_))) {
            self.verdict = None;
        }
        let mut displaced = Vec::new();
        if let Some(node) = &nominate {
            let pod = Arc::new(Pod {
                nominated: node.clone(),
                ..before.as_ref().clone()
            });
            if let (Some(node), false) = (node, victims.is_empty()) {
                displaced = self.displace(&pod, node);
            }
            self.nominator.set(&pod, node.as_ref());
            waiting.pod = pod;
        }
        waiting.unschedulable += 1;
        waiting.errors = 0;
        let plugins = waiting.plugins.iter().copied().collect();
        self.queue.set_aside(waiting, now);
        self.count("unschedulable", "ScheduleAttemptFailure");
        Decision::Fail(Box::new(Failure {
            pod: before,
            reason: "Unschedulable",
            message,
            nominate,
            victims,
            displaced,
            plugins,
            preemption_tried,
        }))
    }

    /// Takes nominations to a node from pods less important than the one for which room is made there; they look for another way.
    fn displace(&mut self, pod: &Pod, node: &Str) -> Vec<Arc<Pod>> {
        use crate::framework::Nominated as _;
        let lower: Vec<Arc<Pod>> = self
            .nominator
            .on(node)
            .iter()
            .filter(|p| p.priority() < pod.priority())
            .cloned()
            .collect();
        for other in &lower {
            self.nominator.set(other, None);
        }
        lower
    }

    fn errored(&mut self, mut waiting: Waiting, message: String, now: Millis) -> Decision {
        let pod = waiting.pod.clone();
        waiting.errors += 1;
        waiting.plugins.clear();
        waiting.since = now;
        self.queue.retry(waiting, now);
        self.count("backoff", "ScheduleAttemptFailure");
        Decision::Fail(Box::new(Failure {
            nominate: pod.nominated.is_some().then_some(None),
            pod,
            reason: "SchedulerError",
            message,
            victims: Vec::new(),
            displaced: Vec::new(),
            plugins: Vec::new(),
            preemption_tried: false,
        }))
    }

    /// Takes in how a binding ended. Gives what to tell about a failed one.
    pub fn bound(&mut self, uid: &Uid, result: Bound, now: Millis) -> Option<Decision> {
        if result == Bound::Done {
            if let Some(assumed) = self.assumed.get_mut(uid) {
                assumed.expires = Some(now + EXPIRES_AFTER);
            }
            return None;
        }
        self.verdict = None;
        let assumed = self.assumed.remove(uid)?;
        if let Some(profile) = self.profile(&assumed.waiting.pod) {
            profile.unreserve(&mut self.snapshot, &assumed.actions);
        }
        if let Some(gone) = self.snapshot.remove_pod(uid) {
            self.event(&ClusterEvent::PodDeleted(&gone), now);
        }
        match result {
            Bound::Failed(message) => Some(self.errored(assumed.waiting, message, now)),
            _ => None,
        }
    }

    /// Gives up on bound pods that have not been seen for long.
    pub fn expire(&mut self, now: Millis) {
        let expired: Vec<Uid> = self
            .assumed
            .iter()
            .filter(|(_, a)| a.expires.is_some_and(|at| at <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in expired {
            self.verdict = None;
            self.assumed.remove(&uid);
            if let Some(gone) = self.snapshot.remove_pod(&uid) {
                self.event(&ClusterEvent::PodDeleted(&gone), now);
            }
        }
    }

    /// Whether [`Scheduler::decide`] has something to decide now.
    pub fn is_ready(&self, now: Millis) -> bool {
        self.queue.is_ready(now)
    }
}
