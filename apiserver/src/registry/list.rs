//! LIST: a snapshot's bytes behind a header; selectors run on the cache's index.

use super::{Call, cache_error};
use crate::answer::{self, Answer, Body};
use crate::cache::parse;
use crate::corridor::memory::{self, Hold};
use crate::net::SEND_BUFFER;
use crate::request::params::{ListOptions, Match};
use crate::request::{Format, Shape};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, StatusCode};
use rutter_api::object::ObjectExt;
use rutter_api::selector::Operator;
use rutter_api::{FieldSelector, GroupVersionKind, LabelSelector, StatusError, Value, codec, table};
use rutter_storage::Revision;
use rutter_storage::cache::{CacheError, Entry, Signature, Snapshot};
use serde_json::json;
use std::borrow::Borrow;
use std::sync::Arc;

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.";
const EXPIRED_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Which objects of a resource are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By label.
    pub labels: LabelSelector,
    /// By field.
    pub fields: FieldSelector,
}

/// A page of a list.
pub struct Page {
    /// The objects.
    pub entries: Vec<Arc<Entry>>,
    /// What the list is exact at.
    pub revision: Revision,
    /// Where the next page starts.
    pub token: Option<String>,
    /// How many follow, where that is known.
    pub remaining: Option<usize>,
}

/// A place in a list: a continue token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The revision of the whole list; none for whatever is newest.
    pub revision: Option<Revision>,
    /// The key after which to go on, relative to the folder.
    pub after: String,
}

impl Token {
    /// The text that clients hand back.
    pub fn encode(&self) -> String {
        let version = self.revision.map_or(-1, |revision| revision.0 as i64);
        let start = format!("{}\0", self.after);
        URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": version, "start": start}).to_string())
    }

    /// Reads what a client hands back; none when no server made it.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        if value.str_at("v") != "meta.k8s.io/v1" {
            return None;
        }
        let version = value.int_at("rv").filter(|version| *version != 0)?;
        let start = value.str_at("start");
        if start.contains("..") || start.is_empty() {
            return None;
        }
        Some(Self {
            revision: u64::try_from(version).ok().map(Revision),
            after: start.trim_end_matches('\0').to_owned(),
        })
    }
}

