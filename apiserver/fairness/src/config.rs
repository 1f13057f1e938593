//! From the objects in the store to what is in force: schemas in the order they are asked, levels with their seats, and what each
//! schema's status should say.

use crate::limits::{Limits, Shares, most_seats};
use crate::objects;
use crate::queues::Mode;
use crate::schema::Schema;
use crate::shuffle;
use rutter_api::Value;
use rutter_api::object::ObjectExt;

/// The names of the schemas and levels that are always there.
pub const EXEMPT: &str = "exempt";
/// The schema and level for what no other schema takes.
pub const CATCH_ALL: &str = "catch-all";

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The levels, by name.
    pub levels: Vec<Level>,
    /// The schemas with a level, in the order they are asked.
    pub schemas: Vec<Schema>,
    /// What the statuses of schemas should say and don't.
    pub statuses: Vec<Status>,
}

/// A priority level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// Its uid; empty while it isn't stored.
    pub uid: String,
    /// How it treats requests that find no seat.
    pub mode: Mode,
    /// What it says of seats.
    pub shares: Shares,
    /// Its seats.
    pub limits: Limits,
    /// The most seats that one of its requests is estimated at; 0 for no bound of its own.
    pub most_seats: u32,
}

/// The condition `Dangling` that a schema should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The schema's name.
    pub schema: String,
    /// Whether its level is missing.
    pub dangling: bool,
    /// `NotFound` or `Found`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Reads the stored objects; `total` are the server's seats. Levels that make no sense are taken as missing; the mandatory schemas
/// and levels are in force whether stored or not.
pub fn digest(levels: &[impl AsRef<Value>], schemas: &[impl AsRef<Value>], total: u32) -> Config {
    let mut config = Config {
        levels: levels
            .iter()
            .filter_map(|level| Level::read(level.as_ref()))
            .collect(),
        ..Config::default()
    };
    for schema in schemas {
        let (object, schema) = (schema.as_ref(), Schema::read(schema.as_ref()));
        let found = config.levels.iter().any(|level| level.name == schema.level);
        let status = Status::of(&schema, found);
        if !status.is_in(object) {
            config.statuses.push(status);
        }
        if found {
            config.schemas.push(schema);
        }
    }
    config
        .schemas
        .sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
    for level in objects::levels().into_iter().filter(objects::is_mandatory) {
        if !config.levels.iter().any(|known| known.name == level.name()) {
            config.levels.extend(Level::read(&level));
        }
    }
    for (name, first) in [(EXEMPT, true), (CATCH_ALL, false)] {
        if config.schemas.iter().any(|known| known.name == name) {
            continue;
        }
        let made = objects::schemas()
            .into_iter()
            .find(|schema| schema.name() == name);
        let at = if first { 0 } else { config.schemas.len() };
        if let Some(made) = made {
            config.schemas.insert(at, Schema::read(&made));
        }
    }
    config.levels.sort_by(|a, b| a.name.cmp(&b.name));
    let sum: u64 = config
        .levels
        .iter()
        .map(|level| u64::from(level.shares.shares))
        .sum();
    for level in &mut config.levels {
        level.limits = Limits::new(level.shares, sum, total);
        if let Mode::Queue { hand, .. } = level.mode {
            level.most_seats = most_seats(level.limits.nominal, hand);
        }
    }
    config
}

impl Level {
    /// Reads a PriorityLevelConfiguration; none when it makes no sense.
    pub fn read(object: &Value) -> Option<Self> {
        let exempt = object.name() == EXEMPT;
        let number = |value: &Value, field: &str, default: i64| {
            u32::try_from(value.int_at(field).unwrap_or(default)).unwrap_or(0)
        };
        let (spec, mode) = match object.str_at("spec.type") {
            "Exempt" if exempt => (object.at("spec.exempt"), Mode::Exempt),
            "Limited" if !exempt => (
                object.at("spec.limited"),
                mode(object.at("spec.limited.limitResponse"))?,
            ),
            _ => return None,
        };
        if !spec.is_object() {
            return None;
        }
        let shares = Shares {
            shares: number(spec, "nominalConcurrencyShares", if exempt { 0 } else { 30 }),
            lendable: number(spec, "lendablePercent", 0),
            borrowing: spec
                .int_at("borrowingLimitPercent")
                .map(|percent| u32::try_from(percent).unwrap_or(0)),
        };
        Some(Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            mode,
            shares,
            limits: Limits::default(),
            most_seats: 0,
        })
    }
}

