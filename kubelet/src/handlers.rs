//! The runtime handler that a pod's RuntimeClass names.

use crate::pods::PodExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::Api;

/// The handler; empty for the default one.
pub(crate) async fn of(client: &kube::Client, pod: &Pod) -> Result<String, String> {
    let Some(name) = pod.spec().runtime_class_name.as_deref().filter(|n| !n.is_empty()) else {
        return Ok(String::new());
    };
    let api: Api<RuntimeClass> = Api::all(client.clone());
    match api.get_opt(name).await {
        Ok(Some(class)) => Ok(class.handler),
        Ok(None) => Err(format!(
            "failed to get sandbox runtime: RuntimeClass {name:?} not found"
        )),
        Err(error) => Err(format!(
            "failed to get sandbox runtime: {}",
            crate::objects::describe(&error)
        )),
    }
}
