// SPDX-License-Identifier: Apache-2.0
//! The event ring, from the program that drops to the reader.

use std::net::TcpStream;
use std::time::Duration;

use culvert::abi::{EVENT_DROP, Event, Hook, Outcome};
use culvert::datapath::events::Events;

use crate::support::node::{Node, TC_DROP, TC_REDIRECT, V4, ip};
use crate::support::objects::{Frontend, TCP};
use crate::support::packet::{SYN, tcp};
use crate::support::sockets::SocketNode;

#[test]
fn a_drop_reaches_the_reader_with_its_reason() {
    let node = Node::new();
    block_on(async {
        let mut events = Events::open(node.objects.maps(), 16).unwrap();
        drop_one(&node, 4242);
        let event = next(&mut events).await;
        assert_eq!(event.r#type, EVENT_DROP);
        assert_eq!(u32::from(event.outcome), Outcome::DropSpoofed.number());
        assert_eq!(u32::from(event.hook), Hook::FromContainer.number());
        assert_eq!((event.saddr, event.sport.get()), (ip(V4.other_pod), 4242));
        assert_eq!(events.lost(), 0);
    });
}

/// A service without endpoints is what users ask about most: its refusals are seen as well.
#[test]
fn refusals_reach_the_reader() {
    let node = Node::new();
    let _service = node.objects.serve(Frontend::cluster_ip("10.96.0.1:80", TCP), &[]);
    block_on(async {
        let mut events = Events::open(node.objects.maps(), 16).unwrap();
        let packet = tcp(&V4.at(V4.pod, 4242), "10.96.0.1:80", SYN);
        assert_eq!(node.leave(&packet).0, TC_REDIRECT);
        let event = next(&mut events).await;
        assert_eq!(
            (event.r#type, u32::from(event.hook)),
            (EVENT_DROP, Hook::FromContainer.number())
        );
        assert_eq!(u32::from(event.outcome), Outcome::Rejected.number());
        assert_eq!((event.sport.get(), event.dport.get()), (4242, 80));
    });
    let node = SocketNode::new();
    let _service = node.objects.serve(Frontend::cluster_ip("10.96.0.1:80", TCP), &[]);
    block_on(async {
        let mut events = Events::open(node.objects.maps(), 16).unwrap();
        node.host(|| TcpStream::connect("10.96.0.1:80").unwrap_err());
        let event = next(&mut events).await;
        assert_eq!((event.r#type, u32::from(event.hook)), (EVENT_DROP, Hook::Socket.number()));
        assert_eq!((event.dport.get(), event.error), (80, -libc::ECONNREFUSED));
    });
}

#[test]
fn what_nobody_takes_in_time_is_counted_as_lost() {
    let node = Node::new();
    block_on(async {
        let mut events = Events::open(node.objects.maps(), 2).unwrap();
        for port in 1..=5 {
            drop_one(&node, port);
        }
        while events.lost() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for port in 1..=2 {
            assert_eq!(next(&mut events).await.sport.get(), port);
        }
        assert_eq!(events.lost(), 3);
    });
}

/// A packet whose source is not its pod's.
fn drop_one(node: &Node, port: u16) {
    let packet = tcp(&V4.at(V4.other_pod, port), &V4.at(V4.remote, 80), SYN);
    assert_eq!(node.leave(&packet).0, TC_DROP);
}

async fn next(events: &mut Events) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    next.expect("no event came").expect("the reader ended")
}

fn block_on(f: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let limited = async { tokio::time::timeout(Duration::from_secs(30), f).await.unwrap() };
    runtime.unwrap().block_on(limited);
}

/// Whoever adds a reason adds a packet that is dropped for it, and told.
#[test]
fn every_reason_to_drop_has_a_packet_that_shows_it() {
    let cases = [include_str!("drop_events.rs"), include_str!("events.rs")].concat();
    let missing: Vec<_> = Outcome::ALL
        .iter()
        .filter(|reason| reason.is_drop() && !cases.contains(&format!("Outcome::{reason:?}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
