//! A webhook that decides (`--authorization-mode=Webhook`, or of an authorization configuration): it is asked by a
//! `SubjectAccessReview`.
//!
//! Match conditions keep questions away from it; its answers are remembered for a while. A webhook that doesn't answer has no
//! opinion, or refuses, as configured.

mod wire;

pub use wire::Version;

use crate::cel::Expression;
use crate::remote::{Remote, persist};
use crate::{Attributes, Authorizer, Clock, Decision};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rutter_api::{UserInfo, Value};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How many answers are remembered.
const REMEMBERED: usize = 8192;
/// Questions with more text than this are not remembered: they are not asked twice.
const LARGEST: usize = 10_000;

/// How a webhook is asked.
pub struct Settings {
    /// Its name, for messages.
    pub name: String,
    /// The version of the question.
    pub version: Version,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How long a yes is remembered; not at all when zero.
    pub authorized: SignedDuration,
    /// How long anything else is.
    pub unauthorized: SignedDuration,
    /// Whether a webhook that doesn't answer refuses.
    pub failure_denies: bool,
    /// What must be true of the question for it to be asked.
    pub conditions: Vec<Expression>,
}

type Answers = HashMap<[u8; 32], (Timestamp, Decision)>;

/// Asks a webhook.
pub struct Webhook {
    settings: Settings,
    remote: Arc<dyn Remote>,
    clock: Clock,
    answers: Mutex<Answers>,
}

impl Webhook {
    /// Asks `remote`.
    pub fn new(settings: Settings, remote: Arc<dyn Remote>, clock: Clock) -> Self {
        Self {
            settings,
            remote,
            clock,
            answers: Mutex::default(),
        }
    }

    fn failed(&self, why: &str) -> Decision {
        let name = &self.settings.name;
        tracing::warn!(webhook = name, error = why, "an authorization webhook failed");
        let why = format!("webhook {name:?}: {why}");
        if self.settings.failure_denies {
            Decision::Deny(why)
        } else {
            Decision::NoOpinion(why)
        }
    }

