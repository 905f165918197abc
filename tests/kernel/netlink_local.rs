// SPDX-License-Identifier: Apache-2.0
//! Addresses that only a local route makes the node's.

use culvert::abi::OWNED_NODEPORT;
use culvert::datapath::netlink::{Filter, Serving};

use super::netlink::{Node, addr};

#[test]
fn what_a_local_route_makes_the_nodes_is_seen() {
    let node = Node::new();
    // Before the watch begins, and of the kernel's own making.
    node.ns.ip("route add local 203.0.113.1/32 dev lo");
    node.follow(Filter::default(), async |network| {
        assert_eq!(network.flags("203.0.113.1"), Some(OWNED_NODEPORT));
        assert_eq!(network.flags("127.0.0.2"), None, "127.0.0.0/8 is the kernel's");
        let routes = [
            ("203.0.113.7/32", "203.0.113.7"),
            ("2001:db8:7::7/128", "2001:db8:7::7"),
            ("198.51.100.0/28", "198.51.100.15"),
        ];
        for (route, address) in routes {
            node.ns.ip(&format!("route add local {route} dev lo"));
            network.until(|view| view.owned.contains_key(&addr(address))).await;
            assert_eq!(network.flags(address), Some(OWNED_NODEPORT));
        }
        // Those of other tables are for marked packets alone.
        node.ns.ip("route add local 203.0.113.9/32 dev lo table 100");
        network.settled(&node.ns).await;
        assert_eq!(network.flags("203.0.113.9"), None);

        let serving = Serving::Inside(vec!["203.0.113.0/24".parse().unwrap()]);
        let filter = Filter { node_port_addresses: serving, ..Default::default() };
        network.filter.send(filter).unwrap();
        network.until(|view| view.owned[&addr("198.51.100.15")].flags == 0).await;
        assert_eq!(network.flags("203.0.113.7"), Some(OWNED_NODEPORT));

        for (route, address) in routes {
            node.ns.ip(&format!("route del local {route} dev lo"));
            network.until(|view| !view.owned.contains_key(&addr(address))).await;
        }
        node.ns.ip("route add local 203.0.113.8/32 dev eth0");
        network.until(|view| view.owned.contains_key(&addr("203.0.113.8"))).await;
        // The device takes it along, and the kernel says nothing of that.
        node.ns.ip("link del eth0");
        network.until(|view| !view.owned.contains_key(&addr("203.0.113.8"))).await;
        assert_eq!(network.flags("203.0.113.1"), Some(OWNED_NODEPORT));
    });
}
