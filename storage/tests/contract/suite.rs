//! The cases. Each runs on a fresh engine.

pub(crate) use crate::cache::a_list_and_the_watch_from_it_make_the_list_now;
use crate::fixture::{Fixture, Kind, read_through};
use bytes::Bytes;
use rutter_storage::{Effect, Guard, Outcome, RangeRequest, RangeResponse, Revision, StoreError, WatchEvent};
use std::time::Duration;

fn put(key: &str, value: &str) -> Effect {
    Effect::Put(key.into(), value.to_owned().into(), None)
}

fn below(prefix: &str) -> RangeRequest {
    RangeRequest {
        prefix: prefix.into(),
        ..Default::default()
    }
}

fn shown(page: &RangeResponse) -> String {
    let items = page
        .items
        .iter()
        .map(|item| format!("{}={}", item.key, String::from_utf8_lossy(&item.value)));
    items.collect::<Vec<_>>().join(" ")
}

pub(crate) async fn guards_decide_and_refusals_tell_the_current_values(f: &mut Fixture) {
    let absent = || Guard::Absent("/r/a".into());
    let made = match f.guarded(vec![absent()], vec![put("/r/a", "1")]).await.unwrap() {
        Outcome::Applied(revision) => revision,
        refused => panic!("{refused:?}"),
    };
    let Outcome::Refused(found) = f.guarded(vec![absent()], vec![put("/r/a", "2")]).await.unwrap() else {
        panic!("applied over a key that is there");
    };
    let found = found[0].as_ref().unwrap();
    assert_eq!(
        (&*found.value, found.modified, found.created),
        (&b"1"[..], made, made)
    );
    let unchanged = |at| Guard::Unchanged("/r/a".into(), at);
    let Outcome::Applied(second) = f
        .guarded(vec![unchanged(made)], vec![put("/r/a", "2")])
        .await
        .unwrap()
    else {
        panic!("the right revision was refused");
    };
    let both = vec![unchanged(made), Guard::Absent("/r/b".into())];
    let Outcome::Refused(found) = f.guarded(both, vec![put("/r/b", "x")]).await.unwrap() else {
        panic!("an old revision was taken");
    };
    assert_eq!(found[0].as_ref().unwrap().modified, second);
    assert_eq!(found[0].as_ref().unwrap().created, made);
    assert!(found[1].is_none());
    assert!(
        f.engine.get("/r/b").await.unwrap().is_none(),
        "a refused commit has no effect"
    );
    let Outcome::Refused(_) = f
        .guarded(vec![Guard::Unchanged("/r/none".into(), made)], vec![])
        .await
        .unwrap()
    else {
        panic!("a missing key is not unchanged");
    };
    assert_eq!(f.engine.revision().await.unwrap(), second);
}

pub(crate) async fn effects_of_one_commit_share_a_revision(f: &mut Fixture) {
    let first = f.put("/r/old", "x").await;
    let both = f
        .apply(vec![
            put("/r/a", "1"),
            Effect::Delete("/r/old".into()),
            put("/r/b", "2"),
        ])
        .await;
    assert_eq!(both, Revision(first.0 + 1));
    for key in ["/r/a", "/r/b"] {
        assert_eq!(f.engine.get(key).await.unwrap().unwrap().modified, both);
    }
    f.delete("/r/nothing").await;
    assert_eq!(
        f.engine.revision().await.unwrap(),
        both,
        "deleting what is not there changes nothing"
    );
    let mut watch = f.engine.watch("/r/", both).await.unwrap();
    let mut seen = read_through(&mut watch, both).await;
    seen.sort();
    let at = both.0;
    assert_eq!(
        seen,
        [
            format!("/r/a=1@{at}"),
            format!("/r/b=2@{at}"),
            format!("/r/old@{at}")
        ]
    );
}

pub(crate) async fn pages_at_a_revision_see_no_later_change(f: &mut Fixture) {
    for key in ["/r/a", "/r/b", "/r/c", "/r/d", "/s/x"] {
        f.put(key, "1").await;
    }
    let at = f.engine.revision().await.unwrap();
    let page = |after: Option<&str>, revision| RangeRequest {
        after: after.map(str::to_owned),
        revision,
        limit: 2,
        ..below("/r/")
    };
    let first = f.engine.range(page(None, None)).await.unwrap();
    assert_eq!(
        (shown(&first).as_str(), first.more, first.revision),
        ("/r/a=1 /r/b=1", true, at)
    );
    f.put("/r/bb", "new").await;
    f.put("/r/d", "2").await;
    f.delete("/r/c").await;
    f.put("/r/c", "again").await;
    f.delete("/r/c").await;
    let second = f.engine.range(page(Some("/r/b"), Some(at))).await.unwrap();
    assert_eq!((shown(&second).as_str(), second.more), ("/r/c=1 /r/d=1", false));
    assert!(
        second.revision > at,
        "a page tells the store's revision, not the one asked for"
    );
    let now = f.engine.range(below("/r/")).await.unwrap();
    assert_eq!(shown(&now), "/r/a=1 /r/b=1 /r/bb=new /r/d=2");
    let ahead = RangeRequest {
        revision: Some(Revision(now.revision.0 + 10)),
        ..below("/r/")
    };
    assert!(matches!(
        f.engine.range(ahead).await,
        Err(StoreError::Future { .. })
    ));
    assert_eq!(
        shown(&f.engine.range(below("")).await.unwrap()),
        "/r/a=1 /r/b=1 /r/bb=new /r/d=2 /s/x=1"
    );
}

