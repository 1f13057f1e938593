//! The plugin framework: what a plugin may decide, and when it is asked.
//!
//! One trait for all extension points, each with a default of doing nothing; a plugin names the points it takes part in. Plugins are pure: they see the
//! snapshot and answer. What must be written before a pod is bound is returned by `reserve` as [`PreBindAction`]s, and performed elsewhere.

pub mod diagnosis;
pub mod events;
pub mod profile;
pub mod rng;
pub mod status;

pub use diagnosis::Diagnosis;
pub use events::{ClusterEvent, Interest};
pub use profile::Profile;
pub use rng::Rng;
pub use status::{Code, Rejection};

use crate::model::volume::{Claim, Volume};
use crate::model::{Pod, Str};
use crate::snapshot::{NodeInfo, Snapshot};
use std::any::Any;
use std::sync::Arc;

/// The highest score a plugin gives after normalizing; the lowest is 0.
pub const MAX_SCORE: i64 = 100;

/// Extension points, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Points(u16);

/// One extension point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// Before a pod enters the active queue.
    PreEnqueue,
    /// The order of the active queue.
    QueueSort,
    /// Once for each decision.
    PreFilter,
    /// For each node.
    Filter,
    /// When no node is left.
    PostFilter,
    /// Once, when nodes are left.
    PreScore,
    /// For each node that is left.
    Score,
    /// When a node is chosen.
    Reserve,
    /// Before binding starts.
    Permit,
    /// What is written before binding.
    PreBind,
    /// Binding.
    Bind,
    /// After binding.
    PostBind,
}

/// All points, in the order of a cycle, with the names that configuration uses.
pub const POINTS: [(Point, &str); 12] = [
    (Point::PreEnqueue, "preEnqueue"),
    (Point::QueueSort, "queueSort"),
    (Point::PreFilter, "preFilter"),
    (Point::Filter, "filter"),
    (Point::PostFilter, "postFilter"),
    (Point::PreScore, "preScore"),
    (Point::Score, "score"),
    (Point::Reserve, "reserve"),
    (Point::Permit, "permit"),
    (Point::PreBind, "preBind"),
    (Point::Bind, "bind"),
    (Point::PostBind, "postBind"),
];

impl Points {
    /// A set of points.
    pub const fn of(points: &[Point]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < points.len() {
            bits |= 1 << points[i] as u16;
            i += 1;
        }
        Self(bits)
    }

    /// Whether a point is among them.
    pub const fn has(self, point: Point) -> bool {
        self.0 & (1 << point as u16) != 0
    }
}

/// What a plugin remembers between the points of one decision.
pub trait State: Any + Send + Sync {
    /// A copy, for trying out what would be if.
    fn copy(&self) -> Box<dyn State>;
    /// For finding the plugin's own type again.
    fn as_any(&self) -> &dyn Any;
    /// The same, to change it.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Clone + Send + Sync> State for T {
    fn copy(&self) -> Box<dyn State> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The plugin's own type behind a state.
pub fn own<T: 'static>(state: Option<&dyn State>) -> Option<&T> {
    state.and_then(|s| s.as_any().downcast_ref())
}

/// What all plugins of a profile remember during one decision, by the plugin's number.
#[derive(Default)]
pub struct CycleState {
    /// After pre-filter; nothing for plugins that skipped.
    pub filter: Vec<Option<Box<dyn State>>>,
    /// Which plugins' filters are left out in this decision.
    pub skip_filter: Vec<bool>,
    /// After pre-score.
    pub score: Vec<Option<Box<dyn State>>>,
    /// Which plugins' scores are left out in this decision.
    pub skip_score: Vec<bool>,
}

impl CycleState {
    /// For a number of plugins.
    pub fn new(plugins: usize) -> Self {
        Self {
            filter: (0..plugins).map(|_| None).collect(),
            skip_filter: vec![false; plugins],
            score: (0..plugins).map(|_| None).collect(),
            skip_score: vec![false; plugins],
        }
    }

    /// A copy of what filters need.
    pub fn copy_for_filter(&self) -> Self {
        Self {
            filter: self
                .filter
                .iter()
                .map(|s| s.as_ref().map(|s| s.as_ref().copy()))
                .collect(),
            skip_filter: self.skip_filter.clone(),
            score: Vec::new(),
            skip_score: Vec::new(),
        }
    }
}

/// What pre-filter says.
pub enum PreFilter {
    /// The plugin's filter has nothing to say about this pod.
    Skip,
    /// Go on, remembering this.
    Run(Option<Box<dyn State>>),
    /// Go on, with only these nodes.
    Only(Vec<Str>, Option<Box<dyn State>>),
    /// No node will do.
    Reject(Rejection),
}

/// What pre-score says.
pub enum PreScore {
    /// The plugin scores all nodes alike.
    Skip,
    /// Go on, remembering this.
    Run(Option<Box<dyn State>>),
}

