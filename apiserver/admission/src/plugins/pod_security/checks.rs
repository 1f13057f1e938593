//! The checks of the Pod Security Standards, as of any minor version. Each says what is wrong in upstream's words.

use super::Level;
use crate::plugins::containers;
use rutter_api::Value;
use rutter_api::object::ObjectExt;
use std::collections::BTreeSet;

/// What a check found: a heading, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) reason: String,
    pub(super) detail: String,
}

type Found = Option<Finding>;

fn finding(reason: &str, detail: String) -> Found {
    Some(Finding {
        reason: reason.to_owned(),
        detail,
    })
}

/// A pod, and the minor version that it is checked as of.
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
    pub(super) minor: u32,
}

/// All that is wrong with a pod at a level.
pub(super) fn evaluate(pod: &Pod<'_>, level: Level) -> Vec<Finding> {
    if level == Level::Privileged {
        return Vec::new();
    }
    let mut all = vec![
        pod.app_armor(),
        pod.host_namespaces(),
        pod.host_ports(),
        pod.host_probes(),
        pod.privileged(),
        pod.proc_mount(),
        pod.selinux(),
        pod.sysctls(),
        pod.host_process(),
    ];
    // The restricted level has a stricter rule about capabilities, as of 1.22.
    if level == Level::Baseline || pod.minor < 22 {
        all.push(pod.capabilities_baseline());
    }
    if level == Level::Baseline {
        all.extend([pod.host_path(), pod.seccomp()]);
    } else {
        all.extend([
            pod.privilege_escalation(),
            pod.volumes(),
            pod.non_root(),
            pod.user(),
            pod.proc_mount_restricted(),
            pod.capabilities_restricted(),
            if pod.minor >= 19 {
                pod.seccomp_restricted()
            } else {
                pod.seccomp()
            },
        ]);
    }
    all.into_iter().flatten().collect()
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn quote<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let quoted: Vec<String> = items
        .into_iter()
        .map(|item| format!("{:?}", item.as_ref()))
        .collect();
    quoted.join(", ")
}

/// `containers "a", "b"`
fn named(names: &[&str]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", names.len()),
        quote(names)
    )
}

