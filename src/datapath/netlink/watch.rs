// SPDX-License-Identifier: Apache-2.0
//! The watch: lists everything once, then follows the kernel's messages.
//!
//! The kernel drops messages for a reader that falls behind, and says so: then everything is
//! listed again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::message::{self, Event};
use super::state::{Effect, State};
use super::{Error, Filter, View, io};

const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Ends the task of a connection with the watch.
pub(super) struct Connection(AbortHandle);

impl Connection {
    pub(super) fn run(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(connection).abort_handle())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Publishes the node's network in `view` until either channel closes. The first view is complete.
pub async fn watch(
    mut filter: watch::Receiver<Filter>,
    view: watch::Sender<Arc<View>>,
) -> Result<(), Error> {
    // Listening comes before listing, so that nothing falls between the two. Requests have a
    // socket of their own: their answers must not be lost with the messages of a full queue.
    let (connection, _, mut messages) =
        rtnetlink::new_multicast_connection(GROUPS).map_err(Error::Socket)?;
    let _listening = Connection::run(connection);
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    let _requests = Connection::run(connection);

    let mut state = State::default();
    let mut epoch = 0;
    relist(&handle, &mut state).await?;
    loop {
        let current = state.view(&filter.borrow_and_update(), epoch);
        view.send_if_modified(|published| {
            let changed = **published != current;
            if changed {
                *published = Arc::new(current);
            }
            changed
        });

        let first = tokio::select! {
            message = messages.next() => message.ok_or(Error::Closed)?,
            changed = filter.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            () = view.closed() => return Ok(()),
        };
        let mut effect = Effect::default();
        let mut overrun = false;
        let mut next = Some(first);
        // What has queued up meanwhile is one change.
        while let Some((message, _)) = next {
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => effect.merge(take(&mut state, &inner)),
                NetlinkPayload::Overrun(_) => overrun = true,
                _ => {}
            }
            next = messages.next().now_or_never().flatten();
        }
        if overrun {
            tracing::warn!("the kernel reported changes faster than they were read; listing anew");
            relist(&handle, &mut state).await?;
            effect.epoch = true;
        } else if effect.routes {
            (state.defaults, state.locals) = routes(&handle).await?;
        }
        epoch += u64::from(effect.epoch);
    }
}

fn take(state: &mut State, message: &RouteNetlinkMessage) -> Effect {
    message::event(message).map_or_else(Effect::default, |event| state.apply(event))
}

async fn relist(handle: &Handle, state: &mut State) -> Result<(), Error> {
    let failed = |what| move |error| Error::List { what, source: io(error) };

    let mut links = BTreeMap::new();
    let mut listed = handle.link().get().execute();
    while let Some(each) = listed.try_next().await.map_err(failed("devices"))? {
        if let Some(Event::Link { ifindex, link }) = message::link(&each) {
            links.insert(ifindex, link);
        }
    }
    let mut addresses = Vec::new();
    let mut listed = handle.address().get().execute();
    while let Some(each) = listed.try_next().await.map_err(failed("addresses"))? {
        addresses.extend(message::address(&each));
    }
    let mut neighbours = Vec::new();
    let mut listed = handle.neighbours().get().execute();
    while let Some(each) = listed.try_next().await.map_err(failed("neighbours"))? {
        neighbours.extend(message::neighbour(&each));
    }
    let routes = routes(handle).await?;
    state.relist(links, addresses, routes, neighbours);
    Ok(())
}

/// Devices with a default route, and the local routes.
async fn routes(handle: &Handle) -> Result<(BTreeSet<u32>, BTreeMap<IpNet, u32>), Error> {
    let (mut devices, mut locals) = (BTreeSet::new(), BTreeMap::new());
    let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
    for family in [v4, v6] {
        let mut listed = handle.route().get(family).execute();
        loop {
            match listed.try_next().await {
                Ok(Some(each)) => {
                    devices.extend(message::default_devices(&each));
                    locals.extend(message::local(&each).map(|local| (local.net, local.ifindex)));
                }
                Ok(None) => break,
                Err(error) => {
                    return Err(Error::List { what: "routes", source: io(error) });
                }
            }
        }
    }
    Ok((devices, locals))
}