/// What must be written before a pod is bound.
#[derive(Clone, Debug)]
pub enum PreBindAction {
    /// Bind the volume to the claim: write the volume's claimRef.
    BindVolume {
        /// The volume.
        volume: Arc<Volume>,
        /// The claim.
        claim: Arc<Claim>,
    },
    /// Name the claim's node to its provisioner.
    SelectNode {
        /// The claim.
        claim: Arc<Claim>,
        /// The node.
        node: Str,
    },
    /// Wait until the claims are bound. It fails when a provisioner gives its node back.
    AwaitBound {
        /// The claims.
        claims: Vec<Arc<Claim>>,
        /// The node they are provisioned for.
        node: Str,
        /// For how long.
        timeout: std::time::Duration,
    },
}

/// What post-filter found.
#[derive(Debug, Default)]
pub struct PostFilter {
    /// What to set the pod's nominated node to: `Some(None)` clears it, `None` leaves it.
    pub nominate: Option<Option<Str>>,
    /// Pods to send away.
    pub victims: Vec<Arc<Pod>>,
    /// What to add to the pod's message.
    pub message: String,
}

/// Pods for which room is being made on nodes, and which therefore count there.
pub trait Nominated {
    /// Those nominated to a node.
    fn on(&self, node: &Str) -> &[Arc<Pod>];
}

/// What plugins see.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The cluster.
    pub snapshot: &'a Snapshot,
    /// Pods for which room is being made.
    pub nominated: &'a dyn Nominated,
}

/// A plugin. See [`Point`] for when each is asked.
pub trait Plugin: Send + Sync {
    /// The name that configuration and metrics use.
    fn name(&self) -> &'static str;

    /// Where it takes part.
    fn points(&self) -> Points;

    /// The node labels whose places it asks the snapshot for, besides those that pods name.
    fn topology_keys(&self) -> Vec<Str> {
        Vec::new()
    }

    /// Which events may help a pod that it rejected.
    fn interests(&self) -> Interest {
        Interest::NONE
    }

    /// Whether an event it is interested in may help this pod.
    fn hint(&self, _cx: Context<'_>, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        true
    }

    /// Whether a pod may be considered at all.
    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), Rejection> {
        Ok(())
    }

    /// Looks at the pod once, before nodes.
    fn pre_filter(&self, _cx: Context<'_>, _pod: &Pod) -> PreFilter {
        PreFilter::Run(None)
    }

    /// Changes what it remembers as if a pod were added to a node.
    fn add_pod(&self, _cx: Context<'_>, _state: &mut dyn State, _pod: &Pod, _added: &Pod, _node: &NodeInfo) {}

    /// Changes what it remembers as if a pod were removed from a node.
    fn remove_pod(
        &self,
        _cx: Context<'_>,
        _state: &mut dyn State,
        _pod: &Pod,
        _removed: &Pod,
        _node: &NodeInfo,
    ) {
    }

    /// Whether a node will do.
    fn filter(
        &self,
        _cx: Context<'_>,
        _state: Option<&dyn State>,
        _pod: &Pod,
        _node: &NodeInfo,
    ) -> Result<(), Rejection> {
        Ok(())
    }

    /// Finds a way when no node will do.
    fn post_filter(
        &self,
        _cx: Context<'_>,
        _profile: &Profile,
        _state: &CycleState,
        _pod: &Pod,
        _diagnosis: &Diagnosis,
        _rng: &mut Rng,
    ) -> PostFilter {
        PostFilter::default()
    }

    /// Looks at the nodes that are left once, before scoring.
    fn pre_score(&self, _cx: Context<'_>, _pod: &Pod, _nodes: &[&NodeInfo]) -> PreScore {
        PreScore::Run(None)
    }

    /// How good a node is.
    fn score(&self, _cx: Context<'_>, _state: Option<&dyn State>, _pod: &Pod, _node: &NodeInfo) -> i64 {
        0
    }

    /// Brings scores into 0 to [`MAX_SCORE`].
    fn normalize(&self, _state: Option<&dyn State>, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}

    /// Sets aside what the pod needs on the node, and says what must be written before it is bound.
    fn reserve(
        &self,
        _snapshot: &mut Snapshot,
        _state: Option<&dyn State>,
        _pod: &Pod,
        _node: &Str,
    ) -> Result<Vec<PreBindAction>, Rejection> {
        Ok(Vec::new())
    }

    /// Gives back what was set aside; must bear being called without a reservation.
    fn unreserve(&self, _snapshot: &mut Snapshot, _actions: &[PreBindAction]) {}

    /// Whether binding may start.
    fn permit(&self, _cx: Context<'_>, _pod: &Pod, _node: &Str) -> Result<(), Rejection> {
        Ok(())
    }

    /// Whether it binds this pod, by writing its node to the apiserver.
    fn binds(&self, _pod: &Pod) -> bool {
        false
    }
}
