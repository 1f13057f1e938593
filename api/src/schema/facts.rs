//! The built-in types, read from tables of facts.
//!
//! The tables say what is on the wire and nothing else. A line `# package` begins an OpenAPI package, a line without
//! indent a struct (`!` when atomic, `k=group/version/kind` when it is a kind), a line with indent one of its fields:
//!
//! ```text
//!  name number type [flags] [k=mergeKey] [i=number:GoName of each message around it] [d=default]
//! ```
//!
//! Types: `s` string, `b` bool, `i` int32, `l` int64, `d` double, `y` bytes, `T` Time, `M` MicroTime, `D` Duration,
//! `Q` Quantity, `I` IntOrString, `R` RawExtension, `F` FieldsV1, `J` JSON (`JB`, `JA`, `JS`: the schema-or types of
//! `apiextensions`), each with `:` and the Go type when that has a name of its own; `[x]` an atomic list, `[x]=` a set,
//! `[x]{a,b}` a map-like list, `v1.Verbs[x]` a list that protobuf wraps; `<x>` a map; a struct by its name, of another
//! package by its whole name (`meta.` for meta/v1), with `~` where an atomic struct is merged after all; `!` after a map
//! for atomic.
//! The table `enums` lists the values of named text types, as OpenAPI does.
//!
//! Flags: `*` pointer, `!` printed when empty, `z` omitzero, `+` required, `m` patch merge, `r` patch retainKeys.

use super::types::{Field, List, ListKind, MapType, Scalar, Struct, TypeId, Types, TypesBuilder};
use std::sync::LazyLock;

static BUILTIN: LazyLock<Types> = LazyLock::new(|| {
    let mut reader = Reader::default();
    for text in TABLES {
        reader.table(text);
    }
    for (name, values) in include_str!("facts/enums.facts")
        .lines()
        .filter_map(|line| line.split_once(' '))
    {
        reader
            .builder
            .values(name, serde_json::from_str(values).unwrap_or_default());
    }
    reader.builder.build()
});

/// The types of all built-in kinds. They are read on first use.
pub fn builtin() -> &'static Types {
    &BUILTIN
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

const TABLES: &[&str] = &[
    include_str!("facts/admission.facts"),
    include_str!("facts/admissionregistration.facts"),
    include_str!("facts/apidiscovery.facts"),
    include_str!("facts/apiextensions.facts"),
    include_str!("facts/apiregistration.facts"),
    include_str!("facts/apiserverinternal.facts"),
    include_str!("facts/apps.facts"),
    include_str!("facts/authentication.facts"),
    include_str!("facts/authorization.facts"),
    include_str!("facts/autoscaling.facts"),
    include_str!("facts/batch.facts"),
    include_str!("facts/certificates.facts"),
    include_str!("facts/coordination.facts"),
    include_str!("facts/core.facts"),
    include_str!("facts/discovery.facts"),
    include_str!("facts/events.facts"),
    include_str!("facts/extensions.facts"),
    include_str!("facts/flowcontrol.facts"),
    include_str!("facts/imagepolicy.facts"),
    include_str!("facts/meta.facts"),
    include_str!("facts/metrics.facts"),
    include_str!("facts/networking.facts"),
    include_str!("facts/node.facts"),
    include_str!("facts/policy.facts"),
    include_str!("facts/rbac.facts"),
    include_str!("facts/resource.facts"),
    include_str!("facts/scheduling.facts"),
    include_str!("facts/storage.facts"),
    include_str!("facts/storagemigration.facts"),
];

#[derive(Default)]
struct Reader<'a> {
    builder: TypesBuilder,
    package: &'a str,
    current: Option<TypeId>,
    definition: Struct,
    fields: Vec<Field>,
}

impl<'a> Reader<'a> {
    fn table(&mut self, text: &'a str) {
        for line in text.lines() {
            if let Some(package) = line.strip_prefix("# ") {
                self.flush();
                self.package = package;
            } else if let Some(field) = line.strip_prefix(' ') {
                let field = self.field(field);
                self.fields.extend(field);
            } else {
                self.flush();
                self.start(line);
            }
        }
        self.flush();
    }

    fn start(&mut self, line: &str) {
        let mut words = line.split(' ');
        let name = format!("{}.{}", self.package, words.next().unwrap_or_default());
        self.current = Some(self.builder.declare(&name));
        self.definition = Struct {
            name: name.into(),
            ..Struct::default()
        };
        let mut kinds = Vec::new();
        for word in words {
            match word
                .strip_prefix("k=")
                .map(|k| k.split('/').collect::<Vec<_>>())
                .as_deref()
            {
                Some([group, version, kind]) => {
                    kinds.push(((*group).into(), (*version).into(), (*kind).into()))
                }
                _ => self.definition.atomic |= word == "!",
            }
        }
        self.definition.kinds = kinds.into();
    }

