//! Tests of label selectors.

use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn label_selectors_parse_and_print() {
    for (text, printed) in [
        ("", ""),
        ("x", "x"),
        ("!x", "!x"),
        ("x=a,y=b", "x=a,y=b"),
        (" x = a , y != b ", "x=a,y!=b"),
        ("y in (b, a),x notin (c)", "x notin (c),y in (a,b)"),
        ("x in ()", "x in ()"),
        ("x in (a,,)", "x in (,a)"),
        ("x==a", "x==a"),
        ("x>5,y<7", "x>5,y<7"),
        ("x=", "x="),
        ("x in (in,notin)", "x in (in,notin)"),
        ("in in (a)", "in in (a)"),
        ("example.com/a=b", "example.com/a=b"),
    ] {
        assert_eq!(
            LabelSelector::parse(text).map(|s| s.to_string()),
            Ok(printed.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn wrong_label_selectors_are_refused_with_known_texts() {
    for (text, want) in [
        (
            "x=a||y=b",
            r#"unable to parse requirement: values[0][x]: Invalid value: "a||y": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#,
        ),
        (
            "x in (a",
            "unable to parse requirement: found '', expected: ',' or ')'",
        ),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x,", "found '', expected: identifier after ','"),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        (
            "x y",
            "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (
            "x=(",
            "unable to parse requirement: found '(', expected: identifier",
        ),
        (
            "a/b/c=d",
            r#"unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"#,
        ),
        (
            "x>a",
            r#"unable to parse requirement: values[0]: Invalid value: "a": for 'Gt', 'Lt' operators, the value must be an integer"#,
        ),
    ] {
        let error = LabelSelector::parse(text).map(|s| s.to_string()).unwrap_err().0;
        assert_eq!(error, want, "{text}");
    }
}

#[test]
fn label_selectors_match_labels() {
    let labels = json!({"app": "web", "tier": "front", "n": "7"});
    for (text, want) in [
        ("", true),
        ("app", true),
        ("!app", false),
        ("app=web,tier!=back", true),
        ("app!=web", false),
        ("other!=x", true),
        ("other notin (x)", true),
        ("app in (web,db)", true),
        ("app notin (web,db)", false),
        ("n>5", true),
        ("n<5", false),
        ("app>5", false),
    ] {
        assert_eq!(
            LabelSelector::parse(text).unwrap().matches_labels(&labels),
            want,
            "{text}"
        );
    }
}

#[test]
fn selector_objects_are_read() {
    let selector = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}],
    });
    let selector = LabelSelector::from_object(&selector).unwrap();
    assert_eq!(selector.to_string(), "app=web,tier in (a,b),!x");
    assert!(LabelSelector::from_object(&Value::Null).unwrap().is_nothing());
    assert!(!LabelSelector::nothing().matches(|_| None));
    assert!(LabelSelector::from_object(&json!({})).unwrap().is_everything());
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "Foo"}]});
    assert_eq!(
        LabelSelector::from_object(&wrong).unwrap_err().0,
        "\"Foo\" is not a valid label selector operator"
    );
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    assert_eq!(
        LabelSelector::from_object(&wrong).unwrap_err().0,
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}

proptest! {
    #[test]
    fn printed_label_selectors_parse_to_the_same(text in "(!?[ab]( ?(=|==|!=|in|notin|>|<) ?(\\([ab,]{0,3}\\)|[ab1]?))?,?){0,3}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
        let _ = LabelSelector::parse(&text);
    }
}
