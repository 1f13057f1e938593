//! Named formats: `format.dns1123Label().validate(text)`.

use super::{Authorizations, Functions, native_of, object, urls};
use crate::error::{EvalError, Result};
use crate::types::Type;
use crate::value::{Native, Value, as_text};
use base64::Engine as _;
use rutter_api::validation as names;

/// A format of texts.
#[derive(Debug)]
pub struct Format {
    /// Its name in expressions.
    pub(crate) function: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// How long the regular expression for it is; cost is reckoned with it.
    pub(crate) regex_size: u64,
    check: fn(&str) -> Vec<String>,
}

/// All of them.
static FORMATS: &[Format] = &[
    Format {
        function: "format.dns1123Label",
        name: "DNS1123Label",
        regex_size: 30,
        check: names::dns_label,
    },
    Format {
        function: "format.dns1123Subdomain",
        name: "DNS1123Subdomain",
        regex_size: 60,
        check: names::dns_subdomain,
    },
    Format {
        function: "format.dns1035Label",
        name: "DNS1035Label",
        regex_size: 30,
        check: names::dns_label_1035,
    },
    Format {
        function: "format.qualifiedName",
        name: "QualifiedName",
        regex_size: 60,
        check: names::qualified_name,
    },
    Format {
        function: "format.dns1123LabelPrefix",
        name: "DNS1123LabelPrefix",
        regex_size: 30,
        check: |t| prefix(t, names::dns_label),
    },
    Format {
        function: "format.dns1123SubdomainPrefix",
        name: "DNS1123SubdomainPrefix",
        regex_size: 60,
        check: |t| prefix(t, names::dns_subdomain),
    },
    Format {
        function: "format.dns1035LabelPrefix",
        name: "DNS1035LabelPrefix",
        regex_size: 30,
        check: |t| prefix(t, names::dns_label_1035),
    },
    Format {
        function: "format.labelValue",
        name: "LabelValue",
        regex_size: 40,
        check: names::label_value,
    },
    Format {
        function: "format.uri",
        name: "URI",
        regex_size: 1103,
        check: |t| urls::parse(t).err().into_iter().collect(),
    },
    Format {
        function: "format.uuid",
        name: "uuid",
        regex_size: 70,
        check: |t| unless(is_uuid(t), "does not match the UUID format"),
    },
    Format {
        function: "format.byte",
        name: "byte",
        regex_size: 84,
        check: |t| unless(is_base64(t), "invalid base64"),
    },
    Format {
        function: "format.date",
        name: "date",
        regex_size: 71,
        check: |t| unless(is_date(t), "invalid date"),
    },
    Format {
        function: "format.datetime",
        name: "datetime",
        regex_size: 71,
        check: |t| unless(super::parse_timestamp(t).is_ok(), "invalid datetime"),
    },
];

pub(super) fn declare(f: &mut Functions) {
    let format = || object(Native::FORMAT);
    let texts = || Type::optional(Type::list(Type::String));
    f.member(
        "validate",
        "format-validate",
        &[format(), Type::String],
        texts(),
        |_: &dyn Authorizations, args| {
            let wrong = (of(&args[0])?.check)(as_text(&args[1])?);
            Ok(if wrong.is_empty() {
                Value::Optional(None)
            } else {
                Value::some(Value::list(wrong.into_iter().map(Value::text).collect()))
            })
        },
    );
    f.global(
        "format.named",
        "format-named",
        &[Type::String],
        Type::optional(format()),
        |_, args| {
            let name = as_text(&args[0])?;
            let found = FORMATS
                .iter()
                .find(|f| f.function.strip_prefix("format.") == Some(name));
            Ok(match found {
                Some(format) => Value::some(Value::Native(Native::Format(format))),
                None => Value::Optional(None),
            })
        },
    );
    macro_rules! constants {
        ($($index:literal),*) => {$(
            let name = FORMATS[$index].function;
            f.global(name, name, &[], format(), |_, _| Ok(Value::Native(Native::Format(&FORMATS[$index]))));
        )*};
    }
    constants!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
}

fn of(value: &Value<'_>) -> Result<&'static Format> {
    match native_of(value)? {
        Native::Format(format) => Ok(format),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn unless(fine: bool, why: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![why.to_owned()] }
}

/// The rule for what a name may begin with: a dash at the end is no mistake.
fn prefix(text: &str, check: fn(&str) -> Vec<String>) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(rest) => check(&format!("{rest}a")),
        None => check(text),
    }
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain: Vec<u8> = bytes.iter().copied().filter(|b| *b != b'-').collect();
    plain.len() == 32 && plain.iter().all(u8::is_ascii_hexdigit) && (bytes.len() == 32 || bytes.len() == 36)
}

fn is_base64(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}
