//! Secret.

use crate::config_map::{MAX_SIZE, kept_when_immutable};
use crate::fill::{made, text};
use crate::print::{self, AGE, NAME};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rutter_api::FieldError;
use rutter_api::object::ObjectExt;
use rutter_api::strategy::Column;
use rutter_api::validation::{At, config_map_key};
use rutter_api::{Context, ErrorList, Strategy, Value};

/// Secret.
pub(crate) struct Secret;

impl Strategy for Secret {
    fn default_object(&self, object: &mut Value) {
        let Some(secret) = object.as_object_mut() else {
            return;
        };
        if let Some(Value::Object(texts)) = secret.remove("stringData")
            && !texts.is_empty()
            && let Some(data) = made(secret, "data")
        {
            for (key, value) in texts {
                data.insert(
                    key,
                    Value::from(STANDARD.encode(value.as_str().unwrap_or_default())),
                );
            }
        }
        text(secret, "type", "Opaque");
    }

    fn prepare_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    fn prepare_update(&self, object: &mut Value, old: &Value, _cx: &Context<'_>) {
        if object.str_at("type").is_empty() {
            object.set("type", old.at("type").clone());
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn field_values(&self, object: &Value) -> Vec<String> {
        vec![object.str_at("type").to_owned()]
    }

    fn validate_create(&self, object: &Value, _cx: &Context<'_>) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, object: &Value, old: &Value, cx: &Context<'_>) -> ErrorList {
        let _ = cx;
        let mut errors = ErrorList::new();
        crate::check::immutable(&At::root(object).child("type"), old.at("type"), &mut errors);
        errors.extend(kept_when_immutable(object, old, &["data"]));
        errors.extend(validate(object));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            print::text("Type", "What it is for."),
            print::text("Data", "How many entries it has."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Value, cx: &Context<'_>) -> Vec<Value> {
        let entries = object.map_at("data").map_or(0, |map| map.len());
        vec![
            print::name(object),
            Value::from(object.str_at("type")),
            Value::from(entries),
            print::age(object, cx),
        ]
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let data = root.child("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        errors.extend(
            config_map_key(key)
                .into_iter()
                .map(|e| data.key(key).invalid_as(key, e)),
        );
        let text = value.as_str().unwrap_or_default();
        size += text.len() / 4 * 3
            - text
                .bytes()
                .rev()
                .take(2)
                .filter(|b| *b == b'=')
                .count()
                .min(text.len() / 4);
    }
    if size > MAX_SIZE {
        errors.push(FieldError::too_long(&data.path(), MAX_SIZE));
    }
    let required = |errors: &mut ErrorList, key: &str| {
        if data.key(key).is_null() {
            errors.push(data.key(key).required(""));
        }
    };
    match root.child("type").text() {
        "kubernetes.io/service-account-token" => {
            let metadata = root.child("metadata");
            let notes = metadata.child("annotations");
            let name = notes.key("kubernetes.io/service-account.name");
            if name.is_empty() {
                errors.push(name.required(""));
            }
        }
        "kubernetes.io/dockercfg" => docker_config(&data.key(".dockercfg"), &mut errors),
        "kubernetes.io/dockerconfigjson" => docker_config(&data.key(".dockerconfigjson"), &mut errors),
        "kubernetes.io/basic-auth" if data.key("username").is_null() && data.key("password").is_null() => {
            required(&mut errors, "username");
            required(&mut errors, "password");
        }
        "kubernetes.io/ssh-auth" if data.key("ssh-privatekey").is_empty() => {
            errors.push(data.key("ssh-privatekey").required(""));
        }
        "kubernetes.io/tls" => {
            required(&mut errors, "tls.crt");
            required(&mut errors, "tls.key");
        }
        _ => {}
    }
    errors
}

fn docker_config(at: &At<'_, '_>, errors: &mut ErrorList) {
    if at.is_null() {
        errors.push(at.required(""));
        return;
    }
    let bytes = STANDARD.decode(at.text()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<rutter_api::Map<String, Value>>(&bytes) {
        errors.push(at.invalid_as("<secret contents redacted>", error.to_string()));
    }
}
