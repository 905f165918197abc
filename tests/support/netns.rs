// SPDX-License-Identifier: Apache-2.0
//! Anonymous network namespaces.
//!
//! A namespace lives as long as its [`NetNs`]: it has no name to collide with a parallel test and
//! nothing to clean up after a panic.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

#[derive(Debug)]
pub struct NetNs(File);

impl NetNs {
    /// A fresh namespace with loopback up.
    pub fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET); are you root?");
            File::open("/proc/thread-self/ns/net").expect("/proc is mounted")
        });
        let ns = Self(file.join().expect("no panic"));
        ns.ip("link set lo up");
        ns
    }

    /// Runs `f` inside the namespace. Sockets it opens stay there.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns; are you root?");
                f()
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs `ip ARGS` inside the namespace.
    #[track_caller]
    pub fn ip(&self, args: &str) {
        let status = self.run(|| {
            Command::new("ip").args(args.split(' ')).status().expect("iproute2 is installed")
        });
        assert!(status.success(), "ip {args}: {status}");
    }

    /// Where other processes find the namespace for as long as this one lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Connects this namespace to `peer`, both ends up, and addressed unless the address is empty.
    pub fn veth(&self, dev: &str, addr: &str, peer: &NetNs, peer_dev: &str, peer_addr: &str) {
        let path = peer.path();
        self.ip(&format!("link add {dev} type veth peer name {peer_dev} netns {}", path.display()));
        for (ns, dev, addr) in [(self, dev, addr), (peer, peer_dev, peer_addr)] {
            if !addr.is_empty() {
                ns.ip(&format!("addr add {addr} dev {dev}"));
            }
            ns.ip(&format!("link set {dev} up"));
        }
    }
}
