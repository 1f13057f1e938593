//! Whether what watches and lists told fits what was written. Pure: facts in, violations out.
//!
//! A delete's answer doesn't say its revision. One that fell where no watch was (after a restart, before everybody had listed anew)
//! is known to lie between two puts, and both are right for a list in between.
//!
//! Writes are acknowledged or not. An acknowledged one must have happened exactly once; one whose answer was lost may have happened or
//! not, but then the same for everybody. Every watch must tell all that happened after where it began, once, in order; every list
//! must be the state at the revision that it names.

use std::collections::{BTreeMap, HashMap};

/// A key.
pub(crate) type Key = u32;

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Put,
    Delete,
}

/// A write that a writer tried. Numbers of one key rise with each try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) key: Key,
    pub(crate) number: u64,
    pub(crate) op: Op,
    /// Whether the server said it was done.
    pub(crate) acknowledged: bool,
    /// At which revision, where the answer says so.
    pub(crate) revision: Option<u64>,
}

/// What an event said happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Added,
    Modified,
    Deleted,
}

/// An event that a watch delivered. The number is that of the object's last put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) kind: Kind,
    pub(crate) key: Key,
    pub(crate) number: u64,
}

/// All that one watch delivered after one revision and up to another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) after: u64,
    /// Everything up to here was due.
    pub(crate) through: u64,
    pub(crate) events: Vec<Event>,
}

/// A list: each key's revision and number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) revision: u64,
    pub(crate) items: State,
}

/// Each key's revision and number.
pub(crate) type State = BTreeMap<Key, (u64, u64)>;

/// All that was seen since a state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The state that all began with.
    pub(crate) base: Listing,
    pub(crate) writes: Vec<Write>,
    pub(crate) watches: Vec<Watched>,
    pub(crate) lists: Vec<Listing>,
}

/// What does not fit, at most so many of them.
const MOST: usize = 50;

/// Checks the facts.
pub(crate) fn violations(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let history = history(facts, &mut found);
    rising(facts, &mut found);
    let unseen = acknowledged(facts, &history, &mut found);
    kinds(facts, &history, &unseen, &mut found);
    for (n, watched) in facts.watches.iter().enumerate() {
        watch(n, watched, &history, &mut found);
    }
    lists(facts, &history, &unseen, &mut found);
    found.truncate(MOST);
    found
}

type History = BTreeMap<u64, Event>;

/// A delete that no watch told of: it happened after one revision and before another, if it did.
#[derive(Clone, Copy, Debug)]
struct Unseen {
    key: Key,
    after: u64,
    before: u64,
}

fn may_be_gone(unseen: &[Unseen], key: Key, revision: u64) -> bool {
    unseen
        .iter()
        .any(|gone| gone.key == key && gone.after < revision && revision <= gone.before)
}

/// Everything that anybody saw happen, by revision.
fn history(facts: &Facts, found: &mut Vec<String>) -> History {
    let mut history = History::new();
    let mut note = |event: Event, who: &str| match history.get(&event.revision) {
        None => drop(history.insert(event.revision, event)),
        Some(known) if (known.key, known.number) == (event.key, event.number) => {}
        Some(known) => found.push(format!("{who} saw {event:?} where others saw {known:?}")),
    };
    for (n, watched) in facts.watches.iter().enumerate() {
        for event in &watched.events {
            note(*event, &format!("watch {n}"));
        }
    }
    for listing in &facts.lists {
        for (key, (revision, number)) in &listing.items {
            if *revision > facts.base.revision && !history.contains_key(revision) {
                let event = Event {
                    revision: *revision,
                    kind: Kind::Modified,
                    key: *key,
                    number: *number,
                };
                history.insert(*revision, event);
            }
        }
    }
    for write in facts
        .writes
        .iter()
        .filter(|write| write.acknowledged && write.op == Op::Put)
    {
        if let Some(revision) = write.revision {
            history.entry(revision).or_insert(Event {
                revision,
                kind: Kind::Modified,
                key: write.key,
                number: write.number,
            });
        }
    }
    history
}

/// The revisions that one key's writes were answered with rise.
fn rising(facts: &Facts, found: &mut Vec<String>) {
    let mut last: HashMap<Key, (u64, u64)> = HashMap::new();
    for write in &facts.writes {
        let Some(revision) = write.revision else { continue };
        let before = last.insert(write.key, (write.number, revision));
        if before.is_some_and(|(number, told)| number < write.number && told >= revision) {
            found.push(format!("{write:?} was answered with a revision after {before:?}"));
        }
    }
}

