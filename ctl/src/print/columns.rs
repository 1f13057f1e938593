//! `-o custom-columns`: headers with JSONPaths.

use super::{go_sprint, jsonpath, tab};
use crate::error::{Error, Result};
use serde_json::Value;

/// The columns.
pub struct Spec {
    columns: Vec<(String, jsonpath::Template)>,
}

impl Spec {
    /// `NAME:.metadata.name,IMAGE:.spec.image`
    pub fn parse(text: &str) -> Result<Self> {
        let mut columns = Vec::new();
        for part in text.split(',') {
            let Some((header, path)) = part.split_once(':') else {
                return Err(Error::new(format!(
                    "unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>"
                )));
            };
            columns.push((header.to_owned(), template(path)?));
        }
        Ok(Self { columns })
    }

    /// A line of headers and a line of paths.
    pub fn parse_file(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let (Some(headers), Some(paths)) = (lines.next(), lines.next()) else {
            return Err(Error::new(
                "invalid format, missing line. Input should be two lines: a header line and a line of paths",
            ));
        };
        let headers: Vec<&str> = headers.split_whitespace().collect();
        let paths: Vec<&str> = paths.split_whitespace().collect();
        if headers.len() != paths.len() {
            return Err(Error::new(format!(
                "number of headers ({}) and field specifications ({}) don't match",
                headers.len(),
                paths.len()
            )));
        }
        let columns = headers
            .into_iter()
            .zip(paths)
            .map(|(h, p)| Ok((h.to_owned(), template(p)?)))
            .collect::<Result<_>>()?;
        Ok(Self { columns })
    }

    /// The table of an object or of a list's objects.
    pub fn render(&self, value: &Value, no_headers: bool) -> Result<String> {
        let mut rows: Vec<Vec<String>> = Vec::new();
        if !no_headers {
            rows.push(self.columns.iter().map(|(h, _)| h.clone()).collect());
        }
        match value["items"].as_array() {
            Some(items) => {
                for item in items {
                    rows.push(self.row(item)?);
                }
            }
            None => rows.push(self.row(value)?),
        }
        Ok(tab::Columns::default().format(&rows))
    }

    fn row(&self, value: &Value) -> Result<Vec<String>> {
        self.columns
            .iter()
            .map(|(_, template)| {
                let found = template.find(value, true).map_err(Error::new)?;
                let cells: Vec<String> = found.iter().flatten().map(go_sprint).collect();
                Ok(if cells.is_empty() {
                    "<none>".to_owned()
                } else {
                    cells.join(",")
                })
            })
            .collect()
    }
}

fn template(path: &str) -> Result<jsonpath::Template> {
    let text = jsonpath::relaxed(path).map_err(Error::new)?;
    jsonpath::parse(&text).map_err(Error::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_printed_with_none_for_what_is_missing() {
        let spec = Spec::parse("NAME:.metadata.name,PORTS:.spec.ports[*].port,X:{.x.y}").unwrap();
        let list = json!({"items": [
            {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}, {"port": 443}]}},
            {"metadata": {"name": "b"}},
        ]});
        assert_eq!(
            spec.render(&list, false).unwrap(),
            "NAME   PORTS    X\na      80,443   <none>\nb      <none>   <none>\n"
        );
    }
}
