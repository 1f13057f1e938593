use super::*;

#[test]
fn a_round_trip_through_v1_loses_nothing() {
    let v2 = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            "minReplicas": 1, "maxReplicas": 5,
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
            ],
            "behavior": {"scaleUp": {"selectPolicy": "Max"}},
        },
        "status": {"currentReplicas": 2, "desiredReplicas": 3, "conditions": [{"type": "AbleToScale", "status": "True"}],
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "1"}}}]},
    });
    let v1 = HorizontalPodAutoscalerV1.to_served(v2.clone());
    assert_eq!(v1.int_at("spec.targetCPUUtilizationPercentage"), Some(60));
    assert_eq!(v1.int_at("status.currentCPUUtilizationPercentage"), Some(50));
    assert_eq!(HorizontalPodAutoscalerV1.to_stored(v1), v2);
}

#[test]
fn defaults_aim_at_processors() {
    let mut object = json!({"spec": {"maxReplicas": 3, "behavior": {}}});
    HorizontalPodAutoscaler.default_object(&mut object);
    let once = object.clone();
    HorizontalPodAutoscaler.default_object(&mut object);
    assert_eq!(once, object);
    assert_eq!(object.int_at("spec.minReplicas"), Some(1));
    assert_eq!(object.at("spec.metrics"), &json!([cpu_metric(80)]));
    assert_eq!(
        object.int_at("spec.behavior.scaleUp.stabilizationWindowSeconds"),
        Some(0)
    );
    assert!(
        object
            .at("spec.behavior.scaleDown.stabilizationWindowSeconds")
            .is_null()
    );
    assert_eq!(metrics(&object), "cpu: <unknown>/80%");
}