impl Selection {
    /// Whether everything is wanted.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The labels that an object must have to be wanted.
    pub fn signature(&self) -> Signature {
        let requirements = self.labels.requirements().iter();
        requirements.fold(Signature::default(), |all, wanted| {
            match (wanted.operator, wanted.values.as_slice()) {
                (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => {
                    all.and(&wanted.key, value)
                }
                _ => all,
            }
        })
    }

    /// A field that an index may know, and the value that is wanted of it.
    pub fn indexed(&self) -> Option<(&str, &str)> {
        let requirements = self.fields.requirements().iter();
        let mut indexed = requirements.filter(|wanted| !wanted.negated && wanted.field == NODE_NAME);
        indexed.next().map(|wanted| (NODE_NAME, wanted.value.as_str()))
    }
}

impl Call {
    /// The selectors of a request.
    pub fn selection(&self, options: &ListOptions) -> Result<Selection, StatusError> {
        let bad = |error: &dyn std::fmt::Display| StatusError::bad_request(error.to_string());
        let labels = LabelSelector::parse(&options.labels)
            .map_err(|error| StatusError::bad_request(format!("unable to parse requirement: {error}")))?;
        let fields = FieldSelector::parse(&options.fields).map_err(|error| bad(&error))?;
        let known = self.resource.strategy.selectable_fields();
        for requirement in fields.requirements() {
            let name = requirement.field.as_str();
            let is_known = name == "metadata.name"
                || (name == "metadata.namespace" && self.resource.namespaced)
                || known.contains(&name);
            if !is_known {
                return Err(if known.is_empty() {
                    StatusError::bad_request(format!(
                        "{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    ))
                } else {
                    StatusError::bad_request(format!("field label not supported: {name}"))
                });
            }
        }
        Ok(Selection { labels, fields })
    }

    /// Whether an object is wanted.
    pub fn wants(&self, selection: &Selection, entry: &Entry) -> bool {
        if !selection.labels.matches(|key| entry.index.label(key)) {
            return false;
        }
        if selection.fields.is_everything() {
            return true;
        }
        if self.resource.strategy.served_is_stored() {
            return selection.fields.matches(|path| entry.index.field(path));
        }
        if self.selects_late(selection) {
            return true;
        }
        // The index speaks of the stored version; the selector of this one.
        parse(&entry.bytes()).is_ok_and(|object| self.selects(selection, &self.served_form(object)))
    }

    /// Whether the fields of an object in the served version are wanted.
    pub fn selects(&self, selection: &Selection, object: &Value) -> bool {
        let values = self.resource.strategy.field_values(object);
        let names = self.resource.strategy.selectable_fields();
        selection.fields.matches(|path| match path {
            "metadata.name" => Some(object.name()),
            "metadata.namespace" => Some(object.namespace()),
            _ => names
                .iter()
                .position(|name| *name == path)
                .and_then(|at| values.get(at))
                .map(String::as_str),
        })
    }

    /// Whether objects can only be selected after a webhook has converted them.
    pub fn selects_late(&self, selection: &Selection) -> bool {
        !selection.fields.is_everything()
            && !self.resource.strategy.served_is_stored()
            && self.served.converted(&self.resource).is_some()
    }

    /// Those of the candidates that are wanted, seen after conversion.
    async fn select_late(
        &self,
        candidates: Vec<Arc<Entry>>,
        selection: &Selection,
    ) -> Result<Vec<Arc<Entry>>, StatusError> {
        let objects = self
            .all_to_served(candidates.iter().map(|entry| entry.bytes()))
            .await?;
        let wanted = candidates.into_iter().zip(objects);
        let wanted = wanted.filter(|(_, object)| self.selects(selection, object));
        Ok(wanted.map(|(entry, _)| entry).collect())
    }

    /// The folder in which the request looks.
    pub fn range(&self) -> Result<String, StatusError> {
        let folder = self.folder()?;
        Ok(if self.resource.namespaced && !self.info.namespace.is_empty() {
            format!("{folder}{}/", self.info.namespace)
        } else {
            folder
        })
    }

    /// The page that is asked for.
    pub async fn page(&self, options: &ListOptions) -> Result<Page, StatusError> {
        let selection = self.selection(options)?;
        let (folder, range) = (self.folder()?, self.range()?);
        let token = match options.token.as_str() {
            "" => None,
            text => Some(Token::decode(text).ok_or_else(|| {
                StatusError::bad_request("continue key is not valid: the token could not be decoded")
            })?),
        };
        if token.is_some() && !matches!(options.version.as_str(), "" | "0") {
            return Err(StatusError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let snapshot = match &token {
            Some(Token {
                revision: Some(at),
                after,
            }) => match self.server.cache.snapshot_at(&folder, *at) {
                Err(CacheError::Expired { .. }) => return Err(expired(after)),
                other => other.map_err(|e| cache_error(&e))?,
            },
            Some(Token { revision: None, .. }) => self.newest(&folder, &selection).await?,
            None => self.snapshot(&folder, options, &selection).await?,
        };
        self.check_readable(&range)?;
        let after = token.map(|token| format!("{range}{}", token.after));
        let exact = selection
            .fields
            .exact("metadata.name")
            .map(|name| format!("{range}{name}"));
        let single = exact.filter(|_| !self.resource.namespaced || !self.info.namespace.is_empty());
        let late = self.selects_late(&selection);
        let mut entries = Vec::new();
        let mut more = false;
        if let Some(key) = &single {
            entries.extend(
                snapshot
                    .get(key)
                    .filter(|entry| self.wants(&selection, entry))
                    .cloned(),
            );
        } else {
            for entry in snapshot.range_with(&range, after.as_deref(), selection.signature()) {
                if !self.wants(&selection, entry) {
                    continue;
                }
                if !late && options.limit > 0 && entries.len() == options.limit {
                    more = true;
                    break;
                }
                entries.push(entry.clone());
            }
        }
        if late {
            entries = self.select_late(entries, &selection).await?;
            if options.limit > 0 && entries.len() > options.limit {
                entries.truncate(options.limit);
                more = true;
            }
        }
        let last = entries
            .last()
            .filter(|_| more)
            .map(|entry: &Arc<Entry>| entry.key.clone());
        let remaining = last
            .as_ref()
            .filter(|_| selection.is_everything())
            .map(|last| snapshot.range(&range, Some(last)).count());
        let token = last.map(|last| {
            Token {
                revision: Some(snapshot.revision()),
                after: last.get(range.len()..).unwrap_or_default().to_owned(),
            }
            .encode()
        });
        Ok(Page {
            entries,
            revision: snapshot.revision(),
            token,
            remaining,
        })
    }

    async fn newest(&self, folder: &str, selection: &Selection) -> Result<Snapshot, StatusError> {
        let cache = &self.server.cache;
        cache.consistent().await.map_err(|e| cache_error(&e))?;
        self.current(folder, selection).map_err(|e| cache_error(&e))
    }

    /// The state as the cache has it: all of it, or what an index knows the selection to lie in.
    pub fn current(&self, folder: &str, selection: &Selection) -> Result<Snapshot, CacheError> {
        let cache = &self.server.cache;
        if self.resource.strategy.served_is_stored()
            && let Some((field, value)) = selection.indexed()
            && let Some(found) = cache.lookup_indexed(folder, field, value)?
        {
            return Ok(found);
        }
        cache.snapshot(folder)
    }

    /// The snapshot that `resourceVersion` and `resourceVersionMatch` ask for.
    async fn snapshot(
        &self,
        folder: &str,
        options: &ListOptions,
        selection: &Selection,
    ) -> Result<Snapshot, StatusError> {
        let cache = &self.server.cache;
        let exact = options.matching == Match::Exact
            || (options.matching == Match::Unset
                && options.limit > 0
                && !matches!(options.version.as_str(), "" | "0"));
        match options.revision()? {
            None => self.newest(folder, selection).await,
            Some(0) => self.current(folder, selection).map_err(|e| cache_error(&e)),
            Some(at) => {
                cache.wait_for(Revision(at)).await.map_err(|e| cache_error(&e))?;
                if !exact {
                    return self.current(folder, selection).map_err(|e| cache_error(&e));
                }
                cache.snapshot_at(folder, Revision(at)).map_err(|e| match e {
                    CacheError::Expired { .. } => {
                        StatusError::expired("The resourceVersion for the provided list is too old.")
                    }
                    other => cache_error(&other),
                })
            }
        }
    }

    /// LIST
    pub async fn list(&self) -> Answer {
        let options = ListOptions::read(&self.query, false)?;
        let page = match self.page(&options).await {
            Ok(page) => page,
            Err(error) if error.message.starts_with(EXPIRED_MARK) => {
                return Ok(self.expired_answer(&error));
            }
            Err(error) => return Err(error),
        };
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let Some(token) = page.token {
            metadata.set("continue", token);
        }
        if let Some(remaining) = page.remaining {
            metadata.set("remainingItemCount", remaining);
        }
        let _work = self.list_room(&page.entries).await?;
        if self.is_verbatim() {
            return Ok(self.verbatim(page.entries, &metadata));
        }
        if self.accept.format == Format::Protobuf && self.accept.shape == Shape::Object {
            return Ok(self.protobuf_list(&page.entries, &metadata));
        }
        let bytes = page.entries.iter().map(|entry| entry.bytes());
        if self.served.converted(&self.resource).is_some() {
            let objects = self.all_to_served(bytes).await?;
            return Ok(self.answer_list(&objects, &metadata));
        }
        // One after the other: trees take many times the memory of what they are written as.
        let objects = bytes.filter_map(|bytes| parse(&bytes).ok());
        Ok(self.answer_list(objects.map(|object| self.served_form(object)), &metadata))
    }

    /// Room for the answer, and what is returned for making it.
    async fn list_room(&self, entries: &[Arc<Entry>]) -> Result<Option<Hold>, StatusError> {
        let size: usize = entries.iter().map(|entry| entry.size()).sum();
        if size <= SEND_BUFFER {
            return Ok(None);
        }
        let memory = &self.server.memory;
        let answer = if self.is_verbatim() {
            SEND_BUFFER + GATHER + std::mem::size_of_val(entries)
        } else {
            size
        };
        let answer = memory.answer(answer as u64).await?;
        self.passage.lock().answer = Some(answer);
        let converted = self.served.converted(&self.resource).is_some();
        let trees = match (self.accept.format, self.accept.shape) {
            _ if self.is_verbatim() => return Ok(None),
            _ if converted => size,
            (Format::Protobuf, Shape::Object) => {
                entries.iter().map(|entry| entry.size()).max().unwrap_or_default()
            }
            (_, Shape::Object) => size,
            // Of each object little more stays than its metadata.
            (_, Shape::Table | Shape::Partial) => size / 4,
        };
        memory.work(memory::of_trees(trees as u64)).await.map(Some)
    }

    /// A header and the cache's bytes, written as the client takes them.
    fn verbatim(&self, entries: Vec<Arc<Entry>>, metadata: &Value) -> Response<Body> {
        let head = self.list_head(metadata);
        let objects: usize = entries.iter().map(|entry| entry.size()).sum();
        let size = head.len() + objects + entries.len().saturating_sub(1) + TAIL.len();
        let pieces = ListPieces {
            gathered: Some(BytesMut::from(head.as_bytes())),
            entries: entries.into_iter(),
            first: true,
            whole: None,
        };
        answer::pieces(StatusCode::OK, pieces, size, &self.accept)
    }

    fn list_head(&self, metadata: &Value) -> String {
        format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            self.resource.list_kind, self.resource.group_version
        )
    }

    /// A list of objects that are JSON already, where [`Call::is_verbatim`].
    pub fn answer_written(&self, objects: Vec<Bytes>, metadata: &Value) -> Response<Body> {
        let head = self.list_head(metadata);
        let bytes: usize = objects.iter().map(Bytes::len).sum();
        let size = head.len() + bytes + objects.len().saturating_sub(1) + TAIL.len();
        let items = objects.into_iter().enumerate().flat_map(|(n, object)| {
            let comma = Bytes::from_static(if n > 0 { b"," } else { b"" });
            [comma, object]
        });
        let pieces = std::iter::once(head.into())
            .chain(items)
            .chain([Bytes::from_static(TAIL)]);
        answer::pieces(StatusCode::OK, gather(pieces), size, &self.accept)
    }

    /// A list as protobuf, of which only one object is a tree at a time.
    fn protobuf_list(&self, entries: &[Arc<Entry>], metadata: &Value) -> Response<Body> {
        let (types, schema) = (self.types(), &*self.resource.schema);
        let trees = entries.iter().filter_map(|entry| parse(&entry.bytes()).ok());
        let items: Vec<Bytes> = trees
            .map(|object| codec::protobuf::encode_item(types, schema, &self.served_form(object)).into())
            .collect();
        let kind = GroupVersionKind::new(
            self.resource.group_version.group.clone(),
            self.resource.group_version.version.clone(),
            self.resource.list_kind.clone(),
        );
        let objects: usize = items.iter().map(Bytes::len).sum();
        let (head, tail) = codec::protobuf::list_envelope(types, &kind, metadata, objects);
        let size = head.len() + objects + tail.len();
        let pieces = std::iter::once(Bytes::from(head))
            .chain(items)
            .chain(std::iter::once(Bytes::from(tail)));
        answer::pieces(StatusCode::OK, gather(pieces), size, &self.accept)
    }

    /// Objects as a list in the format and shape that was negotiated.
    pub fn answer_list<O>(&self, objects: impl IntoIterator<Item = O>, metadata: &Value) -> Response<Body>
    where
        O: Borrow<Value>,
    {
        let (value, type_name) = match self.accept.shape {
            Shape::Table => (
                self.table(objects, Some(metadata), true),
                super::TABLE_TYPE.to_owned(),
            ),
            Shape::Partial => (
                table::partial_metadata_list(objects, Some(metadata)),
                format!("{}List", super::PARTIAL_TYPE),
            ),
            Shape::Object => {
                let items = objects.into_iter().map(|object| object.borrow().clone());
                let list = json!({
                    "kind": &*self.resource.list_kind,
                    "apiVersion": self.resource.group_version.to_string(),
                    "metadata": metadata,
                    "items": items.collect::<Vec<_>>(),
                });
                (list, format!("{}List", self.resource.schema))
            }
        };
        debug_assert!(self.accept.format != Format::Protobuf || self.accept.shape != Shape::Table);
        answer::object(StatusCode::OK, &value, &self.accept, self.types(), &type_name)
    }

    /// The 410 with a token to go on inconsistently.
    fn expired_answer(&self, error: &StatusError) -> Response<Body> {
        let after = error.message.trim_start_matches(EXPIRED_MARK).to_owned();
        let mut status = StatusError::expired(EXPIRED_CONTINUE).to_value();
        let token = Token {
            revision: None,
            after,
        };
        status.set("metadata.continue", token.encode());
        answer::status_value(&status, 410, 0, &self.accept)
    }
}

/// Small objects are gathered so that a frame isn't smaller than what it costs to send.
const GATHER: usize = 32 * 1024;
/// Objects at least so large are sent as they lie in the cache.
const WHOLE: usize = 16 * 1024;
const TAIL: &[u8] = b"]}\n";
/// The field that the cache indexes.
const NODE_NAME: &str = "spec.nodeName";

/// The pieces of a list as JSON.
struct ListPieces {
    /// What is to be sent first; none at the end.
    gathered: Option<BytesMut>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    first: bool,
    /// A large object that comes after what was gathered.
    whole: Option<Bytes>,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(whole) = self.whole.take() {
            return Some(whole);
        }
        let mut gathered = self.gathered.take()?;
        gathered.reserve(GATHER);
        for entry in self.entries.by_ref() {
            if !std::mem::replace(&mut self.first, false) {
                gathered.put_u8(b',');
            }
            if entry.size() >= WHOLE {
                self.whole = Some(entry.bytes());
                self.gathered = Some(BytesMut::new());
                return Some(gathered.freeze())
                    .filter(|gathered| !gathered.is_empty())
                    .or_else(|| self.whole.take());
            }
            gathered.put_slice(&entry.bytes());
            if gathered.len() >= GATHER {
                self.gathered = Some(BytesMut::new());
                return Some(gathered.freeze());
            }
        }
        gathered.put_slice(TAIL);
        Some(gathered.freeze())
    }
}

/// Puts small pieces together.
fn gather(mut pieces: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let mut gathered = BytesMut::from(&*pieces.next()?);
        while gathered.len() < GATHER {
            match pieces.next() {
                Some(piece) => gathered.put_slice(&piece),
                None => break,
            }
        }
        Some(gathered.freeze())
    })
}

/// Marks the failure that [`Call::expired_answer`] renders; clients never see it.
const EXPIRED_MARK: &str = "\u{1}";

fn expired(after: &str) -> StatusError {
    if after.is_empty() {
        return StatusError::expired(EXPIRED);
    }
    StatusError::expired(format!("{EXPIRED_MARK}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_way_to_the_client_and_back() {
        for revision in [None, Some(Revision(7))] {
            let token = Token {
                revision,
                after: "default/web-1".to_owned(),
            };
            let again = Token::decode(&token.encode()).unwrap();
            assert_eq!(
                (again.revision, again.after.as_str()),
                (revision, "default/web-1")
            );
        }
        for text in [
            "",
            "x",
            "e30",
            &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x"}"#),
        ] {
            assert!(Token::decode(text).is_none(), "{text}");
        }
    }
}
