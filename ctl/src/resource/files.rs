//! Manifests: files, directories, addresses and standard input, split into documents and lists into items.

use crate::error::{Error, Result};
use crate::rest;
use http_body_util::BodyExt;
use rutter_api::codec::yaml::parse_all;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A document and where it came from.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object.
    pub value: Value,
    /// The file's name, `STDIN`, or the address.
    pub source: String,
    /// Why it is no object: it says neither kind nor version.
    pub problem: Option<Problem>,
}

/// What a document lacks.
#[derive(Clone, Debug)]
pub struct Problem {
    /// `kind` and `apiVersion`, those that are missing.
    pub missing: Vec<&'static str>,
}

impl Document {
    /// The document's failure; a command that validates what it sends says so.
    pub fn check(&self, validating: bool) -> Result<()> {
        let Some(problem) = &self.problem else {
            return Ok(());
        };
        let source = &self.source;
        if validating {
            let all: Vec<String> = problem.missing.iter().map(|m| format!("{m} not set")).collect();
            let told = if let [one] = all.as_slice() {
                one.clone()
            } else {
                format!("[{}]", all.join(", "))
            };
            return Err(Error::new(format!(
                "error validating \"{source}\": error validating data: {told}; if you choose to ignore these errors, turn validation off with --validate=false"
            )));
        }
        let field = if problem.missing.contains(&"kind") {
            "Kind"
        } else {
            "apiVersion"
        };
        Err(Error::new(format!(
            "unable to decode \"{source}\": Object '{field}' is missing in '{}'",
            crate::print::json::compact(&self.value)
        )))
    }
}

/// Reads every document that the file names mean.
pub async fn read(names: &[String], recursive: bool) -> Result<Vec<Document>> {
    let mut out = Vec::new();
    for name in names {
        if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            split(&text, "STDIN", &mut out)?;
        } else if name.starts_with("http://") || name.starts_with("https://") {
            let text = download(name).await?;
            split(&text, name, &mut out)?;
        } else {
            for path in expand(name, recursive)? {
                let text = std::fs::read_to_string(&path).map_err(|e| {
                    Error::new(format!(
                        "error reading {}: {}",
                        path.display(),
                        crate::error::io_text(&e)
                    ))
                })?;
                split(&text, &path.to_string_lossy(), &mut out)?;
            }
        }
    }
    Ok(out)
}

/// The files that one name means: itself, the manifests of a directory, or what a pattern matches.
pub fn expand(name: &str, recursive: bool) -> Result<Vec<PathBuf>> {
    let path = Path::new(name);
    if !path.exists() {
        if name.contains(['*', '?', '[']) {
            let matches = pattern(path);
            if !matches.is_empty() {
                return Ok(matches);
            }
            return Err(Error::new(format!(
                "the pattern \"{name}\" does not match any files"
            )));
        }
        return Err(Error::new(format!("the path \"{name}\" does not exist")));
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut out = Vec::new();
    walk(path, recursive, &mut out)?;
    if out.is_empty() {
        return Err(Error::new(format!(
            "error reading [{name}]: recognized file extensions are [.json .yaml .yml]"
        )));
    }
    Ok(out)
}

fn walk(dir: &Path, recursive: bool, out: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                walk(&path, recursive, out)?;
            }
        } else if path
            .extension()
            .is_some_and(|e| e == "json" || e == "yaml" || e == "yml")
        {
            out.push(path);
        }
    }
    Ok(())
}

/// Files whose last part matches a shell pattern.
fn pattern(path: &Path) -> Vec<PathBuf> {
    let dir = path
        .parent()
        .filter(|d| !d.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let last = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut expression = String::from("^");
    for c in last.chars() {
        match c {
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' | ']' => expression.push(c),
            c => expression.push_str(&regex::escape(&c.to_string())),
        }
    }
    expression.push('$');
    let Ok(regex) = regex::Regex::new(&expression) else {
        return Vec::new();
    };
    let mut out: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok())
        .filter(|e| regex.is_match(&e.file_name().to_string_lossy()))
        .map(|e| {
            if path.parent().is_some_and(|p| p.as_os_str().is_empty()) {
                e.file_name().into()
            } else {
                e.path()
            }
        })
        .collect();
    out.sort();
    out
}

