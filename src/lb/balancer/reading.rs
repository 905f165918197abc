// SPDX-License-Identifier: Apache-2.0
//! What explanations and audits read of the state.

use super::Balancer;
use crate::abi::{Service, ServiceKey};
use crate::lb::adopt::Adopted;
use crate::lb::claims::Claims;
use crate::lb::list::{List, ListKey};
use crate::lb::objects::Objects;
use crate::lb::owner::Owner;
use crate::lb::record::Record;
use crate::lb::tables::Tables;
use crate::lb::vips::Vips;
use crate::model::{ObjectName, Pod};

impl Balancer {
    pub(in crate::lb) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(in crate::lb) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(in crate::lb) fn vips(&self) -> &Vips {
        &self.vips
    }

    /// What an earlier agent left and nobody has claimed yet.
    pub(in crate::lb) fn adopted(&self) -> &Adopted {
        &self.adopted
    }

    /// What is written, with what is still to go.
    pub(in crate::lb) fn records(&self) -> impl Iterator<Item = (Option<&Owner>, &Record)> {
        let owned = self.records.iter().map(|(owner, record)| (Some(owner), record.as_ref()));
        owned.chain([(None, &self.orphans)])
    }

    /// What `settings.host_ports` holds; None: a write failed.
    pub(in crate::lb) fn host_ports_written(&self) -> Option<u32> {
        self.host_ports.written()
    }

    pub(in crate::lb) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// A change waits for its plan.
    pub(in crate::lb) fn is_pending(&self, owner: &Owner) -> bool {
        self.objects.dirty.contains(owner)
    }

    /// What was written for a frontend of `owner`.
    pub(in crate::lb) fn value_of(&self, owner: &Owner, key: &ServiceKey) -> Option<Service> {
        let frontends = &self.records.get(owner)?.frontends;
        let place = frontends.binary_search_by_key(key, |(key, _)| *key).ok()?;
        frontends[place].1
    }

    /// As problems name it.
    pub(in crate::lb) fn subject(&self, owner: &Owner) -> String {
        self.pods.subject(owner)
    }

    /// Not all its endpoints found a place in the maps.
    pub(in crate::lb) fn is_short(&self, owner: &Owner) -> bool {
        self.short.contains_key(owner)
    }

    /// The list that is written for `key` of `owner`.
    pub(in crate::lb) fn list_of(&self, owner: &Owner, key: ListKey) -> Option<&List> {
        self.records.get(owner)?.lists.iter().find(|list| list.key == key)
    }

    pub(in crate::lb) fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    pub(in crate::lb) fn pod_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.pods.names()
    }

    /// Whether `pod` is one that [`Balancer::set_pod`] keeps.
    pub(in crate::lb) fn keeps_pod(&self, pod: &Pod) -> bool {
        self.has_host_ports(pod)
    }
}
