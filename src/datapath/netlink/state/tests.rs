// SPDX-License-Identifier: Apache-2.0

use ipnet::IpNet;

use super::*;

fn with(events: impl IntoIterator<Item = Event>) -> State {
    let mut state = State::default();
    for event in events {
        state.apply(event);
    }
    state
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn link(ifindex: u32, name: &str) -> Event {
    Event::Link {
        ifindex,
        link: Link {
            name: name.to_owned(),
            mtu: 1500,
            up: true,
            loopback: name == "lo",
            mac: vec![2, 0, 0, 0, 0, 1],
            vlan: None,
        },
    }
}

fn address(ifindex: u32, text: &str) -> Event {
    Event::Address(Address { ifindex, net: net(text), source: true, secondary: false })
}

fn neighbour(mac: &[u8], failed: bool) -> Event {
    let ip = "10.0.0.9".parse().unwrap();
    Event::Neighbour { ifindex: 2, ip, mac: mac.to_vec(), failed }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn owned_flags(state: &State, filter: &Filter) -> Vec<(String, u32)> {
    let owned = state.view(filter, 0).owned;
    owned.iter().map(|(addr, owned)| (addr.to_string(), owned.flags)).collect()
}

#[test]
fn every_address_is_owned_and_loopback_is_for_the_host_alone() {
    let state = with([
        link(1, "lo"),
        address(1, "127.0.0.1/8"),
        address(1, "::1/128"),
        address(1, "192.0.2.1/32"),
        link(2, "eth0"),
        address(2, "10.0.0.1/24"),
        address(2, "fe80::1/64"),
    ]);
    let all = owned_flags(&state, &Filter::default());
    assert_eq!(
        all,
        [
            ("::1".to_owned(), OWNED_LOOPBACK),
            ("10.0.0.1".to_owned(), OWNED_NODEPORT),
            ("127.0.0.1".to_owned(), OWNED_LOOPBACK),
            ("192.0.2.1".to_owned(), OWNED_NODEPORT),
            ("fe80::1".to_owned(), 0),
        ]
    );

    let filter = Filter {
        node_port_addresses: Serving::Inside(vec![net("10.0.0.0/8")]),
        ..Default::default()
    };
    let some: Vec<_> =
        owned_flags(&state, &filter).into_iter().filter(|each| each.1 != 0).collect();
    assert_eq!(some, [("10.0.0.1".to_owned(), OWNED_NODEPORT)]);

    let filter = |first| Filter {
        node_ips: ips(&[first, "10.0.0.1", "192.0.2.1"]),
        node_port_addresses: Serving::Primary,
        ..Default::default()
    };
    let serving = |filter: &Filter| -> Vec<_> {
        owned_flags(&state, filter).into_iter().filter(|each| each.1 != 0).collect()
    };
    assert_eq!(serving(&filter("2001:db8::1")), [("10.0.0.1".to_owned(), OWNED_NODEPORT)]);
    assert_eq!(serving(&filter("192.0.2.1")), [("192.0.2.1".to_owned(), OWNED_NODEPORT)]);
}

#[test]
fn uplinks_have_a_default_route_or_a_node_address_unless_given() {
    let mut state = with([
        link(1, "lo"),
        link(2, "eth0"),
        link(3, "eth1"),
        address(3, "10.1.0.1/24"),
        link(4, "veth9"),
        address(4, "10.2.0.1/24"),
    ]);
    state.defaults = [2].into();
    let names = |filter: &Filter| -> Vec<String> {
        state.view(filter, 0).uplinks.into_values().map(|each| each.name).collect()
    };

    let filter = Filter { node_ips: ips(&["10.1.0.1"]), ..Default::default() };
    assert_eq!(names(&filter), ["eth0", "eth1"]);

    let filter = Filter { devices: vec!["veth+".parse().unwrap()], ..filter };
    assert_eq!(names(&filter), ["veth9"]);
}

#[test]
fn snat_prefers_the_node_address_then_the_first_fit_one() {
    let mut deprecated = address(2, "10.0.0.1/24");
    if let Event::Address(address) = &mut deprecated {
        address.source = false;
    }
    let mut state = with([
        link(1, "lo"),
        address(1, "192.0.2.1/32"),
        link(2, "eth0"),
        deprecated,
        address(2, "10.0.0.2/24"),
        address(2, "10.0.0.3/24"),
        address(2, "fd00::2/64"),
        link(3, "eth1"),
    ]);
    state.defaults = [2, 3].into();
    let snat = |filter: &Filter, ifindex| {
        let uplink = state.view(filter, 0).uplinks.remove(&ifindex).unwrap();
        (uplink.snat_v4.map(|ip| ip.to_string()), uplink.snat_v6.map(|ip| ip.to_string()))
    };
    let some = |text: &str| Some(text.to_owned());

    let none = Filter::default();
    assert_eq!(snat(&none, 2), (some("10.0.0.2"), some("fd00::2")));
    assert_eq!(snat(&none, 3), (None, None));

    let node = Filter { node_ips: ips(&["10.0.0.3"]), ..Default::default() };
    assert_eq!(snat(&node, 2), (some("10.0.0.3"), some("fd00::2")));

    let elsewhere = Filter { node_ips: ips(&["192.0.2.1"]), ..Default::default() };
    assert_eq!(snat(&elsewhere, 2), (some("10.0.0.2"), some("fd00::2")));
    assert_eq!(snat(&elsewhere, 3), (some("192.0.2.1"), None));
}

#[test]
fn only_a_changed_or_failed_neighbour_moves_the_epoch() {
    let (mac, other) = ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 10]);
    let mut state = State::default();
    let mut moves = |event| state.apply(event).epoch;
    assert!(!moves(neighbour(&[], false)), "being resolved");
    assert!(!moves(neighbour(&mac, false)), "learned");
    assert!(!moves(neighbour(&mac, false)), "stale, delay, probe, reachable");
    assert!(moves(neighbour(&other, false)), "changed");
    assert!(moves(neighbour(&other, true)), "failed");
    assert!(!moves(neighbour(&[], true)), "failed again");
    assert!(!moves(neighbour(&other, false)), "back");
}

