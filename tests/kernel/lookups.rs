// SPDX-License-Identifier: Apache-2.0
//! How often a packet of an established flow is looked up in the flow tables.

use culvert::abi::DsrDispatch;
use libbpf_rs::{Object, ProgramMut};

use super::dsr::{request as to_vip, serve};
use super::dsr_end::dispatched;
use super::dsr_ipip::{self, encapsulated, lb};
use super::host::{node_port, request};
use super::xdp::{XDP_TX, answer, established};
use crate::support::dsr::{self, KEY};
use crate::support::node::{FAMILIES, Node, TC_REDIRECT};
use crate::support::objects::{Frontend, TCP};
use crate::support::packet::{ACK, Packet, SYN, tcp};
use crate::support::tunnelled::Tunnelled;
use crate::support::variant::{self, exchange};

#[derive(Clone, Copy, Debug)]
enum Hook {
    Wire,
    Pod,
    Overlay,
    Driver,
}

struct Counter<'a> {
    node: &'a Node,
    hook: Hook,
    object: Object,
}

impl<'a> Counter<'a> {
    fn new(node: &'a Node, hook: Hook, dispatch: DsrDispatch) -> Self {
        let (program, defines): (_, &[&str]) = match hook {
            Hook::Wire => ("from_netdev", &["-DPROGRAM=\"bpf_host.bpf.c\"", "-DFROM_WIRE=1"]),
            Hook::Pod => ("from_container", &["-DPROGRAM=\"bpf_lxc.bpf.c\""]),
            Hook::Overlay => ("from_overlay", &["-DPROGRAM=\"bpf_overlay.bpf.c\""]),
            Hook::Driver => (
                "xdp_entry",
                &[
                    "-DPROGRAM=\"bpf_xdp.bpf.c\"",
                    "-DCTX=struct xdp_md",
                    "-Dctx_input(ctx)=scratch_input()",
                ],
            ),
        };
        let source = "tests/kernel/lookups.bpf.c";
        Self { node, hook, object: variant::load(node, source, defines, program, dispatch) }
    }

    /// The fewest lookups of a few runs, since the first packet of a tick does more.
    #[track_caller]
    fn least(&self, device: u32, frame: &[u8]) -> u32 {
        self.least_by(device, frame, || match self.hook {
            Hook::Driver => Node::xdp_of(&self.program(), device, frame).0,
            _ => Node::raw_of(&self.program(), device, frame).0,
        })
    }

    /// As [`Self::least`], where a tunnel brought the frame with `option`.
    #[track_caller]
    fn least_tunnelled(&self, device: u32, frame: &[u8], option: &[u8]) -> u32 {
        let tunnelled = Tunnelled::new(&self.program());
        self.least_by(device, frame, || tunnelled.raw_inside(device, frame, option).0)
    }

    fn program(&self) -> ProgramMut<'_> {
        self.object.progs_mut().find(|each| each.autoload()).unwrap()
    }

    #[track_caller]
    fn least_by(&self, device: u32, frame: &[u8], run: impl Fn() -> u32 + Sync) -> u32 {
        let counts = (0..4).map(|_| {
            exchange(&self.object, "lookups", 0);
            let action = self.node.ns.run(&run);
            let sent = match self.hook {
                Hook::Driver => XDP_TX,
                _ => TC_REDIRECT,
            };
            // What the driver passes up is the first of its tick.
            if action == sent {
                return exchange(&self.object, "lookups", 0);
            }
            assert!(matches!(self.hook, Hook::Driver), "action {action}");
            assert_eq!(self.node.raw("from_netdev", device, frame).0, TC_REDIRECT);
            u32::MAX
        });
        counts.min().unwrap()
    }
}

#[test]
fn snat_takes_one() {
    let node = Node::new();
    let wire = Counter::new(&node, Hook::Wire, DsrDispatch::Off);
    let driver = Counter::new(&node, Hook::Driver, DsrDispatch::Off);
    for family in FAMILIES {
        let (data, sent) = established(&node, family, TCP);
        for frame in [data.bytes(), answer(&sent, ACK).bytes()] {
            assert_eq!(wire.least(node.uplink, &frame), 1);
            assert_eq!(driver.least(node.uplink, &frame), 1);
        }
    }
}

#[test]
fn a_backend_of_this_node_takes_one() {
    let node = Node::new();
    let wire = Counter::new(&node, Hook::Wire, DsrDispatch::Off);
    let pod = Counter::new(&node, Hook::Pod, DsrDispatch::Off);
    for family in FAMILIES {
        let backend = family.at(family.pod, 8080);
        let _service = node.objects.serve(node_port(family, TCP), &[&backend]);
        let syn = request(family, TCP);
        let got = node.wire_ok(&syn);
        let data = Packet { flags: ACK, ..syn };
        node.leave_ok(&got.answer(SYN | ACK));
        node.wire_ok(&data);
        assert_eq!(wire.least(node.uplink, &data.bytes()), 1);
        assert_eq!(pod.least(node.pod, &got.answer(ACK).bytes()), 1);
    }
}

