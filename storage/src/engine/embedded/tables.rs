//! The file's layout, and reading from it.
//!
//! - `meta`: the format, the clock, and how far history has been forgotten.
//! - `keys`: each living key, with the place of its last put.
//! - `log`: every change by revision and number within it, with the value. The place of the key's state before is in it, so that the
//!   past can be read and forgotten without a scan of the whole.
//! - `expiry`: puts with a time to live, by when it ends.
//!
//! Values are in the log only. A change that nothing refers to and that lies before the compacted revision is dropped.

use crate::{Change, KeyValue, RangeRequest, RangeResponse, Revision, StoreError};
use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::ops::Bound;

/// A revision, and the change's number within it.
pub(super) type Place = (u64, u32);

pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// To the place of the last put and the revision of the first.
pub(super) const KEYS: TableDefinition<&str, (Place, u64)> = TableDefinition::new("keys");
pub(super) const LOG: TableDefinition<Place, &[u8]> = TableDefinition::new("log");
/// By the end of life in milliseconds since 1970.
pub(super) const EXPIRY: TableDefinition<(u64, Place), ()> = TableDefinition::new("expiry");

pub(super) const FORMAT: (&str, u64) = ("rutter-storage-format", 1);
pub(super) const REVISION: &str = "revision";
/// The oldest revision that can be asked for.
pub(super) const COMPACTED: &str = "compacted";
/// Up to where (exclusive) the log has been cleared of what compaction made useless.
pub(super) const CLEARED: &str = "cleared";

const HEADER: usize = 1 + 8 + 4 + 8 + 4;
const DELETE: u8 = 0;
const PUT: u8 = 1;

/// A change as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: &'a str,
    /// None for a delete.
    pub(super) value: Option<&'a [u8]>,
    /// Where the key's state before is; none when it didn't exist.
    pub(super) before: Option<Place>,
    pub(super) created: u64,
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let value = self.value.unwrap_or_default();
        let (revision, number) = self.before.unwrap_or_default();
        let mut out = Vec::with_capacity(HEADER + self.key.len() + value.len());
        out.push(if self.value.is_some() { PUT } else { DELETE });
        out.extend_from_slice(&revision.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&self.created.to_le_bytes());
        out.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(value);
        out
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let parse = || {
            let (kind, rest) = bytes.split_first()?;
            let (revision, rest) = rest.split_first_chunk::<8>()?;
            let (number, rest) = rest.split_first_chunk::<4>()?;
            let (created, rest) = rest.split_first_chunk::<8>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let before = (u64::from_le_bytes(*revision), u32::from_le_bytes(*number));
            Some(Self {
                key: std::str::from_utf8(key).ok()?,
                value: (*kind == PUT).then_some(value),
                before: (before.0 > 0).then_some(before),
                created: u64::from_le_bytes(*created),
            })
        };
        parse().ok_or_else(|| {
            StoreError::Fatal("the store's file is damaged: a log record does not decode".into())
        })
    }
}

/// An error of the database as the contract's.
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Fatal(format!("the store's file: {}", error.into()))
}

/// A state of the store to read from.
pub(super) struct View {
    transaction: ReadTransaction,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
}

impl View {
    pub(super) fn new(transaction: ReadTransaction) -> Result<Self, StoreError> {
        let meta = transaction.open_table(META).map_err(failed)?;
        let number = |name| -> Result<Revision, StoreError> {
            Ok(Revision(
                meta.get(name).map_err(failed)?.map_or(1, |found| found.value()),
            ))
        };
        let (revision, compacted) = (number(REVISION)?, number(COMPACTED)?);
        drop(meta);
        Ok(Self {
            transaction,
            revision,
            compacted,
        })
    }

