// SPDX-License-Identifier: Apache-2.0
//! Starts an agent: looks at the kernel, opens the datapath over what an earlier agent left,
//! connects sources and servers to the loop, and runs it until it is told to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch};

use super::acceleration::Acceleration;
use super::background;
use super::checks::Checks;
use super::core::{Core, Inputs};
use super::dsr::{Dsr, InKernel};
use super::endpoints::{Endpoints, Settings};
use super::features;
use super::inspect::Observers;
use super::nodes::Nodes;
use super::reaper::Reaper;
use super::report::Report;
use super::retry::Retries;
use super::sync::ServiceSync;
use super::uplinks::Uplinks;
use super::{Handle, report, source, status};
use crate::config::{Config, KubeProxyReplacement, NodePortAddresses};
use crate::datapath::netlink::{self, Filter, Routes, Serving, View};
use crate::datapath::{Datapath, Options, host, probe, sysctl};
use crate::k8s::kube::Observer;
use crate::model::SourceStatus;
use crate::serve::{self, Health, Metrics, Shared};

/// Changes that may queue up before a source has to wait.
const CHANGES: usize = 4096;

/// Events that a slow monitor may be behind.
const EVENTS: usize = 4096;

/// Runs the agent until SIGTERM or SIGINT. Everything pinned goes on without it.
///
/// # Errors
/// What an agent cannot run without: programs, maps, the state directory, its sockets.
pub async fn run(config: Config) -> Result<()> {
    let config = Arc::new(config);
    // First: a second agent must be refused before it touches what the first one uses.
    let local = serve::bind_socket(&config.socket).await?;
    let (public, taken) = serve::public::bind(&config.healthz_bind).await?;

    host::mount_bpffs(bpffs_of(&config)).context("cannot mount a bpffs")?;
    let probe = probe::run(&config.bpf_root);
    features::check(&config, &probe)?;

    let mut problems = Vec::new();
    let mut note = |subject: &str, error: anyhow::Error| {
        tracing::warn!("{subject}: {error:#}");
        let message = format!("{error:#}");
        problems.push(status::Problem { subject: subject.to_owned(), message });
    };
    taken.into_iter().for_each(|error| note("health and metrics", error.into()));
    let mut sysctls = Vec::new();
    match sysctl::enable_forwarding() {
        Ok(changed) => sysctls.extend(changed),
        Err(error) => note("forwarding", error.into()),
    }
    match sysctl::reserve_ports(config.node_port.range.min..=config.node_port.range.max) {
        Ok(changed) => sysctls.extend(changed),
        Err(error) => note("NodePort range", error.into()),
    }

    let cookie = host::netns_cookie().unwrap_or(0);
    let programs = config.datapath(cookie, features::bpf_host_routing(&probe));
    let mut datapath = Datapath::open(Options {
        root: config.bpf_root.clone(),
        config: programs,
        map_sizes: map_sizes(&config),
        map_kinds: BTreeMap::new(),
        programs_off: probe.programs_off(),
        force_clsact: false,
    })?;
    let maps = Arc::clone(datapath.maps());
    let metrics = Arc::new(Metrics::new()?);
    let health = Arc::new(Health::new(config.healthz_timeout));

    datapath.catch_up()?;
    // Sockets and pods find their programs before anything else changes: these are swapped in
    // place and work on what the maps hold.
    let socket_lb = config.socket_lb.enabled
        && match datapath.attach_cgroup(&config.cgroup_root) {
            Ok(()) => true,
            Err(error) if config.kube_proxy_replacement == KubeProxyReplacement::True => {
                return Err(error).context("cannot balance sockets");
            }
            Err(error) => {
                note("socket load balancing", error.into());
                false
            }
        };
    if !socket_lb {
        datapath.detach_cgroup()?;
    }

    let acceleration = Acceleration::new(config.load_balancer.acceleration);
    acceleration.start(&datapath)?;
    let uplinks = Uplinks::adopt(&maps)?;
    let dsr = Dsr::new(&config, &probe, maps.dsr_keys()?)?;
    maps.set_dsr_keys(dsr.keys())?;
    let context = features::context(&config, dsr.forwarding());
    let selection = features::selection(&config);
    let sync = ServiceSync::adopt(Arc::clone(&maps), context, selection, &uplinks.targets())?;
    let settings = Settings {
        state_dir: config.state_dir.clone(),
        hairpin: vec![config.bpf.hairpin_v4.into(), config.bpf.hairpin_v6.into()],
    };
    let (endpoints, refused) = Endpoints::restore(settings, &mut datapath)?;
    refused.into_iter().for_each(|error| note("pods", error.into()));

    let reaper = match Reaper::start(Arc::clone(&maps), Arc::clone(&metrics)) {
        Ok(reaper) => Some(reaper),
        Err(error) => {
            note("connected UDP sockets", error);
            None
        }
    };
    let flows = background::age_flows(Arc::clone(&maps), Arc::clone(&metrics), &programs)?;
    let (events, _) = broadcast::channel(EVENTS);
    if let Err(error) = background::forward_events(&maps, events.clone()) {
        note("events", error.into());
    }
    let routes = Routes::open()?;

    let base = status::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("CULVERT_REVISION").unwrap_or_default().to_owned(),
        node_name: config.node_name.clone(),
        kernel: probe.kernel.clone(),
        started: report::unix_seconds(),
        features: features::of(&config, &probe, socket_lb, dsr.features(0)),
        node_port: config.node_port.range.into(),
        annotations: crate::lb::obeyed_annotations().collect(),
        cgroup_root: config.cgroup_root.display().to_string(),
        native_routing_cidrs: config.native_routing_cidrs(),
        programs: datapath
            .verified_instructions()
            .into_iter()
            .map(|(name, verified_instructions)| status::Program { name, verified_instructions })
            .collect(),
        sysctls: sysctls.into_iter().map(status::Sysctl::from).collect(),
        problems,
        ..status::Status::default()
    };
    let (status_tx, status) = watch::channel(Arc::new(base.clone()));
    let (commands_tx, commands) = mpsc::channel(64);
    let agent = Handle { status, commands: commands_tx, events };
    let shared = Shared {
        agent,
        config: Arc::clone(&config),
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        maps: Arc::clone(&maps),
    };
    tokio::spawn(serve::api::serve(local, shared.clone()));
    for listener in public {
        tokio::spawn(serve::public::serve(listener, shared.clone()));
    }

    let (filter, filtered) = watch::channel(Filter {
        devices: config.devices.iter().map(|name| name.parse()).collect::<Result<_, _>>()?,
        node_ips: Vec::new(),
        node_port_addresses: match &config.node_port.addresses {
            NodePortAddresses::Primary => Serving::Primary,
            NodePortAddresses::Nets(nets) if nets.is_empty() => Serving::All,
            NodePortAddresses::Nets(nets) => Serving::Inside(nets.clone()),
        },
    });
    let (view_tx, view) = watch::channel(Arc::new(View::default()));
    tokio::spawn(async move {
        if let Err(error) = netlink::watch(filtered, view_tx).await {
            tracing::error!(%error, "the node's network is no longer followed");
        }
    });
    let (changes_tx, changes) = mpsc::channel(CHANGES);
    let (source_tx, source) = watch::channel(SourceStatus::default());
    let counting = Arc::clone(&metrics);
    let observer = Observer::new(move |each| {
        counting.api_request(each.method, each.host, each.code, each.took);
    });
    source::follow(&config, changes_tx, source_tx, observer);

    let nodes = Nodes::new(config.node_name.clone(), config.native_routing_cidrs());
    let keeper = serve::keeper::socket_beside(&config.socket);
    let checks = Checks::start(keeper, config.healthz_timeout, Arc::clone(&health));
    let core = Core {
        config,
        datapath,
        sync,
        endpoints,
        uplinks,
        acceleration,
        dsr,
        dsr_kernel: InKernel::open()?,
        nodes,
        reaper,
        routes,
        filter,
        health,
        metrics,
        report: Report::new(base, status_tx, flows),
        checks,
        retries: Retries::default(),
        queued: None,
        synced_once: false,
        relisted: false,
        listed: BTreeSet::new(),
        observers: Observers::default(),
        cni_installed: false,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; the datapath goes on");
    };
    core.run(Inputs { changes, source, commands, view }, stop).await;
    Ok(())
}

/// Where a bpffs is expected: `/sys/fs/bpf` for anything below it.
fn bpffs_of(config: &Config) -> &std::path::Path {
    let usual = std::path::Path::new("/sys/fs/bpf");
    if config.bpf_root.starts_with(usual) { usual } else { &config.bpf_root }
}

fn map_sizes(config: &Config) -> BTreeMap<String, u32> {
    let sizes = [
        ("services", config.bpf.services_max),
        ("backends", config.bpf.backends_max),
        ("target_state", config.bpf.targets_max),
        ("flows", config.bpf.flows_max),
        ("flows_new", config.bpf.flows_new_max),
        ("endpoints", config.bpf.endpoints_max),
        ("owned", config.bpf.owned_max),
        ("vips", config.bpf.vips_max),
        ("source_ranges", config.bpf.source_ranges_max),
        ("affinities", config.bpf.affinities_max),
        // A pod has one, whichever of its addresses is asked for.
        ("clients", config.bpf.endpoints_max),
        ("maglev", config.bpf.maglev_max),
    ];
    sizes.into_iter().map(|(name, size)| (name.to_owned(), size)).collect()
}
