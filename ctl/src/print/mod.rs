//! Printers: objects in the form that `-o` asks for.

pub mod columns;
pub mod gotemplate;
pub mod json;
pub mod jsonpath;
pub mod kyaml;
pub mod sort;
pub mod tab;
pub mod table;
pub mod yaml;

use crate::cli::{Call, Values};
use crate::error::{Error, Result, go_quote};
use crate::resource::Info;
use serde_json::{Value, json};
use std::cell::Cell;

/// A form of output.
pub enum Format {
    /// Tables, or a message.
    Human {
        /// With the less important columns.
        wide: bool,
    },
    /// `pod/x`
    Name,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// YAML's flow style.
    Kyaml,
    /// A JSONPath template.
    JsonPath(jsonpath::Template, String),
    /// What a JSONPath template finds, as a JSON array.
    JsonPathAsJson(jsonpath::Template),
    /// A Go template.
    GoTemplate(Box<gotemplate::Template>),
    /// Custom columns.
    Columns(columns::Spec),
}

/// Prints objects one after the other.
pub struct Printer {
    /// The form.
    pub format: Format,
    /// Keep `metadata.managedFields`.
    pub show_managed: bool,
    /// Missing keys in templates are empty.
    pub allow_missing: bool,
    /// No headers.
    pub no_headers: bool,
    count: Cell<usize>,
}

const ALL: &str = "custom-columns,custom-columns-file,go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,wide,yaml";
const OBJECTS: &str = "go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,kyaml,name,template,templatefile,yaml";

impl Printer {
    /// From `-o` and its companions.
    pub fn from_flags(flags: &Values, tables: bool) -> Result<Self> {
        let no_headers = flags.opt_bool("no-headers");
        Ok(Self {
            format: parse(
                flags.opt("output").unwrap_or(""),
                flags.opt("template").unwrap_or(""),
                tables,
            )?,
            show_managed: flags.opt_bool("show-managed-fields"),
            allow_missing: flags
                .opt("allow-missing-template-keys")
                .is_none_or(|v| v != "false"),
            no_headers,
            count: Cell::new(0),
        })
    }

    /// For a command that prints objects or a message.
    pub fn from_call(call: &Call) -> Result<Self> {
        Self::from_flags(&call.flags, false)
    }

    /// A printer of one form.
    pub fn of(format: Format) -> Self {
        Self {
            format,
            show_managed: false,
            allow_missing: true,
            no_headers: false,
            count: Cell::new(0),
        }
    }

    /// Whether people are to read it.
    pub fn is_human(&self) -> bool {
        matches!(self.format, Format::Human { .. })
    }

    /// Prints an object (a list counts as one).
    pub fn print(&self, value: &Value) -> Result<()> {
        let text = self.render(value)?;
        crate::out::print(&text);
        Ok(())
    }

    /// An object's text.
    pub fn render(&self, value: &Value) -> Result<String> {
        let count = self.count.replace(self.count.get() + 1);
        let stripped;
        let structured = matches!(self.format, Format::Json | Format::Yaml | Format::Kyaml);
        let value = if self.show_managed || !structured {
            value
        } else {
            stripped = without_managed(value);
            &stripped
        };
        Ok(match &self.format {
            Format::Human { .. } | Format::Name => names(value),
            Format::Json => json::pretty(value),
            Format::Yaml if count > 0 => format!("---\n{}", yaml::to_string(value)),
            Format::Yaml => yaml::to_string(value),
            Format::Kyaml => kyaml::to_string(value),
            Format::JsonPath(template, source) => template
                .execute(value, self.allow_missing)
                .map_err(|e| Error::new(jsonpath_error(source, &e)))?,
            Format::JsonPathAsJson(template) => {
                let found = template.find(value, self.allow_missing).map_err(Error::new)?;
                json::pretty(&Value::Array(found.into_iter().flatten().collect()))
            }
            Format::GoTemplate(template) => template.execute(value, self.allow_missing).map_err(|e| {
                Error::new(format!(
                    "error executing template {}: {e}",
                    go_quote(&template.source)
                ))
            })?,
            Format::Columns(spec) => spec.render(value, self.no_headers || count > 0)?,
        })
    }

    /// Prints an object, or for people `pod/x created`.
    pub fn result(&self, info: &Info, operation: &str) -> Result<()> {
        if self.is_human() {
            crate::outln!("{} {operation}", info.display());
            return Ok(());
        }
        if matches!(self.format, Format::Name) {
            crate::outln!("{}", info.display());
            return Ok(());
        }
        self.print(&info.object)
    }
}

