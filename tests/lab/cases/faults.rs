// SPDX-License-Identifier: Apache-2.0
//! What goes wrong with an API server, as an operator sees it: in `culvert status`, in the metrics,
//! and in nothing else.

use std::collections::BTreeMap;

use super::kube::World;
use super::stage::{eventually, until};
use crate::lab::manifest::Service;
use crate::support::apiserver::{ApiServer, Resource};

struct Fault {
    what: &'static str,
    begin: fn(&ApiServer),
    end: fn(&ApiServer),
    /// As `culvert_source_troubles_total` counts it, for this kind.
    trouble: (&'static str, &'static str),
    /// In `culvert status`, while it lasts. Empty: it is over as soon as it began.
    said: &'static str,
    /// No server answers.
    away: bool,
}

const FAULTS: &[Fault] = &[
    Fault {
        what: "watches are cut",
        begin: |api| api.drop_connections(),
        end: |_| (),
        trouble: ("Service", "connection"),
        said: "",
        away: false,
    },
    Fault {
        what: "the history is gone (410)",
        begin: |api| {
            api.expire_history();
            api.drop_connections();
        },
        end: |_| (),
        trouble: ("EndpointSlice", "expired"),
        said: "",
        away: false,
    },
    Fault {
        what: "one kind is forbidden",
        begin: |api| {
            api.forbid(Resource::Nodes);
            api.drop_connections();
        },
        end: |api| api.permit(Resource::Nodes),
        trouble: ("Node", "forbidden"),
        said: "grant list and watch on `nodes`",
        away: false,
    },
    Fault {
        what: "the server is overloaded",
        begin: |api| {
            api.broken(Some(503));
            api.drop_connections();
        },
        end: |api| api.broken(None),
        trouble: ("Service", "unavailable"),
        said: "stays in force",
        away: true,
    },
    Fault {
        what: "the server accepts and says nothing",
        begin: |api| api.half_dead(true),
        end: |api| api.half_dead(false),
        trouble: ("Service", "timeout"),
        said: "stays in force",
        away: true,
    },
];

/// TLS and tokens are in `tests/sources/servers.rs`, several servers too.
#[test]
fn each_fault_of_an_api_server_shows_in_status_and_metrics_and_nothing_is_lost() {
    let kept = Service { name: "kept", number: 80, ..Service::default() };
    let mut world = World::raise();
    world.set(&kept, |stage| &stage.web);
    world.restart_agent();
    world.stage.lab.nodes[0].wait_ready().unwrap();
    world.until_served_by(&kept, "web");
    let written = world.written();
    for fault in FAULTS {
        let what = fault.what;
        let before = troubles(&world);
        let counted = |world: &World| {
            let count = |counts: &BTreeMap<_, f64>| counts.get(&fault.trouble).copied();
            count(&troubles(world)) > count(&before)
        };
        (fault.begin)(&world.api);
        eventually(&format!("{what}: counted as {:?}", fault.trouble), || counted(&world));
        if !fault.said.is_empty() {
            let mut shown = String::new();
            let said = until(|| {
                shown = world.stage.lab.node(1).shown(&["status"]).unwrap();
                shown.contains(fault.said)
            });
            assert!(said, "{what}: no `{}` in\n{shown}", fault.said);
            let page = world.stage.lab.node(1).metrics().unwrap();
            assert_eq!(gauge(&page, "culvert_source_connected") == 0.0, fault.away, "{what}");
            assert!(gauge(&page, "culvert_source_problems") > 0.0, "{what}");
        }
        assert_eq!(world.written(), written, "{what}");
        (fault.end)(&world.api);
        eventually(&format!("{what}: over"), || {
            let page = world.stage.lab.node(1).metrics().unwrap();
            gauge(&page, "culvert_source_connected") == 1.0
                && gauge(&page, "culvert_source_problems") == 0.0
        });
    }
    world.until_served_by(&kept, "web");
    assert_eq!(world.written(), written);
}

/// Lists and watches that ended before their time, by kind and reason.
fn troubles(world: &World) -> BTreeMap<(&'static str, &'static str), f64> {
    let node = world.stage.lab.node(1);
    let known = FAULTS.iter().map(|fault| fault.trouble);
    known
        .map(|(kind, reason)| {
            let labels = format!("{{kind=\"{kind}\",reason=\"{reason}\"}}");
            ((kind, reason), node.metric(&format!("culvert_source_troubles_total{labels}")))
        })
        .collect()
}

/// The one series of a gauge of the source.
fn gauge(page: &str, name: &str) -> f64 {
    let start = format!("{name}{{");
    let line = page.lines().find(|line| line.starts_with(&start));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(f64::NAN)
}
