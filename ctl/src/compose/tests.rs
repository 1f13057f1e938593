//! Compose files and the objects that they mean.

use super::*;
use rutter_api::codec::yaml::{parse_narrow, parse_text};

/// A directory of three files.
struct Fake;

impl Source for Fake {
    fn kind(&self, path: &str) -> PathKind {
        match path {
            "./nginx.conf" | "app.env" | "./secret.txt" => PathKind::File,
            "./html" | "./data" => PathKind::Directory,
            _ => PathKind::Missing,
        }
    }
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "./nginx.conf" => Ok(b"server {}".to_vec()),
            "app.env" => Ok(b"A=file\nB=file # note\n".to_vec()),
            "./secret.txt" => Ok(b"s3cret".to_vec()),
            "./html/index.html" => Ok(b"<p>".to_vec()),
            other => Err(format!("open {other}: no such file or directory")),
        }
    }
    fn list(&self, path: &str) -> Option<Vec<String>> {
        (path == "./html").then(|| vec!["index.html".to_owned()])
    }
    fn absolute(&self, path: &str) -> String {
        format!("/src/{}", path.trim_start_matches("./"))
    }
    fn variable(&self, name: &str) -> Option<String> {
        (name == "FROM_SHELL").then(|| "shell".to_owned())
    }
}

fn run_with(file: &str, change: impl FnOnce(&mut Settings)) -> Output {
    let mut settings = Settings {
        project: "shop".to_owned(),
        profiles: Vec::new(),
        publish: Publish::NodePort,
        volume_size: "1Gi".to_owned(),
    };
    change(&mut settings);
    convert(&parse_narrow(file).unwrap().0, &settings, &Fake)
}

fn run(file: &str) -> Output {
    run_with(file, |_| {})
}

/// A service's keys alone, as `s`; what the objects are, by kind and name.
fn service(keys: &str) -> Output {
    run(&format!(
        "services: {{s: {{image: i, {keys}}}}}\nvolumes: {{v: , w: {{external: true, name: other}}}}\nconfigs: {{c: {{file: ./nginx.conf}}, d: {{content: x}}}}\nsecrets: {{k: {{file: ./secret.txt}}}}\n"
    ))
}

fn object<'o>(output: &'o Output, kind: &str, name: &str) -> &'o Value {
    output
        .objects
        .iter()
        .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name} in {:#?}", output.objects))
}

fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    let found = value.pointer(path);
    found.unwrap_or(&Value::Null)
}

