// SPDX-License-Identifier: Apache-2.0
//! The services and endpoint slices there are, and which services a change touches.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::annotations::Annotations;
use super::owner::Owner;
use super::plan::Trigger;
use crate::model::{EndpointSlice, ObjectName, Service};

#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Boxed: a table has more places than entries, and each place is as large as a value.
    services: HashMap<ObjectName, Box<Service>>,
    slices: HashMap<ObjectName, Box<EndpointSlice>>,
    /// Slice names by the service they are labelled with, sorted.
    slices_of: HashMap<ObjectName, Vec<ObjectName>>,
    pub(super) dirty: BTreeSet<Owner>,
    /// Services with a `healthCheckNodePort`.
    pub(super) checked: BTreeSet<ObjectName>,
    /// Trigger times of the slices changed since their service was planned.
    triggered: BTreeMap<ObjectName, Vec<Trigger>>,
    /// Slices changed since somebody asked, IPv4 first. One that never had an endpoint counts as
    /// IPv4.
    changed_slices: [u64; 2],
}

impl Objects {
    pub(super) fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(Box::as_ref)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.services.keys()
    }

    /// Services of which a slice has hints for zones, each once or more.
    pub(super) fn hinted(&self) -> impl Iterator<Item = &ObjectName> {
        let hinted = |slice: &&EndpointSlice| {
            slice.endpoints.iter().any(|endpoint| !endpoint.hint_zones().is_empty())
        };
        let slices = self.slices.values().map(Box::as_ref);
        let slices = slices.filter(hinted).map(|slice| &slice.service);
        slices.filter(|service| self.services.contains_key(*service))
    }

    /// Services that only some nodes serve, by their labels.
    pub(super) fn selective(&self) -> impl Iterator<Item = &ObjectName> {
        let all = self.services.values();
        all.filter(|service| Annotations::of(service).0.is_selective()).map(|service| &service.name)
    }

    pub(super) fn slice(&self, name: &ObjectName) -> Option<&EndpointSlice> {
        self.slices.get(name).map(Box::as_ref)
    }

    pub(super) fn slice_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.slices.keys()
    }

    /// The slices of `service`, ordered by name.
    pub(super) fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        let names = self.slices_of.get(service).map_or(&[][..], Vec::as_slice);
        names.iter().filter_map(|name| self.slice(name))
    }

    pub(super) fn take_triggered(&mut self, service: &ObjectName) -> Vec<Trigger> {
        self.triggered.remove(service).unwrap_or_default()
    }

    pub(super) fn take_changed_slices(&mut self) -> [u64; 2] {
        std::mem::take(&mut self.changed_slices)
    }

    /// Returns whether anything changed; so do the other changes.
    pub(super) fn set_service(&mut self, service: Service) -> bool {
        if self.service(&service.name) == Some(&service) {
            return false;
        }
        self.dirty.insert(service.name.clone().into());
        self.forget_checked(&service.name);
        if service.health_check_node_port.is_some() {
            self.dirty.insert(Owner::HealthCheck(service.name.clone()));
            self.checked.insert(service.name.clone());
        }
        self.services.insert(service.name.clone(), Box::new(service));
        true
    }

    pub(super) fn remove_service(&mut self, name: &ObjectName) -> bool {
        let known = self.services.remove(name).is_some();
        if known {
            self.forget_checked(name);
            self.dirty.insert(name.clone().into());
        }
        known
    }

    fn forget_checked(&mut self, name: &ObjectName) {
        if self.checked.remove(name) {
            self.dirty.insert(Owner::HealthCheck(name.clone()));
        }
    }

    /// All services with a `healthCheckNodePort` are to be planned anew, as far as that goes.
    pub(super) fn touch_checked(&mut self) {
        self.dirty.extend(self.checked.iter().cloned().map(Owner::HealthCheck));
    }

    pub(super) fn list_services(&mut self, services: Vec<Service>) -> usize {
        let listed: HashSet<ObjectName> = services.iter().map(|s| s.name.clone()).collect();
        let vanished: Vec<ObjectName> =
            self.services.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        let removed = vanished.iter().filter(|name| self.remove_service(name)).count();
        removed + services.into_iter().filter_map(|s| self.set_service(s).then_some(())).count()
    }

    pub(super) fn set_slice(&mut self, slice: EndpointSlice) -> bool {
        if let Some(old) = self.slices.get(&slice.name) {
            if **old == slice {
                return false;
            }
            if old.service != slice.service {
                let name = slice.name.clone();
                self.remove_slice(&name);
            }
        }
        let previous = self.slice(&slice.name);
        let v6 = slice.is_v6().or(previous.and_then(EndpointSlice::is_v6)).unwrap_or(false);
        let before = previous.and_then(|old| old.triggered);
        if let Some(at) = slice.triggered.filter(|time| Some(*time) != before) {
            self.triggered
                .entry(slice.service.clone())
                .or_default()
                .push(Trigger { at: at.into(), v6 });
        }
        self.changed_slices[usize::from(v6)] += 1;
        self.touch(&slice.service);
        let names = self.slices_of.entry(slice.service.clone()).or_default();
        if let Err(place) = names.binary_search(&slice.name) {
            // Most services have one.
            names.reserve_exact(1);
            names.insert(place, slice.name.clone());
        }
        self.slices.insert(slice.name.clone(), Box::new(slice));
        true
    }

    pub(super) fn remove_slice(&mut self, name: &ObjectName) -> bool {
        let Some(slice) = self.slices.remove(name) else {
            return false;
        };
        self.changed_slices[usize::from(slice.is_v6().unwrap_or(false))] += 1;
        self.touch(&slice.service);
        if let Some(names) = self.slices_of.get_mut(&slice.service) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.slices_of.remove(&slice.service);
            }
        }
        true
    }

    /// A list is no news of single changes, so it carries no trigger times.
    pub(super) fn list_slices(&mut self, slices: Vec<EndpointSlice>) -> usize {
        let listed: HashSet<ObjectName> = slices.iter().map(|s| s.name.clone()).collect();
        let vanished: Vec<ObjectName> =
            self.slices.keys().filter(|name| !listed.contains(*name)).cloned().collect();
        let removed = vanished.iter().filter(|name| self.remove_slice(name)).count();
        let triggered = std::mem::take(&mut self.triggered);
        let set = slices.into_iter().filter_map(|s| self.set_slice(s).then_some(())).count();
        self.triggered = triggered;
        removed + set
    }

    /// A slice may come before its service: then there is nothing to plan yet.
    fn touch(&mut self, service: &ObjectName) {
        if self.services.contains_key(service) {
            self.dirty.insert(service.clone().into());
        }
    }
}
