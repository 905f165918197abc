// SPDX-License-Identifier: Apache-2.0
//! Services from manifests into real maps: time of a full sync and of one change, and memory.
//!
//! Prints `name<TAB>value<TAB>unit` lines. Needs root. Each size runs in a process of its own, so
//! that its memory is its own. The time is from reading the directory to the last map write; the
//! memory is of sources, model, plans and tables, once everything is written.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use culvert::abi::{Addr, Config};
use culvert::agent::sync::ServiceSync;
use culvert::datapath::{Datapath, Options, host};
use culvert::k8s::manifests;
use culvert::lb::{Context as Node, Selection};
use culvert::model::{Change, Kind, Object, SourceStatus};
use tokio::sync::{mpsc, watch};

const SIZES: [usize; 3] = [100, 1000, 10_000];
const ENDPOINTS: usize = 10;
/// Changes that are timed, one after the other.
const CHANGES: usize = 50;
/// Services in one file.
const FILE: usize = 500;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    if args.next().as_deref() == Some("one") {
        return one(args.next().context("a number of services")?.parse()?);
    }
    for size in SIZES {
        let me = std::env::current_exe()?;
        let status = Command::new(me).args(["one", &size.to_string()]).status()?;
        ensure!(status.success(), "the run with {size} services failed");
    }
    Ok(())
}

fn one(services: usize) -> Result<()> {
    let dir = scratch("manifests");
    fs::create_dir_all(&dir)?;
    let root =
        PathBuf::from("/sys/fs/bpf").join(format!("culvert-bench-sync-{}", std::process::id()));
    let outcome = write(&dir, services).and_then(|()| measure(services, &dir, &root));
    fs::remove_dir_all(&dir)?;
    for part in ["maps", "links"] {
        let _ = fs::remove_dir_all(root.join(part));
    }
    let _ = fs::remove_dir(&root);
    outcome
}

fn measure(services: usize, dir: &Path, root: &Path) -> Result<()> {
    host::mount_bpffs(Path::new("/sys/fs/bpf"))?;
    let datapath = Datapath::open(Options {
        root: root.to_owned(),
        config: config(),
        map_sizes: Default::default(),
        map_kinds: Default::default(),
        programs_off: Default::default(),
        force_clsact: false,
    })?;
    let node = Node::of("node-0");
    let mut sync =
        ServiceSync::adopt(Arc::clone(datapath.maps()), node, Selection::default(), &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;

    let (tx, mut changes) = mpsc::channel(4096);
    let (status, _status) = watch::channel(SourceStatus::default());
    let started = Instant::now();
    runtime.spawn(manifests::run(dir.to_owned(), None, tx, status));
    let mut sample = None;
    while !sync.listed() {
        let change = changes.blocking_recv().context("the source ended")?;
        if let Change::Listed(Kind::EndpointSlice, slices) = &change {
            sample = slices.get(slices.len() / 2).cloned();
        }
        sync.change(change);
    }
    while !sync.synced() {
        sync.step(Instant::now());
    }
    let full = started.elapsed();
    // As the agent does.
    host::trim_heap();
    ensure!(sync.problems().is_empty(), "{:?}", sync.problems());
    ensure!(sync.balancer().totals().backends as usize == services * ENDPOINTS, "not all written");
    println!("sync_{services}_ms\t{}\tms", full.as_millis());

    let Some(Object::Slice(mut slice)) = sample else { anyhow::bail!("no slice was listed") };
    let mut times = Vec::new();
    for _ in 0..CHANGES {
        slice.endpoints[0].ready = !slice.endpoints[0].ready;
        // The gathering of bursts is not what is measured.
        std::thread::sleep(Duration::from_millis(60));
        let started = Instant::now();
        sync.change(Change::Set(Object::Slice(slice.clone())));
        while sync.balancer().pending() > 0 {
            sync.step(Instant::now());
        }
        times.push(started.elapsed());
    }
    times.sort();
    let largest = services == SIZES[SIZES.len() - 1];
    let size = if largest { String::new() } else { format!("_{services}") };
    println!("change{size}_us\t{}\tus", times[times.len() / 2].as_micros());
    if largest {
        println!("rss_{services}_kib\t{}\tKiB", rss_kib()?);
    }
    Ok(())
}

fn rss_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// What `kubectl get -o yaml` would show, in files of [`FILE`] services.
fn write(dir: &Path, services: usize) -> Result<()> {
    for first in (0..services).step_by(FILE) {
        let mut yaml = String::new();
        for number in first..(first + FILE).min(services) {
            document(&mut yaml, number)?;
        }
        fs::write(dir.join(format!("{first:06}.yaml")), yaml)?;
    }
    Ok(())
}

fn document(yaml: &mut String, number: usize) -> std::fmt::Result {
    let (high, low) = (number / 250, number % 250 + 1);
    write!(
        yaml,
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: service-{number}\n  namespace: \
         bench\nspec:\n  type: ClusterIP\n  clusterIP: 10.96.{high}.{low}\n  clusterIPs:\n  - \
         10.96.{high}.{low}\n  ipFamilies:\n  - IPv4\n  ports:\n  - name: http\n    port: 80\n    \
         protocol: TCP\n    targetPort: 8080\n---\napiVersion: discovery.k8s.io/v1\nkind: \
         EndpointSlice\nmetadata:\n  name: service-{number}-x\n  namespace: bench\n  labels:\n    \
         kubernetes.io/service-name: service-{number}\naddressType: IPv4\nports:\n- name: http\n  \
         port: 8080\n  protocol: TCP\nendpoints:\n"
    )?;
    for endpoint in 0..ENDPOINTS {
        let pod = number * ENDPOINTS + endpoint;
        let (b, c, d) = (pod / 65_536, pod / 256 % 256, pod % 256);
        write!(
            yaml,
            "- addresses:\n  - 10.{}.{c}.{d}\n  conditions:\n    ready: true\n    serving: true\n    \
             terminating: false\n  nodeName: node-{}\n  targetRef:\n    kind: Pod\n    name: \
             pod-{pod}\n    namespace: bench\n  zone: zone-{}\n",
            128 + b,
            pod % 100,
            pod % 3
        )?;
    }
    Ok(())
}

fn config() -> Config {
    Config {
        host_netns_cookie: host::netns_cookie().unwrap_or(0),
        hairpin_v4: Addr::from_v4([169, 254, 42, 1].into()),
        ..zerocopy::FromZeros::new_zeroed()
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("culvert-bench-{name}-{}", std::process::id()))
}
