// SPDX-License-Identifier: Apache-2.0
//! How much the verifier had to walk for each program.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use libbpf_rs::Program;
use libbpf_rs::query::ProgInfoIter;

use super::Datapath;

impl Datapath {
    /// Instructions that the verifier walked at load, by program. Empty before Linux 5.16, which
    /// does not tell.
    pub fn verified_instructions(&self) -> BTreeMap<String, u64> {
        let names: BTreeMap<u32, String> = self
            .programs()
            .filter_map(|program| {
                let id = Program::id_from_fd(program.as_fd()).ok()?;
                Some((id, program.name().to_string_lossy().into_owned()))
            })
            .collect();
        ProgInfoIter::default()
            .filter(|info| info.verified_insns > 0)
            .filter_map(|info| Some((names.get(&info.id)?.clone(), info.verified_insns.into())))
            .collect()
    }
}