const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// Keys of a service; a place in its workload; what is there.
const FIELDS: &[(&str, &str, &str)] = &[
    (
        "command: nginx -g 'daemon off;'",
        "C/args",
        "[nginx, -g, daemon off;]",
    ),
    ("command: [echo, '$$(X)']", "C/args", "[echo, '$$$(X)']"),
    ("entrypoint: [a, b]", "C/command", "[a, b]"),
    ("entrypoint: '/run.sh \"a b\"'", "C/command", "[/run.sh, a b]"),
    (
        "environment: {A: 1, B: yes, C: , FROM_SHELL: }",
        "C/env",
        "[{name: A, value: '1'}, {name: B, value: 'yes'}, {name: FROM_SHELL, value: shell}]",
    ),
    (
        "environment: [A=x=y, FROM_SHELL, NOWHERE, E=]",
        "C/env",
        "[{name: A, value: x=y}, {name: E, value: ''}, {name: FROM_SHELL, value: shell}]",
    ),
    (
        "env_file: app.env",
        "C/envFrom",
        "[{configMapRef: {name: s-env}}]",
    ),
    ("working_dir: /w", "C/workingDir", "/w"),
    ("stdin_open: true, tty: true", "C/tty", "true"),
    (
        "user: '1000:2000'",
        "C/securityContext",
        "{runAsUser: 1000, runAsGroup: 2000}",
    ),
    (
        "privileged: true, read_only: true",
        "C/securityContext",
        "{privileged: true, readOnlyRootFilesystem: true}",
    ),
    (
        "cap_add: [CAP_NET_ADMIN], cap_drop: [ALL]",
        "C/securityContext/capabilities",
        "{add: [NET_ADMIN], drop: [ALL]}",
    ),
    (
        "security_opt: ['no-new-privileges:true', seccomp=unconfined]",
        "C/securityContext",
        "{allowPrivilegeEscalation: false, seccompProfile: {type: Unconfined}}",
    ),
    ("pull_policy: if_not_present", "C/imagePullPolicy", "IfNotPresent"),
    (
        "ports: ['8080:80', '53:53/udp']",
        "C/ports",
        "[{name: tcp-80, containerPort: 80, protocol: TCP}, {name: udp-53, containerPort: 53, protocol: UDP}]",
    ),
    (
        "deploy: {resources: {limits: {cpus: '0.5', memory: 512M}, reservations: {cpus: 0.25, memory: 64mb}}}",
        "C/resources",
        "{limits: {cpu: 500m, memory: 512Mi}, requests: {cpu: 250m, memory: 64Mi}}",
    ),
    (
        "cpus: 2, mem_limit: 1g",
        "C/resources",
        "{limits: {cpu: '2', memory: 1Gi}}",
    ),
    (
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 2, capabilities: [gpu]}]}}}",
        "C/resources",
        "{limits: {nvidia.com/gpu: '2'}}",
    ),
    (
        "healthcheck: {test: [CMD, curl, -f, x], interval: 1m30s, timeout: 10s, retries: 5}",
        "C/readinessProbe",
        "{exec: {command: [curl, -f, x]}, periodSeconds: 90, timeoutSeconds: 10, failureThreshold: 5}",
    ),
    (
        "healthcheck: {test: 'pg_isready', interval: 500ms}",
        "C/readinessProbe",
        "{exec: {command: [/bin/sh, -c, pg_isready]}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 3}",
    ),
    (
        "healthcheck: {test: [CMD-SHELL, 'a || b'], start_period: 1m, start_interval: 2s}",
        "C/readinessProbe/periodSeconds",
        "2",
    ),
    ("healthcheck: {disable: true}", "C/readinessProbe", "null"),
    (
        "pre_stop: [{command: [stop]}]",
        "C/lifecycle",
        "{preStop: {exec: {command: [stop]}}}",
    ),
    (
        "volumes: ['v:/data', 'v:/more:ro']",
        "C/volumeMounts",
        "[{name: volume-v, mountPath: /data}, {name: volume-v, mountPath: /more, readOnly: true}]",
    ),
    (
        "volumes: ['v:/data']",
        "P/volumes",
        "[{name: volume-v, persistentVolumeClaim: {claimName: v}}]",
    ),
    (
        "volumes: ['w:/data']",
        "P/volumes",
        "[{name: volume-other, persistentVolumeClaim: {claimName: other}}]",
    ),
    (
        "volumes: [/scratch]",
        "P/volumes",
        "[{name: anonymous-0, emptyDir: {}}]",
    ),
    (
        "volumes: ['./nginx.conf:/etc/n.conf:ro']",
        "P/volumes",
        "[{name: bind-0, configMap: {name: s-bind-0}}]",
    ),
    (
        "volumes: ['./nginx.conf:/etc/n.conf:ro']",
        "C/volumeMounts",
        "[{name: bind-0, mountPath: /etc/n.conf, subPath: nginx.conf, readOnly: true}]",
    ),
    (
        "volumes: ['./html:/www:ro']",
        "P/volumes",
        "[{name: bind-0, configMap: {name: s-bind-0, defaultMode: 420}}]",
    ),
    (
        "volumes: ['./data:/www']",
        "P/volumes",
        "[{name: bind-0, hostPath: {path: /src/data, type: DirectoryOrCreate}}]",
    ),
    (
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 64m}}]",
        "P/volumes",
        "[{name: tmpfs-at-0, emptyDir: {medium: Memory, sizeLimit: 64Mi}}]",
    ),
    (
        "tmpfs: '/run:size=1m'",
        "P/volumes",
        "[{name: tmpfs-0, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]",
    ),
    (
        "volumes: [{type: volume, source: v, target: /d, volume: {subpath: a}}]",
        "C/volumeMounts",
        "[{name: volume-v, mountPath: /d, subPath: a}]",
    ),
    (
        "shm_size: 128m",
        "C/volumeMounts",
        "[{name: shm, mountPath: /dev/shm}]",
    ),
    (
        "configs: [c]",
        "C/volumeMounts",
        "[{name: config-c, mountPath: /c, subPath: c, readOnly: true}]",
    ),
    (
        "configs: [{source: c, target: /etc/c, mode: 0440}]",
        "P/volumes",
        "[{name: config-c, configMap: {name: c, defaultMode: 288}}]",
    ),
    (
        "secrets: [k]",
        "C/volumeMounts",
        "[{name: secret-k, mountPath: /run/secrets/k, subPath: k, readOnly: true}]",
    ),
    (
        "secrets: [{source: k, target: key, mode: '0400'}]",
        "P/volumes",
        "[{name: secret-k, secret: {secretName: k, defaultMode: 256}}]",
    ),
    ("deploy: {replicas: 3}", "/spec/replicas", "3"),
    ("scale: 2", "/spec/replicas", "2"),
    ("restart: always", "/kind", "Deployment"),
    ("restart: no", "/kind", "Job"),
    ("restart: 'on-failure:4'", "/spec/backoffLimit", "4"),
    ("restart: on-failure", "P/restartPolicy", "OnFailure"),
    ("deploy: {mode: global}", "/kind", "DaemonSet"),
    (
        "deploy: {mode: replicated-job, replicas: 2}",
        "/spec/completions",
        "2",
    ),
    (
        "deploy: {restart_policy: {condition: none}}",
        "P/restartPolicy",
        "Never",
    ),
    (
        "deploy: {update_config: {parallelism: 2, order: start-first}}",
        "/spec/strategy",
        "{type: RollingUpdate, rollingUpdate: {maxSurge: 2, maxUnavailable: 0}}",
    ),
    (
        "deploy: {update_config: {parallelism: 2}}",
        "/spec/strategy",
        "{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 2}}",
    ),
    ("volumes: ['v:/d']", "/spec/strategy", "{type: Recreate}"),
    (
        "deploy: {placement: {constraints: [node.labels.disk == ssd, node.role==manager]}}",
        "P/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution",
        "{nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}, {key: node-role.kubernetes.io/control-plane, operator: Exists}]}]}",
    ),
    (
        "platform: linux/arm64",
        "P/nodeSelector",
        "{kubernetes.io/os: linux, kubernetes.io/arch: arm64}",
    ),
    (
        "labels: {a.b: c}",
        "/spec/template/metadata/annotations",
        "{a.b: c}",
    ),
    ("stop_grace_period: 1m", "P/terminationGracePeriodSeconds", "60"),
    ("stop_grace_period: 500ms", "P/terminationGracePeriodSeconds", "1"),
    ("hostname: box", "P/hostname", "box"),
    (
        "extra_hosts: ['a:10.0.0.1', 'b=::1']",
        "P/hostAliases",
        "[{ip: 10.0.0.1, hostnames: [a]}, {ip: '::1', hostnames: [b]}]",
    ),
    (
        "dns: 1.1.1.1, dns_opt: ['ndots:2']",
        "P/dnsConfig",
        "{nameservers: [1.1.1.1], options: [{name: ndots, value: '2'}]}",
    ),
    (
        "group_add: ['10'], sysctls: {net.core.somaxconn: 1024}",
        "P/securityContext",
        "{supplementalGroups: [10], sysctls: [{name: net.core.somaxconn, value: '1024'}]}",
    ),
    ("network_mode: host", "P/hostNetwork", "true"),
    ("pid: host, ipc: host", "P/hostPID", "true"),
    ("init: true", "P/shareProcessNamespace", "true"),
];

