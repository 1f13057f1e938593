#![allow(missing_docs)]
use rutter_api::{Context, GroupVersion, object::ObjectExt};
use std::io::{BufRead, Write};
fn main() {
    let scheme = rutter_kinds::builtin();
    let out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let v: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let gv = GroupVersion::parse(v.str_at("gv")).unwrap();
        let r = scheme.get(&gv, v.str_at("plural")).unwrap();
        let mut o = v.at("object").clone();
        let sub = v.str_at("sub").to_owned();
        let now: jiff::Timestamp = if v.str_at("now").is_empty() {
            jiff::Timestamp::UNIX_EPOCH
        } else {
            v.str_at("now").parse().unwrap()
        };
        let cx = Context {
            now,
            user: "admin",
            subresource: &sub,
            dry_run: false,
        };
        if v.str_at("op") == "row" {
            let cols: Vec<_> = r
                .strategy
                .columns()
                .iter()
                .map(|c| serde_json::json!([c.name, c.kind, c.format, c.priority]))
                .collect();
            let row = r.strategy.row(&o, &cx);
            writeln!(out.lock(), "{}", serde_json::json!({"columns": cols, "row": row})).unwrap();
            continue;
        }
        r.strategy.default_object(&mut o);
        let old = v.at("old");
        let (errors, warnings);
        if old.is_null() {
            r.strategy.prepare_create(&mut o, &cx);
            let mut e = rutter_api::validation::create(&o, r.namespaced, r.strategy.name_rule());
            e.extend(r.strategy.validate_create(&o, &cx));
            errors = e;
            warnings = r.strategy.warnings(&o, None);
        } else {
            r.strategy.prepare_update(&mut o, old, &cx);
            let mut e = rutter_api::validation::update(&o, old);
            e.extend(r.strategy.validate_update(&o, old, &cx));
            errors = e;
            warnings = r.strategy.warnings(&o, Some(old));
        }
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        writeln!(
            out.lock(),
            "{}",
            serde_json::json!({"object": o, "errors": errors, "warnings": warnings})
        )
        .unwrap();
    }
}
