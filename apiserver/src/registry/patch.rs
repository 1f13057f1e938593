//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply.

use super::Call;
use super::update::Change;
use crate::answer::Answer;
use crate::request::body;
use crate::request::params::WriteOptions;
use bytes::Bytes;
use http::StatusCode;
use rutter_api::object::ObjectExt;
use rutter_api::schema::{self, FieldValidation};
use rutter_api::{FieldError, GroupKind, Path, StatusError, Value, codec, patch};

/// Which kind of patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const MEDIA_TYPES: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml, application/apply-patch+cbor";

impl Kind {
    fn of(media_type: &str) -> Result<Self, StatusError> {
        match media_type {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(StatusError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: {MEDIA_TYPES}"
            ))),
        }
    }
}

impl Call {
    /// PATCH with a body.
    pub async fn patch(&self, media_type: &str, bytes: Bytes) -> Answer {
        let (patch, options) = self.read_patch(media_type, &bytes)?;
        let change = Change {
            make: &|old| self.patched(&patch, old, &options),
            creates: patch.0 == Kind::Apply && self.info.subresource.is_empty(),
            direct: false,
            managed: patch.0 != Kind::Apply,
        };
        let changed = self.change(&change, &options).await?;
        let status = if changed.created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Ok(self.answer_kept(status, &changed.kept))
    }

