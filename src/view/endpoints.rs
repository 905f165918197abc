// SPDX-License-Identifier: Apache-2.0
//! `culvert bpf endpoint list`.

use serde::{Deserialize, Serialize};

use crate::abi::{Addr, Endpoint};

/// One address of a pod of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRow {
    pub address: String,
    /// Host side of the pod's veth pair.
    pub ifindex: u32,
    pub mac: String,
    pub host_mac: String,
    /// 0 when unknown.
    pub netns_cookie: u64,
    /// What this node calls the pod's network namespace.
    pub netns_id: Option<u32>,
}

/// Sorted by address.
pub fn endpoint_rows(mut endpoints: Vec<(Addr, Endpoint)>) -> Vec<EndpointRow> {
    endpoints.sort_unstable_by_key(|(addr, _)| *addr);
    let row = |(addr, endpoint): (Addr, Endpoint)| EndpointRow {
        address: addr.to_string(),
        ifindex: endpoint.ifindex,
        mac: mac(endpoint.mac),
        host_mac: mac(endpoint.host_mac),
        netns_cookie: endpoint.netns_cookie,
        netns_id: endpoint.netns_number.checked_sub(1),
    };
    endpoints.into_iter().map(row).collect()
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
