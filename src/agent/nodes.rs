// SPDX-License-Identifier: Apache-2.0
//! The cluster's nodes: what this one is told about itself, and the way to the others' pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;
use ipnet::IpNet;

use crate::abi::{NODE_ADDRESS, NodeAddress, NodeKey};
use crate::datapath::netlink::{Route, Routes, View};
use crate::model::{AddressKind, Change, Kind, Node, Object, ObjectKey, Problem};
use crate::route::{self, NextHop, OnLink, Table, Write};

/// Set by the cluster autoscaler on a node that it will remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Debug, Default)]
pub struct Nodes {
    /// The name of the node that we run on.
    this: String,
    nodes: BTreeMap<String, Node>,
    listed: bool,
    /// This node's object was there once, be it gone by now.
    seen: bool,
    /// What the network routes by itself.
    native: Vec<IpNet>,
    /// In the way of routes to other nodes.
    off_link: Vec<Problem>,
}

impl Nodes {
    /// `native`: `ipv4NativeRoutingCIDR` and `ipv6NativeRoutingCIDR`, those that are set.
    pub fn new(this: impl Into<String>, native: Vec<IpNet>) -> Self {
        Self { this: this.into(), native, ..Self::default() }
    }

    /// Takes a change; returns whether there was one.
    pub fn change(&mut self, change: Change) -> bool {
        let changed = self.take(change);
        self.seen |= self.nodes.contains_key(&self.this);
        changed
    }

    fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Set(Object::Node(node)) => {
                let same = self.nodes.get(&node.name) == Some(&node);
                self.nodes.insert(node.name.clone(), node);
                !same
            }
            Change::Removed(ObjectKey::Node(name)) => self.nodes.remove(&name).is_some(),
            Change::Listed(Kind::Node, objects) => {
                let nodes = objects.into_iter().filter_map(|object| match object {
                    Object::Node(node) => Some((node.name.clone(), node)),
                    _ => None,
                });
                let nodes: BTreeMap<String, Node> = nodes.collect();
                let same = self.listed && self.nodes == nodes;
                self.listed = true;
                self.nodes = nodes;
                !same
            }
            _ => false,
        }
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// InternalIPs, then ExternalIPs.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let mut addresses = self.get(name).map(|n| n.addresses.clone()).unwrap_or_default();
        addresses.sort_by_key(|address| address.kind != AddressKind::Internal);
        addresses.into_iter().map(|address| address.ip).collect()
    }

    pub fn pod_cidrs(&self, name: &str) -> &[IpNet] {
        self.get(name).map_or(&[], |node| &node.pod_cidrs)
    }

    /// Every node has been told.
    pub const fn listed(&self) -> bool {
        self.listed
    }

    /// What map `nodes` should hold; None while the nodes are not known. An address that two nodes
    /// claim is the first one's.
    pub fn table(&self) -> Option<BTreeMap<NodeKey, NodeAddress>> {
        if !self.listed {
            return None;
        }
        let mut table = BTreeMap::new();
        for name in self.nodes.keys() {
            let addresses = self.addresses(name);
            for ip in &addresses {
                let value = NodeAddress { addr: (*ip).into(), flags: NODE_ADDRESS, pad: 0 };
                table.entry(NodeKey::new((*ip).into())).or_insert(value);
            }
            for cidr in self.pod_cidrs(name) {
                let same = |ip: &&IpAddr| ip.is_ipv6() == cidr.addr().is_ipv6();
                let Some(ip) = addresses.iter().find(same).or(addresses.first()) else { continue };
                let value = NodeAddress { addr: (*ip).into(), flags: 0, pad: 0 };
                table.entry(NodeKey::new(*cidr)).or_insert(value);
            }
        }
        Some(table)
    }

    /// This node is about to go, or its object is gone after it was there: load balancers shall
    /// choose another (KEP-3836). A node whose object has yet to come is none that leaves.
    pub fn leaving(&self) -> bool {
        match self.get(&self.this) {
            Some(node) => node.deleting || node.taints.iter().any(|taint| taint == TO_BE_DELETED),
            None => self.seen,
        }
    }

    /// Every node of `listed` that is known otherwise here, and those that only one of the two has.
    pub fn differences(&self, listed: &[Change]) -> Vec<(ObjectKey, Problem)> {
        let lists = listed.iter().filter_map(|change| match change {
            Change::Listed(Kind::Node, objects) => Some(objects),
            _ => None,
        });
        let mut found = Vec::new();
        for objects in lists {
            let mut extra: BTreeSet<&str> = self.nodes.keys().map(String::as_str).collect();
            for object in objects {
                let Object::Node(node) = object else { continue };
                let message = match (extra.remove(node.name.as_str()), self.nodes.get(&node.name)) {
                    (true, Some(ours)) if ours == node => continue,
                    (true, _) => "the source has another version of it",
                    (false, _) => "the source has it and the agent does not know it",
                };
                found.push((node.name.clone(), message));
            }
            let message = "the agent knows it and the source does not have it";
            found.extend(extra.into_iter().map(|name| (name.to_owned(), message)));
        }
        let problem = |(name, message): (String, &str)| {
            let key = ObjectKey::Node(name);
            let problem = Problem { subject: key.to_string(), message: message.to_owned() };
            (key, problem)
        };
        found.into_iter().map(problem).collect()
    }

    /// What keeps pods from being reached.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = route::outside_native(self.nodes.values(), &self.native);
        problems.extend(self.off_link.iter().cloned());
        problems
    }

    /// Brings the kernel's routes to pods up to date, those to the other nodes' when `direct`.
    /// Nothing is done before the nodes are known: an earlier agent's routes stay.
    ///
    /// # Errors
    /// The kernel refuses a route.
    pub async fn sync_routes(
        &mut self,
        this: &str,
        direct: bool,
        view: &View,
        routes: &Routes,
    ) -> Result<()> {
        if !self.listed {
            return Ok(());
        }
        let on_link = view
            .addresses
            .iter()
            .filter(|(ifindex, _)| view.uplinks.contains_key(ifindex))
            .map(|(ifindex, net)| OnLink { net: *net, ifindex: *ifindex });
        let links: Vec<OnLink> = on_link.collect();
        let (desired, problems) = route::desired(this, direct, self.nodes.values(), &links);
        self.off_link = problems;

        let actual = routes.list().await?;
        let actual: Table = actual
            .into_iter()
            .map(|route| match route.via {
                Some(via) => (route.to, NextHop::Gateway { via, ifindex: route.ifindex }),
                None => (route.to, NextHop::Unreachable),
            })
            .collect();
        let kernel = |to, hop| match hop {
            NextHop::Gateway { via, ifindex } => Route { to, via: Some(via), ifindex },
            NextHop::Unreachable => Route { to, via: None, ifindex: 0 },
        };
        let mut outcome = Ok(());
        for write in route::plan(&desired, &actual) {
            let done = match write {
                Write::Set { to, hop } => routes.set(&kernel(to, hop)).await,
                Write::Remove { to, hop } => routes.remove(&kernel(to, hop)).await,
            };
            outcome = outcome.and(done);
        }
        Ok(outcome?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str) -> Object {
        let label = ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        Object::Node(Node {
            name: name.to_owned(),
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            labels: [label].into(),
            taints: Vec::new(),
            deleting: false,
        })
    }

    #[test]
    fn a_heartbeat_is_no_change() {
        let mut nodes = Nodes::default();
        let list = |zone| Change::Listed(Kind::Node, vec![node("n1", zone), node("n2", "a")]);
        assert!(nodes.change(list("a")));
        assert!(!nodes.change(Change::Set(node("n1", "a"))));
        assert!(!nodes.change(list("a")));
        assert!(nodes.change(Change::Set(node("n1", "b"))));
        assert!(nodes.change(list("a")), "listed as it was before");
        assert!(nodes.change(Change::Removed(ObjectKey::Node("n2".to_owned()))));
        assert!(!nodes.change(Change::Removed(ObjectKey::Node("n2".to_owned()))));
    }

    #[test]
    fn each_node_is_reached_at_its_address_of_the_family_and_its_pods_behind_it() {
        let mut nodes = Nodes::default();
        assert_eq!(nodes.table(), None, "an earlier agent's entries stay");
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let Object::Node(mut n1) = node("n1", "a") else { panic!() };
        let address = |kind, text| crate::model::NodeAddress { kind, ip: ip(text) };
        n1.addresses = vec![
            address(AddressKind::External, "192.0.2.1"),
            address(AddressKind::Internal, "10.0.0.1"),
            address(AddressKind::Internal, "fd00::1"),
        ];
        n1.pod_cidrs = ["10.1.1.0/24", "fd01::/64"].map(|cidr| cidr.parse().unwrap()).into();
        nodes.change(Change::Listed(Kind::Node, vec![Object::Node(n1), node("bare", "a")]));
        let table = nodes.table().unwrap();
        let found = |net: &str| {
            let value = table.get(&NodeKey::new(net.parse().unwrap())).unwrap();
            (value.addr.ip(), value.flags)
        };
        assert_eq!(table.len(), 5);
        assert_eq!(found("192.0.2.1/32"), (ip("192.0.2.1"), NODE_ADDRESS));
        assert_eq!(found("fd00::1/128"), (ip("fd00::1"), NODE_ADDRESS));
        assert_eq!(found("10.1.1.0/24"), (ip("10.0.0.1"), 0));
        assert_eq!(found("fd01::/64"), (ip("fd00::1"), 0));
    }

    #[test]
    fn a_node_leaves_when_it_is_marked_or_its_object_goes_and_stays_when_it_comes_back() {
        let marked = |change: fn(&mut Node)| {
            let Object::Node(mut node) = node("n1", "a") else { panic!() };
            change(&mut node);
            Change::Set(Object::Node(node))
        };
        let set = || marked(|_| {});
        let list = |names: &[&str]| {
            let nodes = names.iter().map(|name| node(name, "a")).collect();
            Change::Listed(Kind::Node, nodes)
        };
        let removed = |name: &str| Change::Removed(ObjectKey::Node(name.to_owned()));
        let mut nodes = Nodes::new("n1", Vec::new());
        for (change, leaving, what) in [
            (list(&["n2"]), false, "its object has yet to come"),
            (removed("n1"), false, "nothing that was there is gone"),
            (set(), false, "it is there"),
            (removed("n2"), false, "another's"),
            (removed("n1"), true, "its object is gone"),
            (list(&["n2"]), true, "and stays gone"),
            (set(), false, "it came back"),
            (list(&["n2"]), true, "gone while nobody watched"),
            (list(&["n1", "n2"]), false, "it came back with a list"),
            (marked(|node| node.deleting = true), true, "it is being deleted"),
            (set(), false, "the former node's successor"),
            (marked(|node| node.taints = vec![TO_BE_DELETED.to_owned()]), true, "tainted"),
            (marked(|node| node.taints = vec!["other".to_owned()]), false, "other taints"),
        ] {
            nodes.change(change);
            assert_eq!(nodes.leaving(), leaving, "{what}");
        }
    }

    #[test]
    fn an_empty_list_is_news_once() {
        let mut nodes = Nodes::default();
        assert!(nodes.change(Change::Listed(Kind::Node, Vec::new())));
        assert!(!nodes.change(Change::Listed(Kind::Node, Vec::new())));
    }
}