#[test]
fn keys_of_services_become_fields_of_workloads() {
    for (keys, place, want) in FIELDS {
        let output = service(keys);
        assert_eq!(output.report.refusals, [], "{keys}");
        let workload = output
            .objects
            .iter()
            .find(|o| !o["spec"]["template"].is_null())
            .unwrap();
        let place = place
            .replace("C/", &format!("{CONTAINER}/"))
            .replace("P/", &format!("{POD}/"));
        assert_eq!(at(workload, &place), &parse_text(want).unwrap(), "{keys}");
    }
}

/// Ports of a service, how they are published, and its Service.
const SERVICES: &[(&str, Publish, &str)] = &[
    ("restart: always", Publish::NodePort, "{clusterIP: None}"),
    (
        "expose: ['80', 443]",
        Publish::NodePort,
        "{type: ClusterIP, ports: [{name: tcp-80, port: 80, targetPort: 80, protocol: TCP}, {name: tcp-443, port: 443, targetPort: 443, protocol: TCP}]}",
    ),
    (
        "ports: ['30080:80']",
        Publish::NodePort,
        "{type: NodePort, ports: [{name: tcp-80, port: 80, targetPort: 80, protocol: TCP, nodePort: 30080}]}",
    ),
    (
        "ports: [{target: 80, published: '8080', app_protocol: http}]",
        Publish::NodePort,
        "{type: NodePort, ports: [{name: tcp-80, port: 80, targetPort: 80, protocol: TCP, appProtocol: http}]}",
    ),
    (
        "ports: ['8080:80']",
        Publish::HostPort,
        "{type: ClusterIP, ports: [{name: tcp-80, port: 80, targetPort: 80, protocol: TCP}]}",
    ),
    (
        "ports: ['8080:80']",
        Publish::LoadBalancer,
        "{type: LoadBalancer, ports: [{name: tcp-8080, port: 8080, targetPort: 80, protocol: TCP}, {name: tcp-80, port: 80, targetPort: 80, protocol: TCP}]}",
    ),
    (
        "expose: [80], deploy: {endpoint_mode: dnsrr}",
        Publish::NodePort,
        "{clusterIP: None, type: ClusterIP, ports: [{name: tcp-80, port: 80, targetPort: 80, protocol: TCP}]}",
    ),
];