/// Each acknowledged write happened once, and nothing happened that nobody tried. Gives the deletes that no watch told of.
fn acknowledged(facts: &Facts, history: &History, found: &mut Vec<String>) -> Vec<Unseen> {
    let mut puts: HashMap<(Key, u64), Vec<u64>> = HashMap::new();
    // Each key's puts by number, with their revisions.
    let mut numbers: HashMap<Key, BTreeMap<u64, u64>> = HashMap::new();
    let mut deletes: HashMap<(Key, u64), usize> = HashMap::new();
    for (key, (revision, number)) in &facts.base.items {
        numbers.entry(*key).or_default().insert(*number, *revision);
    }
    for event in history.values() {
        let at = (event.key, event.number);
        if event.kind == Kind::Deleted {
            *deletes.entry(at).or_default() += 1;
        } else {
            puts.entry(at).or_default().push(event.revision);
            let of_key = numbers.entry(event.key).or_default();
            of_key.insert(event.number, event.revision);
        }
    }
    let mut unseen = Vec::new();
    for write in &facts.writes {
        if write.op == Op::Delete {
            let of_key = numbers.get(&write.key);
            unseen.extend(of_key.and_then(|of_key| deleted(facts, write, of_key, &deletes, found)));
            continue;
        }
        match puts.get(&(write.key, write.number)).map(Vec::as_slice) {
            Some([at]) if write.revision.is_none_or(|told| told == *at) => {}
            Some(all) => found.push(format!("{write:?} was seen at {all:?}")),
            None if write.acknowledged => found.push(format!("{write:?} was acknowledged and never seen")),
            None => {}
        }
    }
    let tried: HashMap<(Key, u64), Op> = facts
        .writes
        .iter()
        .map(|write| ((write.key, write.number), write.op))
        .collect();
    for event in history.values().filter(|event| event.kind != Kind::Deleted) {
        let known = tried.get(&(event.key, event.number)) == Some(&Op::Put);
        if !known && event.revision > facts.base.revision {
            found.push(format!("{event:?} is what nobody wrote"));
        }
    }
    unseen
}

/// Whether a delete was told of. `numbers` are its key's puts; the one that it took comes before it, by number.
fn deleted(
    facts: &Facts,
    write: &Write,
    numbers: &BTreeMap<u64, u64>,
    deletes: &HashMap<(Key, u64), usize>,
    found: &mut Vec<String>,
) -> Option<Unseen> {
    let (number, after) = numbers.range(..write.number).next_back()?;
    match deletes.get(&(write.key, *number)) {
        Some(1) => return None,
        Some(times) => {
            found.push(format!("{write:?} was seen {times} times"));
            return None;
        }
        None => {}
    }
    let before = numbers
        .range(write.number..)
        .next()
        .map_or(u64::MAX, |(_, at)| *at);
    let last = facts.lists.iter().map(|list| list.revision).max();
    let end = before.min(last.unwrap_or_default());
    let mut watches = facts.watches.iter();
    if write.acknowledged && watches.any(|watched| watched.after <= *after && end <= watched.through) {
        found.push(format!(
            "{write:?} was acknowledged and never told to who watched all the time"
        ));
    }
    Some(Unseen {
        key: write.key,
        after: *after,
        before,
    })
}

/// What an event says happened fits the state before it.
fn kinds(facts: &Facts, history: &History, unseen: &[Unseen], found: &mut Vec<String>) {
    let mut state = facts.base.items.clone();
    let mut right: HashMap<u64, Kind> = HashMap::new();
    for (revision, event) in history {
        let kind = match (event.kind, state.contains_key(&event.key)) {
            (Kind::Deleted, _) => Kind::Deleted,
            (_, true) => Kind::Modified,
            (_, false) => Kind::Added,
        };
        right.insert(*revision, kind);
        apply(&mut state, event, *revision);
    }
    for (n, watched) in facts.watches.iter().enumerate() {
        for event in &watched.events {
            let again = event.kind == Kind::Added && may_be_gone(unseen, event.key, event.revision);
            if !again && right.get(&event.revision).is_some_and(|kind| *kind != event.kind) {
                found.push(format!(
                    "watch {n} was told {event:?}, which was {:?}",
                    right.get(&event.revision)
                ));
            }
        }
    }
}

fn apply(state: &mut State, event: &Event, revision: u64) {
    match event.kind {
        Kind::Deleted => drop(state.remove(&event.key)),
        Kind::Added | Kind::Modified => drop(state.insert(event.key, (revision, event.number))),
    }
}

/// A watch told everything, once, in order.
fn watch(n: usize, watched: &Watched, history: &History, found: &mut Vec<String>) {
    let mut last = watched.after;
    for event in &watched.events {
        if event.revision <= last {
            let what = if event.revision == last {
                "repeated"
            } else {
                "out of order"
            };
            found.push(format!("watch {n} was told {event:?} {what}: it was at {last}"));
        }
        last = last.max(event.revision);
    }
    let mut told = watched.events.iter().map(|event| event.revision).peekable();
    for (revision, event) in history.range(watched.after + 1..=watched.through.max(watched.after + 1)) {
        if *revision > watched.through {
            break;
        }
        while told.next_if(|told| told < revision).is_some() {}
        if told.next_if_eq(revision).is_none() {
            found.push(format!(
                "watch {n} (after {}, through {}) was never told {event:?}",
                watched.after, watched.through
            ));
        }
    }
}

