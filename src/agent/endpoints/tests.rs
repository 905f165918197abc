// SPDX-License-Identifier: Apache-2.0
//! Decisions only; the kernel's side is tested where the real one is, in `tests/lab`.

use std::path::Path;

use super::*;
use crate::abi;

/// Remembers entries and devices, and can be told to refuse.
#[derive(Debug, Default)]
struct Memory {
    devices: BTreeMap<String, u32>,
    entries: BTreeMap<IpAddr, abi::Endpoint>,
    refuses: bool,
}

impl Kernel for Memory {
    fn ifindex(&self, device: &PodDevice) -> Option<u32> {
        self.devices.get(&device.name).copied()
    }

    fn install(
        &mut self,
        _: &PodDevice,
        addresses: &[IpAddr],
        entry: abi::Endpoint,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(!self.refuses, "refused");
        self.entries.extend(addresses.iter().map(|ip| (*ip, entry)));
        Ok(())
    }

    fn remove(&mut self, _: &PodDevice, addresses: &[IpAddr]) -> anyhow::Result<()> {
        self.entries.retain(|ip, _| !addresses.contains(ip));
        Ok(())
    }

    fn keep_only(&mut self, known: &BTreeSet<IpAddr>) -> anyhow::Result<()> {
        self.entries.retain(|ip, _| known.contains(ip));
        Ok(())
    }

    fn entries_of(&self, ifindex: u32) -> anyhow::Result<Vec<(IpAddr, abi::Endpoint)>> {
        let entries = self.entries.iter().filter(|(_, entry)| entry.ifindex == ifindex);
        Ok(entries.map(|(ip, entry)| (*ip, *entry)).collect())
    }

    fn entry(&self, ip: IpAddr) -> anyhow::Result<Option<abi::Endpoint>> {
        Ok(self.entries.get(&ip).copied())
    }

    fn netns_number(&self, ifindex: u32) -> u32 {
        ifindex + 1
    }

    fn netns_cookie(&self, _: &Path) -> u64 {
        7
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    kernel: Memory,
    endpoints: Endpoints,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut kernel = Memory::default();
        let endpoints = Self::start(dir.path(), &mut kernel);
        Self { dir, kernel, endpoints }
    }

    fn start(state_dir: &Path, kernel: &mut Memory) -> Endpoints {
        let (endpoints, problems) = Self::start_with_problems(state_dir, kernel);
        assert_eq!(problems, []);
        endpoints
    }

    fn start_with_problems(state_dir: &Path, kernel: &mut Memory) -> (Endpoints, Vec<Error>) {
        let settings = Settings {
            state_dir: state_dir.to_owned(),
            hairpin: vec!["169.254.42.1".parse().unwrap()],
        };
        let (mut endpoints, problems) = Endpoints::restore(settings, kernel).unwrap();
        endpoints.set_pod_cidrs(&["10.1.0.0/29".parse().unwrap(), "fd00:1::/120".parse().unwrap()]);
        (endpoints, problems)
    }

    fn restart(&mut self) {
        self.endpoints = Self::start(self.dir.path(), &mut self.kernel);
    }

    fn call(&mut self, call: Call) -> Result<Reply, Error> {
        self.endpoints.handle(call, &mut self.kernel)
    }

    fn allocate(&mut self, container: &str) -> Allocation {
        match self.call(Call::Allocate(attachment(container))).unwrap() {
            Reply::Allocation(allocation) => allocation,
            other => panic!("{other:?}"),
        }
    }

    /// A whole ADD.
    fn add(&mut self, container: &str) -> Vec<IpAddr> {
        let addresses = self.allocate(container).addresses.iter().map(|a| a.ip).collect();
        let add = self.second_half(container, addresses);
        self.call(Call::Add(add.clone())).unwrap();
        add.addresses
    }

    fn second_half(&mut self, container: &str, addresses: Vec<IpAddr>) -> Add {
        let attachment = attachment(container);
        let ifindex = 100 + self.kernel.devices.len() as u32;
        self.kernel.devices.insert(attachment.host_ifname(), ifindex);
        Add {
            attachment,
            ifindex,
            mac: [2, 0, 0, 0, 0, 1],
            host_mac: [2, 0, 0, 0, 0, 2],
            addresses,
            netns: "/run/netns/x".into(),
            pod: Some("shop/web".into()),
        }
    }
}

fn attachment(container: &str) -> Attachment {
    Attachment { container_id: container.into(), ifname: "eth0".into() }
}