#[test]
fn services_are_found_by_name_and_published_as_asked() {
    for (keys, publish, want) in SERVICES {
        let file = format!("services: {{s: {{image: i, {keys}}}}}");
        let output = run_with(&file, |s| s.publish = *publish);
        let mut spec = object(&output, "Service", "s")["spec"].clone();
        assert_eq!(
            spec["selector"].take(),
            json!({"app.kubernetes.io/part-of": "shop", "app.kubernetes.io/name": "s"})
        );
        spec.as_object_mut().unwrap().remove("selector");
        assert_eq!(spec, parse_text(want).unwrap(), "{keys}");
    }
    let host = run_with("services: {s: {image: i, ports: ['127.0.0.1:8080:80']}}", |s| {
        s.publish = Publish::HostPort;
    });
    assert_eq!(
        at(object(&host, "Deployment", "s"), &format!("{CONTAINER}/ports/0")),
        &json!({"name": "tcp-80", "containerPort": 80, "protocol": "TCP", "hostPort": 8080, "hostIP": "127.0.0.1"})
    );
}

#[test]
fn other_names_of_a_service_are_services_too() {
    let output = run(
        "services: {db: {image: i, container_name: my_db, networks: {back: {aliases: [store]}}}, web: {image: i, links: ['db:database']}}",
    );
    for name in ["db", "my-db", "store", "database", "web"] {
        object(&output, "Service", name);
    }
    assert_eq!(
        object(&output, "Service", "store")["spec"]["selector"]["app.kubernetes.io/name"],
        "db"
    );
}

/// Keys of a service, and the places that are warned about and refused.
const REMARKS: &[(&str, &[&str], &[&str])] = &[
    ("logging: {driver: x}", &["services.s.logging"], &[]),
    ("ulimits: {nofile: 1}", &["services.s.ulimits"], &[]),
    ("build: .", &["services.s.build"], &[]),
    ("user: postgres", &["services.s.user"], &[]),
    ("volumes: ['./data:/d']", &["services.s.volumes[0]"], &[]),
    ("volumes: ['./nginx.conf:/d']", &["services.s.volumes[0]"], &[]),
    ("ports: ['8080:80']", &["services.s.ports"], &[]),
    (
        "deploy: {rollback_config: {parallelism: 1}}",
        &["services.s.deploy.rollback_config"],
        &[],
    ),
    (
        "deploy: {resources: {limits: {pids: 5}}}",
        &["services.s.deploy.resources.limits.pids"],
        &[],
    ),
    ("x-anything: 1", &[], &[]),
    ("prots: [80]", &[], &["services.s.prots"]),
    ("deploy: {replica: 2}", &[], &["services.s.deploy.replica"]),
    ("volumes: ['nope:/d']", &[], &["services.s.volumes[0]"]),
    (
        "volumes: ['/var/run/docker.sock:/var/run/docker.sock']",
        &[],
        &["services.s.volumes[0]"],
    ),
    ("configs: [nope]", &[], &["services.s.configs[0]"]),
    ("env_file: nope.env", &[], &["services.s.env_file[0]"]),
    ("env_file: [{path: nope.env, required: false}]", &[], &[]),
    ("depends_on: [nope]", &[], &["services.s.depends_on.nope"]),
    ("depends_on: [s]", &[], &["services"]),
    ("restart: sometimes", &[], &["services.s.restart"]),
    ("network_mode: 'service:x'", &[], &["services.s.network_mode"]),
    ("volumes_from: [x]", &[], &["services.s.volumes_from"]),
    ("ports: ['99999:80']", &[], &["services.s.ports[0]"]),
    ("mem_limit: lots", &[], &["services.s.mem_limit"]),
];

