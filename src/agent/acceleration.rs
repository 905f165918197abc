// SPDX-License-Identifier: Apache-2.0
//! The driver hook on external devices: attached one by one, watched for a while, and taken off
//! again where the device stops receiving. tc serves whatever the driver hook does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::chain;
use super::status::Feature;
use crate::abi::XdpDevice;
use crate::config::Acceleration as Wanted;
use crate::datapath::netlink::{Link, View};
use crate::datapath::{Datapath, XdpMode, host};

mod below;
mod state;

use state::judge;
pub use state::{Seen, State};

/// Why a device that VLANs lie above is left to tc: their frames would look untagged.
const STRIPPED: &str = "it takes VLAN tags off before the driver hook sees them; turn that off \
                        with `ethtool -K` and `rxvlan off`";

/// For how long traffic is looked at before the program is attached.
const SAMPLE: Duration = Duration::from_secs(1);

/// Drivers that set their rings up anew lose the carrier for some seconds.
const WATCH: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Device {
    ifindex: u32,
    mtu: u32,
    state: State,
}

#[derive(Debug)]
pub struct Acceleration {
    wanted: Wanted,
    /// Those with a driver: an external device, or what lies below one that is a VLAN's.
    devices: BTreeMap<String, Device>,
    /// By the name of an external device, that of its driver's device where it is another.
    below: BTreeMap<String, String>,
    /// Entries of `xdp_devices` and `xdp_vlans`.
    written: [u64; 2],
}

/// The devices whose drivers serve the external devices of `view`.
pub fn devices(view: &View) -> BTreeSet<String> {
    below::hosts(view).values().map(|link| link.name.clone()).collect()
}

impl Acceleration {
    pub fn new(wanted: Wanted) -> Self {
        Self { wanted, devices: BTreeMap::new(), below: BTreeMap::new(), written: [0; 2] }
    }

    const fn mode(&self) -> Option<XdpMode> {
        match self.wanted {
            Wanted::Disabled => None,
            Wanted::Native | Wanted::BestEffort => Some(XdpMode::Native),
            Wanted::TestingOnlyGeneric => Some(XdpMode::Generic),
        }
    }

    /// Takes off what an earlier agent attached, where that is not wanted any more.
    ///
    /// # Errors
    /// A pin or a map cannot be written.
    pub fn start(&self, datapath: &Datapath) -> Result<()> {
        if self.mode().is_none() {
            datapath.detach_all_xdp()?;
            super::uplinks::reconcile(&datapath.maps().xdp_devices, &BTreeMap::new())?;
            super::uplinks::reconcile(&datapath.maps().xdp_vlans, &BTreeMap::new())?;
        }
        Ok(())
    }

    /// When [`Self::step`] has something to do next.
    pub fn due(&self) -> Option<Instant> {
        self.devices.values().filter_map(|device| device.state.due()).min()
    }

    /// Brings the driver hooks one step on, at `now` and with the devices of `view`. Cheap when
    /// nothing is due and no device changed.
    ///
    /// # Errors
    /// A map or a pin cannot be written; devices' own troubles are in their state.
    pub fn step(&mut self, view: &View, datapath: &Datapath, now: Instant) -> Result<()> {
        let Some(mode) = self.mode() else { return Ok(()) };
        let hosts = below::hosts(view);
        let carriers = below::carriers(view);
        let (kept, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.devices).into_iter().partition(|(name, device)| {
                hosts.get(&device.ifindex).is_some_and(|link| link.name == *name)
            });
        self.devices = kept;
        for name in left.keys() {
            datapath.detach_xdp(name)?;
        }
        for (ifindex, link) in hosts {
            let name = link.name.as_str();
            let seen = || Seen { up: link.up, received: host::received(name).unwrap_or_default() };
            let known = self.devices.get(name);
            let stripped =
                carriers.contains(&ifindex) && host::strips_vlan_tags(name).unwrap_or_default();
            let refused_otherwise = known.is_some_and(|device| match &device.state {
                State::Off { reason } => device.mtu != link.mtu || reason == STRIPPED,
                _ => false,
            });
            let state = match known.map(|device| device.state.clone()) {
                Some(known @ State::Off { .. }) if stripped => known,
                _ if stripped => {
                    datapath.detach_xdp(name)?;
                    tracing::warn!(device = name, reason = STRIPPED, "no XDP; tc serves");
                    State::Off { reason: STRIPPED.to_owned() }
                }
                None if datapath.has_xdp(ifindex, name) => {
                    // An earlier agent's, which has stood its trial: swapped in place.
                    self.attach(datapath, ifindex, name, mode, State::On)
                }
                Some(State::Sampled { until, before }) if until <= now => {
                    let busy = seen().received > before.received;
                    let watched = State::Watched { until: now + WATCH, before: seen(), busy };
                    self.attach(datapath, ifindex, name, mode, watched)
                }
                Some(State::Watched { until, before, busy }) if until <= now => {
                    match judge(before, busy, seen()) {
                        None => State::On,
                        Some(reason) => {
                            datapath.detach_xdp(name)?;
                            tracing::warn!(device = name, reason, "XDP taken off");
                            State::Off { reason: reason.to_owned() }
                        }
                    }
                }
                Some(known) if !refused_otherwise => known,
                _ => State::Sampled { until: now + SAMPLE, before: seen() },
            };
            let device = Device { ifindex, mtu: link.mtu, state };
            self.devices.insert(name.to_owned(), device);
        }
        self.below = view
            .uplinks
            .values()
            .filter_map(|uplink| {
                Some((uplink.name.clone(), below::host_of(view, &uplink.name)?.to_owned()))
            })
            .collect();
        self.write(view, datapath)
    }

