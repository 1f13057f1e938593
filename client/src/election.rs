//! Leader election by a Lease, as client-go does it: whoever renews the Lease leads; the others take it when it has not been renewed for its
//! duration, by their own clock.
//!
//! Not promised: that two processes never both believe that they lead. A leader that can't renew gives up before others may take over,
//! as long as clocks run at about the same speed.

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::PostParams;
use std::time::Duration;
use tokio::time::Instant;

/// The flags of leader election, under upstream's names.
#[derive(Clone, Debug, clap::Args)]
pub struct ElectionArgs {
    /// Elect a leader before starting work, so that several replicas may run.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub leader_elect: bool,
    /// How long others wait, after a leader's last renewal that they saw, before they try to lead.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub leader_elect_lease_duration: Duration,
    /// How long a leader tries to renew before it gives up. Must be less than the lease duration.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub leader_elect_renew_deadline: Duration,
    /// The pause between two tries.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub leader_elect_retry_period: Duration,
    /// The namespace of the Lease.
    #[arg(long, value_name = "NAMESPACE", default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// The name of the Lease; by default the component's upstream name.
    #[arg(long, value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,
}

/// Parses a duration as Go writes it: `15s`, `1m30s`, `500ms`; a plain `0` too.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 15s, 1m30s or 500ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let scale = match &rest[..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * scale;
        rest = &rest[unit_end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

/// What a candidate has seen of the Lease: its content, and when (by our own clock) it last changed.
#[derive(Clone, Debug, PartialEq)]
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

/// What to do about the Lease now.
#[derive(Debug, PartialEq)]
enum Step {
    /// Write this: we lead if the write succeeds.
    Hold(LeaseSpec),
    /// Somebody else leads.
    Wait,
}

/// Decides from the Lease as it is. `held_since` is when the holder's last renewal was seen.
fn decide(
    identity: &str,
    current: Option<&LeaseSpec>,
    seen: Instant,
    now: Instant,
    wall: Timestamp,
    lasts: Duration,
) -> Step {
    let mut next = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(lasts.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(wall)),
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(0),
        ..LeaseSpec::default()
    };
    let Some(current) = current else {
        return Step::Hold(next);
    };
    let holder = current.holder_identity.as_deref().unwrap_or_default();
    let transitions = current.lease_transitions.unwrap_or(0);
    if holder == identity {
        next.acquire_time.clone_from(&current.acquire_time);
        next.lease_transitions = Some(transitions);
        return Step::Hold(next);
    }
    let held_for =
        Duration::from_secs(u64::try_from(current.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
    if !holder.is_empty() && now < seen + held_for {
        return Step::Wait;
    }
    next.lease_transitions = Some(transitions + 1);
    Step::Hold(next)
}

/// A candidate for one Lease.
pub struct LeaderElector {
    api: Api<Lease>,
    name: String,
    identity: String,
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
    observed: Option<Observed>,
}

impl LeaderElector {
    /// A candidate with an identity of its own, `<hostname>_<random>`.
    ///
    /// # Errors
    /// When the durations don't fit each other.
    pub fn new(client: kube::Client, args: &ElectionArgs, default_name: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            args.leader_elect_lease_duration > args.leader_elect_renew_deadline
                && args.leader_elect_renew_deadline > args.leader_elect_retry_period,
            "--leader-elect-lease-duration must exceed --leader-elect-renew-deadline, which must exceed --leader-elect-retry-period"
        );
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            api: Api::namespaced(client, &args.leader_elect_resource_namespace),
            name: args
                .leader_elect_resource_name
                .clone()
                .unwrap_or_else(|| default_name.to_owned()),
            identity: format!("{}_{:016x}", host.trim(), rand::random::<u64>()),
            lease_duration: args.leader_elect_lease_duration,
            renew_deadline: args.leader_elect_renew_deadline,
            retry_period: args.leader_elect_retry_period,
            observed: None,
        })
    }

    /// This candidate's identity.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Waits until this candidate leads.
    pub async fn acquire(&mut self) {
        tracing::info!(
            lease = self.name,
            identity = self.identity,
            "waiting to become the leader"
        );
        loop {
            match self.attempt().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::debug!(lease = self.name, "{error:#}"),
            }
            tokio::time::sleep(self.retry_period).await;
        }
        tracing::info!(lease = self.name, identity = self.identity, "became the leader");
    }

    /// Keeps leading; returns when the lead is lost. The process should end then, since its work may be another's.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.retry_period).await;
            let left = (renewed + self.renew_deadline).saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(lease = self.name, "renewing: {error:#}"),
                Err(_) => return,
            }
            if renewed.elapsed() >= self.renew_deadline {
                return;
            }
        }
    }

    /// Gives the lead up, so that another takes over at once. Does nothing when somebody else leads.
    pub async fn release(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else { return };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let _ = self.api.replace(&self.name, &PostParams::default(), &lease).await;
    }

    async fn attempt(&mut self) -> anyhow::Result<bool> {
        let current = self.api.get_opt(&self.name).await.context("reading the Lease")?;
        let now = Instant::now();
        let spec = current.as_ref().and_then(|lease| lease.spec.clone());
        if let Some(spec) = &spec
            && self.observed.as_ref().is_none_or(|o| o.spec != *spec)
        {
            self.observed = Some(Observed {
                spec: spec.clone(),
                at: now,
            });
        }
        let seen = self.observed.as_ref().map_or(now, |o| o.at);
        match decide(
            &self.identity,
            spec.as_ref(),
            seen,
            now,
            Timestamp::now(),
            self.lease_duration,
        ) {
            Step::Wait => Ok(false),
            Step::Hold(spec) => {
                let params = PostParams::default();
                let written = match current {
                    Some(mut lease) => {
                        lease.spec = Some(spec);
                        self.api.replace(&self.name, &params, &lease).await
                    }
                    None => {
                        let mut lease = Lease {
                            spec: Some(spec),
                            ..Lease::default()
                        };
                        lease.metadata.name = Some(self.name.clone());
                        self.api.create(&params, &lease).await
                    }
                };
                match written {
                    Ok(lease) => {
                        self.observed = lease.spec.map(|spec| Observed { spec, at: now });
                        Ok(true)
                    }
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                    Err(error) => Err(error).context("writing the Lease"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (text, want) in [
            ("15s", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5x", None),
        ] {
            assert_eq!(duration(text).ok().map(|d| d.as_millis()), want, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_when_free_own_or_expired_by_our_clock() {
        let (seen, lasts, wall) = (Instant::now(), Duration::from_secs(15), Timestamp::UNIX_EPOCH);
        let lease = |holder: &str| LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        let transitions = |step| match step {
            Step::Hold(spec) => spec.lease_transitions,
            Step::Wait => None,
        };
        for (what, current, after, want) in [
            ("absent", None, 0, Some(0)),
            ("own", Some(lease("me")), 99, Some(3)),
            ("another's", Some(lease("you")), 14, None),
            ("another's, expired", Some(lease("you")), 15, Some(4)),
            ("released", Some(lease("")), 0, Some(4)),
        ] {
            let now = seen + Duration::from_secs(after);
            assert_eq!(
                transitions(decide("me", current.as_ref(), seen, now, wall, lasts)),
                want,
                "{what}"
            );
        }
    }
}
