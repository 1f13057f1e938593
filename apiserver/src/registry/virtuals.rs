//! Resources that aren't stored: questions that are answered at once.

use super::Call;
use crate::answer::Answer;
use crate::request::body::{self, Expected};
use crate::request::params::WriteOptions;
use bytes::Bytes;
use http::StatusCode;
use rutter_api::object::ObjectExt;
use rutter_api::{StatusError, Value};
use rutter_auth::review;

impl Call {
    /// POST to a resource that isn't stored.
    pub async fn ask(&self, media_type: &str, bytes: Bytes) -> Answer {
        let plural = &*self.resource.plural;
        if self.resource.group_version.group.is_empty() && plural == "bindings" {
            return self.bind(media_type, bytes).await;
        }
        let options = WriteOptions::read(&self.query, "CreateOptions")?;
        let expected = Expected {
            kind: self.resource.gvk(),
            type_name: &self.resource.schema,
        };
        let (mut object, warnings) =
            body::object(self.types(), &expected, media_type, &bytes, options.validation)?;
        self.warn(warnings);
        self.place(&mut object)?;
        let answered = self.answer_review(plural, object).await?;
        let mut answered = answered;
        if answered.str_at("metadata.creationTimestamp").is_empty() {
            answered.set_default("metadata", serde_json::Map::new());
        }
        Ok(self.answer(StatusCode::CREATED, &answered))
    }

    async fn answer_review(&self, plural: &str, object: Value) -> Result<Value, StatusError> {
        let (server, user) = (&self.server, &self.user);
        let authorizer = &*server.authorizer;
        match plural {
            "tokenreviews" => {
                review::token_review(&*server.authenticator, &server.token_keys.audiences, object).await
            }
            "selfsubjectreviews" => Ok(review::self_subject_review(user, object)),
            "subjectaccessreviews" => review::subject_access_review(authorizer, object).await,
            "localsubjectaccessreviews" => {
                review::local_subject_access_review(authorizer, &self.info.namespace, object).await
            }
            "selfsubjectaccessreviews" => review::self_subject_access_review(authorizer, user, object).await,
            "selfsubjectrulesreviews" => review::self_subject_rules_review(authorizer, user, object),
            _ => Err(StatusError::method_not_supported(
                &self.group_resource(),
                &self.info.verb,
            )),
        }
    }
}
