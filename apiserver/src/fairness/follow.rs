//! Keeps the configuration in force as it is stored, and the stored objects as they should be.
//!
//! Stored objects are looked at when the cache says that any changed; seats are divided anew every ten seconds; the server's own
//! objects are put right every minute, and statuses of schemas when they say something else.

use super::Fairness;
use crate::bootstrap::{internal, own};
use crate::registry::update::Change;
use crate::server::Server;
use rutter_api::object::ObjectExt;
use rutter_api::{GroupResource, GroupVersion, ObjectReader as _, Reason, StatusError, Value};
use rutter_fairness::config::{self, Status};
use rutter_fairness::objects::{self, Upkeep};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const LEVELS: &str = "prioritylevelconfigurations";
const SCHEMAS: &str = "flowschemas";
/// How often it is looked whether anything changed.
const LOOK: Duration = Duration::from_millis(250);
/// How often seats are divided anew.
const DIVIDE: Duration = Duration::from_secs(10);
/// How often the server's own objects are put right.
const MAINTAIN: Duration = Duration::from_secs(60);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Follows the stored configuration until `stop`.
pub async fn run(fairness: Arc<Fairness>, server: Arc<Server>, stop: CancellationToken) {
    let work = follow(&fairness, &server);
    stop.run_until_cancelled(work).await;
}

async fn follow(fairness: &Fairness, server: &Arc<Server>) {
    server.cache.ready().await;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    let (mut divide, mut maintain) = (Instant::now() + DIVIDE, Instant::now());
    let mut statuses = Instant::now();
    loop {
        look.tick().await;
        let now = Instant::now();
        if now >= maintain {
            maintain = now + MAINTAIN;
            if let Err(error) = maintain_objects(server).await {
                tracing::warn!(%error, "the objects of priority and fairness are not all as they should be");
                maintain = now + RETRY;
            }
        }
        let changed =
            [LEVELS, SCHEMAS].map(|plural| server.reader.generation(&GroupResource::new(GROUP, plural)));
        if seen != Some(changed) || statuses <= now {
            let config = read(fairness, server);
            let wanted = config.statuses.clone();
            if seen != Some(changed) {
                fairness.adopt(config);
            }
            seen = Some(changed);
            // A server that says otherwise must not be fought at full speed.
            statuses = now + MAINTAIN;
            if let Err(error) = tell(server, wanted).await {
                tracing::warn!(%error, "the status of a flow schema could not be written");
                statuses = now + RETRY;
            }
        }
        if now >= divide {
            divide = now + DIVIDE;
            fairness.rebalance();
        }
    }
}

fn read(fairness: &Fairness, server: &Server) -> config::Config {
    let list = |plural| server.reader.list(&GroupResource::new(GROUP, plural), None);
    config::digest(&list(LEVELS), &list(SCHEMAS), fairness.total)
}

fn version() -> GroupVersion {
    GroupVersion::new(GROUP, "v1")
}

/// Makes, revises and removes objects.
async fn maintain_objects(server: &Arc<Server>) -> Result<(), StatusError> {
    for (plural, wanted) in [(LEVELS, objects::levels()), (SCHEMAS, objects::schemas())] {
        for object in &wanted {
            maintain_one(server, plural, object).await?;
        }
    }
    for (plural, wanted) in [(SCHEMAS, objects::schemas()), (LEVELS, objects::levels())] {
        let stored = server.reader.list(&GroupResource::new(GROUP, plural), None);
        for left in stored
            .iter()
            .filter(|stored| objects::is_left_over(stored, &wanted))
        {
            let call = internal(server, &version(), plural, "")?;
            match call.delete_object(left.name(), &Default::default()).await {
                Err(error) if error.reason != Reason::NotFound => return Err(error),
                _ => tracing::info!(
                    plural,
                    name = left.name(),
                    "an object that no server needs any longer is gone"
                ),
            }
        }
    }
    Ok(())
}

async fn maintain_one(server: &Arc<Server>, plural: &str, wanted: &Value) -> Result<(), StatusError> {
    let mut call = internal(server, &version(), plural, "")?;
    wanted.name().clone_into(&mut call.info.name);
    let stored = call.load(wanted.name(), false).await?;
    match objects::maintain(stored.as_ref().map(|stored| &stored.object), wanted) {
        Upkeep::Keep => Ok(()),
        Upkeep::Create(object) => match call.create_object(object, &own(), true).await {
            // Another server was first.
            Err(error) if error.reason != Reason::AlreadyExists => Err(error),
            _ => Ok(()),
        },
        Upkeep::Update(object) => {
            let change = Change {
                make: &|_| Ok(object.clone()),
                creates: false,
                direct: false,
                managed: true,
            };
            match call.change(&change, &own()).await {
                Err(error) if error.reason != Reason::Conflict => Err(error),
                _ => Ok(()),
            }
        }
    }
}

/// Writes the condition `Dangling` where it says something else.
async fn tell(server: &Arc<Server>, statuses: Vec<Status>) -> Result<(), StatusError> {
    for status in statuses {
        let mut call = internal(server, &version(), SCHEMAS, "")?;
        status.schema.clone_into(&mut call.info.name);
        "status".clone_into(&mut call.info.subresource);
        let now = crate::registry::create::rfc3339(call.now);
        let make = |old: Option<&Value>| {
            let mut object = old.cloned().ok_or_else(|| call.not_found(&status.schema))?;
            let mut conditions = object.list_at("status.conditions").to_vec();
            conditions.retain(|condition| condition.str_at("type") != "Dangling");
            conditions.push(json!({
                "type": "Dangling", "status": status.value(), "reason": status.reason,
                "message": status.message, "lastTransitionTime": now,
            }));
            object.set("status.conditions", conditions);
            Ok(object)
        };
        let change = Change {
            make: &make,
            creates: false,
            direct: false,
            managed: true,
        };
        match call.change(&change, &own()).await {
            // It was deleted meanwhile.
            Err(error) if error.reason != Reason::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