pub(crate) async fn counts_tell_what_follows_the_page(f: &mut Fixture) {
    for n in 0..10 {
        f.put(&format!("/r/{n}"), "x").await;
    }
    let page = f
        .engine
        .range(RangeRequest {
            after: Some("/r/2".into()),
            limit: 3,
            ..below("/r/")
        })
        .await
        .unwrap();
    assert_eq!((page.items.len(), page.count, page.more), (3, 7, true));
    let count = f
        .engine
        .range(RangeRequest {
            count_only: true,
            ..below("/r/")
        })
        .await
        .unwrap();
    assert_eq!((count.items.len(), count.count, count.more), (0, 10, false));
    let none = f
        .engine
        .range(RangeRequest {
            after: Some("/r/9".into()),
            ..below("/r/")
        })
        .await
        .unwrap();
    assert_eq!((none.items.len(), none.count, none.more), (0, 0, false));
}

pub(crate) async fn a_watch_from_the_past_replays_and_goes_on(f: &mut Fixture) {
    let a = f.put("/r/a", "1").await;
    let b = f.put("/r/a", "2").await;
    f.put("/other", "x").await;
    let c = f.delete("/r/a").await;
    let mut watch = f.engine.watch("/r/", b).await.unwrap();
    assert_eq!(
        read_through(&mut watch, c).await,
        [format!("/r/a=2@{b}"), format!("/r/a@{c}")]
    );
    let d = f.put("/r/b", "3").await;
    assert_eq!(read_through(&mut watch, d).await, [format!("/r/b=3@{d}")]);
    let mut whole = f.engine.watch("/r/", a).await.unwrap();
    assert_eq!(read_through(&mut whole, d).await.len(), 4);
}

pub(crate) async fn a_watch_resumed_anywhere_loses_and_repeats_nothing(f: &mut Fixture) {
    let first = f.put("/r/0", "0").await;
    let mut want = vec![format!("/r/0=0@{first}")];
    let mut last = first;
    for n in 1..60 {
        last = f.put(&format!("/r/{}", n % 7), &n.to_string()).await;
        want.push(format!("/r/{}={n}@{last}", n % 7));
    }
    for cut in [first.0, first.0 + 1, first.0 + 30, last.0] {
        let mut watch = f.engine.watch("/r/", first).await.unwrap();
        let mut seen = Vec::new();
        let mut next = first;
        // Ends at the first event that reaches the cut; the rest comes from a second watch.
        while next.0 <= cut {
            match watch.next().await.unwrap() {
                WatchEvent::Progress(through) => next = Revision(through.0 + 1),
                WatchEvent::Changes { changes, through } => {
                    let keep = changes.into_iter().filter(|change| change.revision.0 <= cut);
                    seen.extend(keep.map(|change| change.revision.0));
                    next = Revision(through.0 + 1);
                }
            }
        }
        let mut rest = f.engine.watch("/r/", Revision(cut + 1)).await.unwrap();
        if cut < last.0 {
            let rest = read_through(&mut rest, last).await;
            seen.extend(
                rest.iter()
                    .map(|text| text.rsplit('@').next().unwrap().parse::<u64>().unwrap()),
            );
        }
        assert_eq!(seen, (first.0..=last.0).collect::<Vec<_>>(), "cut at {cut}");
    }
    let mut watch = f.engine.watch("/r/", first).await.unwrap();
    assert_eq!(read_through(&mut watch, last).await, want);
    // The store goes away below the watch and returns.
    f.restart_below();
    let after = loop {
        match f.guarded(vec![], vec![put("/r/after", "x")]).await {
            Ok(Outcome::Applied(revision)) => break revision,
            Ok(refused) => panic!("{refused:?}"),
            Err(StoreError::Unavailable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let seen = read_through(&mut watch, after).await;
    assert_eq!(seen.last().unwrap(), &format!("/r/after=x@{after}"));
    assert_eq!(seen.len() as u64, after.0 - last.0, "{seen:?}");
}

pub(crate) async fn progress_passes_changes_elsewhere(f: &mut Fixture) {
    let from = f.put("/r/a", "1").await;
    let mut watch = f.engine.watch("/r/", from).await.unwrap();
    read_through(&mut watch, from).await;
    f.put("/elsewhere", "x").await;
    let now = f.engine.revision().await.unwrap();
    assert!(
        read_through(&mut watch, now).await.is_empty(),
        "nothing below the prefix changed"
    );
    let last = f.put("/r/b", "2").await;
    assert_eq!(read_through(&mut watch, last).await, [format!("/r/b=2@{last}")]);
}

pub(crate) async fn compaction_ends_the_past_and_nothing_else(f: &mut Fixture) {
    let a = f.put("/r/a", "1").await;
    f.put("/r/b", "1").await;
    f.put("/r/a", "2").await;
    let kept = f.delete("/r/b").await;
    let last = f.put("/r/c", "1").await;
    f.engine.compact(kept).await.unwrap();
    let at = |revision| RangeRequest {
        revision: Some(revision),
        ..below("/r/")
    };
    for old in [a, Revision(kept.0 - 1)] {
        let error = f.engine.range(at(old)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Compacted { asked, oldest } if asked == old && oldest > old),
            "{error}"
        );
    }
    assert_eq!(shown(&f.engine.range(at(kept)).await.unwrap()), "/r/a=2");
    assert_eq!(shown(&f.engine.range(at(last)).await.unwrap()), "/r/a=2 /r/c=1");
    let ended = match f.engine.watch("/r/", a).await {
        Err(error) => error,
        Ok(mut watch) => watch.next().await.unwrap_err(),
    };
    assert!(matches!(ended, StoreError::Compacted { .. }), "{ended}");
    let mut watch = f.engine.watch("/r/", Revision(kept.0 + 1)).await.unwrap();
    assert_eq!(read_through(&mut watch, last).await, [format!("/r/c=1@{last}")]);
    f.engine
        .compact(kept)
        .await
        .expect("what is compacted already is no error");
    let ahead = f.engine.compact(Revision(last.0 + 10)).await.unwrap_err();
    assert!(matches!(ahead, StoreError::Future { .. }), "{ahead}");
    let now = f.put("/r/a", "3").await;
    f.engine.compact(now).await.unwrap();
    assert_eq!(
        shown(&f.engine.range(below("/r/")).await.unwrap()),
        "/r/a=3 /r/c=1"
    );
}

pub(crate) async fn keys_with_a_time_to_live_end_visibly(f: &mut Fixture) {
    let life = Some(Duration::from_secs(1));
    let dying = |key: &str| Effect::Put(key.into(), Bytes::from_static(b"x"), life);
    let from = f.apply(vec![dying("/r/dies"), dying("/r/saved")]).await;
    let saved = f.put("/r/saved", "for good").await;
    let mut watch = f.engine.watch("/r/", Revision(saved.0 + 1)).await.unwrap();
    let gone = loop {
        if let WatchEvent::Changes { changes, .. } = watch.next().await.unwrap() {
            break changes;
        }
    };
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].key.as_str(), gone[0].value.as_ref()), ("/r/dies", None));
    assert!(gone[0].revision > from);
    assert_eq!(
        shown(&f.engine.range(below("/r/")).await.unwrap()),
        "/r/saved=for good"
    );
}

