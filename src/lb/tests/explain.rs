// SPDX-License-Identifier: Apache-2.0
//! Explanations: every fate with its reason, and that they say what the maps hold.

mod agrees;
mod endpoints;
mod unserved;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::support::*;
use crate::abi::{Addr, OWNED_LOOPBACK, OWNED_NODEPORT, Owned};
use crate::lb::{
    Algorithm, Answer, Context, Facts, Fate, Question, Selection, Serve, Side, Sockets, Target,
};
use crate::model::{IngressAddress, Protocol, Service, ServiceType, TrafficPolicy};
pub(super) use agrees::agrees;

/// The node of these tests: `nodePort.addresses` leaves one of its addresses out.
const SERVING: &str = "192.0.2.10";
const BARRED: &str = "192.0.2.20";

const POD: Option<(&str, Side)> = Some(("10.1.9.9", Side::Pod));
const NODE: Option<(&str, Side)> = Some(("192.0.2.10", Side::Node));
const OUTSIDE: Option<(&str, Side)> = Some(("203.0.113.9", Side::Outside));

fn owned() -> BTreeMap<Addr, Owned> {
    let addresses =
        [(SERVING, OWNED_NODEPORT), (BARRED, 0), ("127.0.0.1", OWNED_LOOPBACK)].into_iter();
    addresses.map(|(text, flags)| (ip(text).into(), Owned { ifindex: 2, flags })).collect()
}

struct Asker {
    owned: BTreeMap<Addr, Owned>,
    inside: bool,
    sockets: Sockets,
    accelerated: bool,
    remembered: Option<(Target, u32)>,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            owned: owned(),
            inside: false,
            sockets: Sockets::Everyones,
            accelerated: false,
            remembered: None,
        }
    }
}

impl Asker {
    fn ask(&self, kernel: &Kernel, question: &Question, from: Option<(&str, Side)>) -> Answer {
        let remembered = |_, _| self.remembered;
        let facts = Facts {
            owned: &self.owned,
            external_ips_inside: self.inside,
            sockets: self.sockets,
            accelerated: self.accelerated,
            client: from.map(|(client, side)| (ip(client), side)),
            remembered: &remembered,
        };
        kernel.balancer.explain(question, &facts)
    }

    /// Fate, hooks and reason of the only verdict about an address.
    fn one(&self, kernel: &Kernel, to: &str, from: Option<(&str, Side)>) -> (Fate, String, String) {
        let to: std::net::SocketAddr = to.parse().unwrap();
        let found = self.ask(kernel, &Question::Address(to.ip(), to.port()), from);
        let frontends = found.services.iter().flat_map(|s| &s.ports).flat_map(|p| &p.frontends);
        let mut all = frontends.flat_map(|f| &f.verdicts).chain(&found.otherwise);
        let verdict = all.next().expect("a verdict");
        assert_eq!(all.next(), None, "to {to} from {from:?}");
        let counted = verdict.counted.as_ref().map(|name| format!(" [{name}]"));
        let reason = format!("{}{}", verdict.reason, counted.unwrap_or_default());
        (verdict.fate, verdict.hooks.join(" "), reason)
    }
}

fn one(kernel: &Kernel, to: &str, from: Option<(&str, Side)>) -> (Fate, String, String) {
    Asker::default().one(kernel, to, from)
}

fn balanced() -> Service {
    let mut web = service("web", &["10.96.0.1"]);
    web.r#type = ServiceType::LoadBalancer;
    web.ports[0].node_port = Some(30080);
    web.external_ips = vec![ip("192.0.2.1"), ip(BARRED)];
    web.ingress = vec![IngressAddress { ip: ip("192.0.2.2"), proxied: false }];
    web
}

fn world(service: Service, endpoints: Vec<crate::model::Endpoint>) -> Kernel {
    let mut kernel = Kernel::new();
    let slice = slice(&service.name.name, endpoints);
    kernel.balancer.set_service(service);
    kernel.balancer.set_slice(slice);
    kernel.sync();
    kernel
}