/// `pod and container "a"`
fn setters(pod: bool, names: &[&str]) -> String {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_owned());
    }
    if !names.is_empty() {
        parts.push(named(names));
    }
    parts.join(" and ")
}

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        containers(self.spec)
    }

    /// The names of the containers that a test is true of.
    fn which(&self, test: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| test(container))
            .map(|container| container.str_at("name"))
            .collect()
    }

    fn windows(&self) -> bool {
        self.spec.str_at("os.name") == "windows"
    }

    /// A pod in a user namespace of its own may be root in it, as of 1.35.
    fn own_users(&self) -> bool {
        self.minor >= 35 && self.spec.bool_at("hostUsers") == Some(false)
    }

    fn app_armor(&self) -> Found {
        let bad = |context: &Value| {
            let profile = context.at("appArmorProfile");
            (!profile.is_null() && !matches!(profile.str_at("type"), "RuntimeDefault" | "Localhost"))
                .then(|| profile.str_at("type").to_owned())
        };
        let of_pod = bad(self.spec.at("securityContext"));
        let names = self.which(|c| bad(c.at("securityContext")).is_some());
        let mut values: BTreeSet<String> = self
            .containers()
            .filter_map(|c| bad(c.at("securityContext")))
            .collect();
        values.extend(of_pod.clone());
        let mut annotations: Vec<String> = self
            .metadata
            .map_at("annotations")
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.starts_with("container.apparmor.security.beta.kubernetes.io/"))
            .filter_map(|(key, value)| Some((key, value.as_str()?)))
            .filter(|(_, value)| {
                !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/")
            })
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        annotations.sort();
        let mut who = Vec::new();
        let setters = setters(of_pod.is_some(), &names);
        if !setters.is_empty() {
            who.push(setters);
        }
        if !annotations.is_empty() {
            who.push(plural("annotation", "annotations", annotations.len()).to_owned());
        }
        if who.is_empty() {
            return None;
        }
        let mut list: Vec<String> = values.into_iter().collect();
        list.extend(annotations);
        finding(
            plural(
                "forbidden AppArmor profile",
                "forbidden AppArmor profiles",
                list.len(),
            ),
            format!(
                "{} must not set AppArmor profile type to {}",
                who.join(" and "),
                quote(&list)
            ),
        )
    }

    fn host_namespaces(&self) -> Found {
        let on = |field: &&str| self.spec.bool_at(field) == Some(true);
        let bad: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
            .iter()
            .filter(|f| on(f))
            .map(|f| format!("{f}=true"))
            .collect();
        if bad.is_empty() {
            None
        } else {
            finding("host namespaces", bad.join(", "))
        }
    }

    fn host_path(&self) -> Found {
        let volumes = self
            .spec
            .list_at("volumes")
            .iter()
            .filter(|v| !v.at("hostPath").is_null());
        let names: Vec<&str> = volumes.map(|v| v.str_at("name")).collect();
        if names.is_empty() {
            return None;
        }
        finding(
            "hostPath volumes",
            format!("{} {}", plural("volume", "volumes", names.len()), quote(&names)),
        )
    }

    fn host_ports(&self) -> Found {
        let ports = |c: &Value| -> Vec<i64> {
            c.list_at("ports")
                .iter()
                .filter_map(|p| p.int_at("hostPort"))
                .filter(|p| *p != 0)
                .collect()
        };
        let names = self.which(|c| !ports(c).is_empty());
        if names.is_empty() {
            return None;
        }
        let all: BTreeSet<String> = self.containers().flat_map(ports).map(|p| p.to_string()).collect();
        let detail = format!(
            "{} {} {} {}",
            named(&names),
            plural("uses", "use", names.len()),
            plural("hostPort", "hostPorts", all.len()),
            all.iter().cloned().collect::<Vec<_>>().join(", ")
        );
        finding("hostPort", detail)
    }

    fn host_probes(&self) -> Found {
        if self.minor < 34 {
            return None;
        }
        let hosts = |c: &Value| -> Vec<String> {
            [
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
                "lifecycle.postStart",
                "lifecycle.preStop",
            ]
            .iter()
            .flat_map(|path| {
                ["httpGet.host", "tcpSocket.host"].map(|host| c.at(path).str_at(host).to_owned())
            })
            .filter(|host| !host.is_empty())
            .collect()
        };
        let names: BTreeSet<&str> = self.which(|c| !hosts(c).is_empty()).into_iter().collect();
        if names.is_empty() {
            return None;
        }
        let all: BTreeSet<String> = self.containers().flat_map(hosts).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let detail = format!(
            "{} {} {} {}",
            named(&names),
            plural("uses", "use", names.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
            quote(&all)
        );
        finding("probe or lifecycle host", detail)
    }

    fn privileged(&self) -> Found {
        let names = self.which(|c| c.bool_at("securityContext.privileged") == Some(true));
        if names.is_empty() {
            return None;
        }
        finding(
            "privileged",
            format!("{} must not set securityContext.privileged=true", named(&names)),
        )
    }

    fn proc_mount_of(&self) -> Found {
        let kind = |c: &Value| c.str_at("securityContext.procMount").to_owned();
        let bad = |c: &Value| !matches!(kind(c).as_str(), "" | "Default");
        let names = self.which(bad);
        if names.is_empty() {
            return None;
        }
        let kinds: BTreeSet<String> = self.containers().filter(|c| bad(c)).map(kind).collect();
        finding(
            "procMount",
            format!(
                "{} must not set securityContext.procMount to {}",
                named(&names),
                quote(&kinds)
            ),
        )
    }

    fn proc_mount(&self) -> Found {
        if self.own_users() {
            None
        } else {
            self.proc_mount_of()
        }
    }

    /// The restricted level makes no exception for user namespaces.
    fn proc_mount_restricted(&self) -> Found {
        if self.own_users() {
            self.proc_mount_of()
        } else {
            None
        }
    }

    fn selinux(&self) -> Found {
        let allowed = |kind: &str| {
            matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t")
                || (self.minor >= 31 && kind == "container_engine_t")
        };
        let options = |context: &'a Value| context.at("securityContext.seLinuxOptions");
        let bad = |o: &Value| {
            !allowed(o.str_at("type")) || !o.str_at("user").is_empty() || !o.str_at("role").is_empty()
        };
        let all: Vec<&Value> = std::iter::once(self.spec)
            .chain(self.containers())
            .map(options)
            .filter(|o| bad(o))
            .collect();
        if all.is_empty() {
            return None;
        }
        let names: Vec<&str> = self
            .containers()
            .filter(|c| bad(options(c)))
            .map(|c| c.str_at("name"))
            .collect();
        let types: BTreeSet<&str> = all
            .iter()
            .map(|o| o.str_at("type"))
            .filter(|t| !allowed(t))
            .collect();
        let mut data = Vec::new();
        if !types.is_empty() {
            data.push(format!(
                "{} {}",
                plural("type", "types", types.len()),
                quote(&types)
            ));
        }
        for (field, text) in [("user", "user may not be set"), ("role", "role may not be set")] {
            if all.iter().any(|o| !o.str_at(field).is_empty()) {
                data.push(text.to_owned());
            }
        }
        let who = setters(bad(options(self.spec)), &names);
        finding(
            "seLinuxOptions",
            format!(
                "{who} set forbidden securityContext.seLinuxOptions: {}",
                data.join("; ")
            ),
        )
    }

    fn sysctls(&self) -> Found {
        let since = |name: &str| match name {
            "kernel.shm_rmid_forced"
            | "net.ipv4.ip_local_port_range"
            | "net.ipv4.tcp_syncookies"
            | "net.ipv4.ping_group_range"
            | "net.ipv4.ip_unprivileged_port_start" => Some(0),
            "net.ipv4.ip_local_reserved_ports" => Some(27),
            "net.ipv4.tcp_keepalive_time"
            | "net.ipv4.tcp_fin_timeout"
            | "net.ipv4.tcp_keepalive_intvl"
            | "net.ipv4.tcp_keepalive_probes" => Some(29),
            "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => Some(32),
            _ => None,
        };
        let sysctls = self
            .spec
            .list_at("securityContext.sysctls")
            .iter()
            .map(|s| s.str_at("name"));
        let bad: Vec<&str> = sysctls
            .filter(|name| since(name).is_none_or(|minor| self.minor < minor))
            .collect();
        if bad.is_empty() {
            None
        } else {
            finding("forbidden sysctls", bad.join(", "))
        }
    }

    fn host_process(&self) -> Found {
        let on = |c: &Value| c.bool_at("securityContext.windowsOptions.hostProcess") == Some(true);
        let (pod, names) = (on(self.spec), self.which(on));
        if !pod && names.is_empty() {
            return None;
        }
        let detail = format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters(pod, &names)
        );
        finding("hostProcess", detail)
    }

    fn capabilities_baseline(&self) -> Found {
        const ALLOWED: [&str; 14] = [
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
            "",
        ];
        let bad = |c: &Value| -> Vec<String> {
            let added = c
                .list_at("securityContext.capabilities.add")
                .iter()
                .filter_map(Value::as_str);
            added
                .filter(|name| !ALLOWED.contains(name))
                .map(str::to_owned)
                .collect()
        };
        let names = self.which(|c| !bad(c).is_empty());
        if names.is_empty() {
            return None;
        }
        let all: BTreeSet<String> = self.containers().flat_map(bad).collect();
        let detail = format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&names),
            quote(&all)
        );
        finding("non-default capabilities", detail)
    }

    fn capabilities_restricted(&self) -> Found {
        if self.minor < 22 || (self.windows() && self.minor >= 25) {
            return None;
        }
        let drops = |c: &Value| {
            c.list_at("securityContext.capabilities.drop")
                .iter()
                .any(|name| name == "ALL")
        };
        let bad = |c: &Value| -> Vec<String> {
            let added = c
                .list_at("securityContext.capabilities.add")
                .iter()
                .filter_map(Value::as_str);
            added
                .filter(|name| *name != "NET_BIND_SERVICE")
                .map(str::to_owned)
                .collect()
        };
        let (missing, adding) = (self.which(|c| !drops(c)), self.which(|c| !bad(c).is_empty()));
        let mut details = Vec::new();
        if !missing.is_empty() {
            details.push(format!(
                r#"{} must set securityContext.capabilities.drop=["ALL"]"#,
                named(&missing)
            ));
        }
        if !adding.is_empty() {
            let all: BTreeSet<String> = self.containers().flat_map(bad).collect();
            details.push(format!(
                "{} must not include {} in securityContext.capabilities.add",
                named(&adding),
                quote(&all)
            ));
        }
        if details.is_empty() {
            None
        } else {
            finding("unrestricted capabilities", details.join("; "))
        }
    }

    fn seccomp(&self) -> Found {
        if self.minor < 19 {
            return self.seccomp_annotations();
        }
        let kind = |c: &Value| c.str_at("securityContext.seccompProfile.type").to_owned();
        let bad = |c: &Value| {
            !c.at("securityContext.seccompProfile").is_null()
                && !matches!(kind(c).as_str(), "Localhost" | "RuntimeDefault")
        };
        let (pod, names) = (bad(self.spec), self.which(bad));
        if !pod && names.is_empty() {
            return None;
        }
        let all = std::iter::once(self.spec).chain(self.containers());
        let kinds: BTreeSet<String> = all.filter(|c| bad(c)).map(kind).collect();
        let who = setters(pod, &names);
        finding(
            "seccompProfile",
            format!(
                "{who} must not set securityContext.seccompProfile.type to {}",
                quote(&kinds)
            ),
        )
    }

    fn seccomp_annotations(&self) -> Found {
        let names = self.containers().map(|c| {
            format!(
                "container.seccomp.security.alpha.kubernetes.io/{}",
                c.str_at("name")
            )
        });
        let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(names);
        let bad: BTreeSet<String> = keys
            .filter_map(|key| {
                let value = self.metadata.at("annotations").get(&key)?.as_str()?;
                let good =
                    matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
                (!good).then(|| format!("{key}={value:?}"))
            })
            .collect();
        if bad.is_empty() {
            return None;
        }
        let list: Vec<String> = bad.into_iter().collect();
        let what = plural("annotation", "annotations", list.len());
        finding("seccompProfile", format!("forbidden {what} {}", list.join(", ")))
    }

    fn seccomp_restricted(&self) -> Found {
        if self.windows() && self.minor >= 25 {
            return None;
        }
        if let Some(found) = self.seccomp() {
            return Some(found);
        }
        let unset = |c: &Value| c.at("securityContext.seccompProfile").is_null();
        let names = if unset(self.spec) {
            self.which(unset)
        } else {
            Vec::new()
        };
        if names.is_empty() {
            return None;
        }
        let detail = format!(
            r#"pod or {} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#,
            named(&names)
        );
        finding("seccompProfile", detail)
    }

    fn privilege_escalation(&self) -> Found {
        if self.minor < 8 || (self.windows() && self.minor >= 25) {
            return None;
        }
        let names = self.which(|c| c.bool_at("securityContext.allowPrivilegeEscalation") != Some(false));
        if names.is_empty() {
            return None;
        }
        let detail = format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            named(&names)
        );
        finding("allowPrivilegeEscalation != false", detail)
    }

    fn volumes(&self) -> Found {
        const ALLOWED: [&str; 9] = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let kind = |v: &Value| -> String {
            let keys = v
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, source)| source.is_object());
            keys.map(|(key, _)| key.clone())
                .next()
                .unwrap_or_else(|| "unknown".to_owned())
        };
        let bad = self
            .spec
            .list_at("volumes")
            .iter()
            .filter(|v| ALLOWED.iter().all(|a| v.at(a).is_null()));
        let (names, kinds): (Vec<&str>, BTreeSet<String>) = bad.map(|v| (v.str_at("name"), kind(v))).unzip();
        if names.is_empty() {
            return None;
        }
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            quote(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            quote(&kinds)
        );
        finding("restricted volume types", detail)
    }

    fn non_root(&self) -> Found {
        if self.own_users() {
            return None;
        }
        let set = |c: &Value| c.bool_at("securityContext.runAsNonRoot");
        let bad = self.which(|c| set(c) == Some(false));
        let pod = set(self.spec);
        if pod == Some(false) || !bad.is_empty() {
            let who = setters(pod == Some(false), &bad);
            return finding(
                "runAsNonRoot != true",
                format!("{who} must not set securityContext.runAsNonRoot=false"),
            );
        }
        let missing = if pod.is_none() {
            self.which(|c| set(c).is_none())
        } else {
            Vec::new()
        };
        if missing.is_empty() {
            return None;
        }
        let detail = format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            named(&missing)
        );
        finding("runAsNonRoot != true", detail)
    }

    fn user(&self) -> Found {
        if self.minor < 23 || self.own_users() {
            return None;
        }
        let root = |c: &Value| c.int_at("securityContext.runAsUser") == Some(0);
        let (pod, names) = (root(self.spec), self.which(root));
        if !pod && names.is_empty() {
            return None;
        }
        finding(
            "runAsUser=0",
            format!("{} must not set runAsUser=0", setters(pod, &names)),
        )
    }
}