    fn attach(
        &self,
        datapath: &Datapath,
        ifindex: u32,
        name: &str,
        mode: XdpMode,
        then: State,
    ) -> State {
        match datapath.attach_xdp(ifindex, name, mode) {
            Ok(()) => {
                tracing::info!(device = name, mode = mode.name(), "XDP attached");
                then
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(device = name, reason, "no XDP; tc serves");
                State::Off { reason }
            }
        }
    }

    /// Tells the programs which devices they may send out of.
    fn write(&mut self, view: &View, datapath: &Datapath) -> Result<()> {
        let attached = self.devices.values().filter(|device| device.state.attached());
        let attached: BTreeSet<u32> = attached.map(|device| device.ifindex).collect();
        // Untagged frames are for external devices only.
        let wanted: BTreeMap<u32, XdpDevice> = attached
            .iter()
            .filter(|ifindex| view.uplinks.contains_key(ifindex))
            .filter_map(|ifindex| Some((*ifindex, value(view.links.get(ifindex)?)?)))
            .collect();
        let maps = datapath.maps();
        let vlans = below::vlans(view, &attached);
        self.written = [wanted.len() as u64, vlans.len() as u64];
        super::uplinks::reconcile(&maps.xdp_devices, &wanted)?;
        super::uplinks::reconcile(&maps.xdp_vlans, &vlans)
    }

    /// Devices that `native` promises and that are not served in their driver, with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        let promised = self.wanted == Wanted::Native;
        self.devices.iter().filter(move |_| promised).filter_map(|(name, device)| {
            match &device.state {
                State::Off { reason } => Some((name.as_str(), reason.as_str())),
                State::Sampled { .. } => Some((name.as_str(), "not attached yet")),
                State::Watched { .. } | State::On => None,
            }
        })
    }

    /// Entries of `xdp_devices` and `xdp_vlans`.
    pub const fn written(&self) -> [u64; 2] {
        self.written
    }

    /// What a device has: the word, and why it has nothing better.
    pub fn of_device(&self, name: &str) -> (&'static str, &str) {
        let Some(mode) = self.mode() else { return ("", "") };
        let name = self.below.get(name).map_or(name, String::as_str);
        match self.devices.get(name).map(|device| &device.state) {
            Some(State::On) => (mode.name(), ""),
            Some(State::Watched { .. }) => (mode.name(), "being watched"),
            Some(State::Off { reason }) => ("", reason),
            Some(State::Sampled { .. }) | None => ("", "not attached yet"),
        }
    }

    /// The line of `culvert status`.
    pub fn feature(&self) -> Feature {
        let requested = match self.wanted {
            Wanted::Disabled => return Feature::as_requested("Disabled"),
            Wanted::Native => "Native",
            Wanted::BestEffort => "Best-Effort",
            Wanted::TestingOnlyGeneric => "Generic",
        };
        let total = self.devices.len();
        let attached = self.devices.values().filter(|device| device.state.attached()).count();
        let in_tc = self.devices.iter().filter(|(_, device)| !device.state.attached());
        let reason: Vec<String> =
            in_tc.map(|(name, _)| format!("{name} in tc: {}", self.of_device(name).1)).collect();
        let effective = match (self.wanted, attached) {
            (_, 0) => "Disabled",
            (Wanted::Native, some) if some < total => "Partial",
            _ => requested,
        };
        Feature::instead(requested, effective, reason.join("; "))
    }
}

/// `None` for a device without Ethernet addresses.
fn value(link: &Link) -> Option<XdpDevice> {
    Some(XdpDevice { mac: link.mac.as_slice().try_into().ok()?, pad: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(wanted: Wanted, states: &[(&str, State)]) -> Acceleration {
        let device = |state: &State| Device { ifindex: 2, mtu: 1500, state: state.clone() };
        let devices = states.iter().map(|(name, state)| ((*name).to_owned(), device(state)));
        Acceleration { devices: devices.collect(), ..Acceleration::new(wanted) }
    }

    #[test]
    fn the_status_names_each_device_that_tc_serves_and_why() {
        let off = State::Off { reason: "the driver has no XDP".to_owned() };
        let mixed = [("eth0", State::On), ("eth1", off.clone())];
        let best = with(Wanted::BestEffort, &mixed);
        let expected =
            Feature::instead("Best-Effort", "Best-Effort", "eth1 in tc: the driver has no XDP");
        assert_eq!(best.feature(), expected);
        assert_eq!(best.of_device("eth0"), ("native", ""));
        assert_eq!(best.missing().count(), 0);

        let native = with(Wanted::Native, &mixed);
        assert_eq!(native.feature().effective, "Partial");
        assert_eq!(native.missing().collect::<Vec<_>>(), [("eth1", "the driver has no XDP")]);
        let none = with(Wanted::BestEffort, &[("eth1", off)]);
        assert_eq!(none.feature().effective, "Disabled");
        assert_eq!(with(Wanted::Native, &[("a", State::On)]).feature().effective, "Native");
    }
}