#[test]
fn each_client_has_its_fate_its_program_and_its_reason() {
    use Fate::{Dropped, Passed, Refused, Served};
    let mut local = balanced();
    local.external_policy = TrafficPolicy::Local;
    let remote = world(local, vec![endpoint("10.1.0.1").on("far")]);
    let empty = world(balanced(), vec![]);
    let mut inner = balanced();
    inner.internal_policy = TrafficPolicy::Local;
    let inner = world(inner, vec![endpoint("10.1.0.1").on("far")]);
    for (kernel, to, from, fate, hook, reason) in [
        (&remote, "10.96.0.1:80", POD, Served, "socket", "policy Cluster, the only endpoint"),
        (&remote, "10.96.0.1:80", NODE, Served, "socket", "policy Cluster"),
        (&remote, "10.96.0.1:80", OUTSIDE, Dropped, "from_netdev", "[cluster_ip_from_outside]"),
        (&remote, "192.0.2.2:80", OUTSIDE, Dropped, "from_netdev", "[no_local_endpoint]"),
        (&remote, "192.0.2.2:80", POD, Served, "socket", "policy Cluster"),
        (&remote, "192.0.2.10:30080", OUTSIDE, Dropped, "from_netdev", "no endpoint on this node"),
        (&inner, "10.96.0.1:80", POD, Refused, "socket", "(EHOSTUNREACH) [no_local_endpoint]"),
        (&empty, "10.96.0.1:80", POD, Refused, "socket", "(ECONNREFUSED) [rejected]"),
        (&empty, "192.0.2.2:80", OUTSIDE, Refused, "from_netdev", "TCP reset"),
        // What several sides ask for and the node does not own is nobody's inside (CVE-2020-8554).
        (&remote, "192.0.2.1:80", POD, Passed, "socket", "CVE-2020-8554"),
        (&remote, "192.0.2.1:80", NODE, Passed, "socket", "CVE-2020-8554"),
        (&remote, "192.0.2.20:80", POD, Served, "socket", "policy Cluster"),
        // NodePorts, where they are served and where not.
        (&remote, "192.0.2.10:30080", POD, Served, "socket", "policy Cluster"),
        (&remote, "192.0.2.20:30080", POD, Passed, "socket", "`nodePort.addresses`"),
        (&remote, "127.0.0.1:30080", NODE, Served, "socket", "policy Cluster"),
        (&remote, "127.0.0.1:30080", POD, Passed, "socket", "own loopback"),
        // Unknown ports.
        (&remote, "10.96.0.1:81", POD, Refused, "socket", "[unknown_service_port]"),
        (&remote, "10.96.0.1:81", OUTSIDE, Dropped, "from_netdev", "[cluster_ip_from_outside]"),
        (&remote, "192.0.2.2:81", OUTSIDE, Refused, "from_netdev", "[unknown_service_port]"),
        (&remote, "192.0.2.2:81", POD, Passed, "socket", "others than we may serve"),
        (&remote, "192.0.2.10:81", OUTSIDE, Passed, "from_netdev", "the node's own address"),
        (&remote, "198.51.100.1:80", POD, Passed, "socket", "routing table"),
        (&remote, "198.51.100.1:30080", POD, Passed, "socket", "no address of a service"),
    ] {
        let found = one(kernel, to, from);
        assert_eq!((found.0, found.1.as_str()), (fate, hook), "{to} from {from:?}: {}", found.2);
        assert!(found.2.contains(reason), "{to} from {from:?}: {}", found.2);
    }
    [&remote, &empty, &inner].into_iter().for_each(agrees);
}

#[test]
fn the_program_that_decides_follows_the_configuration() {
    let mut sctp = balanced();
    sctp.ports[0].protocol = Protocol::Sctp;
    let mut slice = slice("web", vec![endpoint("10.1.0.1")]);
    slice.ports[0].protocol = Protocol::Sctp;
    let mut kernel = Kernel::new();
    kernel.balancer.set_service(sctp);
    kernel.balancer.set_slice(slice);
    kernel.sync();
    assert_eq!(one(&kernel, "10.96.0.1:80", POD).1, "from_container");
    let (fate, hooks, why) = one(&kernel, "10.96.0.1:80", NODE);
    assert_eq!((fate, hooks.as_str()), (Fate::Passed, ""), "{why}");

    let kernel = world(balanced(), vec![endpoint("10.1.0.1")]);
    for (sockets, node, pod) in [
        (Sockets::Nobodys, "", "from_container"),
        (Sockets::TheNodes, "socket", "from_container"),
        (Sockets::Everyones, "socket", "socket"),
    ] {
        let asker = Asker { sockets, ..Asker::default() };
        assert_eq!(asker.one(&kernel, "10.96.0.1:80", NODE).1, node, "{sockets:?}");
        assert_eq!(asker.one(&kernel, "10.96.0.1:80", POD).1, pod, "{sockets:?}");
    }
    let asker = Asker { accelerated: true, ..Asker::default() };
    assert_eq!(asker.one(&kernel, "192.0.2.2:80", OUTSIDE).1, "xdp_entry from_netdev");
    let asker = Asker { inside: true, ..Asker::default() };
    assert_eq!(asker.one(&kernel, "192.0.2.1:80", POD).0, Fate::Served);
}

