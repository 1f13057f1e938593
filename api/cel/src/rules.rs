//! `x-kubernetes-validations`: rules of a custom resource's schema.
//!
//! [`check`] says what is wrong with rules when a CustomResourceDefinition is written; [`Rules`] are those of one version, compiled, and judge
//! its objects. Words, paths, limits and what is let pass because it was so before are upstream's.

mod check;
mod correlate;
mod evaluate;
mod path;

pub use check::check;
pub use evaluate::{Judgement, Rules};

use serde_json::Value as Json;

/// The schemas' keyword.
pub(crate) const KEYWORD: &str = "x-kubernetes-validations";

/// What all rules for one object may cost together.
pub const OBJECT_BUDGET: u64 = 10_000_000;

/// One rule as it is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rule {
    pub(crate) rule: String,
    pub(crate) message: String,
    pub(crate) message_expression: String,
    pub(crate) reason: Option<String>,
    pub(crate) field_path: String,
    pub(crate) optional_old_self: Option<bool>,
}

impl Rule {
    fn read(rule: &Json) -> Self {
        let text = |name: &str| {
            rule.get(name)
                .and_then(Json::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: rule.get("reason").and_then(Json::as_str).map(str::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: rule.get("optionalOldSelf").and_then(Json::as_bool),
        }
    }

    /// How errors call it.
    fn called(&self) -> &str {
        let text = if self.message.is_empty() {
            &self.rule
        } else {
            &self.message
        };
        text.trim()
    }

    /// As upstream prints the whole of it.
    fn shown(&self) -> Json {
        serde_json::json!({
            "Rule": self.rule,
            "Message": self.message,
            "MessageExpression": self.message_expression,
            "Reason": self.reason,
            "FieldPath": self.field_path,
            "OptionalOldSelf": self.optional_old_self,
        })
    }
}

/// The rules that a schema has at its top.
fn rules_at(schema: &Json) -> impl Iterator<Item = Rule> + '_ {
    list_at(schema, KEYWORD).iter().map(Rule::read)
}

fn list_at<'j>(schema: &'j Json, name: &str) -> &'j [Json] {
    schema
        .get(name)
        .and_then(Json::as_array)
        .map_or(&[], Vec::as_slice)
}

fn text_at<'j>(schema: &'j Json, name: &str) -> &'j str {
    schema.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn flag_at(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or_default()
}

/// Schemas of properties, of what else there may be, and of elements, where they are schemas.
fn properties_of(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
}

fn part_of<'j>(schema: &'j Json, name: &str) -> Option<&'j Json> {
    schema.get(name).filter(|part| part.is_object())
}

/// The name that types of a rule's own schema begin with; no expression can spell it.
const SELF_TYPE: &str = "selfType";

#[cfg(test)]
mod tests;
