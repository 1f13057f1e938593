//! An engine that keeps values of some keys in another form than it hands them out: encrypted, mostly.
//!
//! It knows no kind: a [`Transform`] says, by the key, how a value is stored, and reads what it stored earlier in other forms. Keys that
//! the transform has nothing to do with cost one question by their prefix. Values are bound to their keys: one that was moved to another
//! key is not read. A value that can't be read is an error of its own read; in a watch it is handed on as it is stored, so that
//! the cache sets that one object aside and not the whole stream.

use crate::{
    Change, Commit, Effect, Engine, KeyValue, Outcome, RangeRequest, RangeResponse, Revision, StoreError,
    Watch, WatchEvent,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;

/// A value as it is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The value.
    pub value: Bytes,
    /// Whether it should be written again, because it is not stored as it would be now.
    pub stale: bool,
}

/// How values are stored.
#[async_trait]
pub trait Transform: Send + Sync + 'static {
    /// Whether it has anything to do with a key. Cheap: asked of every value.
    fn concerns(&self, key: &str) -> bool;

    /// The form in which a value is stored; why it can't be made.
    async fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, String>;

    /// The value of a stored form; why it can't be read.
    async fn open(&self, key: &str, stored: Bytes) -> Result<Plain, String>;
}

/// The engine.
pub struct TransformingEngine {
    inner: Arc<dyn Engine>,
    transform: Arc<dyn Transform>,
}

impl TransformingEngine {
    /// Keeps values in `inner`.
    pub fn new(inner: Arc<dyn Engine>, transform: Arc<dyn Transform>) -> Self {
        Self { inner, transform }
    }

    async fn plain(&self, mut found: KeyValue) -> Result<KeyValue, StoreError> {
        if self.transform.concerns(&found.key) {
            found.value = self.read(&found.key, found.value).await?.value;
        }
        Ok(found)
    }

    async fn read(&self, key: &str, stored: Bytes) -> Result<Plain, StoreError> {
        let read = self.transform.open(key, stored).await;
        read.map_err(|why| StoreError::Fatal(format!("the value of {key} cannot be read: {why}")))
    }
}

#[async_trait]
impl Engine for TransformingEngine {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        match self.inner.get(key).await? {
            Some(found) => self.plain(found).await.map(Some),
            None => Ok(None),
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let mut response = self.inner.range(request).await?;
        for item in &mut response.items {
            if self.transform.concerns(&item.key) {
                item.value = readable(&*self.transform, &item.key, item.value.clone()).await;
            }
        }
        Ok(response)
    }

    async fn commit(&self, mut commit: Commit) -> Result<Outcome, StoreError> {
        for effect in &mut commit.effects {
            if let Effect::Put(key, value, _) = effect
                && self.transform.concerns(key)
            {
                let stored = self.transform.seal(key, std::mem::take(value)).await;
                *value = stored
                    .map_err(|why| StoreError::Unavailable(format!("{key} cannot be stored: {why}")))?;
            }
        }
        match self.inner.commit(commit).await? {
            Outcome::Refused(now) => {
                let mut plain = Vec::with_capacity(now.len());
                for found in now {
                    plain.push(match found {
                        Some(found) => Some(self.plain(found).await?),
                        None => None,
                    });
                }
                Ok(Outcome::Refused(plain))
            }
            applied => Ok(applied),
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(TransformingWatch {
            inner: self.inner.watch(prefix, from).await?,
            transform: self.transform.clone(),
        }))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn compact(&self, at: Revision) -> Result<(), StoreError> {
        self.inner.compact(at).await
    }

    async fn is_stale(&self, key: &str) -> Result<bool, StoreError> {
        if !self.transform.concerns(key) {
            return Ok(false);
        }
        match self.inner.get(key).await? {
            Some(found) => Ok(self.read(key, found.value).await?.stale),
            None => Ok(false),
        }
    }
}

struct TransformingWatch {
    inner: Box<dyn Watch>,
    transform: Arc<dyn Transform>,
}

#[async_trait]
impl Watch for TransformingWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        let mut event = self.inner.next().await?;
        if let WatchEvent::Changes { changes, .. } = &mut event {
            for Change { key, value, .. } in changes {
                if let Some(stored) = value
                    && self.transform.concerns(key)
                {
                    *stored = readable(&*self.transform, key, stored.clone()).await;
                }
            }
        }
        Ok(event)
    }
}

