//! gRPC contracts of the interfaces between Kubernetes components and their plugins: the container runtime, device
//! plugins, plugin registration and key management. The modules are generated from the facts in `proto/`; no logic
//! lives here. Clients are for the components, servers for the kubelet's registration endpoint and for fakes in tests.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// Container Runtime Interface v1.
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// Device plugins v1beta1.
pub mod deviceplugin {
    tonic::include_proto!("v1beta1");
}

/// Plugin registration v1.
pub mod pluginregistration {
    tonic::include_proto!("pluginregistration");
}

/// Key management service plugins v2.
pub mod kms {
    tonic::include_proto!("v2");
}
