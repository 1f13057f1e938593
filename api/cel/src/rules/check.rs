//! What is wrong with the rules of a schema.

use super::evaluate::{OLD_SELF, rule_env};
use super::path::field_path;
use super::{KEYWORD, Rule, SELF_TYPE, flag_at, list_at, part_of, properties_of, rules_at, text_at};
use crate::cost::Estimate;
use crate::schema::Schema;
use crate::types::Type;
use rutter_api::field::{ErrorType, Path};
use rutter_api::{ErrorList, FieldError};
use serde_json::Value as Json;

/// What one rule may cost at most, by estimate, for all data it is evaluated on.
const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a schema may cost together.
const SCHEMA_LIMIT: u64 = 100_000_000;
/// How many of the rules that cost most are named.
const NAMED: usize = 4;

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];

/// What is wrong with the rules of a version's `openAPIV3Schema`, which is at `path` and has no other faults. Rules of a schema that was accepted
/// before (`unchanged`) may cost what they cost.
pub fn check(schema: &Json, path: &Path, unchanged: bool) -> ErrorList {
    let mut checker = Checker {
        errors: ErrorList::new(),
        syntax: ErrorList::new(),
        total: 0,
        expensive: Vec::new(),
        unchanged,
    };
    let top = Place {
        root: true,
        priced: true,
        cardinality: Some(1),
        uncorrelated: None,
    };
    checker.schema(schema, path, &top);
    if !checker.syntax.is_empty() {
        return checker.syntax;
    }
    if checker.total > SCHEMA_LIMIT {
        checker
            .expensive
            .sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in checker.expensive.iter().take(NAMED) {
            let detail =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            checker.errors.push(FieldError::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let detail = exceeds(what, checker.total, SCHEMA_LIMIT);
        checker.errors.push(FieldError::forbidden(path, detail));
    }
    checker.errors
}

/// Where in the schema a part is.
#[derive(Clone)]
struct Place {
    root: bool,
    /// Whether rules are compiled here: not below `not`, `anyOf`, `oneOf` and `allOf`.
    priced: bool,
    /// How often such data may occur in one object; none when only its size bounds that.
    cardinality: Option<u64>,
    /// The nearest list whose elements can't be told apart.
    uncorrelated: Option<Path>,
}

struct Checker {
    errors: ErrorList,
    /// Faults of form; with them, nothing is compiled.
    syntax: ErrorList,
    total: u64,
    expensive: Vec<(Path, u64)>,
    unchanged: bool,
}

impl Checker {
    fn schema(&mut self, schema: &Json, path: &Path, place: &Place) {
        let cardinality = place
            .cardinality
            .and_then(|n| Some(n.saturating_mul(most_elements(schema)?)));
        let below = Place {
            root: false,
            cardinality,
            ..place.clone()
        };
        if let Some(values) = part_of(schema, "additionalProperties") {
            self.schema(values, &path.child("additionalProperties"), &below);
        }
        for (name, property) in properties_of(schema) {
            self.schema(property, &path.child("properties").key(name), &below);
        }
        let unpriced = Place {
            priced: false,
            ..below.clone()
        };
        if let Some(not) = part_of(schema, "not") {
            self.schema(not, &path.child("not"), &unpriced);
        }
        for name in ["allOf", "oneOf", "anyOf"] {
            for (index, part) in list_at(schema, name).iter().enumerate() {
                self.schema(part, &path.child(name).index(index), &unpriced);
            }
        }
        if let Some(items) = part_of(schema, "items") {
            let mut below = below;
            if text_at(schema, "x-kubernetes-list-type") != "map" {
                below.uncorrelated = Some(path.clone());
            }
            self.schema(items, &path.child("items"), &below);
        }
        let rules: Vec<Rule> = rules_at(schema).collect();
        if rules.is_empty() {
            return;
        }
        let path = path.child(KEYWORD);
        let faults = self.syntax.len();
        for (index, rule) in rules.iter().enumerate() {
            self.form(rule, schema, &path.index(index));
        }
        if !place.priced || self.syntax.len() > faults {
            return;
        }
        let root = place.root || flag_at(schema, "x-kubernetes-embedded-resource");
        let Some(known) = Schema::structural(schema, root, SELF_TYPE) else {
            let detail = "internal error: failed to retrieve type information for x-kubernetes-validations";
            self.errors.push(FieldError {
                kind: ErrorType::Internal,
                field: path.to_string(),
                value: None,
                detail: detail.to_owned(),
            });
            return;
        };
        for (index, rule) in rules.iter().enumerate() {
            self.rule(rule, &known, &path.index(index), place);
        }
    }

    /// What is wrong with a rule before it is compiled.
    fn form(&mut self, rule: &Rule, schema: &Json, path: &Path) {
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let (text, message) = (rule.rule.trim(), rule.message.trim());
        let errors = &mut self.syntax;
        if text.is_empty() {
            errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
        } else if !rule.message.is_empty() && message.is_empty() {
            let detail = "must be non-empty if specified";
            errors.push(FieldError::invalid(
                &path.child("message"),
                rule.message.as_str(),
                detail,
            ));
        } else if breaks(message) {
            let detail = "must not contain line breaks";
            errors.push(FieldError::invalid(
                &path.child("message"),
                rule.message.as_str(),
                detail,
            ));
        } else if breaks(text) && message.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&path.child("message"), detail));
        }
        if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(&path.child("messageExpression"), detail));
        }
        if let Some(reason) = &rule.reason
            && !REASONS.contains(&reason.as_str())
        {
            errors.push(FieldError::not_supported(
                &path.child("reason"),
                reason.as_str(),
                REASONS,
            ));
        }
        let at = path.child("fieldPath");
        let mut wrong =
            |detail: &str| errors.push(FieldError::invalid(&at, rule.field_path.as_str(), detail));
        if !rule.field_path.is_empty() && rule.field_path.trim().is_empty() {
            wrong("must be non-empty if specified");
        }
        if breaks(&rule.field_path) {
            wrong("must not contain line breaks");
        }
        if !rule.field_path.is_empty() && field_path(&rule.field_path, schema).is_err() {
            wrong("must be a valid path");
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, path: &Path, place: &Place) {
        let env = rule_env(schema, rule.optional_old_self.unwrap_or_default());
        let at = path.child("rule");
        let checked = match env.compile(&rule.rule) {
            Ok(checked) => checked,
            Err(issues) => {
                let detail = format!("compilation failed: {issues}");
                self.errors.push(FieldError::invalid(&at, rule.shown(), detail));
                return;
            }
        };
        if *checked.output() != Type::Bool {
            let detail = "cel expression must evaluate to a bool";
            self.errors.push(FieldError::invalid(&at, rule.shown(), detail));
            return;
        }
        if let Some(why) = checked.program().broken() {
            let detail = format!("program instantiation failed: {why}");
            self.errors.push(FieldError::invalid(&at, rule.shown(), detail));
            return;
        }
        let Estimate { max, .. } = checked.cost(schema);
        let cost = max.saturating_mul(place.cardinality.unwrap_or_else(|| schema.max_cardinality()));
        self.price("estimated rule cost", &at, cost);
        if !rule.message_expression.is_empty() {
            self.message(rule, schema, &env, path);
        }
        if checked.uses(OLD_SELF) {
            if let Some(list) = &place.uncorrelated {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                self.errors
                    .push(FieldError::invalid(&at, rule.rule.as_str(), detail));
            }
        } else if let Some(optional) = rule.optional_old_self {
            let detail = "may not be set if oldSelf is not used in rule";
            self.errors.push(FieldError::invalid(
                &path.child("optionalOldSelf"),
                optional,
                detail,
            ));
        }
    }

    fn message(&mut self, rule: &Rule, schema: &Schema, env: &crate::env::Env, path: &Path) {
        let at = path.child("messageExpression");
        let wrong = match env.compile(&rule.message_expression) {
            Err(issues) => format!("messageExpression compilation failed: {issues}"),
            Ok(checked) if *checked.output() != Type::String => {
                "messageExpression must evaluate to a string".to_owned()
            }
            Ok(checked) => match checked.program().broken() {
                Some(why) => format!("messageExpression instantiation failed: {why}"),
                None => return self.price("estimated messageExpression cost", &at, checked.cost(schema).max),
            },
        };
        self.errors.push(FieldError::invalid(&at, rule.shown(), wrong));
    }

    fn price(&mut self, what: &str, path: &Path, cost: u64) {
        if cost > RULE_LIMIT && !self.unchanged {
            self.errors
                .push(FieldError::forbidden(path, exceeds(what, cost, RULE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= SCHEMA_LIMIT / 100 {
            self.expensive.push((path.clone(), cost));
        }
    }
}

/// How many parts data of a schema has at most; none when nothing but its size bounds that.
fn most_elements(schema: &Json) -> Option<u64> {
    let bound = |name: &str| {
        schema
            .get(name)
            .and_then(Json::as_i64)
            .map(|n| u64::try_from(n).unwrap_or_default())
    };
    match text_at(schema, "type") {
        "object" if schema.get("additionalProperties").is_some_and(|s| !s.is_null()) => {
            bound("maxProperties")
        }
        "array" => bound("maxItems"),
        _ => Some(1),
    }
}

fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    let factor = if times > 100.0 {
        "more than 100x".to_owned()
    } else if times < 1.5 {
        format!("{times:.6}x")
    } else {
        format!("{times:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
