//! A profile: plugins in their order at each point, and how the points are run.

use super::{
    Code, Context, CycleState, Diagnosis, MAX_SCORE, POINTS, Plugin, Point, PostFilter, PreBindAction,
    PreFilter, PreScore, Rejection, Rng,
};
use crate::model::{Pod, Str};
use crate::snapshot::{NodeInfo, Snapshot};
use std::sync::Arc;

/// Plugins under a scheduler's name.
pub struct Profile {
    /// What pods give as spec.schedulerName.
    pub name: Str,
    /// The plugins.
    pub plugins: Vec<Arc<dyn Plugin>>,
    /// How many percent of the nodes are scored; 0 adapts to their number. None takes the scheduler's.
    pub percentage_of_nodes_to_score: Option<u32>,
    points: [Vec<usize>; POINTS.len()],
    weights: Vec<i64>,
}

/// Where a pod should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: Str,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many of them would do.
    pub feasible: usize,
}

/// Why there is no placement.
#[derive(Debug)]
pub enum Unplaced {
    /// There are no nodes at all.
    NoNodes,
    /// No node will do.
    NoFit(Box<Diagnosis>),
    /// Something went wrong.
    Error(Rejection),
}

const MIN_FEASIBLE: usize = 100;

/// How many feasible nodes are enough among `nodes`.
pub fn enough(percentage: u32, nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percentage = match percentage as usize {
        0 => 50_usize.saturating_sub(nodes / 125).max(5),
        given => given,
    };
    (nodes * percentage / 100).max(MIN_FEASIBLE)
}

impl Profile {
    /// From plugins, the order of each point (as indexes into `plugins`), and each plugin's weight.
    pub fn new(
        name: Str,
        plugins: Vec<Arc<dyn Plugin>>,
        points: [Vec<usize>; POINTS.len()],
        weights: Vec<i64>,
        percentage_of_nodes_to_score: Option<u32>,
    ) -> Self {
        Self {
            name,
            plugins,
            percentage_of_nodes_to_score,
            points,
            weights,
        }
    }

    fn at(&self, point: Point) -> impl Iterator<Item = (usize, &dyn Plugin)> {
        self.points[point as usize]
            .iter()
            .filter_map(|&i| Some((i, self.plugins.get(i)?.as_ref())))
    }

    /// A plugin by name.
    pub fn plugin(&self, name: &str) -> Option<&dyn Plugin> {
        self.plugins.iter().find(|p| p.name() == name).map(AsRef::as_ref)
    }

    /// Whether anything is asked at a point.
    pub fn has(&self, point: Point) -> bool {
        !self.points[point as usize].is_empty()
    }

    /// Whether a pod may be considered.
    pub fn pre_enqueue(&self, pod: &Pod) -> Result<(), Rejection> {
        for (_, plugin) in self.at(Point::PreEnqueue) {
            plugin.pre_enqueue(pod).map_err(|r| r.by(plugin.name()))?;
        }
        Ok(())
    }

    /// Runs pre-filters. Gives the state, and the only nodes to look at when some plugin limits them.
    pub fn pre_filter(
        &self,
        cx: Context<'_>,
        pod: &Pod,
        diagnosis: &mut Diagnosis,
    ) -> Result<(CycleState, Option<Vec<Str>>), Rejection> {
        let mut state = CycleState::new(self.plugins.len());
        let mut only: Option<Vec<Str>> = None;
        let mut limiting = Vec::new();
        for (i, plugin) in self.at(Point::PreFilter) {
            match plugin.pre_filter(cx, pod) {
                PreFilter::Skip => state.skip_filter[i] = true,
                PreFilter::Run(own) => state.filter[i] = own,
                PreFilter::Only(names, own) => {
                    state.filter[i] = own;
                    limiting.push(plugin.name());
                    only = Some(match only {
                        None => names,
                        Some(before) => before.into_iter().filter(|n| names.contains(n)).collect(),
                    });
                    if only.as_ref().is_some_and(Vec::is_empty) {
                        diagnosis.plugins.extend(limiting.iter());
                        let message = match limiting.as_slice() {
                            [_] => "node(s) didn't satisfy plugin(s) [".to_owned() + plugin.name() + "]",
                            _ => format!(
                                "node(s) didn't satisfy plugin(s) [{}] simultaneously",
                                limiting.join(" ")
                            ),
                        };
                        return Err(Rejection::unresolvable(message));
                    }
                }
                PreFilter::Reject(rejection) => {
                    let rejection = rejection.by(plugin.name());
                    if rejection.code != Code::Error {
                        diagnosis.plugins.insert(plugin.name());
                    }
                    return Err(rejection);
                }
            }
        }
        if only.is_some() {
            diagnosis.plugins.extend(limiting.iter());
            limiting.sort_unstable();
            diagnosis.absent = Some(Rejection::unresolvable(format!(
                "node(s) didn't satisfy plugin(s) [{}]",
                limiting.join(" ")
            )));
        }
        Ok((state, only))
    }

