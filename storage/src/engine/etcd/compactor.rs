//! Compacts etcd's history by age, as upstream's apiserver does and together with it: whoever moves `compact_rev_key` from the
//! version it saw an interval ago compacts to the revision of then; the others take note.

use super::{Asked, Connection, revision_of};
use crate::{Revision, StoreError};
use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const KEY: &str = "compact_rev_key";

pub(super) async fn run(connection: Arc<Connection>, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        let (mut version, mut seen) = (0, Revision(0));
        loop {
            tokio::time::sleep(connection.options.compaction_interval).await;
            match round(&connection, version, seen).await {
                Ok((now, at)) => (version, seen) = (now, at),
                Err(error) => {
                    tracing::warn!(%error, "compacting etcd failed; trying again at the next interval")
                }
            }
        }
    })
    .await;
}

/// One round: the key's version and the store's revision, for the next round.
async fn round(connection: &Connection, version: i64, seen: Revision) -> Result<(i64, Revision), StoreError> {
    let txn = Txn::new()
        .when(vec![Compare::version(KEY, CompareOp::Equal, version)])
        .and_then(vec![TxnOp::put(KEY, seen.to_string(), None)])
        .or_else(vec![TxnOp::get(KEY, None)]);
    let answer = connection
        .bounded(Asked::Nothing, async { connection.kv().txn(txn).await })
        .await?;
    let now = revision_of(answer.header());
    if !answer.succeeded() {
        let found = answer.op_responses().into_iter().find_map(|found| match found {
            TxnOpResponse::Get(found) => found.kvs().first().map(etcd_client::KeyValue::version),
            _ => None,
        });
        return Ok((found.unwrap_or(0), now));
    }
    if seen > Revision(0) {
        let compact = async { connection.kv().compact(seen.0 as i64, None).await };
        match connection.bounded(Asked::Revision(seen), compact).await {
            Ok(_) | Err(StoreError::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((version + 1, now))
}
