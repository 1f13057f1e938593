//! Flags that commands share.

use super::{Flag, array, bool, duration, int, slice, text};

/// Flags of every command.
pub const GLOBAL: &[Flag] = &[
    text(
        "as",
        "",
        "Username to impersonate for the operation. User could be a regular user or a service account in a namespace.",
    ),
    array(
        "as-group",
        "Group to impersonate for the operation, this flag can be repeated to specify multiple groups.",
    ),
    text("as-uid", "", "UID to impersonate for the operation."),
    array(
        "as-user-extra",
        "User extras to impersonate for the operation, this flag can be repeated to specify multiple values for the same key.",
    ),
    text(
        "certificate-authority",
        "",
        "Path to a cert file for the certificate authority",
    ),
    text(
        "client-certificate",
        "",
        "Path to a client certificate file for TLS",
    ),
    text("client-key", "", "Path to a client key file for TLS"),
    text("cluster", "", "The name of the kubeconfig cluster to use"),
    text("context", "", "The name of the kubeconfig context to use"),
    bool(
        "disable-compression",
        "If true, opt-out of response compression for all requests to the server",
    ),
    bool(
        "insecure-skip-tls-verify",
        "If true, the server's certificate will not be checked for validity. This will make your HTTPS connections insecure",
    ),
    text(
        "kubeconfig",
        "",
        "Path to the kubeconfig file to use for CLI requests.",
    ),
    bool(
        "match-server-version",
        "Require server version to match client version",
    ),
    text(
        "namespace",
        "",
        "If present, the namespace scope for this CLI request",
    )
    .short('n'),
    text(
        "password",
        "",
        "Password for basic authentication to the API server",
    ),
    text(
        "request-timeout",
        "0",
        "The length of time to wait before giving up on a single server request. Non-zero values should contain a corresponding time unit (e.g. 1s, 2m, 3h). A value of zero means don't timeout requests.",
    ),
    text("server", "", "The address and port of the Kubernetes API server").short('s'),
    text(
        "tls-server-name",
        "",
        "Server name to use for server certificate validation. If it is not provided, the hostname used to contact the server is used",
    ),
    text("token", "", "Bearer token for authentication to the API server"),
    text("user", "", "The name of the kubeconfig user to use"),
    text(
        "username",
        "",
        "Username for basic authentication to the API server",
    ),
    int("v", "0", "number for the log level verbosity: 6 tells requests and answers, 7 their headers, 8 the beginning of their bodies, 9 more of them and a curl command, 10 all").short('v'),
    bool(
        "warnings-as-errors",
        "Treat warnings received from the server as errors and exit with a non-zero exit code",
    ),
];

/// `-o` for tables.
pub const OUTPUT_WIDE: &[Flag] = &[text("output", "", "Output format. One of: (json, yaml, kyaml, name, go-template, go-template-file, template, templatefile, jsonpath, jsonpath-as-json, jsonpath-file, custom-columns, custom-columns-file, wide).").short('o')];

/// `-o` for objects.
pub const OUTPUT: &[Flag] = &[text("output", "", "Output format. One of: (json, yaml, kyaml, name, go-template, go-template-file, template, templatefile, jsonpath, jsonpath-as-json, jsonpath-file).").short('o')];

/// Companions of `-o`.
pub const TEMPLATE: &[Flag] = &[
    bool("allow-missing-template-keys", "If true, ignore any errors in templates when a field or map key is missing in the template. Only applies to golang and jsonpath output formats.").on(),
    bool("show-managed-fields", "If true, keep the managedFields when printing objects in JSON or YAML format."),
    text("template", "", "Template string or path to template file to use when -o=go-template, -o=go-template-file. The template format is golang templates [http://golang.org/pkg/text/template/#pkg-overview]."),
];

/// Manifests.
pub const FILENAME: &[Flag] = &[
    slice("filename", "Filename, directory, or URL to files that identify the resources.").short('f'),
    text("kustomize", "", "Process the kustomization directory. This flag can't be used together with -f or -R.").short('k'),
    bool("recursive", "Process the directory used in -f, --filename recursively. Useful when you want to manage related manifests organized within the same directory.").short('R'),
];

/// `--dry-run`.
pub const DRY_RUN: &[Flag] = &[
    text("dry-run", "none", "Must be \"none\", \"server\", or \"client\". If client strategy, only print the object that would be sent, without sending it. If server strategy, submit server-side request without persisting the resource.").bare("unchanged"),
];

/// `-l`.
pub const SELECTOR: &[Flag] = &[
    text("selector", "", "Selector (label query) to filter on, supports '=', '==', '!=', 'in', 'notin'.(e.g. -l key1=value1,key2=value2,key3 in (value3)). Matching objects must satisfy all of the specified label constraints.").short('l'),
];

/// `--field-selector`.
pub const FIELD_SELECTOR: &[Flag] = &[text(
    "field-selector",
    "",
    "Selector (field query) to filter on, supports '=', '==', and '!='.(e.g. --field-selector key1=value1,key2=value2). The server only supports a limited number of field queries per type.",
)];

/// `-A`.
pub const ALL_NAMESPACES: &[Flag] = &[
    bool("all-namespaces", "If present, list the requested object(s) across all namespaces. Namespace in current context is ignored even if specified with --namespace.").short('A'),
];

/// `--all`.
pub const ALL: &[Flag] = &[bool(
    "all",
    "Select all resources, in the namespace of the specified resource types.",
)];

/// `--chunk-size`.
pub const CHUNK: &[Flag] = &[int(
    "chunk-size",
    "500",
    "Return large lists in chunks rather than all at once. Pass 0 to disable.",
)];

/// `--field-manager` for creating commands.
pub const MANAGER_CREATE: &[Flag] = &[text(
    "field-manager",
    "kubectl-create",
    "Name of the manager used to track field ownership.",
)];

/// `--validate`.
pub const VALIDATE: &[Flag] = &[
    text("validate", "strict", "Must be one of: strict (or true), warn, ignore (or false). \"true\" or \"strict\" will use a schema to validate the input and fail the request if invalid. \"warn\" will warn about unknown or duplicate fields without blocking the request. \"false\" or \"ignore\" will not perform any schema validation.").bare("strict"),
];

/// `--save-config`.
pub const SAVE_CONFIG: &[Flag] = &[bool(
    "save-config",
    "If true, the configuration of current object will be saved in its annotation. Otherwise, the annotation will be unchanged. This flag is useful when you want to perform kubectl apply on this object in the future.",
)];

/// `--record` went away long ago but scripts still carry it.
pub const RECORD: &[Flag] = &[bool(
    "record",
    "Record current kubectl command in the resource annotation. If set to false, do not record the command. If set to true, record the command. If not set, default to updating the existing annotation value only if one already exists.",
)];

/// `--subresource`.
pub const SUBRESOURCE: &[Flag] = &[text(
    "subresource",
    "",
    "If specified, the operation is on the subresource of the requested object.",
)];

/// `--timeout` of commands that wait for pods.
pub const POD_TIMEOUT: &[Flag] = &[duration(
    "pod-running-timeout",
    "1m0s",
    "The length of time (like 5s, 2m, or 3h, higher than zero) to wait until at least one pod is running",
)];