pub(crate) async fn counters_raced_by_many_lose_no_increment(f: &mut Fixture) {
    const WRITERS: usize = 16;
    const EACH: usize = 10;
    f.put("/r/count", "0").await;
    let writer = || async {
        for _ in 0..EACH {
            let mut now = f.engine.get("/r/count").await.unwrap().unwrap();
            loop {
                let count: usize = std::str::from_utf8(&now.value).unwrap().parse().unwrap();
                let guard = Guard::Unchanged("/r/count".into(), now.modified);
                match f
                    .guarded(vec![guard], vec![put("/r/count", &(count + 1).to_string())])
                    .await
                    .unwrap()
                {
                    Outcome::Applied(_) => break,
                    Outcome::Refused(found) => now = found.into_iter().next().flatten().unwrap(),
                }
            }
        }
    };
    futures::future::join_all((0..WRITERS).map(|_| writer())).await;
    let total = f.engine.get("/r/count").await.unwrap().unwrap();
    assert_eq!(total.value, Bytes::from((WRITERS * EACH).to_string()));
}

pub(crate) async fn too_large_values_are_refused_and_large_ones_kept(f: &mut Fixture) {
    let large = vec![b'x'; 1_400_000];
    f.apply(vec![Effect::Put("/r/large".into(), large.clone().into(), None)])
        .await;
    assert_eq!(f.engine.get("/r/large").await.unwrap().unwrap().value, large);
    let too_large = vec![Effect::Put("/r/huge".into(), vec![b'x'; 2 << 20].into(), None)];
    let error = f.guarded(vec![], too_large).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                size: 2_097_152..,
                ..
            }
        ),
        "{error}"
    );
}

pub(crate) async fn acknowledged_writes_survive_a_restart(f: &mut Fixture) {
    let a = f.put("/r/a", "1").await;
    let last = f.put("/r/a", "2").await;
    if f.kind == Kind::Memory {
        return;
    }
    f.restart().await;
    assert!(f.engine.revision().await.unwrap() >= last);
    let found = f.engine.get("/r/a").await.unwrap().unwrap();
    assert_eq!(
        (&*found.value, found.created, found.modified),
        (&b"2"[..], a, last)
    );
    let mut watch = f.engine.watch("/r/", a).await.unwrap();
    assert_eq!(
        read_through(&mut watch, last).await,
        [format!("/r/a=1@{a}"), format!("/r/a=2@{last}")]
    );
    assert!(f.put("/r/b", "3").await > last);
}
