// SPDX-License-Identifier: Apache-2.0

use super::*;

fn env(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn code_of(output: Output) -> u64 {
    assert!(!output.success);
    output.json.unwrap()["code"].as_u64().unwrap()
}

const CONF: &[u8] =
    br#"{"cniVersion":"1.1.0","name":"culvert","type":"culvert-cni","socket":"/nonexistent/s"}"#;

#[test]
fn version_needs_no_configuration_and_names_every_version() {
    let output = run(&env(&[("CNI_COMMAND", "VERSION")]), b"");
    assert!(output.success);
    let json = output.json.unwrap();
    assert_eq!(json["cniVersion"], "1.1.0");
    assert_eq!(json["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
}

#[test]
fn each_refusal_has_the_code_of_the_specification() {
    let add = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/nonexistent/netns"),
    ];
    assert_eq!(code_of(run(&env(&[]), CONF)), 4);
    assert_eq!(code_of(run(&env(&[("CNI_COMMAND", "PLAY")]), CONF)), 4);
    assert_eq!(code_of(run(&env(&add[..2]), CONF)), 4);
    assert_eq!(code_of(run(&env(&add), CONF)), 5);
    assert_eq!(code_of(run(&env(&add), b"{")), 6);
    assert_eq!(code_of(run(&env(&add), br#"{"cniVersion":"9.9.9"}"#)), 1);
    assert_eq!(code_of(run(&env(&[("CNI_COMMAND", "GC")]), CONF)), 7);
    assert_eq!(code_of(run(&env(&[("CNI_COMMAND", "GC")]), br#"{"cniVersion":"1.0.0"}"#)), 1);
}

#[test]
fn status_says_not_available_when_no_agent_answers() {
    let output = run(&env(&[("CNI_COMMAND", "STATUS")]), CONF);
    let json = output.json.as_ref().unwrap();
    assert_eq!(json["cniVersion"], "1.1.0");
    assert!(json["msg"].as_str().unwrap().contains("/nonexistent/s"));
    assert_eq!(code_of(output), 50);
}

#[test]
fn names_that_could_leave_a_directory_are_refused() {
    for (id, ifname) in [("../x", "eth0"), ("c1", "../e"), ("c1", "sixteen-letters-"), ("", "eth0")]
    {
        let env = env(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", id), ("CNI_IFNAME", ifname)]);
        assert_eq!(code_of(run(&env, CONF)), 4, "{id} {ifname}");
    }
}

#[test]
fn the_pod_is_read_from_the_arguments_of_the_runtime() {
    let with = |args| pod(&env(&[("CNI_ARGS", args)]));
    assert_eq!(
        with("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"),
        Some("shop/web-0".into())
    );
    assert_eq!(with("K8S_POD_NAME=web-0"), None);
}
