//! A table of expressions: what each is estimated to cost, what it costs, and what it gives, fails with or is refused for.
//!
//! The environment is `self` and `oldSelf` of the schema and with the values in `expressions.json`, and `authorizer`. All columns are what
//! Kubernetes 1.36 says. A line is: expression, estimate and cost (a dash when it is refused), end. Line breaks are written `\n`; `gives *`
//! means any value.

use rutter_cel::{Env, NoAuthorizations, PER_CALL_LIMIT, Schema, Type, Value};
use serde_json::Value as Json;

const TABLE: &str = include_str!("expressions.txt");
const DATA: &str = include_str!("expressions.json");

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Optional(None) => "optional.none()".to_owned(),
        Value::Optional(Some(inner)) => format!("optional.of({})", shown(inner)),
        Value::Uint(n) => format!("{n}u"),
        Value::Type(name) => format!("type({})", &**name),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(_) => {
            let json = value.to_json().expect("a duration has a text");
            json.as_str().expect("which is a text").to_owned()
        }
        other => other
            .to_json()
            .map_or_else(|e| e.to_string(), |json| json.to_string()),
    }
}

fn same(found: &str, want: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Json>(text).ok();
    want == "*"
        || found == want
        || (parsed(found).is_some() && numbers_as_floats(parsed(found)) == numbers_as_floats(parsed(want)))
}

/// JSON has one kind of number.
fn numbers_as_floats(json: Option<Json>) -> Option<Json> {
    Some(match json? {
        Json::Number(n) => Json::from(n.as_f64()),
        Json::Array(items) => items
            .into_iter()
            .map(|item| numbers_as_floats(Some(item)))
            .collect::<Option<_>>()?,
        Json::Object(map) => {
            let entries = map
                .into_iter()
                .map(|(key, value)| Some((key, numbers_as_floats(Some(value))?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
        other => other,
    })
}

/// A column without its escapes: `\n` is a line break and `\\` a backslash.
fn unescaped(column: &str) -> String {
    let mut text = String::with_capacity(column.len());
    let mut rest = column.chars();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => match rest.next() {
                Some('n') => '\n',
                other => other.unwrap_or('\\'),
            },
            _ => c,
        });
    }
    text
}

/// The estimate and the cost, and the end.
fn judge(env: &Env, schema: &Schema, values: &[Option<Value<'_>>], expression: &str) -> (String, String) {
    let checked = match env.compile(expression) {
        Ok(checked) => checked,
        Err(issues) => return ("-".to_owned(), format!("error compilation failed: {issues}")),
    };
    let estimate = checked.cost(schema);
    let program = checked.program();
    let outcome = program.evaluate(values, &NoAuthorizations, PER_CALL_LIMIT);
    let end = match (program.broken(), &outcome.value) {
        (Some(why), _) => format!("fails program: {why}"),
        (None, Ok(value)) => format!("gives {}", shown(value)),
        (None, Err(error)) => format!("fails {error}"),
    };
    (
        format!("{}..{} {}", estimate.min, estimate.max, outcome.cost),
        end,
    )
}

#[test]
fn expressions_cost_and_end_as_upstreams_do() {
    let data: Json = serde_json::from_str(DATA).unwrap();
    let schema = Schema::structural(&data["schema"], false, "selfType").unwrap();
    let env = Env::new()
        .with_schema("self", &schema)
        .with_schema("oldSelf", &schema)
        .with("authorizer", Type::object("kubernetes.authorization.Authorizer"));
    let value = |name: &str| Some(Value::typed(&data[name], &schema).unwrap());
    let values = [value("self"), value("oldSelf"), None];
    let mut wrong = Vec::new();
    for line in TABLE.lines() {
        let mut columns = line.split('\t').map(unescaped);
        let (Some(expression), Some(cost), Some(end)) = (columns.next(), columns.next(), columns.next())
        else {
            panic!("not a line of the table: {line}");
        };
        let (found_cost, found_end) = judge(&env, &schema, &values, &expression);
        let fits = match (end.strip_prefix("gives "), found_end.strip_prefix("gives ")) {
            (Some(want), Some(found)) => same(found, want),
            _ => end == found_end,
        };
        if !fits || cost != found_cost {
            wrong.push(format!(
                "{expression}\n  want {cost} {end}\n  found {found_cost} {found_end}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
