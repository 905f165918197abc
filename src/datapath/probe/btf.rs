// SPDX-License-Identifier: Apache-2.0
//! What the kernel's own type information tells: functions, types and constants.

use std::ffi::OsStr;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Enum, Func, Struct};

use super::checks::Answer;

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// The BTF of the running kernel, if it has one.
pub(super) struct Kernel {
    btf: Result<Btf<'static>, String>,
}

impl Kernel {
    pub(super) fn read() -> Self {
        Self { btf: Btf::from_vmlinux().map_err(|error| error.to_string()) }
    }

    pub(super) fn answer(&self) -> Answer {
        match &self.btf {
            Ok(btf) => Answer::yes(format!("{PATH}, {} types", btf.len())),
            Err(error) => Answer::no(format!("{PATH}: {error}")),
        }
    }

    pub(super) fn function(&self, name: &str) -> Answer {
        self.ask(&format!("function {name}"), |btf| btf.type_by_name::<Func<'_>>(name).is_some())
    }

    pub(super) fn structure(&self, name: &str) -> Answer {
        self.ask(&format!("struct {name}"), |btf| btf.type_by_name::<Struct<'_>>(name).is_some())
    }

    pub(super) fn member(&self, structure: &str, member: &str) -> Answer {
        self.ask(&format!("{structure}.{member}"), |btf| {
            btf.type_by_name::<Struct<'_>>(structure)
                .is_some_and(|found| found.iter().any(|each| each.name == Some(OsStr::new(member))))
        })
    }

    pub(super) fn enumerator(&self, name: &str) -> Answer {
        self.ask(&format!("constant {name}"), |btf| {
            btf.type_by_kind::<Enum<'_>>()
                .any(|each| each.iter().any(|value| value.name == Some(OsStr::new(name))))
        })
    }

    fn ask(&self, what: &str, has: impl FnOnce(&Btf<'_>) -> bool) -> Answer {
        match &self.btf {
            Ok(btf) if has(btf) => Answer::yes(format!("{what} in the kernel's BTF")),
            Ok(_) => Answer::no(format!("no {what} in the kernel's BTF")),
            Err(_) => Answer::no("the kernel has no BTF".to_owned()),
        }
    }
}