#[test]
fn an_added_pod_is_known_and_a_deleted_one_is_not() {
    let mut node = Fixture::new();
    let addresses = node.add("a");
    assert_eq!(addresses, ["10.1.0.2", "fd00:1::2"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!(node.kernel.entries.len(), 2);
    assert_eq!(node.endpoints.at(addresses[1]).unwrap().pod.as_deref(), Some("shop/web"));
    node.call(Call::Del(attachment("a"))).unwrap();
    node.call(Call::Del(attachment("a"))).unwrap();
    assert_eq!(node.kernel.entries.len(), 0);
    assert_eq!(node.endpoints.list().count(), 0);
}

#[test]
fn each_address_comes_with_the_gateway_of_its_own_cidr() {
    let gateways: Vec<IpAddr> =
        Fixture::new().allocate("a").addresses.iter().map(|a| a.gateway).collect();
    let expected: Vec<IpAddr> = ["10.1.0.1", "fd00:1::1"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(gateways, expected);
}

#[test]
fn addresses_survive_a_restart_and_are_not_given_twice() {
    let mut node = Fixture::new();
    let first = node.add("a");
    node.kernel.entries.insert("10.1.0.77".parse().unwrap(), node.kernel.entries[&first[0]]);
    node.restart();
    assert_eq!(node.kernel.entries.keys().copied().collect::<Vec<_>>(), first);
    for container in ["b", "c", "d", "e"] {
        let other = node.add(container);
        assert!(other.iter().all(|ip| !first.contains(ip)), "{other:?}");
    }
    let full = node.call(Call::Allocate(attachment("f"))).unwrap_err();
    assert_eq!(full.code, code::TRY_AGAIN);
    assert!(full.details.contains("10.1.0.0/29"), "{full}");
}

#[test]
fn a_pod_whose_device_is_gone_is_forgotten_at_start() {
    let mut node = Fixture::new();
    node.add("a");
    node.kernel.devices.clear();
    node.restart();
    assert_eq!(node.endpoints.list().count(), 0);
    assert_eq!(node.kernel.entries.len(), 0);
    node.restart();
    assert_eq!(node.endpoints.list().count(), 0);
}

#[test]
fn a_deletion_without_the_agent_is_made_up_for() {
    let mut node = Fixture::new();
    node.add("a");
    deletion::record(node.dir.path(), &attachment("a")).unwrap();
    node.restart();
    assert_eq!(node.endpoints.list().count(), 0);
    assert_eq!(deletion::pending(node.dir.path()).unwrap(), []);

    node.add("b");
    deletion::record(node.dir.path(), &attachment("b")).unwrap();
    node.add("c");
    assert_eq!(
        node.endpoints.list().map(|e| &*e.attachment.container_id).collect::<Vec<_>>(),
        ["c"]
    );
}

#[test]
fn an_add_across_a_restart_is_refused_rather_than_guessed() {
    let mut node = Fixture::new();
    let addresses: Vec<IpAddr> = node.allocate("a").addresses.iter().map(|a| a.ip).collect();
    let add = node.second_half("a", addresses);
    node.restart();
    assert_eq!(node.call(Call::Add(add)).unwrap_err().code, code::TRY_AGAIN);
}

#[test]
fn a_failed_attach_keeps_the_address_until_the_plugin_gives_it_back() {
    let mut node = Fixture::new();
    let addresses: Vec<IpAddr> = node.allocate("a").addresses.iter().map(|a| a.ip).collect();
    let add = node.second_half("a", addresses.clone());
    node.kernel.refuses = true;
    let refused = node.call(Call::Add(add)).unwrap_err();
    assert!(refused.details.contains("refused"), "{refused}");
    node.kernel.refuses = false;
    assert_ne!(node.add("b"), addresses);
    node.call(Call::Del(attachment("a"))).unwrap();
    node.restart();
    assert_eq!(node.endpoints.list().count(), 1);
}

#[test]
fn check_compares_with_what_was_given_and_with_the_datapath() {
    let mut node = Fixture::new();
    let addresses = node.add("a");
    let check = |addresses: &[IpAddr]| {
        Call::Check(Check { attachment: attachment("a"), addresses: addresses.to_vec() })
    };
    node.call(check(&addresses)).unwrap();
    assert_eq!(node.call(check(&addresses[..1])).unwrap_err().code, code::CHECK_FAILED);
    node.kernel.entries.remove(&addresses[0]);
    assert_eq!(node.call(check(&addresses)).unwrap_err().code, code::CHECK_FAILED);
    node.call(Call::Del(attachment("a"))).unwrap();
    assert_eq!(node.call(check(&addresses)).unwrap_err().code, code::UNKNOWN_CONTAINER);
}

#[test]
fn gc_names_what_is_not_valid_any_more() {
    let mut node = Fixture::new();
    node.add("a");
    node.add("b");
    node.allocate("c");
    let reply = node.call(Call::Gc(Gc { valid: vec![attachment("b")] })).unwrap();
    let Reply::Stale(Stale { mut stale }) = reply else { panic!("{reply:?}") };
    stale.sort();
    assert_eq!(stale, [attachment("a"), attachment("c")]);
}

#[test]
fn status_gives_the_reason_for_not_being_ready() {
    let mut node = Fixture::new();
    assert_eq!(node.call(Call::Status).unwrap_err().code, code::NOT_AVAILABLE);
    node.endpoints.set_not_ready(None);
    node.call(Call::Status).unwrap();
}

#[test]
fn a_file_cut_short_is_named_and_its_pod_and_all_others_go_on() {
    let mut node = Fixture::new();
    let (cut, whole) = (node.add("cut"), node.add("whole"));
    let file = node.dir.path().join(format!("endpoints/{}.json", attachment("cut").id()));
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 3]).unwrap();

    let (endpoints, problems) = Fixture::start_with_problems(node.dir.path(), &mut node.kernel);
    node.endpoints = endpoints;
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.msg.contains(file.to_str().unwrap()), "{problem}");
    for ip in cut.iter().chain(&whole) {
        assert!(node.kernel.entries.contains_key(ip), "{ip}");
    }
    let mut devices = [attachment("cut"), attachment("whole")].map(|a| a.host_ifname());
    let mut kept: Vec<String> = node.endpoints.devices().collect();
    devices.sort();
    kept.sort();
    assert_eq!(kept, devices);
    assert!(!node.add("new").iter().any(|ip| cut.contains(ip)));

    node.call(Call::Del(attachment("cut"))).unwrap();
    assert!(!file.exists());
    assert!(cut.iter().all(|ip| node.endpoints.pool.holder(*ip).is_none()));
    assert!(cut.iter().all(|ip| !node.kernel.entries.contains_key(ip)));
}
