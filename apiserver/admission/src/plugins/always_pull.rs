//! `AlwaysPullImages`: every image is pulled at every start, so that only who may pull it can run it.

use super::CONTAINERS;
use crate::{Attributes, Operation, Plugin, is};
use async_trait::async_trait;
use rutter_api::object::ObjectExt;
use rutter_api::{FieldError, Path, Resource, StatusError, Value};

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct AlwaysPullImages;

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn name(&self) -> &'static str {
        "AlwaysPullImages"
    }

    fn handles(&self, operation: Operation, resource: &Resource, subresource: &str) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
            && matches!(subresource, "" | "ephemeralcontainers")
            && is(resource, "", "pods")
    }

    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if has_new_images(attributes) {
            for list in CONTAINERS {
                for container in attributes
                    .object
                    .list_at_mut(&format!("spec.{list}"))
                    .into_iter()
                    .flatten()
                {
                    container.set("imagePullPolicy", "Always");
                }
            }
            for volume in attributes
                .object
                .list_at_mut("spec.volumes")
                .into_iter()
                .flatten()
            {
                if !volume.str_at("image.reference").is_empty() {
                    volume.set("image.pullPolicy", "Always");
                }
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), StatusError> {
        if !has_new_images(attributes) {
            return Ok(());
        }
        for list in CONTAINERS {
            for (index, container) in attributes.object.at("spec").list_at(list).iter().enumerate() {
                let policy = container.str_at("imagePullPolicy");
                if policy != "Always" {
                    let path = Path::new("spec")
                        .child(list)
                        .index(index)
                        .child("imagePullPolicy");
                    let error = FieldError::not_supported(&path, policy, &["Always"]);
                    return Err(attributes.forbidden(error.to_string()));
                }
            }
        }
        Ok(())
    }
}

/// An update that brings no new image is left alone.
fn has_new_images(attributes: &Attributes<'_>) -> bool {
    if attributes.operation == Operation::Create {
        return true;
    }
    let images = |pod: &Value| -> Vec<String> {
        super::containers(pod.at("spec"))
            .map(|c| c.str_at("image").to_owned())
            .collect()
    };
    let old = images(attributes.old);
    images(&attributes.object)
        .iter()
        .any(|image| !old.contains(image))
}
