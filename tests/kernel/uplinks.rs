// SPDX-License-Identifier: Apache-2.0
//! What the agent makes of a view of the node's network.

use std::sync::Arc;

use culvert::agent::sync::ServiceSync;
use culvert::agent::uplinks::Uplinks;
use culvert::datapath::Datapath;
use culvert::datapath::netlink::View;
use culvert::lb::{Context, Selection};

use crate::support::pins::{PinRoot, all_programs_but};

#[test]
fn a_moved_epoch_of_the_network_moves_the_datapaths_once() {
    let root = PinRoot::new();
    let mut options = root.options();
    options.programs_off.extend(all_programs_but(&[]));
    let datapath = Datapath::open(options).unwrap();
    let maps = datapath.maps();
    let context = Context::of("here");
    let mut sync =
        ServiceSync::adopt(Arc::clone(maps), context, Selection::default(), &[]).unwrap();
    let mut uplinks = Uplinks::adopt(maps).unwrap();
    let mut moves = |route_epoch| {
        let epoch = || maps.settings.get(&0).unwrap().unwrap_or_default().route_epoch;
        let before = epoch();
        let view = View { route_epoch, ..View::default() };
        uplinks.apply(&view, &datapath, &mut sync).unwrap();
        epoch().wrapping_sub(before)
    };
    // What changed besides moves nothing, and several changes at once move it as one does.
    let views = [1, 1, 2, 5, 5];
    assert_eq!(views.map(&mut moves), [1, 0, 1, 1, 0]);
}
