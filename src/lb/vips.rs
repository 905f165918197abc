// SPDX-License-Identifier: Apache-2.0
//! Map `vips`: every address with an exact frontend, counted over the services that use it.
//!
//! An address is written before the first frontend on it and removed after the last. Whether it
//! stays is known only once the whole batch is planned: one service may take an address over that
//! another gives up.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::owner::Owner;
use super::plan::{Plan, Write};
use crate::abi::{Addr, Vip};

#[derive(Debug, Default)]
pub(super) struct Vips {
    /// Who uses an address, and which `VIP_*` each asks for.
    users: HashMap<Addr, Vec<(Owner, u32)>>,
    /// The flags in the map. None: a write failed, so what the map holds is not known.
    written: HashMap<Addr, Option<u32>>,
    /// There may be frontends that no service has: nothing is removed until they are pruned.
    orphans: bool,
}

impl Vips {
    pub(super) fn adopt(&mut self, found: &BTreeMap<Addr, Vip>) {
        self.orphans = true;
        self.written = found.iter().map(|(addr, vip)| (*addr, Some(vip.flags))).collect();
    }

    /// `name` used `before` and uses `wanted` from now on.
    pub(super) fn change(&mut self, name: &Owner, before: &[Addr], wanted: &BTreeMap<Addr, u32>) {
        for addr in before.iter().filter(|addr| !wanted.contains_key(addr)) {
            if let Some(users) = self.users.get_mut(addr) {
                users.retain(|(user, _)| user != name);
                if users.is_empty() {
                    self.users.remove(addr);
                }
            }
        }
        for (addr, flags) in wanted {
            let users = self.users.entry(*addr).or_default();
            match users.iter_mut().find(|(user, _)| user == name) {
                Some((_, old)) => *old = *flags,
                None => {
                    // Most addresses have one user.
                    users.reserve_exact(1);
                    users.push((name.clone(), *flags));
                }
            }
        }
    }

    /// Adds to a batch's plans what the addresses that they touch need. Every plan that uses an
    /// address writes it: none may depend on another's success.
    pub(super) fn settle(&mut self, plans: &mut [Plan]) {
        let mut fresh = HashSet::new();
        for plan in plans {
            for addr in &plan.touched {
                let wanted = self.flags(addr);
                let written = self.written.get(addr);
                match (wanted, written) {
                    (Some(flags), Some(Some(old))) if flags == *old && !fresh.contains(addr) => {}
                    (Some(flags), _) => {
                        fresh.insert(*addr);
                        self.written.insert(*addr, Some(flags));
                        plan.prepare.push(Write::Vip { addr: *addr, value: Vip { flags, pad: 0 } });
                    }
                    (None, Some(_)) if !self.orphans => {
                        self.written.remove(addr);
                        plan.gone.push(Write::RemoveVip { addr: *addr });
                    }
                    (None, _) => {}
                }
            }
        }
    }

    /// What the users of an address ask for; None: it has none.
    pub(super) fn flags(&self, addr: &Addr) -> Option<u32> {
        let users = self.users.get(addr)?;
        Some(users.iter().fold(0, |flags, (_, own)| flags | own))
    }

    /// A write failed: the map may or may not have it.
    pub(super) fn is_unsure(&self, addr: &Addr) -> bool {
        self.written.get(addr).is_some_and(Option::is_none)
    }

    /// Entries of the map, also those that may not be there.
    pub(super) fn in_use(&self) -> u64 {
        self.written.len() as u64
    }

    /// What is known to be in the map.
    pub(super) fn known(&self) -> BTreeMap<Addr, Vip> {
        let known = |(addr, flags): (&Addr, &Option<u32>)| {
            flags.map(|flags| (*addr, Vip { flags, pad: 0 }))
        };
        self.written.iter().filter_map(known).collect()
    }

    /// Plans the removal of all that nobody uses, but for `kept`, whose users are still to come.
    pub(super) fn prune(&mut self, plan: &mut Plan, kept: &HashSet<Addr>) {
        self.orphans = !kept.is_empty();
        let unused: Vec<Addr> = self
            .written
            .keys()
            .filter(|addr| !self.users.contains_key(addr) && !kept.contains(addr))
            .copied()
            .collect();
        for addr in unused {
            self.written.remove(&addr);
            plan.gone.push(Write::RemoveVip { addr });
        }
    }

    /// What of `plan` arrived is not known: its frontends may still be there.
    pub(super) fn doubt(&mut self, plan: &Plan) {
        match &plan.owner {
            None => self.orphans = true,
            Some(name) => {
                for addr in &plan.touched {
                    let users = self.users.entry(*addr).or_default();
                    if users.iter().all(|(user, _)| user != name) {
                        users.push((name.clone(), 0));
                    }
                }
            }
        }
        for write in plan.prepare.iter().chain(&plan.gone) {
            if let Write::Vip { addr, .. } | Write::RemoveVip { addr } = write {
                self.written.insert(*addr, None);
            }
        }
    }
}