#[test]
fn what_has_no_counterpart_is_told_with_its_place() {
    for (keys, warned, refused) in REMARKS {
        let output = service(keys);
        let paths = |remarks: &[Remark]| remarks.iter().map(|r| r.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&output.report.warnings), *warned, "{keys}");
        assert_eq!(paths(&output.report.refusals), *refused, "{keys}");
    }
    let networks = run("networks: {back: }\nservices: {s: {build: .}}");
    assert_eq!(networks.report.warnings[0].path, "networks");
    assert_eq!(networks.report.refusals[0].path, "services.s.build");
}

#[test]
fn files_volumes_and_secrets_become_objects() {
    let output = service(
        "env_file: app.env, volumes: ['v:/d', './nginx.conf:/n:ro'], configs: [c, d], secrets: [k], environment: {A: own}",
    );
    assert_eq!(
        object(&output, "ConfigMap", "s-env")["data"],
        json!({"A": "file", "B": "file"})
    );
    assert_eq!(
        object(&output, "ConfigMap", "s-bind-1")["data"],
        json!({"nginx.conf": "server {}"})
    );
    assert_eq!(
        object(&output, "ConfigMap", "c")["data"],
        json!({"c": "server {}"})
    );
    assert_eq!(object(&output, "ConfigMap", "d")["data"], json!({"d": "x"}));
    assert_eq!(object(&output, "Secret", "k")["data"], json!({"k": "czNjcmV0"}));
    let claim = object(&output, "PersistentVolumeClaim", "v");
    assert_eq!(
        claim["spec"],
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
    );
    // Pods are replaced when a file changes that they read.
    let hash = |o: &Output| {
        at(
            object(o, "Deployment", "s"),
            "/spec/template/metadata/annotations",
        )["rutter.dev/compose-files"]
            .clone()
    };
    assert!(hash(&output).is_string());
    assert_ne!(hash(&output), hash(&service("configs: [c]")));
    assert_eq!(hash(&service("restart: always")), Value::Null);
    let volume = local_volume(claim, "ns", "node-1");
    assert_eq!(volume["metadata"]["name"], "ns-shop-v");
    assert_eq!(volume["spec"]["claimRef"]["name"], "v");
    assert_eq!(volume["spec"]["capacity"], json!({"storage": "1Gi"}));
}

#[test]
fn projects_have_names_that_labels_can_carry() {
    for (text, want) in [
        ("My Shop", Some("my-shop")),
        ("_x_", Some("x")),
        ("a.b", Some("a.b")),
        ("///", None),
    ] {
        assert_eq!(project_name(text).as_deref(), want, "{text}");
    }
}

#[test]
fn services_start_in_the_order_in_which_they_need_each_other() {
    let output = run(
        "services: {web: {image: i, depends_on: {db: {condition: service_healthy}, setup: {condition: service_completed_successfully}, cache: {condition: service_started, required: false}}}, setup: {image: i, depends_on: [db]}, db: {image: i}, cache: {image: i, profiles: [fast]}}",
    );
    assert_eq!(output.report.refusals, []);
    // What another one waits for to end is a Job.
    object(&output, "Job", "setup");
    let waves = waves(&output.needs).unwrap();
    let names: Vec<Vec<&str>> = waves
        .iter()
        .map(|w| w.iter().map(|(n, _)| n.as_str()).collect())
        .collect();
    assert_eq!(names, [vec!["db"], vec!["setup"], vec!["web"]]);
    assert_eq!(
        output.needs["web"],
        [
            ("db".to_owned(), Condition::Healthy),
            ("setup".to_owned(), Condition::Completed)
        ]
    );
    let more = run_with("services: {a: {image: i}, b: {image: i, profiles: [x]}}", |s| {
        s.profiles = vec!["x".to_owned()];
    });
    assert_eq!(more.needs.len(), 2);
}
