//! Names of users and groups that Kubernetes gives a meaning.

/// The user who did not say who they are.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of all who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything, whatever the authorizers say.
pub const MASTERS: &str = "system:masters";
/// The group of kubelets.
pub const NODES: &str = "system:nodes";
/// The prefix of a kubelet's user name.
pub const NODE_PREFIX: &str = "system:node:";
/// The group of holders of bootstrap tokens.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// The group of all service accounts; with `:<namespace>` that of a namespace's.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The prefix of a service account's user name.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// The node behind a kubelet's user: none when the user is no node, empty when it is a node without a name.
pub fn node_identity(user: &rutter_api::UserInfo) -> Option<&str> {
    let node = user.name.strip_prefix(NODE_PREFIX)?;
    user.in_group(NODES).then_some(node)
}

/// The user name of a service account.
pub fn service_account(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The namespace and name behind a service account's user name.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
