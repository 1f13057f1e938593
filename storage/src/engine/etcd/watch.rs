//! A watch on etcd that comes back by itself.
//!
//! Guarantee: changes in revision order, each once, across lost connections and members. etcd delivers whole revisions, so the next
//! revision to ask for is all the state there is.
//!
//! **Progress.** When somebody was told of a revision the watch hasn't reached (another prefix may have changed), it asks etcd for
//! progress. Before 3.4.31 and 3.5.13 the answer may overtake changes still under way, so there a marker key is put below the
//! prefix instead and comes back in order; it is never delivered.

use super::{Asked, Connection, mapped, revision_of};
use crate::{Change, Revision, StoreError, Watch, WatchEvent};
use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long changes may take to come by themselves before progress is asked for, and between questions.
const PATIENCE: Duration = Duration::from_millis(50);
/// Connecting again is tried so often in a row before the watch ends.
const TRIES: u32 = 8;
/// The end of the marker's key.
const MARKER: &str = "rutter.io/progress-marker";

pub(super) struct EtcdWatch {
    connection: Arc<Connection>,
    prefix: String,
    marker: String,
    /// Everything before it has been delivered.
    next: Revision,
    stream: Option<WatchStream>,
    told: tokio::sync::watch::Receiver<Revision>,
    ask_at: Option<Instant>,
    progress: Progress,
    failures: u32,
}

/// How progress is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unknown,
    Request,
    Marker,
}

enum Step {
    Message(Result<Option<WatchResponse>, etcd_client::Error>),
    Told,
    Ask,
}

impl EtcdWatch {
    pub(super) async fn open(
        connection: Arc<Connection>,
        prefix: &str,
        from: Revision,
    ) -> Result<Self, StoreError> {
        let told = connection.told.subscribe();
        let marker = format!("{prefix}{MARKER}");
        let prefix = prefix.to_owned();
        let mut watch = Self {
            connection,
            prefix,
            marker,
            next: from,
            stream: None,
            told,
            ask_at: None,
            progress: Progress::Unknown,
            failures: 0,
        };
        watch.connect().await?;
        Ok(watch)
    }

    async fn connect(&mut self) -> Result<(), StoreError> {
        if self.progress == Progress::Unknown {
            let status = async { self.connection.client.maintenance_client().status().await };
            let status = self.connection.bounded(Asked::Nothing, status).await?;
            self.progress = if progress_is_safe(status.version()) {
                Progress::Request
            } else {
                Progress::Marker
            };
        }
        let mut options = WatchOptions::new()
            .with_start_revision(self.next.0 as i64)
            .with_progress_notify();
        options = if self.prefix.is_empty() {
            options.with_all_keys()
        } else {
            options.with_prefix()
        };
        let watch = async {
            let mut client = self
                .connection
                .client
                .watch_client()
                .max_decoding_message_size(usize::MAX);
            client.watch(self.prefix.as_str(), Some(options)).await
        };
        self.stream = Some(self.connection.bounded(Asked::Revision(self.next), watch).await?);
        Ok(())
    }

    /// Ends the connection; an error when it has been tried often enough.
    async fn lost(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.stream = None;
        // It may come back as another member of another version.
        self.progress = Progress::Unknown;
        self.failures += 1;
        if self.failures > TRIES || !matches!(error, StoreError::Unavailable(_)) {
            return Err(error);
        }
        tracing::warn!(%error, next = %self.next, "the watch on etcd was lost; connecting again");
        tokio::time::sleep(Duration::from_millis(25) * 2u32.pow(self.failures.min(6))).await;
        Ok(())
    }

    async fn ask_for_progress(&mut self) -> Result<(), StoreError> {
        match self.progress {
            Progress::Request => {
                let Some(stream) = &mut self.stream else {
                    return Ok(());
                };
                let asked = stream.request_progress().await;
                asked.map_err(|error| mapped(error, Asked::Nothing))
            }
            Progress::Marker | Progress::Unknown => {
                let put = async {
                    self.connection
                        .kv()
                        .put(self.marker.as_str(), Vec::new(), None)
                        .await
                };
                self.connection.bounded(Asked::Nothing, put).await.map(drop)
            }
        }
    }

    /// The event in a message, if there is one.
    fn take(&mut self, message: &WatchResponse) -> Result<Option<WatchEvent>, StoreError> {
        if message.canceled() {
            let compacted = message.compact_revision();
            if compacted > 0 {
                return Err(StoreError::Compacted {
                    asked: self.next,
                    oldest: Revision(compacted as u64),
                });
            }
            return Err(StoreError::Unavailable(format!(
                "etcd ended the watch: {}",
                message.cancel_reason()
            )));
        }
        if message.created() {
            return Ok(None);
        }
        let mut through = Revision(0);
        let mut changes = Vec::with_capacity(message.events().len());
        for event in message.events() {
            let Some(found) = event.kv() else { continue };
            let revision = Revision(found.mod_revision() as u64);
            through = through.max(revision);
            let Ok(key) = found.key_str() else { continue };
            if revision < self.next || key == self.marker {
                continue;
            }
            let put = event.event_type() == EventType::Put;
            changes.push(Change {
                key: key.to_owned(),
                value: put.then(|| Bytes::copy_from_slice(found.value())),
                revision,
                created: Revision(found.create_revision() as u64),
            });
        }
        if message.events().is_empty() {
            through = revision_of(message.header());
        }
        if through < self.next {
            return Ok(None);
        }
        self.next = Revision(through.0 + 1);
        Ok(Some(match changes.is_empty() {
            true => WatchEvent::Progress(through),
            false => WatchEvent::Changes { changes, through },
        }))
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            if self.stream.is_none()
                && let Err(error) = self.connect().await
            {
                self.lost(error).await?;
                continue;
            }
            let behind = *self.told.borrow_and_update() >= self.next;
            self.ask_at = if behind {
                self.ask_at.or_else(|| Some(Instant::now() + PATIENCE))
            } else {
                None
            };
            let Some(stream) = &mut self.stream else { continue };
            let ask_at = self.ask_at;
            let patience = async {
                match ask_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                message = stream.message() => Step::Message(message),
                Ok(()) = self.told.changed() => Step::Told,
                () = patience => Step::Ask,
            };
            let ended = match step {
                Step::Told => continue,
                Step::Ask => {
                    self.ask_at = Some(Instant::now() + PATIENCE * 2);
                    self.ask_for_progress().await.err()
                }
                Step::Message(Ok(Some(message))) => match self.take(&message) {
                    Ok(Some(event)) => {
                        self.failures = 0;
                        return Ok(event);
                    }
                    Ok(None) => continue,
                    Err(error) => Some(error),
                },
                Step::Message(Ok(None)) => Some(StoreError::Unavailable("etcd ended the watch".into())),
                Step::Message(Err(error)) => Some(mapped(error, Asked::Revision(self.next))),
            };
            if let Some(error) = ended {
                self.lost(error).await?;
            }
        }
    }
}

/// Whether etcd's answer to a progress request never overtakes changes.
fn progress_is_safe(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_requests_are_trusted_from_the_versions_that_mended_them() {
        let table = [
            ("3.3.27", false),
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("", false),
        ];
        for (version, safe) in table {
            assert_eq!(progress_is_safe(version), safe, "{version}");
        }
    }
}
