// SPDX-License-Identifier: Apache-2.0
//! Explanations against the maps.

use super::super::support::*;
use super::*;

/// What is explained of each frontend is what the map holds for it.
pub(in crate::lb::tests) fn agrees(kernel: &Kernel) {
    let everywhere: BTreeMap<Addr, Owned> =
        [(Addr::from(ip("192.0.2.250")), Owned { ifindex: 2, flags: OWNED_NODEPORT })].into();
    let v6 = (Addr::from(ip("2001:db8::250")), Owned { ifindex: 2, flags: OWNED_NODEPORT });
    let asker = Asker {
        owned: everywhere.into_iter().chain([v6]).collect(),
        inside: true,
        ..Asker::default()
    };
    for (key, value) in &kernel.tables.services {
        let wildcard = match key.vip {
            Addr::V4_WILDCARD => Some(ip("192.0.2.250")),
            Addr::V6_WILDCARD => Some(ip("2001:db8::250")),
            _ => None,
        };
        let asked: IpAddr = wildcard.unwrap_or(key.vip.ip());
        let found = asker.ask(kernel, &Question::Address(asked, key.port.get()), None);
        let ports: Vec<_> = found.services.iter().flat_map(|s| &s.ports).collect();
        let of_proto = ports.iter().filter(|p| {
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .iter()
                .any(|each| each.name() == p.protocol && each.number() == key.proto)
        });
        let [port] = of_proto.collect::<Vec<_>>()[..] else { panic!("{key:?}: {ports:?}") };
        assert_eq!(port.id, value.id);
        let verdicts = &port.frontends[0].verdicts;
        let of = |side| {
            let verdict = verdicts.iter().find(|verdict| verdict.from.contains(&side)).unwrap();
            (verdict.fate == Fate::Served, verdict.endpoints.clone())
        };
        let (inside, outside) = (kernel.inside(*key), kernel.outside(*key));
        assert_eq!(of(Side::Pod), (!inside.is_empty(), inside.clone()), "{key:?}");
        assert_eq!(of(Side::Node), (!inside.is_empty(), inside.clone()), "{key:?}");
        assert_eq!(of(Side::Outside), (!outside.is_empty(), outside.clone()), "{key:?}");
        for endpoint in &port.endpoints {
            let used = inside.contains(&endpoint.address) || outside.contains(&endpoint.address);
            assert_eq!(endpoint.counts, used, "{endpoint:?}");
            assert!(endpoint.counts || !endpoint.reason.is_empty(), "{endpoint:?}");
        }
    }
}
