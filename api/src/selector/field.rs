//! Field selectors: `metadata.name=a,status.phase!=Running`.

use super::SelectorError;
use std::fmt;

/// One requirement of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's path.
    pub field: String,
    /// The value.
    pub value: String,
    /// Whether it must differ.
    pub negated: bool,
}

/// A field selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Selects everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Parses `metadata.name=a,status.phase!=Running`; `\` escapes `\`, `,` and `=` in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = split_terms(text);
        terms.sort_unstable();
        let requirements = terms
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(|term| {
                let (field, negated, value) = split_term(term).ok_or_else(|| {
                    SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"))
                })?;
                Ok(FieldRequirement {
                    field: field.to_owned(),
                    value: unescape(value)?,
                    negated,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// The requirements, ordered by their text.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    /// Whether all objects match.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the fields, read by `get` (absent is empty), match.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| (get(&r.field).unwrap_or_default() == r.value) != r.negated)
    }

    /// The value that a field must equal, if the selector asks for one: `metadata.name` finds a single object.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| !r.negated && r.field == field)
            .map(|r| r.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, r) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if r.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", r.field, escape(&r.value))?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether it is negated, and the value as written.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = term[index..].strip_prefix(operator) {
                return Some((&term[..index], negated, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn field_selectors_parse_match_and_print() {
        let selector = FieldSelector::parse("status.phase!=Running,metadata.name==a\\,b").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("a,b"));
        assert_eq!(selector.to_string(), "metadata.name=a\\,b,status.phase!=Running");
        let get = |phase: &'static str| {
            move |field: &str| match field {
                "metadata.name" => Some("a,b"),
                "status.phase" => Some(phase),
                _ => None,
            }
        };
        assert!(selector.matches(get("Pending")));
        assert!(!selector.matches(get("Running")));
        assert!(FieldSelector::parse("").unwrap().is_everything());
        assert!(FieldSelector::parse("spec.nodeName=").unwrap().matches(|_| None));
        for (text, want) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            (
                "a=b=c",
                "invalid field selector: unescaped character in value: 61",
            ),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=\\", "invalid field selector: invalid escape sequence: \\"),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().0, want);
        }
    }

    proptest! {
        #[test]
        fn printed_field_selectors_parse_to_the_same(text in "[a-c.=!,\\\\]{0,16}") {
            if let Ok(selector) = FieldSelector::parse(&text) {
                let again = FieldSelector::parse(&selector.to_string()).unwrap();
                let sorted = |s: &FieldSelector| {
                    let mut all: Vec<_> = s.requirements.iter().map(|r| format!("{r:?}")).collect();
                    all.sort();
                    all
                };
                prop_assert_eq!(sorted(&again), sorted(&selector));
            }
        }

        #[test]
        fn any_value_survives_escaping(value in "\\PC{0,20}") {
            let selector = FieldSelector::parse(&format!("f={}", escape(&value))).unwrap();
            prop_assert_eq!(selector.exact("f"), Some(value.as_str()));
        }
    }
}