fn jsonpath_error(source: &str, e: &str) -> String {
    format!(
        "error executing jsonpath {}: Error executing template: {e}. Printing more information for debugging the template:\n\ttemplate was:\n\t\t{source}\n",
        go_quote(source)
    )
}

/// `apps/v1`'s group.
pub fn group_of(value: &Value) -> &str {
    value["apiVersion"]
        .as_str()
        .and_then(|v| v.split_once('/'))
        .map_or("", |(g, _)| g)
}

/// `deployment.apps/x`, from the object alone.
pub fn object_name(value: &Value) -> String {
    let kind = value["kind"].as_str().unwrap_or("").to_lowercase();
    let name = value["metadata"]["name"].as_str().unwrap_or("");
    match group_of(value) {
        "" => format!("{kind}/{name}"),
        group => format!("{kind}.{group}/{name}"),
    }
}

fn names(value: &Value) -> String {
    match value["items"].as_array() {
        Some(items) => items.iter().map(names).collect(),
        None => format!("{}\n", object_name(value)),
    }
}

/// The object, or the list's objects, without managed fields.
pub fn without_managed(value: &Value) -> Value {
    let mut out = value.clone();
    strip_managed(&mut out);
    out
}

fn strip_managed(value: &mut Value) {
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    for item in value
        .get_mut("items")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        strip_managed(item);
    }
}

/// Objects as one `v1` List.
pub fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// Reads `-o`'s value.
pub fn parse(output: &str, template: &str, tables: bool) -> Result<Format> {
    let (name, argument) = match output.split_once('=') {
        Some((n, a)) => (n, a.to_owned()),
        None => (output, template.to_owned()),
    };
    // `--template` alone means a Go template.
    let name = if name.is_empty() && !template.is_empty() {
        "go-template"
    } else {
        name
    };
    let file = |path: &str| {
        std::fs::read_to_string(path).map_err(|e| {
            Error::new(format!(
                "error reading template {path}, open {path}: {}",
                crate::error::io_text(&e)
            ))
        })
    };
    let path = |text: &str| {
        jsonpath::parse(text).map_err(|e| Error::new(format!("error parsing jsonpath {text}, {e}")))
    };
    let need = |what: &str| {
        if argument.is_empty() {
            return Err(Error::new(format!("{what} format specified but no {what} given")));
        }
        Ok(())
    };
    Ok(match name {
        "" => Format::Human { wide: false },
        "wide" if tables => Format::Human { wide: true },
        "json" => Format::Json,
        "yaml" => Format::Yaml,
        "kyaml" => Format::Kyaml,
        "name" => Format::Name,
        "jsonpath" => {
            need("template")?;
            Format::JsonPath(path(&argument)?, argument)
        }
        "jsonpath-as-json" => {
            need("template")?;
            Format::JsonPathAsJson(path(&argument)?)
        }
        "jsonpath-file" => {
            need("template")?;
            let text = file(&argument)?;
            Format::JsonPath(path(&text)?, text)
        }
        "go-template" | "template" => {
            need("template")?;
            Format::GoTemplate(Box::new(gotemplate::Template::parse(&argument).map_err(|e| {
                Error::new(format!("error parsing template {argument}, template: output:{e}"))
            })?))
        }
        "go-template-file" | "templatefile" => {
            need("template")?;
            let text = file(&argument)?;
            Format::GoTemplate(Box::new(gotemplate::Template::parse(&text).map_err(|e| {
                Error::new(format!("error parsing template {text}, template: output:{e}"))
            })?))
        }
        "custom-columns" if tables => {
            if argument.is_empty() {
                return Err(Error::new(
                    "custom-columns format specified but no custom columns given",
                ));
            }
            Format::Columns(columns::Spec::parse(&argument)?)
        }
        "custom-columns-file" if tables => {
            if argument.is_empty() {
                return Err(Error::new(
                    "custom-columns format specified but no custom columns given",
                ));
            }
            Format::Columns(columns::Spec::parse_file(&file(&argument)?)?)
        }
        _ => {
            return Err(Error::new(format!(
                "unable to match a printer suitable for the output format {}, allowed formats are: {}",
                go_quote(output),
                if tables { ALL } else { OBJECTS }
            )));
        }
    })
}

/// A value as Go's `%v` prints it.
pub fn go_sprint(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => json::number(n),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_sprint).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            let pairs: Vec<String> = keys
                .iter()
                .map(|k| format!("{k}:{}", go_sprint(map.get(*k).unwrap_or(&Value::Null))))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}
