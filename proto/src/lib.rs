//! gRPC contracts: CRI, CSI, device plugins, plugin registration, KMS.
