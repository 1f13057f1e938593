//! Tables for JSONPath, checked against kubectl.

use super::*;
use serde_json::json;

fn data() -> Value {
    json!({
        "kind": "List",
        "items": [
            {"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "x"}}, "spec": {"n": 1, "ports": [80, 443]},
             "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "b"}, "spec": {"n": 2, "ports": []},
             "status": {"conditions": [{"type": "Ready", "status": "False"}]}},
        ],
        "users": [{"name": "u1", "user": {}}, {"name": "u2", "user": {"username": "admin", "password": "s"}}],
    })
}

#[test]
fn templates_print_what_kubectl_prints() {
    for (template, expected) in [
        ("kind is {.kind}", "kind is List"),
        ("{.kind}", "List"),
        ("{@.kind}", "List"),
        ("{$.kind}", "List"),
        ("{['kind']}", "List"),
        ("{.items[*].metadata.name}", "a b"),
        ("{.items[0].metadata.name}", "a"),
        ("{.items[-1].metadata.name}", "b"),
        ("{.items[0:1].metadata.name}", "a"),
        ("{.items[-1:].metadata.name}", "b"),
        ("{.items[::2].metadata.name}", "a"),
        ("{.items[0].spec}", r#"{"n":1,"ports":[80,443]}"#),
        ("{.items[0]['metadata.name','spec.n']}", ""),
        ("{.items[0].spec['n','ports']}", "1 [80,443]"),
        ("{.items[0].metadata.labels.app\\.kubernetes\\.io/name}", "x"),
        ("{.items[0].metadata.labels['app\\.kubernetes\\.io/name']}", "x"),
        (
            "{range .items[*]}[{.metadata.name}, {.spec.n}] {end}",
            "[a, 1] [b, 2] ",
        ),
        (
            "{range .items[*]}{.metadata.name}{\"\\t\"}{.spec.n}{\"\\n\"}{end}",
            "a\t1\nb\t2\n",
        ),
        ("{.users[?(@.name==\"u2\")].user.password}", "s"),
        ("{.users[?(@.user.username)].name}", "u2"),
        ("{.items[?(@.spec.n>1)].metadata.name}", "b"),
        ("{.items[?(@.spec.n!=1)].metadata.name}", "b"),
        ("{..name}", "a b u1 u2"),
        (
            "{.items[*].status.conditions[?(@.type=='Ready')].status}",
            "True False",
        ),
        ("{.nothing}", ""),
        ("{.items[*]['metadata.name', 'spec.n']}", ""),
        (
            "{range .items[*]}{range .spec.ports[*]}{@}{','}{end}{end}",
            "80,443,",
        ),
        ("{.items[*].spec.ports[*]}", "80 443"),
        ("{.items..n}", "1 2"),
        ("{.items[0].spec.n}-{.items[1].spec.n}", "1-2"),
    ] {
        let parsed = parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
        assert_eq!(
            parsed.execute(&data(), true).as_deref(),
            Ok(expected),
            "{template}"
        );
    }
}

#[test]
fn missing_keys_and_bad_indexes_are_errors_when_wanted() {
    assert_eq!(
        parse("{.nothing}").unwrap().execute(&data(), false),
        Err("nothing is not found".to_owned())
    );
    assert_eq!(
        parse("{.items[5]}").unwrap().execute(&data(), true),
        Err("array index out of bounds: index 5, length 2".to_owned())
    );
}

#[test]
fn malformed_templates_are_refused() {
    for (template, error) in [
        ("{.x", "unclosed action"),
        ("{.x[0}", "unterminated array"),
        ("{range .x}", "unclosed range"),
        ("{end}", "not in range, nothing to end"),
        ("{hello}", "unrecognized identifier hello"),
    ] {
        assert_eq!(parse(template), Err(error.to_owned()), "{template}");
    }
}

#[test]
fn relaxed_paths_become_templates() {
    for text in ["x.y", ".x.y", "{x.y}", "{.x.y}"] {
        assert_eq!(relaxed(text).as_deref(), Ok("{.x.y}"));
    }
    assert!(relaxed("{.x").is_err());
}
