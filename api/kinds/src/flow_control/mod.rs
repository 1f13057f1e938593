//! FlowSchema and PriorityLevelConfiguration.

use crate::fill::{Fields, absent, inside, number, spec};
use crate::print::{self, AGE, NAME, NONE};
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::{Context, Strategy, Value};

/// FlowSchema.
pub(crate) struct FlowSchema;

/// PriorityLevelConfiguration.
pub(crate) struct PriorityLevelConfiguration;

impl Strategy for FlowSchema {
    fn default_object(&self, object: &mut Value) {
        if let Some(spec) = spec(object) {
            number(spec, "matchingPrecedence", 1000);
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("PriorityLevel", "The priority level of its requests."),
            print::text("MatchingPrecedence", "Which schema comes first: the lower."),
            print::text("DistinguisherMethod", "What tells its flows apart."),
            AGE,
            print::text("MissingPL", "Whether its priority level is missing."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let dangling = object
            .list_at("status.conditions")
            .iter()
            .find(|c| c.str_at("type") == "Dangling");
        vec![
            print::name(object),
            Value::from(object.str_at("spec.priorityLevelConfiguration.name")),
            print::count(object, "spec.matchingPrecedence"),
            print::text_or(object, "spec.distinguisherMethod.type", NONE),
            print::age(object, cx),
            Value::from(dangling.map_or("?", |c| c.str_at("status"))),
        ]
    }
}

impl Strategy for PriorityLevelConfiguration {
    fn default_object(&self, object: &mut Value) {
        let Some(spec) = spec(object) else { return };
        if let Some(exempt) = inside(spec, "exempt") {
            absent(exempt, "nominalConcurrencyShares", 0);
            absent(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = inside(spec, "limited") {
            absent(limited, "nominalConcurrencyShares", 30);
            absent(limited, "lendablePercent", 0);
            if let Some(queuing) = inside(limited, "limitResponse").and_then(|r| inside(r, "queuing")) {
                default_queuing(queuing);
            }
        }
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Type", "Limited or Exempt."),
            print::text("NominalConcurrencyShares", "Its share of the requests at work."),
            print::text("Queues", "How many queues it has."),
            print::text("HandSize", "How many queues a flow is dealt."),
            print::text("QueueLengthLimit", "How long a queue may be."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let limited = object.at("spec.limited");
        let queuing = limited.at("limitResponse.queuing");
        let or_none = |value: &Value| {
            if value.is_null() {
                Value::from(NONE)
            } else {
                value.clone()
            }
        };
        vec![
            print::name(object),
            Value::from(object.str_at("spec.type")),
            or_none(limited.at("nominalConcurrencyShares")),
            or_none(queuing.at("queues")),
            or_none(queuing.at("handSize")),
            or_none(queuing.at("queueLengthLimit")),
            print::age(object, cx),
        ]
    }
}

fn default_queuing(queuing: &mut Fields) {
    number(queuing, "handSize", 8);
    number(queuing, "queues", 64);
    number(queuing, "queueLengthLimit", 50);
}
