// SPDX-License-Identifier: Apache-2.0
//! Names of pinned links: `<device>_<program>`.
//!
//! A bpffs takes no dots, which device names may have (`eth0.100`); a colon, which they may not
//! have, stands for each.

/// Stands for the device in the names of links that are on the cgroup.
pub(super) const CGROUP: &str = "cgroup:";

const PROGRAMS: &[&str] = &[
    "from_container",
    "to_container",
    "from_netdev",
    "to_netdev",
    "from_overlay",
    "to_overlay",
    "xdp_entry",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) device: String,
    pub(super) program: String,
}

pub(super) fn pin(device: &str, program: &str) -> String {
    format!("{}_{program}", device.replace('.', ":"))
}

/// `None` for a file that is no link of ours.
pub(super) fn parse(file: &str) -> Option<Pin> {
    if let Some(program) = file.strip_prefix("cgroup:_") {
        return Some(Pin { device: CGROUP.to_owned(), program: program.to_owned() });
    }
    PROGRAMS.iter().find_map(|program| {
        let device = file.strip_suffix(program)?.strip_suffix('_')?;
        Some(Pin { device: device.replace(':', "."), program: (*program).to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_back_as_what_it_was_made_from() {
        for (device, program) in
            [("eth0.100", "from_netdev"), ("a_b", "to_container"), ("cgroup", "xdp_entry")]
        {
            let name = pin(device, program);
            assert!(!name.contains('.'), "{name}");
            let expected = Pin { device: device.to_owned(), program: program.to_owned() };
            assert_eq!(parse(&name), Some(expected));
        }
    }

    #[test]
    fn a_device_named_cgroup_is_not_the_cgroup() {
        assert_ne!(pin("cgroup", "connect4"), pin(CGROUP, "connect4"));
        assert_eq!(parse(&pin(CGROUP, "connect4")).unwrap().device, CGROUP);
    }

    #[test]
    fn a_foreign_file_is_no_link_of_ours() {
        assert_eq!(parse("eth0_somebody_elses"), None);
    }
}