fn mode(response: &Value) -> Option<Mode> {
    match (response.str_at("type"), response.at("queuing")) {
        ("Reject", Value::Null) => Some(Mode::Reject),
        ("Queue", queuing @ Value::Object(_)) => {
            let number =
                |field: &str, default| usize::try_from(queuing.int_at(field).unwrap_or(default)).ok();
            let (queues, hand) = (number("queues", 64)?, number("handSize", 8)?);
            shuffle::is_dealable(queues, hand).then_some(Mode::Queue {
                queues,
                hand,
                length: number("queueLengthLimit", 50)?,
            })
        }
        _ => None,
    }
}

impl Status {
    fn of(schema: &Schema, found: bool) -> Self {
        let named = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {:?}",
            schema.level
        );
        let (reason, message) = match found {
            true => ("Found", format!("{named} and it exists")),
            false => ("NotFound", format!("{named} but there is no such object")),
        };
        Self {
            schema: schema.name.clone(),
            dangling: !found,
            reason,
            message,
        }
    }

    /// `True` or `False`, as the condition's status says it.
    pub fn value(&self) -> &'static str {
        if self.dangling { "True" } else { "False" }
    }

    fn is_in(&self, object: &Value) -> bool {
        object.list_at("status.conditions").iter().any(|condition| {
            condition.str_at("type") == "Dangling"
                && condition.str_at("status") == self.value()
                && condition.str_at("reason") == self.reason
                && condition.str_at("message") == self.message
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_store_has_the_mandatory_configuration() {
        let nothing: [Box<Value>; 0] = [];
        let config = digest(&nothing, &nothing, 600);
        let names: Vec<&str> = config.schemas.iter().map(|schema| schema.name.as_str()).collect();
        assert_eq!(names, [EXEMPT, CATCH_ALL]);
        let limits: Vec<u32> = config.levels.iter().map(|level| level.limits.nominal).collect();
        assert_eq!(limits, [600, 0], "all seats are for what isn't exempt");
    }

    #[test]
    fn suggested_objects_divide_the_seats_as_upstream() {
        let boxed = |list: Vec<Value>| list.into_iter().map(Box::new).collect::<Vec<_>>();
        let config = digest(&boxed(objects::levels()), &boxed(objects::schemas()), 600);
        let seats: Vec<(&str, u32)> = config
            .levels
            .iter()
            .map(|level| (level.name.as_str(), level.limits.nominal))
            .collect();
        #[rustfmt::skip]
        let want = [
            ("catch-all", 13), ("exempt", 0), ("global-default", 49), ("leader-election", 25),
            ("node-high", 98), ("system", 74), ("workload-high", 98), ("workload-low", 245),
        ];
        assert_eq!(seats, want);
        let order: Vec<&str> = config.schemas.iter().map(|schema| schema.name.as_str()).collect();
        #[rustfmt::skip]
        let want = [
            "exempt", "probes", "system-leader-election", "system-node-high", "system-nodes",
            "kube-controller-manager", "kube-scheduler", "kube-system-service-accounts", "service-accounts",
            "global-default", "catch-all",
        ];
        assert_eq!(order, want);
        assert_eq!(config.statuses.len(), 11, "no schema has its condition yet");
    }

    #[test]
    fn a_schema_without_its_level_dangles_and_takes_nothing() {
        let nothing: [Box<Value>; 0] = [];
        let mut schema = json!({
            "metadata": {"name": "lost"},
            "spec": {"matchingPrecedence": 5, "priorityLevelConfiguration": {"name": "gone"}},
        });
        let config = digest(&nothing, &[Box::new(schema.clone())], 600);
        assert!(config.schemas.iter().all(|known| known.name != "lost"));
        let [status] = config.statuses.as_slice() else {
            panic!("one status: {:?}", config.statuses)
        };
        assert_eq!((status.value(), status.reason), ("True", "NotFound"));
        schema.set(
            "status.conditions",
            json!([{"type": "Dangling", "status": "True", "reason": "NotFound", "message": status.message}]),
        );
        assert!(
            digest(&nothing, &[Box::new(schema)], 600).statuses.is_empty(),
            "it says so already"
        );
    }

    #[test]
    fn levels_that_make_no_sense_are_missing() {
        let queuing = |queues: i64, hand: i64| {
            json!({"type": "Limited", "limited": {"limitResponse": {
                "type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 5},
            }}})
        };
        // name, spec, whether it is in force
        let table = [
            ("a", queuing(64, 6), true),
            ("a", queuing(64, 100), false),
            ("a", json!({"type": "Exempt", "exempt": {}}), false),
            ("a", json!({"type": "Limited"}), false),
            (
                "a",
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}),
                true,
            ),
            ("exempt", json!({"type": "Exempt", "exempt": {}}), true),
            ("exempt", queuing(64, 6), false),
        ];
        for (name, spec, want) in table {
            let object = json!({"metadata": {"name": name}, "spec": spec});
            assert_eq!(Level::read(&object).is_some(), want, "{object}");
        }
    }
}
