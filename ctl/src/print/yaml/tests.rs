//! Tables for YAML, checked against kubectl.

use super::*;
use serde_json::json;

#[test]
fn strings_are_quoted_only_where_they_must_be() {
    for (text, yaml) in [
        ("plain", "plain"),
        ("", "\"\""),
        ("true", "\"true\""),
        ("y", "\"y\""),
        ("5", "\"5\""),
        ("1.5", "\"1.5\""),
        ("0644", "\"0644\""),
        ("2024-01-02T03:04:05Z", "\"2024-01-02T03:04:05Z\""),
        ("2024-01-02", "\"2024-01-02\""),
        ("10:30", "\"10:30\""),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("#x", "'#x'"),
        ("a #x", "'a #x'"),
        ("- x", "'- x'"),
        ("-x", "-x"),
        ("*", "'*'"),
        ("it's", "it's"),
        (" lead", "' lead'"),
        ("tab\tx", "\"tab\\tx\""),
        ("{}", "'{}'"),
        ("k8s.io/x=y,z", "k8s.io/x=y,z"),
        ("null", "\"null\""),
        ("=", "="),
        ("\u{1F600}", "\"\\U0001F600\""),
        ("é", "é"),
    ] {
        assert_eq!(to_string(&json!(text)), format!("{yaml}\n"), "{text}");
    }
}

#[test]
fn documents_are_laid_out_as_go_yaml_does() {
    let value = json!({
        "b": [{"name": "x", "args": ["a", "b"], "env": []}, "s", [1, 2]],
        "a": {}, "text": "one\ntwo\n", "strip": "one\ntwo", "keep": "x\n\n", "k10": 1, "k9": null,
    });
    assert_eq!(
        to_string(&value),
        "a: {}\nb:\n- args:\n  - a\n  - b\n  env: []\n  name: x\n- s\n- - 1\n  - 2\nk9: null\nk10: 1\nkeep: |+\n  x\n\nstrip: |-\n  one\n  two\ntext: |\n  one\n  two\n"
    );
}

#[test]
fn long_texts_fold_at_eighty_columns() {
    let text = "word ".repeat(30).trim_end().to_owned();
    assert_eq!(
        to_string(&json!({"m": text})),
        format!(
            "m: {}\n  {}\n",
            "word ".repeat(16).trim_end(),
            "word ".repeat(14).trim_end()
        )
    );
}

#[test]
fn what_is_written_reads_back() {
    for text in [
        "a\n b",
        " x\ny",
        "trail \nx",
        "x\n\n\ny\n",
        "---",
        "a\u{85}b",
        "\r\n",
        "% x",
        "x: ",
        "?",
    ] {
        let value = json!({"k": text, text: [text]});
        assert_eq!(
            rutter_api::codec::yaml::parse_text(&to_string(&value)),
            Ok(value),
            "{text:?}"
        );
    }
}