#[test]
fn a_pods_packets_take_one_to_a_service_and_none_to_a_pod() {
    let node = Node::new();
    let pod = Counter::new(&node, Hook::Pod, DsrDispatch::Off);
    for family in FAMILIES {
        let client = family.at(family.pod, 40001);
        for (port, backend) in [(80, family.other_pod), (81, family.remote)] {
            let vip = family.at(family.vip, port);
            let frontend = Frontend::cluster_ip(&vip, TCP);
            let _service = node.objects.serve(frontend, &[&family.at(backend, 8080)]);
            let syn = tcp(&client, &vip, SYN);
            let answer = node.leave_ok(&syn).answer(SYN | ACK).bytes();
            let (program, device) = if backend == family.remote {
                ("from_netdev", node.uplink)
            } else {
                ("from_container", node.other_pod)
            };
            let (action, _) = node.raw(program, device, &answer);
            assert_eq!(action, TC_REDIRECT, "{backend}: {:?}", node.outcomes());
            let data = Packet { flags: ACK, ..syn };
            node.leave_ok(&data);
            assert_eq!(pod.least(node.pod, &data.bytes()), 1, "{backend}");
        }
        let direct = tcp(&client, &family.at(family.other_pod, 9000), ACK);
        assert_eq!(pod.least(node.pod, &direct.bytes()), 0);
    }
}

#[test]
fn direct_return_takes_one_where_requests_are_dispatched() {
    for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip] {
        let node = dsr_ipip::node(dispatch);
        let wire = Counter::new(&node, Hook::Wire, dispatch);
        let driver = Counter::new(&node, Hook::Driver, dispatch);
        for family in FAMILIES {
            let backend = family.at(family.remote, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
            let syn = to_vip(family, TCP, 80);
            let data = Packet { flags: ACK, ..syn.clone() };
            for packet in [&syn, &data] {
                assert_eq!(node.wire(packet).0, TC_REDIRECT);
            }
            assert_eq!(wire.least(node.uplink, &data.bytes()), 1, "{dispatch:?}");
            assert_eq!(driver.least(node.uplink, &data.bytes()), 1, "{dispatch:?}");
        }
    }
}

#[test]
fn direct_return_takes_one_where_it_ends() {
    for dispatch in [DsrDispatch::Option, DsrDispatch::Ipip] {
        let node = dsr_ipip::node(dispatch);
        let wire = Counter::new(&node, Hook::Wire, dispatch);
        let pod = Counter::new(&node, Hook::Pod, dispatch);
        for family in FAMILIES {
            let backend = family.at(family.pod, 8080);
            let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
            let syn = to_vip(family, TCP, 80);
            let data = Packet { flags: ACK, ..syn.clone() };
            let (first, mark) = dispatched(family, &syn, 40001);
            let plain = Packet { flags: ACK, ..first.clone() };
            let (opening, later) = if dispatch == DsrDispatch::Option {
                let option = dsr::option(&KEY, &first, &mark);
                (dsr::with_option(&first, &option), plain.bytes())
            } else {
                let of = |packet| encapsulated(family, lb(family), packet);
                (of(&syn), of(&data))
            };
            let brought = |frame: &[u8]| {
                let (action, out) = node.raw("from_netdev", node.uplink, frame);
                assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
                Packet::parse(&out)
            };
            let got = brought(&opening);
            node.leave_ok(&got.answer(SYN | ACK));
            brought(&later);
            assert_eq!(wire.least(node.uplink, &later), 1, "{dispatch:?}");
            assert_eq!(pod.least(node.pod, &got.answer(ACK).bytes()), 1, "{dispatch:?}");
        }
    }
}

#[test]
fn direct_return_takes_one_where_it_comes_out_of_a_tunnel() {
    let dispatch = DsrDispatch::Geneve;
    let node = dsr_ipip::node(dispatch);
    let counter = Counter::new(&node, Hook::Overlay, dispatch);
    let overlay = Tunnelled::new(&node.objects.program("from_overlay"));
    for family in FAMILIES {
        let backend = family.at(family.pod, 8080);
        let _service = serve(&node, &family.at(family.vip, 80), TCP, &[&backend]);
        let (first, mark) = dispatched(family, &to_vip(family, TCP, 80), 40001);
        let data = Packet { flags: ACK, ..first.clone() };
        let brought = |packet: &Packet| {
            let (frame, option) = (packet.bytes(), dsr::tunnel_option(&KEY, packet, &mark));
            let run = || overlay.raw_inside(node.other_pod, &frame, &option);
            let (action, out) = node.ns.run(run);
            assert_eq!(action, TC_REDIRECT, "{:?}", node.outcomes());
            Packet::parse(&out)
        };
        node.leave_ok(&brought(&first).answer(SYN | ACK));
        brought(&data);
        let (frame, option) = (data.bytes(), dsr::tunnel_option(&KEY, &data, &mark));
        assert_eq!(counter.least_tunnelled(node.other_pod, &frame, &option), 1);
    }
}
