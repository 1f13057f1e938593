//! What a configuration may say, and what is said about one that may not.

#![allow(clippy::unwrap_used)]

use rutter_scheduler::config::{Configuration, profiles};

fn parse(rest: &str) -> Result<Configuration, String> {
    let text =
        format!("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{rest}");
    Configuration::parse(&text).map_err(|e| e.to_string())
}

#[test]
fn a_configuration_that_is_not_honoured_is_refused_with_its_path() {
    for (rest, want) in [
        ("parallelism: 4", "parallelism is not supported"),
        ("extenders: [{urlPrefix: http://x}]", "extenders is not supported"),
        (
            "clientConnection: {qps: 5}",
            "clientConnection.qps is not supported",
        ),
        ("nonsense: 1", "unknown field `nonsense`"),
        ("percentageOfNodesToScore: 101", "percentageOfNodesToScore: 101"),
        ("podInitialBackoffSeconds: 20", "podMaxBackoffSeconds: 10 is less"),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]",
            "two profiles are called \"a\"",
        ),
        (
            "profiles: [{plugins: {filters: {}}}]",
            "profiles[0].plugins.filters: there is no such",
        ),
        (
            "profiles: [{plugins: {filter: {enabled: [{name: Mine}]}}}]",
            "there is no plugin \"Mine\"",
        ),
        (
            "profiles: [{plugins: {filter: {enabled: [{name: ImageLocality}]}}}]",
            "\"ImageLocality\" does not extend filter plugin",
        ),
        (
            "profiles: [{plugins: {bind: {disabled: [{name: '*'}]}}}]",
            "at least one bind plugin is needed",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeName, args: {a: 1}}]}]",
            "profiles[0].pluginConfig[NodeName].args: this plugin takes no arguments",
        ),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
            "not in valid range [0, 100]",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio}}}]}]",
            "at least one point must be specified",
        ),
    ] {
        let got = parse(rest).expect_err(rest);
        assert!(got.contains(want), "{rest}: {got}");
    }
    let other = Configuration::parse("apiVersion: v1\nkind: Pod\n")
        .expect_err("a pod")
        .to_string();
    assert!(other.contains("only kubescheduler.config.k8s.io/v1"), "{other}");
}

#[test]
fn several_profiles_have_their_names_and_the_settings_are_taken() {
    let config = parse(
        "podInitialBackoffSeconds: 2\npercentageOfNodesToScore: 30\nprofiles:\n- schedulerName: default-scheduler\n- schedulerName: packer\n  pluginConfig:\n  - name: NodeResourcesFit\n    args: {apiVersion: kubescheduler.config.k8s.io/v1, kind: NodeResourcesFitArgs, scoringStrategy: {type: MostAllocated}}\n",
    )
    .unwrap();
    let names: Vec<String> = profiles(&config)
        .unwrap()
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    assert_eq!(names, ["default-scheduler", "packer"]);
    let settings = config.settings();
    assert_eq!(
        (
            settings.percentage_of_nodes_to_score,
            settings.timing.initial_backoff
        ),
        (30, 2_000)
    );
}

#[test]
fn fewer_nodes_are_scored_the_more_there_are() {
    use rutter_scheduler::framework::profile::enough;
    for (percentage, nodes, want) in [
        (0, 99, 99),
        (0, 100, 100),
        (0, 1000, 420),
        (0, 5000, 500),
        (0, 10_000, 500),
        (70, 1000, 700),
        (1, 5000, 100),
    ] {
        assert_eq!(enough(percentage, nodes), want, "{percentage}% of {nodes}");
    }
}