    /// Runs filters on one node.
    pub fn filter(
        &self,
        cx: Context<'_>,
        state: &CycleState,
        pod: &Pod,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        for (i, plugin) in self.at(Point::Filter) {
            if !state.skip_filter[i] {
                plugin
                    .filter(cx, state.filter[i].as_deref(), pod, node)
                    .map_err(|r| r.by(plugin.name()))?;
            }
        }
        Ok(())
    }

    /// Runs filters on one node, as it is and as it will be when pods of the same or a higher priority that are nominated to it have come.
    pub fn filter_with_nominated(
        &self,
        cx: Context<'_>,
        state: &CycleState,
        pod: &Pod,
        node: &NodeInfo,
    ) -> Result<(), Rejection> {
        let name = node.node.as_ref().map(|n| &n.name);
        let coming = name.map(|n| cx.nominated.on(n)).unwrap_or_default();
        let mut coming = coming
            .iter()
            .filter(|p| p.priority() >= pod.priority() && p.uid != pod.uid)
            .peekable();
        if coming.peek().is_some() {
            let mut state = state.copy_for_filter();
            let mut node = node.clone();
            for other in coming {
                self.add_pod(cx, &mut state, pod, other, &mut node);
            }
            self.filter(cx, &state, pod, &node)?;
        }
        self.filter(cx, state, pod, node)
    }

    /// Adds a pod to a node in what-if state.
    pub fn add_pod(
        &self,
        cx: Context<'_>,
        state: &mut CycleState,
        pod: &Pod,
        added: &Arc<Pod>,
        node: &mut NodeInfo,
    ) {
        node.add(added.clone());
        for (i, plugin) in self.at(Point::PreFilter) {
            if let Some(own) = state.filter[i].as_deref_mut() {
                plugin.add_pod(cx, own, pod, added, node);
            }
        }
    }

    /// Removes a pod from a node in what-if state.
    pub fn remove_pod(
        &self,
        cx: Context<'_>,
        state: &mut CycleState,
        pod: &Pod,
        removed: &Pod,
        node: &mut NodeInfo,
    ) {
        node.remove(&removed.uid);
        for (i, plugin) in self.at(Point::PreFilter) {
            if let Some(own) = state.filter[i].as_deref_mut() {
                plugin.remove_pod(cx, own, pod, removed, node);
            }
        }
    }

    /// Finds a node for a pod. `start` is where in the order of nodes to begin, and is moved on; `percentage` is the scheduler's share of nodes
    /// to score.
    pub fn place(
        &self,
        cx: Context<'_>,
        pod: &Pod,
        start: &mut usize,
        percentage: u32,
        rng: &mut Rng,
    ) -> Result<(Placement, CycleState), (Unplaced, Option<CycleState>)> {
        let total = cx.snapshot.len();
        if total == 0 {
            return Err((Unplaced::NoNodes, None));
        }
        let mut diagnosis = Diagnosis::default();
        let (mut state, only) = match self.pre_filter(cx, pod, &mut diagnosis) {
            Ok(done) => done,
            Err(rejection) if rejection.code == Code::Error => {
                return Err((Unplaced::Error(rejection), None));
            }
            Err(rejection) => {
                diagnosis.pre_filter = Some(rejection.message());
                diagnosis.absent = Some(rejection);
                return Err((Unplaced::NoFit(Box::new(diagnosis)), None));
            }
        };
        if let Some(node) = pod.nominated.as_ref().and_then(|n| cx.snapshot.node(n))
            && self.filter_with_nominated(cx, &state, pod, node).is_ok()
        {
            let placement = Placement {
                node: node.name(),
                evaluated: 1,
                feasible: 1,
            };
            return Ok((placement, state));
        }
        let limited: Option<Vec<&NodeInfo>> =
            only.map(|names| names.iter().filter_map(|n| cx.snapshot.node(n)).collect());
        let among = limited.as_ref().map_or(total, Vec::len);
        let percentage = self.percentage_of_nodes_to_score.unwrap_or(percentage);
        let wanted = if self.has(Point::Score) {
            enough(percentage, among)
        } else {
            among.min(1)
        };
        let mut feasible = Vec::with_capacity(wanted);
        for i in 0..among {
            let at = (*start + i) % among;
            let Some(node) = (match &limited {
                Some(nodes) => nodes.get(at).copied(),
                None => cx.snapshot.at(at),
            }) else {
                continue;
            };
            match self.filter_with_nominated(cx, &state, pod, node) {
                Ok(()) => {
                    feasible.push(node);
                    if feasible.len() == wanted {
                        break;
                    }
                }
                Err(rejection) if rejection.code == Code::Error => {
                    return Err((Unplaced::Error(rejection), Some(state)));
                }
                Err(rejection) => diagnosis.reject(node.slot, rejection),
            }
        }
        let evaluated = feasible.len() + diagnosis.nodes.len();
        *start = (*start + evaluated) % total;
        let node = match feasible.as_slice() {
            [] => return Err((Unplaced::NoFit(Box::new(diagnosis)), Some(state))),
            [node] => node,
            nodes => self.best(cx, &mut state, pod, nodes, rng),
        };
        let placement = Placement {
            node: node.name(),
            evaluated,
            feasible: feasible.len(),
        };
        Ok((placement, state))
    }

