// SPDX-License-Identifier: Apache-2.0

use std::mem::offset_of;

use libbpf_rs::ObjectBuilder;
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::*;
use crate::abi::Flow;
use crate::datapath::pins::{Wanted, wanted_types};
use crate::skel;

/// The BTF of the built maps, and the types of the map `flows` in it.
fn flows() -> (Vec<u8>, Wanted) {
    let object = ObjectBuilder::default().open_memory(skel::bpf_maps::OBJECT).unwrap();
    let (btf, types) = wanted_types(&object).unwrap();
    (btf, types["flows"])
}

fn find<'a>(members: &'a Members, path: &str) -> &'a Member {
    members.0.iter().find(|member| member.path == path).unwrap()
}

#[test]
fn members_lie_where_the_compiler_put_them() {
    let (btf, types) = flows();
    let value = Members::read(&btf, types.value).unwrap();
    for (path, offset, size) in [
        ("saddr.w", offset_of!(Flow, saddr), 16),
        ("sport", offset_of!(Flow, sport), 2),
        ("l2.dmac", offset_of!(Flow, output), 6),
        ("l2.smac", offset_of!(Flow, output) + 6, 6),
        ("kind", offset_of!(Flow, kind), 1),
        ("mtu", offset_of!(Flow, mtu), 2),
    ] {
        let expected = Member { path: path.to_owned(), offset, size };
        assert_eq!(*find(&value, path), expected);
    }
    let sum: usize = value.0.iter().map(|member| member.size).sum();
    assert_eq!(sum, size_of::<Flow>());
    assert!(Members::read(&btf[..btf.len() / 2], types.value).is_none(), "cut short");
}

#[test]
fn an_older_value_keeps_what_has_a_name_in_the_newer() {
    let (btf, types) = flows();
    let new = Members::read(&btf, types.value).unwrap();
    let mut old = new.clone();
    // Then there was a member more, one less, two were the other way round, and one had a name
    // that nobody knows now.
    let shift = offset_of!(Flow, addr_diff);
    old.0.retain(|member| member.path != "mtu");
    for member in old.0.iter_mut().filter(|member| member.offset >= shift) {
        member.offset += 8;
    }
    old.0.push(Member { path: "former".to_owned(), offset: shift, size: 8 });
    let (created, seen) = (find(&old, "created").offset, find(&old, "last_seen").offset);
    for member in &mut old.0 {
        match member.path.as_str() {
            "created" => member.offset = seen,
            "last_seen" => member.offset = created,
            "kind" => member.path = "type".to_owned(),
            _ => {}
        }
    }
    let mut value = vec![0xee; size_of::<Flow>() + 8];
    value[created..created + 4].copy_from_slice(&7_u32.to_ne_bytes());
    value[seen..seen + 4].copy_from_slice(&9_u32.to_ne_bytes());

    let conversion = Conversion::between(&old, &new, size_of::<Flow>()).unwrap();
    let mut flow = Flow::new_zeroed();
    flow.as_mut_bytes().copy_from_slice(&conversion.apply(&value));
    assert_eq!((flow.last_seen, flow.created), (7, 9));
    assert_eq!((flow.kind, flow.mtu), (0, 0), "unknown then");
    assert_eq!((flow.service, flow.output), (0xeeee_eeee, [0xee; 12]));
}

#[test]
fn a_member_of_another_size_is_another_thing() {
    let (btf, types) = flows();
    let new = Members::read(&btf, types.value).unwrap();
    let mut old = new.clone();
    old.0.iter_mut().find(|member| member.path == "service").unwrap().size = 2;
    assert_eq!(Conversion::between(&old, &new, size_of::<Flow>()), None);
    let nothing = Members(vec![Member { path: "x".to_owned(), offset: 0, size: 96 }]);
    assert_eq!(Conversion::between(&nothing, &new, size_of::<Flow>()), None);
}
