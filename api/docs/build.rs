//! Takes the descriptions of all types and fields from k8s-openapi's schemas, and writes them, compressed, where the
//! library includes them.

use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// Adds the schemas of these types and of all that they refer to.
macro_rules! add {
    ($generator:ident: $($module:path { $($name:ident),* $(,)? })*) => {
        $({
            use $module as module;
            $( add::<module::$name>(&mut $generator); )*
        })*
    };
}

fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    core(&mut generator);
    groups(&mut generator);
    let mut docs = Map::new();
    for (name, schema) in generator.take_definitions(true) {
        let description = |schema: &Value| schema.get("description").cloned().unwrap_or(Value::Null);
        let properties = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let fields: Map<String, Value> = properties
            .map(|(field, schema)| (field.clone(), description(schema)))
            .collect();
        docs.insert(
            name,
            Value::Array(vec![description(&schema), Value::Object(fields)]),
        );
    }
    let path = Path::new(&std::env::var("OUT_DIR")?).join("docs.json.gz");
    let mut out = GzEncoder::new(File::create(path)?, Compression::best());
    out.write_all(&serde_json::to_vec(&docs)?)?;
    out.finish()?;
    Ok(())
}

fn core(generator: &mut SchemaGenerator) {
    let mut g = std::mem::take(generator);
    add! { g:
        k8s_openapi::api::core::v1 {
            Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
            ServiceAccount,
        }
        k8s_openapi::apimachinery::pkg::apis::meta::v1 {
            APIGroup, APIGroupList, APIResourceList, APIVersions, Status, DeleteOptions,
        }
    }
    *generator = g;
}

fn groups(generator: &mut SchemaGenerator) {
    let mut g = std::mem::take(generator);
    add! { g:
        k8s_openapi::api::admissionregistration::v1 {
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        }
        k8s_openapi::api::admissionregistration::v1alpha1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding }
        k8s_openapi::api::admissionregistration::v1beta1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding }
        k8s_openapi::api::apiserverinternal::v1alpha1 { StorageVersion }
        k8s_openapi::api::apps::v1 { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
        k8s_openapi::api::authentication::v1 { SelfSubjectReview, TokenRequest, TokenReview }
        k8s_openapi::api::authorization::v1 {
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
        }
        k8s_openapi::api::autoscaling::v1 { HorizontalPodAutoscaler, Scale }
        k8s_openapi::api::autoscaling::v2 { HorizontalPodAutoscaler }
        k8s_openapi::api::batch::v1 { CronJob, Job }
        k8s_openapi::api::certificates::v1 { CertificateSigningRequest }
        k8s_openapi::api::certificates::v1alpha1 { ClusterTrustBundle }
        k8s_openapi::api::certificates::v1beta1 { ClusterTrustBundle, PodCertificateRequest }
        k8s_openapi::api::coordination::v1 { Lease }
        k8s_openapi::api::coordination::v1alpha2 { LeaseCandidate }
        k8s_openapi::api::coordination::v1beta1 { LeaseCandidate }
        k8s_openapi::api::discovery::v1 { EndpointSlice }
        k8s_openapi::api::events::v1 { Event }
        k8s_openapi::api::flowcontrol::v1 { FlowSchema, PriorityLevelConfiguration }
        k8s_openapi::api::networking::v1 { IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR }
        k8s_openapi::api::networking::v1beta1 { IPAddress, ServiceCIDR }
        k8s_openapi::api::node::v1 { RuntimeClass }
        k8s_openapi::api::policy::v1 { Eviction, PodDisruptionBudget }
        k8s_openapi::api::rbac::v1 { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
        k8s_openapi::api::resource::v1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        k8s_openapi::api::resource::v1alpha3 { DeviceTaintRule, ResourcePoolStatusRequest }
        k8s_openapi::api::resource::v1beta1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        k8s_openapi::api::resource::v1beta2 {
            DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
        }
        k8s_openapi::api::scheduling::v1 { PriorityClass }
        k8s_openapi::api::scheduling::v1alpha2 { PodGroup, Workload }
        k8s_openapi::api::storage::v1 {
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
        }
        k8s_openapi::api::storage::v1beta1 { VolumeAttributesClass }
        k8s_openapi::api::storagemigration::v1beta1 { StorageVersionMigration }
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    }
    *generator = g;
}
