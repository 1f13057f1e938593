//! The Common Expression Language: types hold, prices hold, and limits end what costs too much.

use crate::make::Maker;
use rutter_api::field::Path;
use rutter_cel::rules::{self, Rules};
use rutter_cel::{Env, EvalError, NoAuthorizations, PER_CALL_LIMIT, Type, UnknownSizes, Value};
use serde_json::{Value as Json, json};
use std::sync::LazyLock;

/// What expressions may refer to.
static ENV: LazyLock<Env> = LazyLock::new(|| {
    Env::new()
        .with("i", Type::Int)
        .with("u", Type::Uint)
        .with("d", Type::Double)
        .with("s", Type::String)
        .with("b", Type::Bool)
        .with("li", Type::list(Type::Int))
        .with("ls", Type::list(Type::String))
        .with("m", Type::map(Type::String, Type::Int))
        .with("x", Type::Dyn)
});

/// The number of the variable whose type isn't known.
const DYNAMIC: usize = 8;

/// Expressions as texts, and expressions made of what the language has.
pub fn expressions(data: &[u8]) {
    let mut maker = Maker::new(data);
    let x =
        json!({"a": [1, 2.5, "x", null], "b": {"c": "ü", "d": true}, "n": -7, "t": "2026-01-02T03:04:05Z"});
    let (int, text) = (maker.pick(&[0, 1, -1, 7, i64::MAX, i64::MIN]), maker.word());
    let (ints, texts) = (json!([3, 1, 2]), json!(["b", "a", "", "b"]));
    let map = json!({"a": 1, "b": 2});
    let source = match maker.below(3) {
        0 => String::from_utf8_lossy(maker.rest()).into_owned(),
        _ => expression(&mut maker, 0),
    };
    if source.len() > 4096 {
        return;
    }
    let Ok(checked) = ENV.compile(&source) else { return };
    let program = checked.program();
    let variables = [
        Some(Value::Int(int)),
        Some(Value::Uint(int.unsigned_abs())),
        Some(Value::Double(int as f64 / 4.0)),
        Some(Value::text(text.as_str())),
        Some(Value::Bool(int == 0)),
        Some(Value::json(&ints)),
        Some(Value::json(&texts)),
        Some(Value::json(&map)),
        Some(Value::json(&x)),
    ];
    let first = program.evaluate(&variables, &NoAuthorizations, PER_CALL_LIMIT);
    let second = program.evaluate(&variables, &NoAuthorizations, PER_CALL_LIMIT);
    assert_eq!(
        first.cost, second.cost,
        "costs something else the second time: {source}"
    );
    match (&first.value, &second.value) {
        (Ok(one), Ok(_)) => {
            assert!(
                first.cost <= PER_CALL_LIMIT,
                "{} is more than the limit: {source}",
                first.cost
            );
            assert!(
                has_type(one, checked.output()),
                "{one:?} is no {}: {source}",
                checked.output()
            );
            // Upstream prices looking into what is known only when evaluated at nothing, and a place in a list below its cost.
            let price = checked.cost(&UnknownSizes);
            let known = !checked.uses(DYNAMIC) && !source.contains("dyn");
            assert!(
                !known || first.cost <= price.max.saturating_mul(2).saturating_add(10),
                "costs {}, priced at {price:?}: {source}",
                first.cost
            );
        }
        (Err(one), Err(two)) => assert_eq!(one, two, "{source}"),
        _ => panic!("only sometimes a value: {source}"),
    }
    if first.cost > 0 {
        let less = program.evaluate(&variables, &NoAuthorizations, first.cost - 1);
        assert!(
            less.value.is_err() || less.cost < first.cost,
            "{} is not held to less: {source}",
            first.cost
        );
        if first.value.is_ok() && matches!(less.value, Err(EvalError::CostLimit)) {
            let enough = program.evaluate(&variables, &NoAuthorizations, first.cost);
            assert!(enough.value.is_ok(), "{} is enough: {source}", first.cost);
        }
    }
}

/// Whether a value is of a type, as far as both are known.
fn has_type(value: &Value<'_>, ty: &Type) -> bool {
    match (ty, value) {
        (Type::Dyn | Type::Error | Type::Param(_) | Type::Struct(_) | Type::Opaque(_) | Type::Type(_), _) => {
            true
        }
        (Type::Null, Value::Null)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Duration | Type::Timestamp, Value::Null) => true,
        (Type::List(element), Value::List(list)) => list
            .iter()
            .all(|item| item.is_ok_and(|item| has_type(&item, element))),
        (Type::Map(types), Value::Map(map)) => map.keys().iter().all(|key| has_type(key, &types.0)),
        (Type::Optional(of), Value::Optional(value)) => {
            value.as_ref().is_none_or(|value| has_type(value, of))
        }
        _ => false,
    }
}

