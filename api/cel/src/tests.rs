//! Properties of the whole: nothing that somebody sends makes it panic or run without end.

use crate::{Env, NoAuthorizations, PER_CALL_LIMIT, Type, UnknownSizes, Value};
use proptest::prelude::*;
use serde_json::json;

fn env() -> Env {
    Env::new().with("object", Type::Dyn).with("n", Type::Int)
}

fn run(source: &str) {
    if let Ok(checked) = env().compile(source) {
        checked.cost(&UnknownSizes);
        let object = json!({"a": {"b": [1, "x", null, {"c": 1.5}]}, "s": "text"});
        let values = [Some(Value::json(&object)), Some(Value::Int(3))];
        checked
            .program()
            .evaluate(&values, &NoAuthorizations, PER_CALL_LIMIT);
    }
}

/// Expressions that mostly parse.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("object".to_owned()),
        Just("n".to_owned()),
        Just("object.a.b".to_owned()),
        Just("object.?zz".to_owned()),
        Just("'x%s'".to_owned()),
        Just("[1, 2, 3]".to_owned()),
        Just("{'a': 1}".to_owned()),
        Just("null".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("=="),
            Just("<"),
            Just("&&"),
            Just("||"),
            Just("in"),
        ];
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}].map(x, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}.all(x, {b} == x)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}.transformMap(k, v, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}.sortBy(x, {b})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("optional.of({a}).optMap(y, {b}).orValue({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}.format([{b}])")),
            inner.clone().prop_map(|a| format!("size({a})")),
            inner.clone().prop_map(|a| format!("has({a}.b)")),
            inner.clone().prop_map(|a| format!("string({a})")),
            inner.prop_map(|a| format!("{a}.split('')")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in "\\PC{0,60}") {
        run(&source);
    }

    #[test]
    fn no_expression_makes_it_panic(source in expression()) {
        run(&source);
    }
}

#[test]
fn deep_and_long_expressions_are_refused_or_done() {
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(env().compile(&deep).is_err());
    let chain = format!("1{}", " + 1".repeat(5000));
    assert!(env().compile(&chain).is_err());
    let selects = format!("object{}", ".a".repeat(5000));
    assert!(env().compile(&selects).is_err());
    let wide = vec!["n == 1"; 2000].join(" || ");
    assert!(env().compile(&wide).is_ok());
    // A macro that uses its target twice, over and over.
    run(&format!("optional.of(1){}", ".optMap(x, x)".repeat(60)));
}
