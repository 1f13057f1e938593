//! etcd's errors as the contract's.

use crate::{Commit, Effect, Revision, StoreError};
use etcd_client::Error;

/// What was asked: it decides what an error means.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    Nothing,
    Revision(Revision),
    Commit(&'a Commit),
}

/// In the message of a commit with a lease that has ended.
pub(super) const NO_LEASE: &str = "requested lease not found";

const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";
const TOO_LARGE: [&str; 2] = ["request is too large", "message larger than max"];
/// What only a person can mend, among statuses that otherwise pass.
const FATAL: [&str; 2] = ["database space exceeded", "corrupt"];

pub(super) fn mapped(error: Error, asked: Asked<'_>) -> StoreError {
    let text = match &error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        error => error.to_string(),
    };
    if text.contains(COMPACTED) {
        let asked = match asked {
            Asked::Revision(asked) => asked,
            _ => Revision(0),
        };
        // etcd doesn't say where its history begins; later than what was asked.
        return StoreError::Compacted {
            asked,
            oldest: Revision(asked.0 + 1),
        };
    }
    if let Asked::Revision(asked) = asked
        && text.contains(FUTURE)
    {
        return StoreError::Future {
            asked,
            current: Revision(0),
        };
    }
    if let Asked::Commit(commit) = asked
        && TOO_LARGE.iter().any(|part| text.contains(part))
    {
        return too_large(commit);
    }
    if FATAL.iter().any(|part| text.contains(part)) {
        return StoreError::Fatal(format!("etcd: {text}"));
    }
    match &error {
        Error::GRpcStatus(status) => match grpc_name(status.code() as i32) {
            Class::Fatal => StoreError::Fatal(format!("etcd: {text}")),
            Class::Passing => StoreError::Unavailable(format!("etcd: {text}")),
        },
        Error::InvalidArgs(_)
        | Error::InvalidUri(_)
        | Error::Utf8Error(_)
        | Error::InvalidMetadataValue(_) => StoreError::Fatal(format!("etcd: {text}")),
        _ => StoreError::Unavailable(format!("etcd: {text}")),
    }
}

enum Class {
    Fatal,
    Passing,
}

/// By gRPC's numbers: whether trying again can help.
fn grpc_name(code: i32) -> Class {
    match code {
        // InvalidArgument, NotFound, PermissionDenied, FailedPrecondition, OutOfRange, Unimplemented, DataLoss, Unauthenticated
        3 | 5 | 7 | 9 | 11 | 12 | 15 | 16 => Class::Fatal,
        _ => Class::Passing,
    }
}

fn too_large(commit: &Commit) -> StoreError {
    let puts = commit.effects.iter().filter_map(|effect| match effect {
        Effect::Put(key, value, _) => Some((key, value.len())),
        Effect::Delete(_) => None,
    });
    match puts.max_by_key(|(_, size)| *size) {
        Some((key, size)) => StoreError::TooLarge {
            key: key.clone(),
            size,
            max: size.saturating_sub(1),
        },
        None => StoreError::Fatal("etcd: the request is too large".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_mean_what_the_contract_says() {
        let watch = |text: &str| Error::WatchError(text.into());
        let asked = Asked::Revision(Revision(5));
        let compacted = mapped(
            watch("etcdserver: mvcc: required revision has been compacted"),
            asked,
        );
        assert!(matches!(
            compacted,
            StoreError::Compacted {
                asked: Revision(5),
                ..
            }
        ));
        let future = mapped(
            watch("etcdserver: mvcc: required revision is a future revision"),
            asked,
        );
        assert!(matches!(
            future,
            StoreError::Future {
                asked: Revision(5),
                ..
            }
        ));
        let full = mapped(watch("etcdserver: mvcc: database space exceeded"), Asked::Nothing);
        assert!(matches!(full, StoreError::Fatal(_)));
        assert!(matches!(
            mapped(watch("connection reset"), Asked::Nothing),
            StoreError::Unavailable(_)
        ));
        let commit = Commit {
            effects: vec![Effect::Put("/a".into(), bytes::Bytes::from_static(b"xy"), None)],
            guards: vec![],
        };
        let large = mapped(watch("etcdserver: request is too large"), Asked::Commit(&commit));
        assert!(matches!(large, StoreError::TooLarge { size: 2, .. }));
    }
}
