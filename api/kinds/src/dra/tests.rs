//! What is refused, and with which words.

use super::*;
use serde_json::json;

fn context(subresource: &str) -> Context<'_> {
    Context {
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        user: "jane",
        subresource,
        dry_run: false,
    }
}

/// What is wrong, as texts; `-` when nothing is.
fn told(errors: &ErrorList) -> String {
    let texts: Vec<String> = errors
        .iter()
        .map(|error| format!("{}: {}", error.field, error.body()))
        .collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join("; ")
    }
}

fn assert_told(what: &str, errors: &ErrorList, want: &str) {
    let told = told(errors);
    let right = if want == "-" {
        told == "-"
    } else {
        told.contains(want)
    };
    assert!(right, "{what}: {told}, not {want}");
}

fn gpu(change: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    exactly
        .as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    json!({"name": "a", "exactly": exactly})
}

#[test]
fn claims_are_refused_by_field() {
    let cel = |text: &str| gpu(json!({"selectors": [{"cel": {"expression": text}}]}));
    let cases = [
        (json!({"requests": [gpu(json!({}))]}), "-"),
        (
            json!({"requests": [cel("device.driver == 'x' && device.attributes['x'].model.startsWith('A') && device.capacity['x'].memory.compareTo(quantity('1Gi')) >= 0")]}),
            "-",
        ),
        (
            json!({"requests": [cel("cel.bind(dra, device.attributes['x'], dra.model == 'A' && dra.size > 3)")]}),
            "-",
        ),
        (
            json!({"requests": [cel("cel.bind(a.b, 1, true)")]}),
            "cel.bind() variable names must be simple identifiers",
        ),
        (
            json!({"requests": [cel("device.nothing")]}),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression",
        ),
        (
            json!({"requests": [cel("device.driver")]}),
            "must evaluate to bool",
        ),
        (
            json!({"requests": [{"name": "a"}]}),
            "exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            json!({"requests": [gpu(json!({})), gpu(json!({}))]}),
            "spec.devices.requests[1]: Duplicate value: \"a\"",
        ),
        (
            json!({"requests": [gpu(json!({"deviceClassName": ""}))]}),
            "deviceClassName: Required value",
        ),
        (
            json!({"requests": [gpu(json!({"count": 0}))]}),
            "count: Invalid value: 0: must be greater than zero",
        ),
        (
            json!({"requests": [gpu(json!({"allocationMode": "All"}))]}),
            "must not be specified when allocationMode is 'All'",
        ),
        (
            json!({"requests": [gpu(json!({"allocationMode": "Some"}))]}),
            "allocationMode: Unsupported value: \"Some\"",
        ),
        (
            json!({"requests": [gpu(json!({"tolerations": [{"operator": "Exists", "value": "x"}]}))]}),
            "must be empty for operator `Exists`",
        ),
        (
            json!({"requests": [gpu(json!({}))], "constraints": [{"requests": ["b"], "matchAttribute": "x/y"}]}),
            "constraints[0].requests[0]: Invalid value: \"b\": must be the name of a request",
        ),
        (
            json!({"constraints": [{"matchAttribute": "y"}]}),
            "a fully qualified name must be",
        ),
        (
            json!({"constraints": [{}]}),
            "spec.devices.constraints[0]: Required value",
        ),
        (
            json!({"config": [{}]}),
            "spec.devices.config[0].opaque: Required value",
        ),
        (
            json!({"config": [{"opaque": {"driver": "x", "parameters": []}}]}),
            "must be a valid JSON object",
        ),
        (
            json!({"requests": vec![json!({}); 33]}),
            "spec.devices.requests: Too many: 33: must have at most 32 items",
        ),
    ];
    for (devices, want) in cases {
        let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": devices}});
        let errors = ResourceClaim.validate_create(&claim, &context(""));
        assert_told(&claim.to_string(), &errors, want);
    }
}