    /// Whether all match conditions are true of a question. One that is false decides, whatever failed before it.
    fn matches(&self, spec: &Value) -> Result<bool, String> {
        if self.settings.conditions.is_empty() {
            return Ok(true);
        }
        let spec = &wire::whole(spec);
        let mut failed = Ok(true);
        for condition in &self.settings.conditions {
            match condition.evaluate(spec) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => failed = Err(format!("match condition {:?} is not a boolean", condition.text())),
                Err(why) => failed = Err(format!("match condition {:?}: {why}", condition.text())),
            }
        }
        failed
    }

    fn remember(&self, key: [u8; 32], now: Timestamp, decision: &Decision) {
        let time = match decision {
            Decision::Allow(_) => self.settings.authorized,
            _ => self.settings.unauthorized,
        };
        let Ok(until) = now.checked_add(time) else { return };
        if until <= now {
            return;
        }
        let mut answers = self.answers.lock();
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (until, _)| *until > now);
            if answers.len() >= REMEMBERED {
                answers.clear();
            }
        }
        answers.insert(key, (until, decision.clone()));
    }
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let spec = wire::spec(user, attributes);
        match self.matches(&spec) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(&why),
        }
        let question = wire::question(self.settings.version, spec).to_string();
        let key: Option<[u8; 32]> = (question.len() <= LARGEST).then(|| Sha256::digest(&question).into());
        let now = (self.clock)();
        if let Some(key) = &key
            && let Some((until, decision)) = self.answers.lock().get(key)
            && *until > now
        {
            return decision.clone();
        }
        let answer = match persist(&*self.remote, question.into(), self.settings.timeout).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error.text),
        };
        match wire::decision(&answer) {
            Ok(decision) => {
                if let Some(key) = key {
                    self.remember(key, now, &decision);
                }
                decision
            }
            Err(why) => self.failed(&why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::testing::{Script, failure};
    use serde_json::json;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn settings(failure_denies: bool) -> Settings {
        Settings {
            name: "w".to_owned(),
            version: Version::V1,
            timeout: Duration::from_secs(3),
            authorized: SignedDuration::from_secs(300),
            unauthorized: SignedDuration::from_secs(30),
            failure_denies,
            conditions: Vec::new(),
        }
    }

    fn user(name: &str) -> UserInfo {
        UserInfo {
            name: name.to_owned(),
            ..UserInfo::default()
        }
    }

    #[tokio::test]
    async fn the_webhook_decides_and_its_silence_is_judged_as_configured() {
        let status = |status: Value| Ok(json!({"status": status}));
        for (answer, denies, want) in [
            (
                status(json!({"allowed": true, "reason": "r"})),
                false,
                Decision::Allow("r".into()),
            ),
            (
                status(json!({"allowed": false, "reason": "r"})),
                true,
                Decision::NoOpinion("r".into()),
            ),
            (
                status(json!({"denied": true})),
                false,
                Decision::Deny(String::new()),
            ),
            (
                failure(false),
                false,
                Decision::NoOpinion("webhook \"w\": webhook is away".into()),
            ),
            (
                failure(false),
                true,
                Decision::Deny("webhook \"w\": webhook is away".into()),
            ),
        ] {
            let script = Arc::new(Script::of([answer]));
            let webhook = Webhook::new(settings(denies), script, crate::system_clock());
            let asked = Attributes {
                verb: "get".into(),
                path: "/x".into(),
                ..Attributes::default()
            };
            assert_eq!(webhook.authorize(&user("jane"), &asked).await, want);
        }
    }

    #[tokio::test]
    async fn answers_are_remembered_for_their_time_and_failures_are_not() {
        let now = Arc::new(AtomicI64::new(0));
        let clock: Clock = {
            let now = now.clone();
            Arc::new(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap())
        };
        let yes = || Ok(json!({"status": {"allowed": true}}));
        let no = || Ok(json!({"status": {"allowed": false}}));
        let answers = [failure(false), yes(), no(), no(), yes()];
        let script = Arc::new(Script::of(answers));
        let webhook = Webhook::new(settings(false), script.clone(), clock);
        // the time, the verb, how often the webhook was asked by then
        for (at, verb, asked) in [
            (0, "get", 1),
            (0, "get", 2),
            (299, "get", 2),
            (299, "list", 3),
            (328, "list", 3),
            (329, "list", 4),
            (329, "get", 5),
        ] {
            now.store(at, Ordering::Relaxed);
            let attributes = Attributes {
                verb: verb.into(),
                resource: "pods".into(),
                ..Attributes::default()
            };
            webhook.authorize(&user("jane"), &attributes).await;
            assert_eq!(script.asked.lock().len(), asked, "{at} {verb}");
        }
    }

    #[tokio::test]
    async fn a_webhook_is_asked_only_what_its_conditions_are_true_of() {
        use crate::cel::{Variable, Wanted};
        let compile = |text: &str| Expression::compile(text, Variable::Request, Wanted::Bool).unwrap();
        let here = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'";
        for (conditions, namespace, asked) in [
            (vec![here], "kube-system", 1),
            (vec![here], "default", 0),
            (
                vec![here, "!('system:masters' in request.groups)"],
                "kube-system",
                1,
            ),
            // A condition that fails is a failure of the webhook, unless another one is false.
            (vec!["request.extra['x'][0] == ''"], "default", 0),
        ] {
            let script = Arc::new(Script::of([Ok(json!({"status": {"allowed": true}}))]));
            let mut settings = settings(false);
            settings.conditions = conditions.into_iter().map(compile).collect();
            let webhook = Webhook::new(settings, script.clone(), crate::system_clock());
            let attributes = Attributes {
                verb: "get".into(),
                namespace: namespace.into(),
                resource: "pods".into(),
                ..Attributes::default()
            };
            let decision = webhook.authorize(&user("jane"), &attributes).await;
            assert_eq!(script.asked.lock().len(), asked, "{namespace}: {decision:?}");
            assert_eq!(matches!(decision, Decision::Allow(_)), asked == 1);
        }
    }
}
