// SPDX-License-Identifier: Apache-2.0
//! Which network namespace the other end of a device is in.

use std::io;

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::call;

/// A link with its statistics and those of its families takes some 2 KiB.
const ANSWER_MAX: usize = 32 * 1024;

/// What the calling thread's network namespace calls the one of the other end of a veth device
/// (`IFLA_LINK_NETNSID`, Linux 4.0), plus 1. The kernel gives it a number when it is asked for the first
/// time, and keeps that as long as both exist.
///
/// # Errors
/// There is no such device, or its other end is in the same namespace.
pub fn peer_netns_number(ifindex: u32) -> io::Result<u32> {
    let mut link = LinkMessage::default();
    link.header.index = ifindex;
    let mut request = NetlinkMessage::from(Message::GetLink(link));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut buffer = vec![0; ANSWER_MAX];
    let len = call(&bytes, &mut buffer)?;
    let answer =
        NetlinkMessage::<Message>::deserialize(&buffer[..len]).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(Message::NewLink(link)) => {
            let id = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::LinkNetNsId(id) => u32::try_from(*id).ok(),
                _ => None,
            });
            id.map(|id| id + 1)
                .ok_or_else(|| io::Error::other("its other end is in the same network namespace"))
        }
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("netlink answered {other:?}"))),
    }
}