#[test]
fn allocations_are_of_the_claims_requests_and_stay() {
    let claim = |status: Value| {
        json!({
            "metadata": {"name": "c"}, "spec": {"devices": {"requests": [gpu(json!({}))]}}, "status": status,
        })
    };
    let result =
        |request: &str| json!({"request": request, "driver": "d.example", "pool": "p", "device": "gpu0"});
    let allocated = |request: &str| json!({"devices": {"results": [result(request)]}});
    let user = json!({"resource": "pods", "name": "p", "uid": "1"});
    let cases = [
        (
            json!({}),
            json!({"allocation": allocated("a"), "reservedFor": [user.clone()]}),
            "-",
        ),
        (
            json!({}),
            json!({"allocation": allocated("b")}),
            "status.allocation.devices.results[0].request: Invalid value: \"b\"",
        ),
        (
            json!({}),
            json!({"reservedFor": [user.clone()]}),
            "may not be specified when `allocated` is not set",
        ),
        (
            json!({"allocation": allocated("a")}),
            json!({"allocation": {"devices": {"results": []}}}),
            "status.allocation: Invalid value",
        ),
        (json!({"allocation": allocated("a")}), json!({}), "-"),
        (
            json!({"allocation": allocated("a")}),
            json!({"allocation": allocated("a"), "devices": [{"driver": "d.example", "pool": "p", "device": "gpu1"}]}),
            "\"d.example/p/gpu1\": must be an allocated device in the claim",
        ),
        (
            json!({"allocation": allocated("a")}),
            json!({"allocation": allocated("a"), "devices": [{"driver": "d.example", "pool": "p", "device": "gpu0", "networkData": {"ips": ["10.9.8.7/24"]}}]}),
            "-",
        ),
    ];
    for (old, new, want) in cases {
        let errors = ResourceClaim.validate_update(&claim(new.clone()), &claim(old), &context("status"));
        assert_told(&new.to_string(), &errors, want);
    }
    let (old, mut new) = (claim(json!({})), claim(json!({})));
    new.set("spec.devices", json!({}));
    let errors = ResourceClaim.validate_update(&new, &old, &context(""));
    assert_told("another spec", &errors, "spec: Invalid value");
}

#[test]
fn slices_are_refused_by_field() {
    let cases = [
        (json!({}), json!({}), "-"),
        (json!({"nodeName": null}), json!({}), "exactly one of `nodeName`"),
        (
            json!({"allNodes": true}),
            json!({}),
            "but multiple fields are set",
        ),
        (
            json!({"pool": {"name": "p", "resourceSliceCount": 0}}),
            json!({}),
            "resourceSliceCount: Invalid value: 0",
        ),
        (json!({"driver": ""}), json!({}), "spec.driver: Required value"),
        (
            json!({}),
            json!({"name": "A"}),
            "spec.devices[0].name: Invalid value",
        ),
        (
            json!({}),
            json!({"attributes": {"x": {}}}),
            "attributes[x]: Invalid value: \"\": exactly one value must be specified",
        ),
        (
            json!({}),
            json!({"attributes": {"x": {"version": "1.2"}}}),
            "semver.org",
        ),
        (
            json!({}),
            json!({"attributes": {"x": {"version": "1.2.3-rc.1+b"}}}),
            "-",
        ),
        (
            json!({}),
            json!({"attributes": {"d.example/x-y": {"bool": true}}}),
            "a valid C identifier",
        ),
        (
            json!({}),
            json!({"capacity": {"m": {"value": "1Gi", "requestPolicy": {}}}}),
            "allowMultipleAllocations must be true",
        ),
        (
            json!({}),
            json!({"allowMultipleAllocations": true, "capacity": {"m": {"value": "8", "requestPolicy": {"default": "3", "validRange": {"min": "1", "step": "4"}}}}}),
            "value is not a multiple of a given step (4) from (1)",
        ),
        (
            json!({}),
            json!({"taints": [{"key": "k", "effect": "Never"}]}),
            "Unsupported value: \"Never\"",
        ),
        (
            json!({}),
            json!({"allNodes": true}),
            "can only be set if `perDeviceNodeSelection`",
        ),
        (
            json!({}),
            json!({"bindingConditions": ["a"]}),
            "are required to use bindingConditions",
        ),
    ];
    for (spec, device, want) in cases {
        let mut slice = json!({"metadata": {"name": "s"}, "spec": {"driver": "d.example", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}}});
        for (key, value) in spec.as_object().unwrap() {
            slice["spec"][key] = value.clone();
        }
        let mut one = json!({"name": "gpu0"});
        one.as_object_mut()
            .unwrap()
            .extend(device.as_object().unwrap().clone());
        slice["spec"]["devices"] = json!([one]);
        let errors = ResourceSlice.validate_create(&slice, &context(""));
        assert_told(&slice["spec"].to_string(), &errors, want);
    }
}