    /// The patch and its options. Warnings of fields that an apply doesn't know are left here.
    pub(crate) fn read_patch(
        &self,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(Patch, WriteOptions), StatusError> {
        let kind = Kind::of(media_type)?;
        if kind == Kind::Strategic && self.served.custom(&self.resource).is_some() {
            return Err(StatusError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let options = WriteOptions::read(&self.query, "PatchOptions")?;
        let manager = Path::new("fieldManager");
        let mut errors = Vec::new();
        if kind == Kind::Apply && options.manager.is_empty() {
            errors.push(FieldError::required(&manager, "is required for apply patch"));
        }
        if kind != Kind::Apply && options.force.is_some() {
            errors.push(FieldError::forbidden(
                &Path::new("force"),
                "may not be specified for non-apply patch",
            ));
        }
        if !errors.is_empty() {
            let kind = GroupKind::new("meta.k8s.io", "PatchOptions");
            return Err(StatusError::invalid(&kind, "", &errors));
        }
        let (value, duplicates) = match kind {
            Kind::Apply => codec::yaml::parse_with_lines(bytes)
                .map_err(|error| StatusError::bad_request(format!("error decoding YAML: {error}")))?,
            _ => codec::json::parse(bytes)
                .map_err(|error| StatusError::bad_request(format!("error decoding patch: {error}")))?,
        };
        Ok((Patch(kind, value, duplicates), options))
    }

    /// The object after the patch, brought into the form of its schema again.
    pub(crate) fn patched(
        &self,
        patch: &Patch,
        old: Option<&Value>,
        options: &WriteOptions,
    ) -> Result<Value, StatusError> {
        self.patched_as(patch, old, options, &self.resource.schema)
    }

    /// As [`Call::patched`], for an object of some type of the schema.
    pub(crate) fn patched_as(
        &self,
        Patch(kind, patch, duplicates): &Patch,
        old: Option<&Value>,
        options: &WriteOptions,
        type_name: &str,
    ) -> Result<Value, StatusError> {
        let types = self.types();
        if *kind == Kind::Apply {
            return self.applied(patch, duplicates, old, options);
        }
        let old = old.ok_or_else(|| self.not_found(&self.info.name))?;
        let done = match kind {
            Kind::Json => patch::json_patch(&self.printed(old, type_name), patch),
            Kind::Merge => Ok(patch::merge_patch(old.clone(), patch)),
            _ => patch::strategic::merge(types, type_name, old.clone(), patch.clone()),
        };
        let value = done.map_err(|error| {
            let mut status = error.status();
            if let patch::PatchError::Mismatch(text) | patch::PatchError::Test(text) = &error {
                status.message =
                    format!("the server rejected our request due to an error in our request: {text}");
            }
            status
        })?;
        if !value.is_object() {
            return Err(StatusError::bad_request("the patched object is no object"));
        }
        let sent = crate::answer::kind_of(&value);
        let decoded = schema::decode(types, type_name, value, options.validation)
            .map_err(|error| error.status(&sent, &sent.kind))?;
        self.warn(decoded.warnings);
        let mut object = decoded.value;
        for field in ["apiVersion", "kind"] {
            if object.at(field) != old.at(field) {
                return Err(StatusError::bad_request(format!(
                    "the patched object's {field} ({}) does not match the original's ({})",
                    object.str_at(field),
                    old.str_at(field)
                )));
            }
        }
        if object.name() != old.name() {
            return Err(StatusError::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                object.name(),
                old.name()
            )));
        }
        if object.namespace() != old.namespace() {
            return Err(StatusError::bad_request(
                "the namespace of the object does not match the namespace on the request",
            ));
        }
        // A patch that says nothing about the version is applied to whatever the object is now.
        if object.resource_version().is_empty() {
            object.set("metadata.resourceVersion", old.resource_version());
        }
        Ok(object)
    }

    /// An object as clients see its type print it, with the parts that hold nothing: a JSON patch may put something there.
    fn printed(&self, object: &Value, type_name: &str) -> Value {
        let types = schema::builtin();
        if self.served.custom(&self.resource).is_some() && types.find(type_name).is_none() {
            return object.clone();
        }
        match schema::decode(types, type_name, object.clone(), FieldValidation::Ignore) {
            Ok(decoded) => decoded.value,
            Err(_) => object.clone(),
        }
    }

    /// Keys that stand twice in an applied object are told, or refused.
    fn check_duplicates(
        &self,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<(), StatusError> {
        if duplicates.is_empty() || validation == FieldValidation::Ignore {
            return Ok(());
        }
        let text = format!(
            "error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
            duplicates.join("\n  ")
        );
        if validation == FieldValidation::Strict {
            return Err(StatusError::bad_request(format!(
                "error strict decoding YAML: {text}"
            )));
        }
        self.warn([text]);
        Ok(())
    }

    fn applied(
        &self,
        patch: &Value,
        duplicates: &[String],
        old: Option<&Value>,
        options: &WriteOptions,
    ) -> Result<Value, StatusError> {
        let types = self.types();
        let mut patch = patch.clone();
        if !patch.is_object() {
            return Err(StatusError::bad_request("the applied object is no object"));
        }
        let expected = self.resource.gvk();
        if patch.str_at("kind").is_empty() || patch.str_at("apiVersion").is_empty() {
            return Err(StatusError::bad_request(
                "invalid object type: apiVersion and kind must be set",
            ));
        }
        let sent = crate::answer::kind_of(&patch);
        if sent != expected {
            return Err(StatusError::bad_request(format!(
                "invalid object type: {}/{}, Kind={}, expected: {}/{}, Kind={}",
                sent.group, sent.version, sent.kind, expected.group, expected.version, expected.kind
            )));
        }
        if patch.name().is_empty() {
            patch.set("metadata.name", self.info.name.as_str());
        }
        if patch.name() != self.info.name {
            return Err(StatusError::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                patch.name(),
                self.info.name
            )));
        }
        self.place(&mut patch)?;
        let version = self.resource.group_version.to_string();
        let manager = self.manager(&options.manager, &version);
        let force = options.force.unwrap_or(false);
        let mut merged = rutter_api::apply::apply(
            types,
            &self.resource.schema,
            old,
            &patch,
            &manager,
            force,
            &self.reset_fields(),
        )
        .map_err(|error| error.status())?;
        self.check_duplicates(duplicates, options.validation)?;
        match patch.resource_version() {
            "" => match old {
                Some(old) => merged.set("metadata.resourceVersion", old.resource_version()),
                None => drop(merged.take_at("metadata.resourceVersion")),
            },
            sent => merged.set("metadata.resourceVersion", sent),
        }
        let decoded = schema::decode(types, &self.resource.schema, merged, FieldValidation::Ignore)
            .map_err(|error| error.status(&sent, &expected.kind))?;
        Ok(decoded.value)
    }
}

/// A patch as it was sent, and what is said of keys that stand twice in it.
#[derive(Clone, Debug)]
pub(crate) struct Patch(Kind, Value, Vec<String>);

/// Reads a media type off the headers, for patches.
pub fn media_type(headers: &http::HeaderMap) -> String {
    body::media_type(headers)
}