#[test]
fn a_link_that_says_nothing_new_changes_nothing() {
    let mut state = with([link(2, "eth0")]);
    assert_eq!(state.apply(link(2, "eth0")), Effect::default());
    let mut down = link(2, "eth0");
    if let Event::Link { link, .. } = &mut down {
        link.up = false;
    }
    assert!(state.apply(down).epoch);
}

#[test]
fn a_link_takes_its_addresses_along() {
    let mut state = with([link(2, "eth0"), address(2, "10.0.0.1/24")]);
    let effect = state.apply(Event::LinkGone { ifindex: 2 });
    assert!(effect.view && effect.epoch);
    assert!(state.view(&Filter::default(), 0).owned.is_empty());
}

#[test]
fn local_routes_make_addresses_ours_up_to_a_number() {
    let local = |text: &str| Event::Local(Local { ifindex: 1, net: net(text) });
    let owned = |state: &State| state.view(&Filter::default(), 0).owned.len();
    let mut state = with([local("192.0.2.7/32"), local("2001:db8::7/128")]);
    assert_eq!(owned(&state), 2);
    state.apply(local("198.51.100.0/24"));
    state.apply(local("2001:db8:1::/120"));
    assert_eq!(owned(&state), 2 + 512);
    for large in ["203.0.112.0/23", "2001:db8:2::/64", "0.0.0.0/0", "::/0"] {
        state.apply(local(large));
    }
    assert_eq!(owned(&state), 2 + 512);
    for more in 0..9 {
        state.apply(local(&format!("10.7.{more}.0/24")));
        state.apply(local(&format!("10.8.{more}.1/32")));
    }
    assert_eq!(owned(&state), 2 + 9 + LOCAL_ROUTES_MAX);
    assert!(state.apply(Event::LocalGone { net: net("192.0.2.7/32") }).view);
    assert_eq!(owned(&state), 1 + 9 + LOCAL_ROUTES_MAX);
    assert_eq!(state.apply(Event::LocalGone { net: net("192.0.2.7/32") }), Effect::default());
}

#[test]
fn an_address_of_a_device_goes_before_a_local_route() {
    let local = Event::Local(Local { ifindex: 1, net: net("10.0.0.1/32") });
    let state = with([local, link(2, "eth0"), address(2, "10.0.0.1/24")]);
    let owned = state.view(&Filter::default(), 0).owned;
    assert_eq!(owned.into_values().map(|owned| owned.ifindex).collect::<Vec<_>>(), [2]);
}

#[test]
fn routes_are_read_again_when_a_device_that_may_have_taken_some_along_changes() {
    let local = Event::Local(Local { ifindex: 2, net: net("192.0.2.7/32") });
    let mut state = with([link(2, "eth0"), link(3, "eth1"), local]);
    for (ifindex, name) in [(2, "eth0"), (3, "eth1")] {
        let mut down = link(ifindex, name);
        if let Event::Link { link, .. } = &mut down {
            link.up = false;
        }
        assert_eq!(state.apply(down).routes, ifindex == 2);
        assert_eq!(state.apply(Event::LinkGone { ifindex }).routes, ifindex == 2);
    }
}