const UNARY: &[&str] = &[
    "!A",
    "-A",
    "size(A)",
    "A.size()",
    "int(A)",
    "uint(A)",
    "double(A)",
    "string(A)",
    "bytes(A)",
    "type(A)",
    "dyn(A)",
    "A.a",
    "A.?a",
    "has(A.a)",
    "A[0]",
    "A[?0]",
    "A.lowerAscii()",
    "A.upperAscii()",
    "A.trim()",
    "A.min()",
    "A.max()",
    "A.sum()",
    "A.isSorted()",
    "optional.of(A)",
    "optional.ofNonZeroValue(A)",
    "A.value()",
    "A.hasValue()",
    "duration(A)",
    "timestamp(A)",
    "A.getFullYear()",
    "A.getSeconds()",
    "A.getMinutes('Europe/Berlin')",
    "url(A)",
    "isURL(A)",
    "A.getHost()",
    "A.getQuery()",
    "quantity(A)",
    "isQuantity(A)",
    "A.isInteger()",
    "A.asInteger()",
    "A.sign()",
    "ip(A)",
    "isIP(A)",
    "cidr(A)",
    "isCIDR(A)",
    "A.masked()",
    "A.prefixLength()",
    "A.family()",
    "semver(A)",
    "isSemver(A)",
    "A.major()",
    "format.named(A)",
    "A.reverse()",
    "A.flatten()",
    "A.distinct()",
    "A.sort()",
    "math.abs(A)",
    "math.ceil(A)",
    "math.sign(A)",
    "base64.encode(A)",
    "base64.decode(A)",
    "[A, A]",
    "{'a': A}",
    "{A: 1}",
    "[?A]",
    "cel.bind(v, A, v)",
    "strings.quote(A)",
    "A.first()",
    "A.last()",
];

const BINARY: &[&str] = &[
    "A + B",
    "A - B",
    "A * B",
    "A / B",
    "A % B",
    "A && B",
    "A || B",
    "A == B",
    "A != B",
    "A < B",
    "A <= B",
    "A > B",
    "A in B",
    "A[B]",
    "A[?B]",
    "A.startsWith(B)",
    "A.endsWith(B)",
    "A.contains(B)",
    "A.matches(B)",
    "A.find(B)",
    "A.findAll(B)",
    "A.indexOf(B)",
    "A.lastIndexOf(B)",
    "A.split(B)",
    "A.join(B)",
    "A.charAt(B)",
    "A.substring(B)",
    "A.replace(B, 'yy')",
    "A.format([B])",
    "A.orValue(B)",
    "A.or(B)",
    "A.isGreaterThan(B)",
    "A.compareTo(B)",
    "A.add(B)",
    "A.sub(B)",
    "A.containsIP(B)",
    "A.containsCIDR(B)",
    "sets.contains(A, B)",
    "sets.intersects(A, B)",
    "sets.equivalent(A, B)",
    "math.greatest(A, B)",
    "math.least(A, B)",
    "math.bitAnd(A, B)",
    "math.bitShiftLeft(A, B)",
    "[A, B]",
    "{'a': A, 'b': B}",
    "A.all(v, B)",
    "A.exists(v, B)",
    "A.exists_one(v, B)",
    "A.map(v, B)",
    "A.filter(v, B)",
    "A.map(v, v == v, B)",
    "A.transformList(k, v, B)",
    "A.transformMap(k, v, B)",
    "A.all(k, v, B)",
    "A.existsOne(k, v, B)",
    "A.optMap(v, B)",
    "A.optFlatMap(v, optional.of(B))",
    "A.sortBy(v, B)",
    "cel.bind(v, A, B)",
    "A ? B : A",
    "A.slice(B, 2)",
    "A.getDayOfYear(B)",
];