/// A list is the state at its revision.
fn lists(facts: &Facts, history: &History, unseen: &[Unseen], found: &mut Vec<String>) {
    let mut sorted: Vec<&Listing> = facts.lists.iter().collect();
    sorted.sort_by_key(|listing| listing.revision);
    let mut state = facts.base.items.clone();
    let mut events = history.iter().peekable();
    for listing in sorted {
        if listing.revision < facts.base.revision {
            continue;
        }
        while let Some((revision, event)) = events.next_if(|(revision, _)| **revision <= listing.revision) {
            apply(&mut state, event, *revision);
        }
        if listing.items != state {
            let gone =
                |key: &Key| !listing.items.contains_key(key) && may_be_gone(unseen, *key, listing.revision);
            let differ = |key: &&Key| listing.items.get(key) != state.get(key) && !gone(key);
            let keys: Vec<_> = state
                .keys()
                .chain(listing.items.keys())
                .filter(differ)
                .take(3)
                .collect();
            if keys.is_empty() {
                continue;
            }
            let shown: Vec<String> = keys
                .iter()
                .map(|key| {
                    format!(
                        "key {key}: listed {:?}, was {:?}",
                        listing.items.get(key),
                        state.get(key)
                    )
                })
                .collect();
            found.push(format!(
                "the list at {} is wrong: {}",
                listing.revision,
                shown.join("; ")
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: Key, number: u64, revision: u64) -> Write {
        Write {
            key,
            number,
            op: Op::Put,
            acknowledged: true,
            revision: Some(revision),
        }
    }

    fn event(revision: u64, kind: Kind, key: Key, number: u64) -> Event {
        Event {
            revision,
            kind,
            key,
            number,
        }
    }

    /// Two keys: 1 is made, changed and deleted; 2 is made. One change of 2 was never answered and happened all the same.
    fn good() -> Facts {
        let events = vec![
            event(11, Kind::Added, 1, 1),
            event(12, Kind::Modified, 1, 2),
            event(13, Kind::Added, 2, 1),
            event(14, Kind::Deleted, 1, 2),
            event(15, Kind::Modified, 2, 2),
        ];
        let delete = Write {
            op: Op::Delete,
            revision: None,
            ..put(1, 3, 0)
        };
        let lost = Write {
            acknowledged: false,
            revision: None,
            ..put(2, 2, 0)
        };
        Facts {
            base: Listing {
                revision: 10,
                items: State::new(),
            },
            writes: vec![put(1, 1, 11), put(1, 2, 12), put(2, 1, 13), delete, lost],
            watches: vec![
                Watched {
                    after: 10,
                    through: 15,
                    events: events.clone(),
                },
                Watched {
                    after: 12,
                    through: 15,
                    events: events[2..].to_vec(),
                },
            ],
            lists: vec![
                Listing {
                    revision: 12,
                    items: [(1, (12, 2))].into(),
                },
                Listing {
                    revision: 15,
                    items: [(2, (15, 2))].into(),
                },
            ],
        }
    }

    #[test]
    fn what_fits_is_not_complained_about() {
        assert_eq!(violations(&good()), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_lie_is_found() {
        type Lie = (&'static str, fn(&mut Facts), &'static str);
        let lies: &[Lie] = &[
            (
                "lost",
                |f| {
                    f.watches[1].events.remove(1);
                },
                "was never told",
            ),
            (
                "repeated",
                |f| f.watches[0].events.insert(1, event(11, Kind::Added, 1, 1)),
                "repeated",
            ),
            ("reordered", |f| f.watches[0].events.swap(1, 2), "out of order"),
            (
                "wrong kind",
                |f| f.watches[0].events[1].kind = Kind::Added,
                "which was",
            ),
            (
                "a phantom",
                |f| f.watches[0].events.push(event(16, Kind::Added, 9, 9)),
                "nobody wrote",
            ),
            (
                "a revision that went back",
                |f| f.writes[1].revision = Some(11),
                "was answered with a revision after",
            ),
            ("lost by all", |f| f.writes.push(put(2, 3, 14)), "never seen"),
            (
                "another state than was written",
                |f| f.watches[0].events[1].number = 7,
                "nobody wrote",
            ),
            (
                "another object at a revision",
                |f| f.watches[1].events[0].number = 7,
                "where others saw",
            ),
            (
                "a stale list",
                |f| f.lists[1].items = [(2, (13, 1))].into(),
                "is wrong",
            ),
            (
                "a list with what was deleted",
                |f| {
                    f.lists[1].items.insert(1, (12, 2));
                },
                "is wrong",
            ),
            (
                "a delete that nobody was told of",
                |f| {
                    f.watches
                        .iter_mut()
                        .for_each(|w| w.events.retain(|e| e.kind != Kind::Deleted));
                },
                "never told",
            ),
            (
                "a write nobody saw",
                |f| {
                    f.writes.push(Write {
                        revision: None,
                        ..put(3, 1, 0)
                    })
                },
                "never seen",
            ),
        ];
        for (name, lie, wanted) in lies {
            let mut facts = good();
            lie(&mut facts);
            let found = violations(&facts);
            assert!(
                found.iter().any(|text| text.contains(wanted)),
                "{name}: {found:?}"
            );
        }
    }
}
