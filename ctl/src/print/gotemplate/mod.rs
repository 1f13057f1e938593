//! Go templates (text/template): what `-o go-template` evaluates.
//!
//! The language is whole but for method calls and `call`, which objects made of data don't have. Numbers in the data
//! are floats, as Go's JSON decoder makes them.

mod exec;
mod functions;
mod parse;

use serde_json::Value;
use std::collections::HashMap;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    /// Its text.
    pub source: String,
    body: Vec<Node>,
    defines: HashMap<String, Vec<Node>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Action(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Template(String, Option<Pipeline>),
    Break,
    Continue,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Pipeline {
    /// Names of variables, `$` left out.
    variables: Vec<String>,
    /// `:=` rather than `=`.
    declares: bool,
    commands: Vec<Vec<Term>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Group(Box<Pipeline>, Vec<String>),
}

impl Template {
    /// Parses a template.
    pub fn parse(source: &str) -> Result<Self, String> {
        parse::parse(source)
    }

    /// Evaluates it on data.
    pub fn execute(&self, data: &Value, allow_missing: bool) -> Result<String, String> {
        exec::run(self, data, allow_missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_print_what_go_prints() {
        let data = json!({
            "kind": "List", "n": 3, "big": 1_000_000, "f": 1.5, "on": true, "none": null, "s": "aGk=",
            "m": {"b": "2", "a": "1"}, "list": ["x", "y"],
            "items": [{"metadata": {"name": "a"}, "spec": {"r": 1}}, {"metadata": {"name": "b"}, "spec": {"r": 2}}],
        });
        for (template, expected) in [
            ("{{.kind}}", "List"),
            ("{{ .n }} {{.big}} {{.f}} {{.on}}", "3 1e+06 1.5 true"),
            ("{{.missing}}", "<no value>"),
            ("{{.none}}", "<no value>"),
            ("{{range .items}}{{.metadata.name}} {{end}}", "a b "),
            (
                "{{range $i, $e := .items}}{{$i}}={{$e.metadata.name}};{{end}}",
                "0=a;1=b;",
            ),
            ("{{range $k, $v := .m}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
            ("{{range .nothing}}x{{else}}none{{end}}", "none"),
            ("{{if .on}}yes{{else}}no{{end}}", "yes"),
            (
                "{{if .missing}}yes{{else if eq .kind \"List\"}}list{{else}}no{{end}}",
                "list",
            ),
            ("{{with .m}}{{.a}}{{end}}{{with .missing}}x{{else}}y{{end}}", "1y"),
            (
                "{{index .list 1}} {{index .m \"b\"}} {{(index .items 0).metadata.name}}",
                "y 2 a",
            ),
            ("{{len .list}} {{len .kind}}", "2 4"),
            (
                "{{printf \"%s-%d-%q-%v\" .kind 5 \"a\" .list}}",
                "List-5-\"a\"-[x y]",
            ),
            (
                "{{printf \"%-5s|%5s|%05d|%.2f\" \"a\" \"b\" 42 1.5}}",
                "a    |    b|00042|1.50",
            ),
            ("{{.s | base64decode}}", "hi"),
            (
                "{{and .on .kind}} {{or .missing \"d\"}} {{not .on}}",
                "List d false",
            ),
            (
                "{{eq .kind \"x\" \"List\"}} {{ne .kind \"x\"}} {{lt 1 2}} {{ge 2 2}} {{gt .f 1.0}}",
                "true true true true true",
            ),
            ("{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", "12"),
            ("a\n  {{- /* note */ -}}\n b", "ab"),
            ("{{- range .items -}}\n {{.metadata.name}}\n{{- end -}}", "ab"),
            ("{{range .items}}{{$.kind}}{{end}}", "ListList"),
            (
                "{{define \"t\"}}[{{.}}]{{end}}{{range .list}}{{template \"t\" .}}{{end}}",
                "[x][y]",
            ),
            ("{{\"\\n\"}}{{`raw`}}", "\nraw"),
            (
                "{{range .list}}{{if eq . \"y\"}}{{break}}{{end}}{{.}}{{end}}",
                "x",
            ),
            ("{{.m}}", "map[a:1 b:2]"),
            (
                "{{println .kind 1}}{{print 1 2 \"a\" \"b\"}}",
                "List 1\n1 2a b".replace("2a b", "2ab").as_str(),
            ),
            (
                "{{slice .kind 1 3}} {{html \"<a>\"}} {{urlquery \"a b\"}}",
                "is &lt;a&gt; a+b",
            ),
            (
                "{{if exists . \"m\" \"a\"}}has{{end}}{{if exists . \"m\" \"z\"}}not{{end}}",
                "has",
            ),
            ("{{len (index .m \"a\")}}", "1"),
            ("{{range 2}}{{.}}{{end}}", "01"),
        ] {
            let parsed = Template::parse(template).unwrap_or_else(|e| panic!("{template}: {e}"));
            assert_eq!(parsed.execute(&data, true).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn missing_keys_are_errors_when_wanted() {
        let t = Template::parse("{{.missing}}").unwrap();
        assert!(t.execute(&json!({}), false).is_err());
    }

    #[test]
    fn malformed_templates_are_refused() {
        for template in [
            "{{.x",
            "{{if .x}}",
            "{{end}}",
            "{{nofunc .x}}",
            "{{range}}{{end}}",
            "{{$y}}",
        ] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
