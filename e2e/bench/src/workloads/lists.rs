//! Lists: all, selected, concurrent, page by page. Each answer's objects are counted.

use super::{Bench, Progress, ask, pods_path};
use crate::objects::{Counter, MARK, group_name, node_name};
use crate::record::Record;
use crate::wire::Wire;
use memchr::memmem;
use std::sync::Arc;
use std::time::Instant;

pub(super) async fn all(bench: &Arc<Bench>) -> Record {
    many(bench, 1, bench.sizes.lists).await
}

pub(super) async fn concurrent(bench: &Arc<Bench>) -> Record {
    many(bench, bench.sizes.list_clients, bench.sizes.concurrent_lists).await
}

async fn many(bench: &Arc<Bench>, clients: usize, total: usize) -> Record {
    bench
        .drive(clients, total, |bench, wire, _| async move {
            ask(
                &wire,
                &bench.get(pods_path("")),
                200,
                Some(bench.sizes.pods as u64),
            )
            .await
        })
        .await
}

/// How many pods have a number below `pods` that `each` share a quotient `n` of.
pub(super) fn share(pods: usize, each: usize, n: usize) -> u64 {
    pods.saturating_sub(n * each).min(each) as u64
}

pub(super) async fn by_label(bench: &Arc<Bench>, total: usize) -> Record {
    bench
        .drive(bench.sizes.clients, total, |bench, wire, n| async move {
            let (pods, each) = (bench.sizes.pods, bench.sizes.pods_per_label.max(1));
            let value = n * 31 % pods.div_ceil(each).max(1);
            let path = format!("{}?labelSelector=group%3D{}", pods_path(""), group_name(value));
            ask(&wire, &bench.get(path), 200, Some(share(pods, each, value))).await
        })
        .await
}

pub(super) async fn by_field(bench: &Arc<Bench>) -> Record {
    bench
        .drive(
            bench.sizes.clients,
            bench.sizes.selected_lists,
            |bench, wire, n| async move {
                let (pods, each) = (bench.sizes.pods, bench.sizes.pods_per_node.max(1));
                let value = n * 31 % pods.div_ceil(each).max(1);
                let path = format!(
                    "/api/v1/pods?fieldSelector=spec.nodeName%3D{}&resourceVersion=0",
                    node_name(value)
                );
                ask(&wire, &bench.get(path), 200, Some(share(pods, each, value))).await
            },
        )
        .await
}

/// All pods, a page after the other; each page is a request. As JSON, because the token is read from the text.
pub(super) async fn paged(bench: &Arc<Bench>) -> Record {
    let mut record = Record::default();
    let Some(wire) = bench.wires().into_iter().next() else {
        return record;
    };
    let mut progress = Progress::begin();
    for n in 0..bench.sizes.lists {
        progress.tell(|| format!("{n} of {}", bench.sizes.lists));
        if let Err(why) = walk(bench, &wire, &mut record).await {
            record.failed(why, 1);
        }
    }
    record
}

async fn walk(bench: &Bench, wire: &Wire, record: &mut Record) -> Result<(), String> {
    let mut token = String::new();
    let mut objects = 0;
    loop {
        let mut call = bench.get(format!("{}?limit={}{token}", pods_path(""), bench.sizes.page));
        call.accept = "application/json";
        let mut counter = Counter::new(MARK);
        let mut head = Vec::new();
        let began = Instant::now();
        let answer = wire
            .call(&call, |piece| {
                counter.see(piece);
                if head.len() < HEAD {
                    head.extend_from_slice(piece);
                }
            })
            .await
            .map_err(|broken| broken.to_string())?;
        if answer.status != 200 {
            return Err(format!("status {} where 200 was expected", answer.status));
        }
        record.answered(began.elapsed(), answer.bytes);
        objects += counter.count;
        match next(&head) {
            Some(next) => token = format!("&continue={next}"),
            None => break,
        }
    }
    let wanted = bench.sizes.pods as u64;
    if objects != wanted {
        return Err(format!(
            "{objects} objects on all pages where {wanted} were expected"
        ));
    }
    Ok(())
}

/// The list's metadata comes within so many bytes.
const HEAD: usize = 1024;

fn next(head: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\"continue\":\"";
    let head = head.get(..HEAD.min(head.len()))?;
    let items = memmem::find(head, b"\"items\"").unwrap_or(head.len());
    let from = memmem::find(head.get(..items)?, KEY)? + KEY.len();
    let rest = head.get(from..)?;
    std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?)
        .ok()
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_the_head() {
        assert_eq!(
            next(br#"{"metadata":{"continue":"abc","x":1},"items":["#),
            Some("abc")
        );
        assert_eq!(
            next(br#"{"metadata":{"resourceVersion":"1"},"items":[{"continue":"no"}]}"#),
            None
        );
    }

    #[test]
    fn the_last_group_may_be_smaller() {
        assert_eq!(
            [share(60, 25, 0), share(60, 25, 2), share(60, 25, 3)],
            [25, 10, 0]
        );
    }
}