const LEAVES: &[&str] = &[
    "i",
    "u",
    "d",
    "s",
    "b",
    "li",
    "ls",
    "m",
    "x",
    "v",
    "k",
    "0",
    "1",
    "7",
    "-1",
    "2u",
    "0.5",
    "1e300",
    "''",
    "'a'",
    "'ü'",
    "b'\\x00'",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "x.a",
    "x.b.c",
    "9223372036854775807",
    "'1h30m'",
    "'2026-01-02T03:04:05Z'",
    "'https://a.b:80/c?d=e#f'",
    "'10.0.0.0/8'",
    "'::1'",
    "'1.2.3-a+b'",
    "'1.5Gi'",
    "'%s'",
    "'%d %f %x'",
    "'[a-z]+'",
    "r'\\d*'",
    "lists.range(5)",
    "int",
    "string",
    "optional.none()",
];

fn expression(maker: &mut Maker<'_>, depth: usize) -> String {
    if maker.is_done() || depth > 5 {
        return maker.pick(LEAVES).to_owned();
    }
    match maker.below(8) {
        0 | 1 => maker.pick(LEAVES).to_owned(),
        2..=4 => {
            let of = expression(maker, depth + 1);
            maker.pick(UNARY).replace('A', &format!("({of})"))
        }
        _ => {
            let (one, two) = (expression(maker, depth + 1), expression(maker, depth + 1));
            let pattern = maker.pick(BINARY);
            // The capitals of names are none of the pattern's.
            pattern
                .split_inclusive(|c: char| !c.is_alphanumeric())
                .map(
                    |word| match word.trim_end_matches(|c: char| !c.is_alphanumeric()) {
                        "A" => word.replacen('A', &format!("({one})"), 1),
                        "B" => word.replacen('B', &format!("({two})"), 1),
                        _ => word.to_owned(),
                    },
                )
                .collect()
        }
    }
}

/// Rules of custom resources: what is checked without a complaint is compiled, and judged within the budget.
pub fn of_resources(data: &[u8]) {
    let mut maker = Maker::new(data);
    let mut schema = crate::crd::structural(&mut maker);
    let places = crate::patch::places(&schema);
    for _ in 0..maker.count(3) + 1 {
        let at = maker.pick(&places);
        let rule = rule(&mut maker);
        if let Some(Json::Object(part)) = schema.pointer_mut(&at)
            && (part.contains_key("type") || part.contains_key("x-kubernetes-int-or-string"))
        {
            part.insert("x-kubernetes-validations".to_owned(), json!([rule]));
        }
    }
    let path = Path::new("schema");
    let complaints = rules::check(&schema, &path, false);
    let Some(compiled) = Rules::compile(&schema) else {
        return;
    };
    let types = rutter_api::crd::types("custom", &schema, false);
    let (old, new) = (maker.sample(&types, "custom"), maker.sample(&types, "custom"));
    for old in [None, Some(&old), Some(&new)] {
        let judgement = compiled.judge(&new, old);
        assert_eq!(
            compiled.judge(&new, old),
            judgement,
            "judged otherwise the second time"
        );
        if complaints.is_empty() {
            let broken = judgement
                .errors
                .iter()
                .find(|error| error.detail.contains("compil"));
            assert!(
                broken.is_none(),
                "checked without a complaint, but {broken:?}: {schema}"
            );
        }
    }
}

const RULES: &[&str] = &[
    "self == oldSelf",
    "self.a == self.b",
    "has(self.a)",
    "!has(self.a) || self.a != oldSelf.a",
    "self.all(v, v == self[0])",
    "self.exists(v, v != v)",
    "self.size() < 3",
    "self.name == self.name",
    "self > 0",
    "self != 'x'",
    "self.matches('^a*$')",
    "type(self) == int || type(self) == string",
    "self.filter(v, oldSelf.exists(o, o == v)).size() > 0",
    "oldSelf.hasValue() || true",
];

fn rule(maker: &mut Maker<'_>) -> Json {
    let text = match maker.below(4) {
        0 => expression(maker, 3).replace("li", "self").replace('x', "self"),
        _ => maker.pick(RULES).to_owned(),
    };
    let mut rule = json!({"rule": text});
    if maker.once_in(4) {
        rule["messageExpression"] = json!(maker.pick(&["'bad'", "string(self)", "self.name", "1"]));
    }
    if maker.once_in(4) {
        rule["optionalOldSelf"] = json!(maker.flip());
    }
    if maker.once_in(4) {
        rule["fieldPath"] = json!(maker.pick(&[".a", ".b", ".name", ".nothing"]));
    }
    if maker.once_in(4) {
        rule["reason"] = json!(maker.pick(&["FieldValueInvalid", "FieldValueForbidden", "x"]));
    }
    rule
}