    fn flush(&mut self) {
        if let Some(id) = self.current.take() {
            let fields = std::mem::take(&mut self.fields).into();
            let definition = std::mem::take(&mut self.definition);
            self.builder.define(id, Struct { fields, ..definition });
        }
    }

    fn field(&mut self, line: &str) -> Option<Field> {
        let (line, default) = match line.split_once(" d=") {
            Some((line, json)) => (line, serde_json::from_str(json).ok().map(Box::new)),
            None => (line, None),
        };
        let mut words = line.split(' ');
        let name = words.next()?;
        let number = words.next()?.parse().ok()?;
        let (ty, _) = self.parse_type(words.next()?);
        let mut field = Field {
            omitempty: true,
            default,
            ..Field::new(name, ty)
        };
        field.number = number;
        for word in words {
            if let Some(key) = word.strip_prefix("k=") {
                field.patch_merge_key = Some(key.into());
            } else if let Some(path) = word.strip_prefix("i=") {
                field.inline = path.split('.').filter_map(inline).collect();
            } else {
                field.pointer = word.contains('*');
                field.omitempty = !word.contains('!');
                field.omitzero = word.contains('z');
                field.required = word.contains('+');
                field.patch_merge = word.contains('m');
                field.patch_retain_keys = word.contains('r');
            }
        }
        Some(field)
    }

    /// Parses a type at the start of `text`, and gives what is left of it.
    fn parse_type<'t>(&mut self, text: &'t str) -> (TypeId, &'t str) {
        if let Some(rest) = text.strip_prefix('<') {
            let (value, rest) = self.parse_type(rest);
            let rest = rest.strip_prefix('>').unwrap_or(rest);
            let (atomic, rest) = atomic(rest);
            return (self.builder.map(MapType { value, atomic }), rest);
        }
        let end = text.find([']', '>', '~', '[']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if let Some(inner) = rest.strip_prefix('[') {
            let wrapper = (!word.is_empty()).then(|| word.into());
            let (element, rest) = self.parse_type(inner);
            let rest = rest.strip_prefix(']').unwrap_or(rest);
            let (kind, keys, rest) = if let Some(rest) = rest.strip_prefix('=') {
                (ListKind::Set, Box::default(), rest)
            } else if let Some((keys, rest)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
                (ListKind::Map, keys.split(',').map(Into::into).collect(), rest)
            } else {
                (ListKind::Atomic, Box::default(), rest)
            };
            return (
                self.builder.list(List {
                    element,
                    kind,
                    keys,
                    wrapper,
                }),
                rest,
            );
        }
        let (code, go) = word.split_once(':').unwrap_or((word, ""));
        if let Some(scalar) = scalar(code) {
            return (self.builder.scalar(scalar, go), rest);
        }
        let name = match word.strip_prefix("meta.") {
            Some(name) => format!("{META}.{name}"),
            None if word.contains('.') => word.to_owned(),
            None => format!("{}.{word}", self.package),
        };
        let id = self.builder.declare(&name);
        match rest.strip_prefix('~') {
            Some(rest) => (self.builder.granular(id), rest),
            None => (id, rest),
        }
    }
}

fn inline(step: &str) -> Option<(u16, Box<str>)> {
    let (number, name) = step.split_once(':')?;
    Some((number.parse().ok()?, name.into()))
}

fn atomic(text: &str) -> (bool, &str) {
    match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

fn scalar(code: &str) -> Option<Scalar> {
    Some(match code {
        "s" => Scalar::String,
        "b" => Scalar::Bool,
        "i" => Scalar::Int32,
        "l" => Scalar::Int64,
        "d" => Scalar::Double,
        "y" => Scalar::Bytes,
        "T" => Scalar::Time,
        "M" => Scalar::MicroTime,
        "D" => Scalar::Duration,
        "Q" => Scalar::Quantity,
        "I" => Scalar::IntOrString,
        "R" => Scalar::RawExtension,
        "F" => Scalar::FieldsV1,
        "J" => Scalar::Json,
        "JB" => Scalar::SchemaOrBool,
        "JA" => Scalar::SchemaOrArray,
        "JS" => Scalar::SchemaOrStringArray,
        _ => return None,
    })
}
