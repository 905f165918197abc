// SPDX-License-Identifier: Apache-2.0
//! Reads the ring that drops and traces are reported on.
//!
//! The ring has one consumer: whoever reads takes. The agent reads it while it runs, `culvert
//! monitor` asks the agent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapHandle, RingBufferBuilder};
use tokio::sync::mpsc;
use zerocopy::FromBytes as _;

use super::maps::Maps;
use super::sys;
use crate::abi::Event;

/// How long the reading thread may outlive its [`Events`].
const POLL: Duration = Duration::from_millis(200);

/// Records as they come. Dropping it ends the reading.
#[derive(Debug)]
pub struct Events {
    records: mpsc::Receiver<Event>,
    lost: Arc<AtomicU64>,
}

impl Events {
    /// Starts reading, with at most `backlog` records waiting to be taken.
    pub fn open(maps: &Maps, backlog: usize) -> io::Result<Self> {
        // A handle of its own: the thread must not borrow the maps.
        let id = sys::map_info(maps.events())?.id;
        let ring = MapHandle::from_map_id(id).map_err(io::Error::other)?;
        let (sender, records) = mpsc::channel(backlog);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = lost.clone();
        let (ready, started) = std::sync::mpsc::channel();
        thread::Builder::new().name("events".to_owned()).spawn(move || {
            let done = sender.clone();
            let receive = move |bytes: &[u8]| {
                // The length is the program's to choose; a version apart, it may be longer.
                if let Ok((event, _)) = Event::read_from_prefix(bytes)
                    && sender.try_send(event).is_err()
                {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                0
            };
            let mut builder = RingBufferBuilder::new();
            let added = builder.add(&ring, receive).map(drop);
            let ring = match added.and_then(|()| builder.build()) {
                Ok(ring) => ring,
                Err(error) => {
                    let _ = ready.send(Err(io::Error::other(error)));
                    return;
                }
            };
            let _ = ready.send(Ok(()));
            while !done.is_closed() {
                if let Err(error) = ring.poll(POLL)
                    && error.kind() != libbpf_rs::ErrorKind::Interrupted
                {
                    tracing::warn!(%error, "cannot read the event ring");
                    thread::sleep(POLL);
                }
            }
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { records, lost })
    }

    /// The next record; `None` never comes while the reader lives.
    pub async fn next(&mut self) -> Option<Event> {
        self.records.recv().await
    }

    /// Records that were thrown away because nobody took them in time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