    pub(super) fn check(&self, asked: Revision) -> Result<(), StoreError> {
        if asked < self.compacted {
            return Err(StoreError::Compacted {
                asked,
                oldest: self.compacted,
            });
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let keys = self.transaction.open_table(KEYS).map_err(failed)?;
        let log = self.transaction.open_table(LOG).map_err(failed)?;
        read(&keys, &log, key)
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let at = request.revision.unwrap_or(self.revision);
        if at > self.revision {
            return Err(StoreError::Future {
                asked: at,
                current: self.revision,
            });
        }
        self.check(at)?;
        let keys = self.transaction.open_table(KEYS).map_err(failed)?;
        let log = self.transaction.open_table(LOG).map_err(failed)?;
        let prefix = request.prefix.as_str();
        let after = request.after.as_deref();
        let low = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        // Where the keys that changed since stood then: the first change after it knows.
        let mut then: BTreeMap<String, Option<Place>> = BTreeMap::new();
        for row in log.range((at.0 + 1, 0)..).map_err(failed)? {
            let (_, bytes) = row.map_err(failed)?;
            let record = Record::decode(bytes.value())?;
            if record.key.starts_with(prefix) && after.is_none_or(|after| record.key > after) {
                then.entry(record.key.to_owned()).or_insert(record.before);
            }
        }
        let mut page = Page {
            request,
            response: RangeResponse {
                revision: self.revision,
                ..Default::default()
            },
        };
        let mut then = then.into_iter().peekable();
        for row in keys.range::<&str>((low, Bound::Unbounded)).map_err(failed)? {
            let (key, place) = row.map_err(failed)?;
            let key = key.value();
            if !key.starts_with(prefix) || page.is_done() {
                break;
            }
            while let Some((_, place)) = then.next_if(|(old, _)| old.as_str() < key) {
                page.add(&log, place)?;
            }
            match then.next_if(|(old, _)| old == key) {
                Some((_, place)) => page.add(&log, place)?,
                None => page.add(&log, Some(place.value().0))?,
            }
        }
        for (_, place) in then {
            page.add(&log, place)?;
        }
        Ok(page.response)
    }

    /// The changes below a prefix from a revision on, whole revisions, about `most` of them; and up to where they are complete.
    pub(super) fn changes(
        &self,
        prefix: &str,
        from: Revision,
        most: usize,
    ) -> Result<(Vec<Change>, Revision), StoreError> {
        self.check(from)?;
        let log = self.transaction.open_table(LOG).map_err(failed)?;
        let mut changes = Vec::new();
        let mut last = 0;
        for (count, row) in log.range((from.0, 0)..).map_err(failed)?.enumerate() {
            let (place, bytes) = row.map_err(failed)?;
            let (revision, _) = place.value();
            if count >= most && revision > last {
                return Ok((changes, Revision(last)));
            }
            last = revision;
            let record = Record::decode(bytes.value())?;
            if record.key.starts_with(prefix) {
                changes.push(Change {
                    key: record.key.to_owned(),
                    value: record.value.map(Bytes::copy_from_slice),
                    revision: Revision(revision),
                    created: Revision(record.created),
                });
            }
        }
        Ok((changes, self.revision))
    }
}

struct Page<'a> {
    request: &'a RangeRequest,
    response: RangeResponse,
}

impl Page<'_> {
    /// Nothing that follows would change the answer.
    fn is_done(&self) -> bool {
        self.request.uncounted && self.response.more
    }

    fn add(
        &mut self,
        log: &impl ReadableTable<Place, &'static [u8]>,
        place: Option<Place>,
    ) -> Result<(), StoreError> {
        let Some(place) = place else { return Ok(()) };
        self.response.count += 1;
        if self.request.count_only {
            return Ok(());
        }
        if self.request.limit > 0 && self.response.items.len() == self.request.limit {
            self.response.more = true;
            return Ok(());
        }
        self.response.items.push(value_at(log, place)?);
        Ok(())
    }
}

/// One key as tables hold it.
pub(super) fn read(
    keys: &impl ReadableTable<&'static str, (Place, u64)>,
    log: &impl ReadableTable<Place, &'static [u8]>,
    key: &str,
) -> Result<Option<KeyValue>, StoreError> {
    let place = keys.get(key).map_err(failed)?.map(|found| found.value().0);
    place.map(|place| value_at(log, place)).transpose()
}

fn value_at(log: &impl ReadableTable<Place, &'static [u8]>, place: Place) -> Result<KeyValue, StoreError> {
    let lost = || {
        StoreError::Fatal(format!(
            "the store's file is damaged: change {}.{} is missing",
            place.0, place.1
        ))
    };
    let bytes = log.get(place).map_err(failed)?.ok_or_else(lost)?;
    let record = Record::decode(bytes.value())?;
    Ok(KeyValue {
        key: record.key.to_owned(),
        value: Bytes::copy_from_slice(record.value.ok_or_else(lost)?),
        modified: Revision(place.0),
        created: Revision(record.created),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_went_and_broken_ones_are_errors() {
        let table = [
            Record {
                key: "/a",
                value: Some(b"v"),
                before: None,
                created: 7,
            },
            Record {
                key: "/a",
                value: Some(b""),
                before: Some((3, 1)),
                created: 7,
            },
            Record {
                key: "",
                value: None,
                before: Some((u64::MAX, u32::MAX)),
                created: 0,
            },
        ];
        for record in table {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes).unwrap(), record);
            for end in 0..HEADER + record.key.len() {
                assert!(Record::decode(bytes.get(..end).unwrap()).is_err());
            }
        }
    }
}
