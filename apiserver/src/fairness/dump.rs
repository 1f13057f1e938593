//! The pages under `/debug/api_priority_and_fairness`, in upstream's columns.

use super::{About, Active, ByName, Fairness};
use crate::answer::{self, Answer};
use crate::streaming::target::Query;
use http::StatusCode;
use jiff::Timestamp;
use rutter_api::StatusError;
use rutter_fairness::queues::DumpedRequest;
use std::time::Duration;

const LEVELS: &[&str] = &[
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const QUEUES: &[&str] = &[
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
const REQUESTS: &[&str] = &[
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: &[&str] = &[
    "UserName",
    "Verb",
    "APIPath",
    "Namespace",
    "Name",
    "APIVersion",
    "Resource",
    "SubResource",
];

/// Answers a page; `path` is what follows `/debug/api_priority_and_fairness/`.
pub fn answer(fairness: Option<&Fairness>, path: &str, query: &Query, now: Timestamp) -> Answer {
    let fairness = fairness.ok_or_else(StatusError::path_not_found)?;
    let rows = match path {
        "dump_priority_levels" => fairness.dump_levels(),
        "dump_queues" => fairness.dump_queues(),
        "dump_requests" => {
            let details = query
                .first("includeRequestDetails")
                .is_some_and(|text| !text.is_empty());
            fairness.dump_requests(details, now)
        }
        _ => return Err(StatusError::path_not_found()),
    };
    Ok(answer::text(StatusCode::OK, table(&rows)))
}

impl Fairness {
    fn dump_levels(&self) -> Vec<Vec<String>> {
        let mut rows = vec![head(LEVELS)];
        let force = self.force.load();
        let draining = self.draining.lock();
        let mut states: ByName<'_> = draining
            .iter()
            .map(|state| (state.name.as_str(), &**state))
            .collect();
        let quiescing: Vec<&str> = states.keys().copied().collect();
        states.extend(
            force
                .levels
                .iter()
                .map(|active| (active.spec.name.as_str(), &*active.state)),
        );
        let mut names: Vec<&str> = states.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let Some(state) = states.get(name) else { continue };
            let set = state.set.lock();
            let (totals, queues) = (set.queues.totals(), &set.queues);
            rows.push(vec![
                name.to_owned(),
                queues
                    .dump_queues()
                    .filter(|queue| queue.pending > 0)
                    .count()
                    .to_string(),
                queues.is_idle().to_string(),
                quiescing.contains(&name).to_string(),
                totals.waiting.to_string(),
                totals.executing.to_string(),
                totals.dispatched.to_string(),
                totals.rejected.to_string(),
                totals.timed_out.to_string(),
                totals.cancelled.to_string(),
            ]);
        }
        rows
    }

    fn dump_queues(&self) -> Vec<Vec<String>> {
        let mut rows = vec![head(QUEUES)];
        for Active { spec, state } in &self.force.load().levels {
            for (index, queue) in state.set.lock().queues.dump_queues().enumerate() {
                rows.push(vec![
                    spec.name.clone(),
                    index.to_string(),
                    queue.pending.to_string(),
                    queue.executing.to_string(),
                    queue.seats.to_string(),
                    format!("{:.8}ss", queue.next),
                    queue.initial_seats.to_string(),
                    queue.most_seats.to_string(),
                    format!("{:.8}ss", queue.work),
                ]);
            }
        }
        rows
    }

    fn dump_requests(&self, details: bool, now: Timestamp) -> Vec<Vec<String>> {
        let mut first = head(REQUESTS);
        if details {
            first.extend(head(DETAILS));
        }
        let mut rows = vec![first];
        let began = now.checked_sub(jiff::SignedDuration::try_from(self.now()).unwrap_or_default());
        let began = began.unwrap_or(now);
        for Active { spec, state } in &self.force.load().levels {
            let set = state.set.lock();
            for request in set.queues.dump_requests() {
                rows.push(row(&spec.name, &request, details, began));
            }
        }
        rows
    }
}

fn row(level: &str, request: &DumpedRequest<'_, About>, details: bool, began: Timestamp) -> Vec<String> {
    let index = |place: Option<usize>| place.map_or("-1".to_owned(), |place| place.to_string());
    let time = |since: Duration| {
        let at = jiff::SignedDuration::try_from(since).ok();
        let at = at.and_then(|since| began.checked_add(since).ok());
        at.unwrap_or(began).to_string()
    };
    let mut texts = request.about.texts.split('\0').map(str::to_owned);
    let mut row = vec![
        level.to_owned(),
        request.about.flow.schema.name.clone(),
        index(request.queue),
        index(request.place),
        texts.next().unwrap_or_default(),
        time(request.arrived),
        request.work.seats.to_string(),
        request.work.later.to_string(),
        format!("{:?}", request.work.lasts),
        request.started.map_or("0001-01-01T00:00:00Z".to_owned(), time),
    ];
    if details {
        row.extend(texts);
    }
    row
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Cells with commas, padded to columns.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0) + 2)
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == row.len() {
                text.push_str(cell);
            } else {
                let width = widths.get(column).copied().unwrap_or(0).max(8);
                text.push_str(&format!("{:<width$}", format!("{cell},")));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_in_columns() {
        let rows = [
            vec!["a".to_owned(), "bb".to_owned()],
            vec!["a-long-one".to_owned(), "c".to_owned()],
        ];
        assert_eq!(table(&rows), "a,          bb\na-long-one, c\n");
    }
}
