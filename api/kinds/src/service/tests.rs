use super::*;

fn cx() -> Context<'static> {
    Context {
        now: jiff::Timestamp::UNIX_EPOCH,
        user: "u",
        subresource: "",
        dry_run: false,
    }
}

#[test]
fn services_are_filled_in_by_type() {
    for (spec, want) in [
        (
            json!({"ports": [{"port": 80}]}),
            json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]}),
        ),
        (
            json!({"type": "NodePort", "sessionAffinity": "ClientIP"}),
            json!({"type": "NodePort", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}, "externalTrafficPolicy": "Cluster"}),
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.b"}),
            json!({"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}),
        ),
    ] {
        let mut service = json!({"spec": spec});
        Service.default_object(&mut service);
        Service.default_object(&mut service);
        assert_eq!(service.at("spec"), &want);
    }
}

#[test]
fn an_update_keeps_what_was_allocated() {
    let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
    let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
    Service.prepare_update(&mut new, &old, &cx());
    assert_eq!(new.at("spec"), old.at("spec"));
    let mut headed = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
    Service.prepare_update(&mut headed, &old, &cx());
    assert!(headed.list_at("spec.ports")[0].at("nodePort").is_null());
}

#[test]
fn one_cluster_ip_means_both_fields() {
    let mut service = json!({"spec": {"clusterIP": "None"}});
    Service.prepare_create(&mut service, &cx());
    assert_eq!(service.at("spec.clusterIPs"), &json!(["None"]));
}

#[test]
fn rows_show_addresses_and_ports() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let row = Service.row(&service, &cx());
    assert_eq!(
        row[2..5],
        [
            json!("10.0.0.1"),
            json!("<pending>"),
            json!("80:30080/TCP,53/UDP")
        ]
    );
}
