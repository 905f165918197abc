// SPDX-License-Identifier: Apache-2.0
//! Takes over what merely is, and writes everything out.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use prometheus::IntCounterVec;

use super::process::Process;
use super::{Family, Metrics, Stage};
use crate::abi::{Counter, Hook, Outcome};
use crate::agent::status::{Source, Status};
use crate::datapath::map::Operations;
use crate::datapath::{Maps, host};

impl Metrics {
    /// The whole page, with `status` and the packet counters of this moment.
    pub fn render(&self, status: &Status, maps: &Maps) -> Result<String> {
        let counters = maps.counters().context("cannot read the packet counters")?;
        self.heap.set(host::heap_in_use() as i64);
        match Process::read() {
            Ok(process) => self.take_process(&process),
            Err(error) => tracing::debug!(%error, "cannot read the agent's own figures"),
        }
        self.take_operations(&maps.operations());
        self.page(status, &counters)
    }

    pub(super) fn page(
        &self,
        status: &Status,
        counters: &[(Outcome, Hook, Counter)],
    ) -> Result<String> {
        let _exclusive = self.exclusive();
        self.start_at_zero();
        self.take_status(status);
        self.take_counters(counters);
        self.registry.text().context("cannot write the metrics")
    }

    /// An alert on a rate needs the first sample, and a dashboard a name that is there.
    fn start_at_zero(&self) {
        for stage in [Stage::Full, Stage::Partial] {
            self.sync_errors.with_label_values(&[stage.name()]);
            self.sync_duration.with_label_values(&[stage.name()]);
        }
        for family in Family::ALL {
            let label = [family.name()];
            for histograms in [
                &self.kp_sync,
                &self.kp_sync_full,
                &self.kp_sync_partial,
                &self.kp_programming,
                &self.kp_conntrack,
            ] {
                histograms.with_label_values(&label);
            }
            for counters in
                [&self.kp_service_total, &self.kp_endpoint_total, &self.kp_conntrack_deleted]
            {
                counters.with_label_values(&label);
            }
            for gauges in [&self.kp_service_pending, &self.kp_endpoint_pending] {
                gauges.with_label_values(&label);
            }
            for gauges in [&self.kp_last, &self.kp_queued] {
                gauges.with_label_values(&label);
            }
        }
        for code in ["200", "503"] {
            self.kp_healthz.with_label_values(&[code]);
            self.kp_livez.with_label_values(&[code]);
        }
    }

    pub(super) fn take_process(&self, process: &Process) {
        // Only upwards, whatever is read.
        let more = process.cpu_seconds - self.process_cpu.get();
        self.process_cpu.inc_by(more.max(0.0));
        self.process_start.set(process.start_seconds);
        for (gauge, value) in [
            (&self.process_resident, process.resident_bytes),
            (&self.process_virtual, process.virtual_bytes),
            (&self.process_fds, process.open_fds),
            (&self.process_fds_max, process.max_fds),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    fn take_status(&self, status: &Status) {
        self.build_info.reset();
        let build = [status.version.as_str(), &status.revision, &status.kernel];
        self.build_info.with_label_values(&build).set(1.0);
        self.ready.set(status.ready.into());
        self.feature.reset();
        for (name, feature) in status.features.all() {
            let labels = [name, feature.requested.as_str(), &feature.effective];
            self.feature.with_label_values(&labels).set(1);
        }

        let sync = &status.sync;
        for (gauge, value) in [
            (&self.services, sync.services),
            (&self.pending, sync.pending),
            (&self.endpoints, status.endpoints.len() as u64),
        ] {
            gauge.set(value as i64);
        }

        self.frontends.reset();
        for (name, count) in &sync.frontend_types {
            self.frontends.with_label_values(&[name.as_str()]).set(*count as i64);
        }
        let idle = sync.backends_terminating + sync.backends_not_ready;
        for (state, slots) in [
            ("active", sync.backends.saturating_sub(idle)),
            ("terminating", sync.backends_terminating),
            ("not_ready", sync.backends_not_ready),
        ] {
            self.backends.with_label_values(&[state]).set(slots as i64);
        }

        for (policy, ports) in
            [("internal", sync.no_local_internal), ("external", sync.no_local_external)]
        {
            for (family, ports) in Family::ALL.into_iter().zip(ports) {
                let labels = [policy, family.name()];
                self.kp_no_local.with_label_values(&labels).set(ports as i64);
            }
        }

        let changing = [
            &self.source_connected,
            &self.source_problems,
            &self.source_server_in_use,
            &self.request_mtu,
            &self.verifier,
        ];
        for gauges in changing {
            gauges.reset();
        }
        for source in &status.sources {
            self.take_servers(source);
            let label = [source.name.as_str()];
            self.source_connected.with_label_values(&label).set(source.connected.into());
            self.source_problems.with_label_values(&label).set(source.problems.len() as i64);
        }
        for map in &status.maps {
            let label = [map.name.as_str()];
            self.map_entries.with_label_values(&label).set(map.entries as i64);
            self.map_max_entries.with_label_values(&label).set(map.max_entries as i64);
        }
        for device in &status.devices {
            let fits = device.dsr_mtu.unwrap_or([device.mtu; 2]);
            for (family, bytes) in Family::ALL.into_iter().zip(fits) {
                let labels = [device.name.as_str(), family.name()];
                self.request_mtu.with_label_values(&labels).set(bytes.into());
            }
        }
        for program in &status.programs {
            let instructions = program.verified_instructions as i64;
            self.verifier.with_label_values(&[program.name.as_str()]).set(instructions);
        }
    }

    /// Each result is there from the start, at zero.
    pub(super) fn take_operations(&self, maps: &[(&str, &Operations)]) {
        for (map, operations) in maps {
            for (operation, success, entries) in operations.all() {
                let result = if success { "success" } else { "error" };
                set(&self.map_operations, &[map, operation.name(), result], entries);
            }
        }
    }

    fn take_servers(&self, source: &Source) {
        for server in &source.servers {
            let label = [server.url.as_str()];
            self.source_server_in_use.with_label_values(&label).set(server.in_use.into());
            set(&self.source_server_failures, &label, server.failures);
        }
        for trouble in &source.troubles {
            let labels = [trouble.kind.as_str(), trouble.reason.as_str()];
            set(&self.source_troubles, &labels, trouble.count);
        }
    }

    /// Every reason is there from the start, at zero: an alert on a rate needs the first sample.
    fn take_counters(&self, counters: &[(Outcome, Hook, Counter)]) {
        let counted: BTreeMap<_, _> =
            counters.iter().map(|(outcome, hook, counter)| ((*outcome, *hook), *counter)).collect();
        for &outcome in Outcome::ALL {
            for &hook in Hook::ALL {
                let counter = counted.get(&(outcome, hook)).copied().unwrap_or_default();
                let (packets, bytes) = if outcome.is_drop() {
                    (&self.dropped_packets, &self.dropped_bytes)
                } else {
                    (&self.forwarded_packets, &self.forwarded_bytes)
                };
                let labels = [hook.direction().name(), hook.name(), outcome.name()];
                set(packets, &labels, counter.packets);
                set(bytes, &labels, counter.bytes);
            }
        }
    }
}

/// The datapath counts; this is its figure, not an addition to it.
fn set(counters: &IntCounterVec, labels: &[&str], value: u64) {
    let counter = counters.with_label_values(labels);
    counter.inc_by(value.saturating_sub(counter.get()));
}
