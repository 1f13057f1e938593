//! The contract, one suite over all engines. The etcd ones need `etcd` on PATH (Debian: `etcd-server`).
#![allow(clippy::unwrap_used, reason = "a test")]

mod cache;
mod fixture;
mod suite;

macro_rules! over_all_engines {
    ($($case:ident),* $(,)?) => {
        mod memory { $(#[test] fn $case() { crate::fixture::run(crate::fixture::Kind::Memory, |f| Box::pin(crate::suite::$case(f))); })* }
        mod embedded { $(#[test] fn $case() { crate::fixture::run(crate::fixture::Kind::Embedded, |f| Box::pin(crate::suite::$case(f))); })* }
        mod transformed { $(#[test] fn $case() { crate::fixture::run(crate::fixture::Kind::Transformed, |f| Box::pin(crate::suite::$case(f))); })* }
        mod etcd { $(#[test] fn $case() { crate::fixture::run(crate::fixture::Kind::Etcd, |f| Box::pin(crate::suite::$case(f))); })* }
    };
}

over_all_engines!(
    guards_decide_and_refusals_tell_the_current_values,
    effects_of_one_commit_share_a_revision,
    pages_at_a_revision_see_no_later_change,
    counts_tell_what_follows_the_page,
    a_watch_from_the_past_replays_and_goes_on,
    a_watch_resumed_anywhere_loses_and_repeats_nothing,
    progress_passes_changes_elsewhere,
    compaction_ends_the_past_and_nothing_else,
    keys_with_a_time_to_live_end_visibly,
    counters_raced_by_many_lose_no_increment,
    too_large_values_are_refused_and_large_ones_kept,
    acknowledged_writes_survive_a_restart,
    a_list_and_the_watch_from_it_make_the_list_now,
);