#[test]
fn algorithm_and_mode_are_those_of_the_map() {
    let selection = Selection { algorithm: Algorithm::Maglev, words: 750, ..Selection::default() };
    let mut kernel = Kernel::choosing(1024, selection, "here");
    let mut web = balanced();
    web.annotations = [("service.culvert.io/forwarding-mode".into(), "dsr".into())].into();
    let two = || vec![endpoint("10.1.0.1"), endpoint("10.1.0.2")];
    kernel.balancer.set_service(web);
    kernel.balancer.set_slice(slice("web", two()));
    // For this one there is no room left.
    let mut late = balanced();
    (late.name, late.cluster_ips) = (name("late"), vec![ip("10.96.0.2")]);
    late.ports[0].node_port = None;
    late.external_ips.clear();
    late.ingress[0].ip = ip("192.0.2.3");
    kernel.sync();
    kernel.balancer.set_service(late);
    kernel.balancer.set_slice(slice("late", vec![endpoint("10.1.0.3"), endpoint("10.1.0.4")]));
    kernel.sync();
    agrees(&kernel);
    let how = |to: &str, from| {
        let found = Asker::default().ask(&kernel, &Question::Address(ip(to), 80), from);
        let verdict = found.services[0].ports[0].frontends[0].verdicts[0].clone();
        let word = |word: Option<String>| word.unwrap_or_default();
        format!("{} {}", word(verdict.algorithm), word(verdict.mode))
    };
    assert_eq!(how("192.0.2.2", OUTSIDE), "maglev DSR");
    assert_eq!(how("192.0.2.2", POD), "random ");
    assert_eq!(how("192.0.2.3", OUTSIDE), "random SNAT");
}

#[test]
fn source_ranges_keep_clients_out_but_never_the_node() {
    let guarded = |deny: bool, endpoints| {
        let mut web = balanced();
        web.source_ranges = vec!["203.0.113.0/24".parse().unwrap()];
        if deny {
            let policy = ("service.culvert.io/src-ranges-policy".into(), "deny".into());
            web.annotations = [policy].into();
        }
        world(web, endpoints)
    };
    let some = || vec![endpoint("10.1.0.1")];
    let (allow, deny) = (guarded(false, some()), guarded(true, some()));
    let (near, far) = (OUTSIDE, Some(("198.51.100.9", Side::Outside)));
    assert_eq!(one(&allow, "192.0.2.2:80", near).0, Fate::Served);
    assert_eq!(one(&deny, "192.0.2.2:80", far).0, Fate::Served);
    for (kernel, from) in [(&allow, far), (&deny, near)] {
        let (fate, _, why) = one(kernel, "192.0.2.2:80", from);
        assert_eq!(fate, Fate::Dropped);
        assert!(why.contains("[source_range_denied]"), "{why}");
    }
    let (fate, _, why) = one(&allow, "192.0.2.2:80", POD);
    assert_eq!(fate, Fate::Refused, "sockets are told at once");
    assert!(why.contains("EHOSTUNREACH"), "{why}");
    assert_eq!(one(&allow, "192.0.2.2:80", NODE).0, Fate::Served);
    assert_eq!(one(&allow, "192.0.2.10:30080", far).0, Fate::Served, "not of this type");
    // Packets are judged by their sender first, sockets by what there is.
    let empty = guarded(false, vec![]);
    assert!(one(&empty, "192.0.2.2:80", far).2.contains("[source_range_denied]"));
    assert!(one(&empty, "192.0.2.2:80", POD).2.contains("ECONNREFUSED"));
    // For everyone at once the answer says that it depends.
    let all = Asker::default().ask(&deny, &Question::Service(name("web")), None);
    let text = format!("{all:?}");
    assert!(text.contains("only clients outside loadBalancerSourceRanges"), "{text}");
}

#[test]
fn affinity_names_the_endpoint_while_the_client_may_have_it() {
    let mut sticky = balanced();
    sticky.affinity_timeout = Some(60);
    sticky.external_policy = TrafficPolicy::Local;
    let kernel =
        world(sticky, vec![endpoint("10.1.0.1").on("here"), endpoint("10.1.0.2").on("far")]);
    let remote = Target { index: kernel.target("10.1.0.2"), epoch: 1 };
    let given = |remembered, to: &str, from| {
        let asker = Asker { remembered, ..Asker::default() };
        let to: std::net::SocketAddr = to.parse().unwrap();
        let found = asker.ask(&kernel, &Question::Address(to.ip(), to.port()), from);
        found.services[0].ports[0].frontends[0].verdicts[0].remembered.clone()
    };
    let last = Some("10.1.0.2:8080".to_owned());
    assert_eq!(given(Some((remote, 5)), "10.96.0.1:80", POD), last);
    assert_eq!(given(Some((remote, 57)), "10.96.0.1:80", POD), None, "60 s are 56 ticks");
    assert_eq!(given(Some((Target { epoch: 2, ..remote }, 5)), "10.96.0.1:80", POD), None);
    assert_eq!(given(Some((remote, 5)), "192.0.2.2:80", OUTSIDE), None, "policy Local");
    assert_eq!(given(None, "10.96.0.1:80", POD), None);
    assert_eq!(given(Some((remote, 5)), "10.96.0.1:80", None), None, "nobody in particular");
}
