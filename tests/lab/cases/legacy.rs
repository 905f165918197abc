// SPDX-License-Identifier: Apache-2.0
//! `bpf.hostLegacyRouting`: the programs translate, the host's stack routes.

use super::reach::{hairpin, one_of_each_type, reach_all};
use super::stage::{EXTERNAL_IPS_INSIDE, Stage, status};

/// What no socket was translated for goes through the programs and then the host's routing table.
#[test]
fn the_hosts_stack_routes_every_packet_where_it_is_told_to() {
    let config = format!(
        "{EXTERNAL_IPS_INSIDE}socketLB:\n  hostNamespaceOnly: true\nbpf:\n  hostLegacyRouting: true\n"
    );
    let stage = Stage::raise(2, &config);
    assert_eq!(status(stage.lab.node(1))["features"]["hostRouting"]["effective"], "Legacy");
    let services = one_of_each_type();
    for service in &services {
        stage.serve(service, &[&stage.web]);
    }
    let mut failures = reach_all(&stage, &services, false);
    failures.extend(hairpin(&stage, 40));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