    /// The best of several nodes; chance decides among equals.
    fn best<'a>(
        &self,
        cx: Context<'_>,
        state: &mut CycleState,
        pod: &Pod,
        nodes: &[&'a NodeInfo],
        rng: &mut Rng,
    ) -> &'a NodeInfo {
        for (i, plugin) in self.at(Point::PreScore) {
            match plugin.pre_score(cx, pod, nodes) {
                PreScore::Skip => state.skip_score[i] = true,
                PreScore::Run(own) => state.score[i] = own,
            }
        }
        let mut totals = vec![0_i64; nodes.len()];
        let mut scores = vec![0_i64; nodes.len()];
        for (i, plugin) in self.at(Point::Score) {
            if state.skip_score[i] {
                continue;
            }
            let own = state.score[i].as_deref();
            for (score, node) in scores.iter_mut().zip(nodes) {
                *score = plugin.score(cx, own, pod, node);
            }
            plugin.normalize(own, nodes, &mut scores);
            let weight = self.weights.get(i).copied().unwrap_or(1);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += (*score).clamp(0, MAX_SCORE) * weight;
            }
        }
        let best = totals.iter().copied().max().unwrap_or(0);
        let ties = totals.iter().filter(|t| **t == best).count();
        let chosen = totals
            .iter()
            .enumerate()
            .filter(|(_, t)| **t == best)
            .nth(rng.below(ties))
            .map_or(0, |(i, _)| i);
        nodes[chosen]
    }

    /// Looks for another way after no node would do.
    pub fn post_filter(
        &self,
        cx: Context<'_>,
        state: Option<CycleState>,
        pod: &Pod,
        diagnosis: &Diagnosis,
        rng: &mut Rng,
    ) -> PostFilter {
        let state = state.unwrap_or_else(|| CycleState::new(self.plugins.len()));
        let mut all = PostFilter::default();
        for (_, plugin) in self.at(Point::PostFilter) {
            let found = plugin.post_filter(cx, self, &state, pod, diagnosis, rng);
            if matches!(found.nominate, Some(Some(_))) {
                return found;
            }
            if !found.message.is_empty() {
                if !all.message.is_empty() {
                    all.message.push_str(", ");
                }
                all.message.push_str(&found.message);
            }
            all.nominate = found.nominate.or(all.nominate);
        }
        all
    }

    /// Sets aside what the pod needs on its node. On a rejection everything is given back.
    pub fn reserve(
        &self,
        snapshot: &mut Snapshot,
        state: &CycleState,
        pod: &Pod,
        node: &Str,
    ) -> Result<Vec<PreBindAction>, Rejection> {
        let mut actions = Vec::new();
        for (i, plugin) in self.at(Point::Reserve) {
            match plugin.reserve(snapshot, state.filter[i].as_deref(), pod, node) {
                Ok(more) => actions.extend(more),
                Err(rejection) => {
                    self.unreserve(snapshot, &actions);
                    return Err(rejection.by(plugin.name()));
                }
            }
        }
        Ok(actions)
    }

    /// Gives back what was set aside.
    pub fn unreserve(&self, snapshot: &mut Snapshot, actions: &[PreBindAction]) {
        for (_, plugin) in self.at(Point::Reserve) {
            plugin.unreserve(snapshot, actions);
        }
    }

    /// Whether binding may start.
    pub fn permit(&self, cx: Context<'_>, pod: &Pod, node: &Str) -> Result<(), Rejection> {
        for (_, plugin) in self.at(Point::Permit) {
            plugin.permit(cx, pod, node).map_err(|r| r.by(plugin.name()))?;
        }
        Ok(())
    }

    /// Whether some plugin binds the pod.
    pub fn binds(&self, pod: &Pod) -> bool {
        self.at(Point::Bind).any(|(_, plugin)| plugin.binds(pod))
    }
}