/// The value, or what is stored when it can't be read.
async fn readable(transform: &dyn Transform, key: &str, stored: Bytes) -> Bytes {
    match transform.open(key, stored.clone()).await {
        Ok(plain) => plain.value,
        Err(why) => {
            tracing::error!(key, why, "a stored value cannot be read");
            stored
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Guard;
    use crate::engine::MemoryEngine;

    /// Turns values under `/secret/` around and marks them.
    struct Backwards(&'static str);

    #[async_trait]
    impl Transform for Backwards {
        fn concerns(&self, key: &str) -> bool {
            key.starts_with("/secret/")
        }

        async fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, String> {
            let mut out = format!("{}{key}:", self.0).into_bytes();
            out.extend(value.iter().rev());
            Ok(out.into())
        }

        async fn open(&self, key: &str, stored: Bytes) -> Result<Plain, String> {
            let text = String::from_utf8_lossy(&stored).into_owned();
            let (mark, rest) = text.split_at_checked(1).ok_or("empty")?;
            let rest = rest.strip_prefix(&format!("{key}:")).ok_or("not of this key")?;
            Ok(Plain {
                value: rest.chars().rev().collect::<String>().into(),
                stale: mark != self.0,
            })
        }
    }

    #[tokio::test]
    async fn values_are_stored_in_another_form_and_handed_out_plain() {
        let store = Arc::new(MemoryEngine::new());
        let engine = TransformingEngine::new(store.clone(), Arc::new(Backwards("1")));
        let put = |key: &str, value: &'static str| Commit {
            guards: vec![Guard::Absent(key.to_owned())],
            effects: vec![Effect::Put(
                key.to_owned(),
                Bytes::from_static(value.as_bytes()),
                None,
            )],
        };
        let mut watch = engine.watch("/", Revision(1)).await.unwrap();
        engine.commit(put("/secret/a", "abc")).await.unwrap();
        engine.commit(put("/open/a", "abc")).await.unwrap();
        let raw = |key: &'static str| {
            let store = store.clone();
            async move { store.get(key).await.unwrap().unwrap().value }
        };
        assert_eq!(raw("/secret/a").await, "1/secret/a:cba");
        assert_eq!(raw("/open/a").await, "abc");
        let mut watched = Vec::new();
        while watched.len() < 2 {
            if let WatchEvent::Changes { changes, .. } = watch.next().await.unwrap() {
                watched.extend(changes.into_iter().map(|change| change.value.unwrap_or_default()));
            }
        }
        assert_eq!(watched, ["abc", "abc"]);
        for key in ["/secret/a", "/open/a"] {
            assert_eq!(engine.get(key).await.unwrap().unwrap().value, "abc", "{key}");
        }
        let Outcome::Refused(now) = engine.commit(put("/secret/a", "x")).await.unwrap() else {
            panic!("it is there already")
        };
        assert_eq!(now[0].as_ref().unwrap().value, "abc");
        let newer = TransformingEngine::new(store.clone(), Arc::new(Backwards("2")));
        assert!(newer.is_stale("/secret/a").await.unwrap() && !engine.is_stale("/secret/a").await.unwrap());
        let moved = Commit {
            guards: Vec::new(),
            effects: vec![Effect::Put("/secret/b".into(), raw("/secret/a").await, None)],
        };
        store.commit(moved).await.unwrap();
        assert!(
            engine.get("/secret/b").await.is_err(),
            "it was stored under another key"
        );
        let request = RangeRequest {
            prefix: "/secret/".into(),
            ..RangeRequest::default()
        };
        let listed = engine.range(request).await.unwrap();
        assert_eq!(listed.items.len(), 2, "one bad value doesn't hide the others");
    }
}
