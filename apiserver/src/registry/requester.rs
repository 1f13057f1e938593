//! Certificate signing requests carry who made them, in the words of the server and not of the client.

use super::hooks::Hook;
use super::{Call, Extra};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{StatusError, UserInfo, Value};

/// Fills in the requester of a CertificateSigningRequest.
pub struct Requester;

#[async_trait]
impl Hook for Requester {
    async fn create(&self, call: &Call, object: &mut Value, _dry_run: bool) -> Result<Extra, StatusError> {
        sign(object, &call.user);
        Ok(Extra::default())
    }
}

fn sign(object: &mut Value, user: &UserInfo) {
    for field in ["spec.username", "spec.uid", "spec.groups", "spec.extra"] {
        object.take_at(field);
    }
    object.set("spec.username", user.name.as_str());
    if !user.uid.is_empty() {
        object.set("spec.uid", user.uid.as_str());
    }
    if !user.groups.is_empty() {
        object.set("spec.groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        let extra = user
            .extra
            .iter()
            .map(|(key, values)| (key.clone(), Value::from(values.clone())));
        object.set("spec.extra", Value::Object(extra.collect()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_says_who_made_it_whatever_its_maker_says() {
        let user = UserInfo {
            name: "jane".to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            ..UserInfo::default()
        };
        let mut request = json!({"spec": {"username": "root", "uid": "0", "groups": ["system:masters"], "extra": {"a": ["b"]}}});
        sign(&mut request, &user);
        assert_eq!(
            request["spec"],
            json!({"username": "jane", "groups": ["system:authenticated"]})
        );
    }
}
