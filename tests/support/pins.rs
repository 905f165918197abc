// SPDX-License-Identifier: Apache-2.0
//! A directory of the machine's bpffs for one test, and a configuration to load with.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use culvert::abi;
use culvert::datapath::{Options, host};

/// Every program but these, for [`Options::programs_off`]: the verifier takes its time for each.
pub fn all_programs_but(kept: &[&str]) -> impl Iterator<Item = String> {
    // The table of the verifier's budget names them all.
    include_str!("../verified_insns.tsv")
        .lines()
        .filter_map(|line| Some(line.split_once('\t')?.0))
        .filter(|name| !kept.contains(name))
        .map(str::to_owned)
}

#[derive(Debug)]
pub struct PinRoot(PathBuf);

impl PinRoot {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        host::mount_bpffs(Path::new("/sys/fs/bpf")).expect("a bpffs; are you root?");
        Self(PathBuf::from(format!("/sys/fs/bpf/culvert-test-{}-{number}", std::process::id())))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Options that load everything into this root, with small maps.
    pub fn options(&self) -> Options {
        let sizes = [
            ("services", 1024),
            ("backends", 4096),
            ("target_state", 4096),
            ("flows", 4096),
            ("flows_new", 4096),
        ];
        Options {
            root: self.0.clone(),
            config: config(),
            map_sizes: sizes.map(|(name, size)| (name.to_owned(), size)).into(),
            map_kinds: Default::default(),
            programs_off: Default::default(),
            force_clsact: false,
        }
    }
}

impl Drop for PinRoot {
    fn drop(&mut self) {
        for dir in ["maps", "links"] {
            let _ = fs::remove_dir_all(self.0.join(dir));
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// What an agent with default settings loads.
pub fn config() -> abi::Config {
    let seconds = |seconds| abi::ticks(std::time::Duration::from_secs(seconds));
    abi::Config {
        host_netns_cookie: host::netns_cookie().unwrap_or(0),
        hairpin_v4: abi::Addr::from_v4([169, 254, 42, 1].into()),
        hairpin_v6: IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0x2a01]).into(),
        nodeport_min: 30000,
        nodeport_max: 32767,
        snat_port_min: 32768,
        snat_port_max: 60999,
        tcp_syn_timeout: seconds(60),
        tcp_established_timeout: seconds(21600),
        tcp_closing_timeout: seconds(10),
        udp_unreplied_timeout: seconds(30),
        udp_stream_timeout: seconds(120),
        maglev_seed: *b"twelve bytes",
        socket_lb: 1,
        socket_lb_host_only: 0,
        bind_protection: 1,
        nodeport: 1,
        bpf_host_routing: 1,
        spoof_check: 1,
        external_ips_inside: 1,
        dsr_dispatch: abi::DsrDispatch::Off as u8,
        dsr_plain_in: 0,
        dsr_plain_out: 0,
        pad: [0; 6],
    }
}