/// Splits a text into objects; the first that is none fails the whole.
pub fn documents(text: &str, source: &str, out: &mut Vec<Document>) -> Result<()> {
    let before = out.len();
    split(text, source, out)?;
    out.iter().skip(before).try_for_each(|d| d.check(false))
}

/// Splits a text into documents, each with what it lacks.
fn split(text: &str, source: &str, out: &mut Vec<Document>) -> Result<()> {
    let values = if text.trim_start().starts_with('{') {
        serde_json::Deserializer::from_str(text)
            .into_iter::<Value>()
            .collect::<std::result::Result<Vec<_>, _>>()
            .or_else(|_| parse_all(text.as_bytes()))
    } else {
        parse_all(text.as_bytes())
    };
    let values = values.map_err(|e| {
        Error::new(format!(
            "error parsing {source}: error converting YAML to JSON: {e}"
        ))
    })?;
    for value in values {
        if !value.is_null() {
            push(value, source, out)?;
        }
    }
    Ok(())
}

fn push(value: Value, source: &str, out: &mut Vec<Document>) -> Result<()> {
    if !value.is_object() {
        return Err(Error::new(format!(
            "error parsing {source}: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            match value {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                _ => "bool",
            }
        )));
    }
    if value["kind"].as_str().is_some_and(|k| k.ends_with("List"))
        && let Some(items) = value["items"].as_array()
    {
        for item in items {
            let mut item = item.clone();
            // Items of a typed list may leave out what the list says.
            if item["kind"].is_null() && value["kind"] != "List" {
                let kind = value["kind"]
                    .as_str()
                    .and_then(|k| k.strip_suffix("List"))
                    .unwrap_or("");
                item["kind"] = Value::from(kind);
                item["apiVersion"] = value["apiVersion"].clone();
            }
            push(item, source, out)?;
        }
        return Ok(());
    }
    let missing: Vec<&'static str> = ["apiVersion", "kind"]
        .into_iter()
        .filter(|k| value[*k].as_str().is_none_or(str::is_empty))
        .collect();
    out.push(Document {
        value,
        source: source.to_owned(),
        problem: (!missing.is_empty()).then_some(Problem { missing }),
    });
    Ok(())
}

/// Reads a text from an address; redirections are followed.
pub async fn download(address: &str) -> Result<String> {
    let mut address = address.to_owned();
    for _ in 0..10 {
        let uri: http::Uri = address
            .parse()
            .map_err(|e| Error::new(format!("{address}: {e}")))?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let base = http::Uri::from_parts(parts).map_err(|e| Error::new(e.to_string()))?;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = kube::Config::new(base);
        config.default_retry = false;
        let client = kube::Client::try_from(config)?;
        let request = rest::Rest::request(http::Method::GET, &path, "*/*", None)?;
        let response = client
            .send(request)
            .await
            .map_err(|e| Error::new(format!("Get \"{address}\": {}", crate::error::chain(&e))))?;
        let status = response.status();
        if status.is_redirection()
            && let Some(next) = response
                .headers()
                .get(http::header::LOCATION)
                .and_then(|v| v.to_str().ok())
        {
            address = if next.starts_with('/') {
                let origin: Vec<&str> = address.splitn(4, '/').take(3).collect();
                format!("{}{next}", origin.join("/"))
            } else {
                next.to_owned()
            };
            continue;
        }
        if !status.is_success() {
            return Err(Error::new(format!(
                "unable to read URL \"{address}\", server reported {status}, status code={}",
                status.as_u16()
            )));
        }
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|e| Error::new(e.to_string()))?
            .to_bytes();
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Err(Error::new(format!(
        "Get \"{address}\": stopped after 10 redirects"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_and_empty_documents_skipped() {
        let mut out = Vec::new();
        documents(
            "---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n---\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n",
            "f",
            &mut out,
        )
        .unwrap();
        let kinds: Vec<_> = out.iter().map(|d| d.value["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Pod", "Pod"]);
    }

    #[test]
    fn documents_without_a_kind_are_refused() {
        let mut out = Vec::new();
        assert_eq!(
            documents("a: 1", "f.yaml", &mut out).unwrap_err().report(),
            "error: unable to decode \"f.yaml\": Object 'Kind' is missing in '{\"a\":1}'"
        );
    }
}
