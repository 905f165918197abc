// SPDX-License-Identifier: Apache-2.0
//! `/metrics`: kube-proxy's names, so that its dashboards and alerts go on working, and our own.
//!
//! What happens is counted here as it happens; what merely is (map fills, packet counters) is
//! taken from the status and the maps when somebody asks. Labels are bounded: no pod, no address.

mod buckets;
mod docs;
mod process;
mod registry;
mod render;
mod words;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec,
};

pub use docs::page;
use registry::Registry;
pub use words::{Family, Stage};

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $type:ident =
        $make:ident($name:literal $(by $($label:literal)+)? $(in $buckets:expr)?; $help:literal);)+) => {
        /// Every metric. Counting is cheap and never blocks.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[$doc])* $field: $type,)+
            registry: Registry,
            /// Taken by whoever renders: counters of the datapath are set, not added to.
            rendering: Mutex<()>,
        }

        impl Metrics {
            pub fn new() -> Result<Self, prometheus::Error> {
                let mut registry = Registry::new();
                $(let $field = registry.$make($name, $help $(, &[$($label),+])? $(, $buckets)?)?;)+
                let rendering = Mutex::new(());
                Ok(Self { $($field,)+ registry, rendering })
            }
        }
    };
}

metrics! {
    build_info: GaugeVec = gauges("culvert_build_info" by "version" "revision" "kernel";
        "Always 1; version and source revision of the agent, and the kernel below it");
    ready: IntGauge = gauge("culvert_ready"; "1 while /readyz answers 200");
    feature: IntGaugeVec = int_gauges(
        "culvert_feature_info" by "feature" "requested" "effective";
        "Always 1; what was asked of each feature and what is in effect");

    heap: IntGauge = gauge("culvert_heap_bytes";
        "Memory that the agent has in use; what is resident is more: free pieces between, code, stacks");

    services: IntGauge = gauge("culvert_services"; "Services that are served");
    frontends: IntGaugeVec = int_gauges("culvert_frontends" by "type"; "Entries of the service table");
    backends: IntGaugeVec = int_gauges("culvert_backends" by "state";
        "Slots of all backend lists; terminating and not_ready ones get no new connections while others can");
    endpoints: IntGauge = gauge("culvert_endpoints"; "Pods of this node");
    pending: IntGauge = gauge("culvert_sync_pending";
        "Services whose writes are not done yet");
    source_connected: IntGaugeVec = int_gauges("culvert_source_connected" by "source";
        "1 while the last exchange with the source succeeded");
    source_problems: IntGaugeVec = int_gauges("culvert_source_problems" by "source";
        "Objects of the source that cannot be used");
    source_server_in_use: IntGaugeVec = int_gauges(
        "culvert_source_server_in_use" by "server";
        "1 for the API server that is asked first, having answered last");
    source_server_failures: IntCounterVec = counters(
        "culvert_source_server_failures_total" by "server";
        "Requests and probes that an API server left without a good answer");
    source_troubles: IntCounterVec = counters("culvert_source_troubles_total" by "kind" "reason";
        "Lists and watches that ended before their time");
    map_entries: IntGaugeVec = int_gauges("culvert_map_entries" by "map";
        "Entries in use; of affinities those that were used within a day");
    map_max_entries: IntGaugeVec = int_gauges("culvert_map_max_entries" by "map";
        "Entries that fit");
    map_operations: IntCounterVec = counters(
        "culvert_map_operations_total" by "map" "operation" "result";
        "Entries that the agent wrote or removed; an error is tried again");
    request_mtu: IntGaugeVec = int_gauges("culvert_request_mtu_bytes" by "device" "ip_family";
        "Largest request to another node's backend that fits through the device, with what direct server return adds");
    verifier: IntGaugeVec = int_gauges("culvert_verifier_instructions" by "program";
        "Instructions that the verifier walked through at load");

    forwarded_packets: IntCounterVec = counters(
        "culvert_forwarded_packets_total" by "direction" "hook" "outcome";
        "Packets that a program passed on; a packet meets several programs");
    forwarded_bytes: IntCounterVec = counters(
        "culvert_forwarded_bytes_total" by "direction" "hook" "outcome";
        "Bytes that a program passed on");
    dropped_packets: IntCounterVec = counters(
        "culvert_dropped_packets_total" by "direction" "hook" "reason";
        "Packets that a program dropped");
    dropped_bytes: IntCounterVec = counters(
        "culvert_dropped_bytes_total" by "direction" "hook" "reason";
        "Bytes that a program dropped");

    sync_duration: HistogramVec = histograms(
        "culvert_sync_duration_seconds" by "stage" in buckets::sync();
        "Time from the first change of a batch to its last map write");
    sync_errors: IntCounterVec = counters("culvert_sync_errors_total" by "stage";
        "Passes that ended with a write to be tried again");
    sync_success: Gauge = float_gauge("culvert_sync_last_success_timestamp_seconds";
        "When everything that was due had last been written");
    programming: Histogram = histogram(
        "culvert_network_programming_duration_seconds" in buckets::programming();
        "Time from a pod's change to the map write that follows from it");
    events: IntCounterVec = counters("culvert_events_total" by "kind" "action";
        "Changes that the sources told");
    flow_gc: Histogram = histogram("culvert_flow_gc_duration_seconds" in buckets::sync();
        "Time of one portion of flow aging");
    flow_gc_deleted: IntCounter = counter("culvert_flow_gc_deleted_total";
        "Flows that aging removed");
    sockets_destroyed: IntCounter = counter("culvert_sockets_destroyed_total";
        "UDP sockets closed because the backend they were connected to left");

    api_requests: IntCounterVec = counters(
        "rest_client_requests_total" by "code" "method" "host";
        "Requests to API servers, but for those of `culvert check` and `explain`; code is <error> where no answer came");
    api_duration: HistogramVec = histograms(
        "rest_client_request_duration_seconds" by "verb" "host" in buckets::requests();
        "Time until the head of the API server's answer");
    process_cpu: Counter = float_counter("process_cpu_seconds_total";
        "Processor time of the agent, its own and the kernel's for it");
    process_resident: IntGauge = gauge("process_resident_memory_bytes"; "Memory of the agent that is resident");
    process_virtual: IntGauge = gauge("process_virtual_memory_bytes"; "Address space of the agent");
    process_fds: IntGauge = gauge("process_open_fds"; "File descriptors that the agent has open");
    process_fds_max: IntGauge = gauge("process_max_fds"; "File descriptors that it may open");
    process_start: Gauge = float_gauge("process_start_time_seconds";
        "When the agent started, in seconds since the epoch");

    kp_sync: HistogramVec = histograms(
        "kubeproxy_sync_proxy_rules_duration_seconds" by "ip_family" in buckets::sync();
        "SyncProxyRules latency in seconds");
    kp_sync_full: HistogramVec = histograms(
        "kubeproxy_sync_full_proxy_rules_duration_seconds" by "ip_family" in buckets::sync();
        "SyncProxyRules latency in seconds of full resyncs");
    kp_sync_partial: HistogramVec = histograms(
        "kubeproxy_sync_partial_proxy_rules_duration_seconds" by "ip_family" in buckets::sync();
        "SyncProxyRules latency in seconds of partial resyncs");
    kp_programming: HistogramVec = histograms(
        "kubeproxy_network_programming_duration_seconds" by "ip_family" in buckets::programming();
        "In-cluster network programming latency in seconds");
    kp_last: GaugeVec = gauges(
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds" by "ip_family";
        "When rules were last written successfully");
    kp_queued: GaugeVec = gauges(
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds" by "ip_family";
        "When a write of rules was last queued");
    kp_service_total: IntCounterVec = counters(
        "kubeproxy_sync_proxy_rules_service_changes_total" by "ip_family"; "Service changes so far");
    kp_service_pending: IntGaugeVec = int_gauges(
        "kubeproxy_sync_proxy_rules_service_changes_pending" by "ip_family"; "Service changes not written yet");
    kp_endpoint_total: IntCounterVec = counters(
        "kubeproxy_sync_proxy_rules_endpoint_changes_total" by "ip_family"; "Endpoint changes so far");
    kp_endpoint_pending: IntGaugeVec = int_gauges(
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending" by "ip_family";
        "Endpoint changes not written yet");
    kp_no_local: IntGaugeVec = int_gauges(
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total" by "traffic_policy" "ip_family";
        "Service ports with a Local traffic policy and no endpoint on this node");
    kp_conntrack: HistogramVec = histograms(
        "kubeproxy_conntrack_reconciler_sync_duration_seconds" by "ip_family" in buckets::sync();
        "Time of one portion of flow aging, which takes the place of conntrack's cleaning");
    kp_conntrack_deleted: IntCounterVec = counters(
        "kubeproxy_conntrack_reconciler_deleted_entries_total" by "ip_family";
        "Flows that aging removed");
    kp_healthz: IntCounterVec = counters("kubeproxy_proxy_healthz_total" by "code";
        "Answers of /healthz");
    kp_livez: IntCounterVec = counters("kubeproxy_proxy_livez_total" by "code";
        "Answers of /livez");
}

impl Metrics {
    /// A change arrived from a source.
    pub fn event(&self, kind: &str, action: &str) {
        self.events.with_label_values(&[kind, action]).inc();
    }

    /// Changes were queued for writing. As with kube-proxy, a service counts for both families, a
    /// slice for its own.
    pub fn queued(&self, services: u64, slices: [u64; 2]) {
        for (family, slices) in Family::ALL.into_iter().zip(slices) {
            let label = [family.name()];
            self.kp_queued.with_label_values(&label).set(now());
            self.kp_service_total.with_label_values(&label).inc_by(services);
            self.kp_endpoint_total.with_label_values(&label).inc_by(slices);
            self.kp_service_pending.with_label_values(&label).add(services as i64);
            self.kp_endpoint_pending.with_label_values(&label).add(slices as i64);
        }
    }

    /// Everything that was queued is written. One pass serves both families.
    pub fn synced(&self, stage: Stage, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sync_duration.with_label_values(&[stage.name()]).observe(seconds);
        self.sync_success.set(now());
        let of_stage = match stage {
            Stage::Full => &self.kp_sync_full,
            Stage::Partial => &self.kp_sync_partial,
        };
        for family in Family::ALL {
            let label = [family.name()];
            self.kp_sync.with_label_values(&label).observe(seconds);
            of_stage.with_label_values(&label).observe(seconds);
            self.kp_last.with_label_values(&label).set(now());
            self.kp_service_pending.with_label_values(&label).set(0);
            self.kp_endpoint_pending.with_label_values(&label).set(0);
        }
    }

    /// A pass ended with something to be tried again.
    pub fn sync_failed(&self, stage: Stage) {
        self.sync_errors.with_label_values(&[stage.name()]).inc();
    }

    /// The time between a slice's `last-change-trigger-time` and its writes.
    pub fn programmed(&self, family: Family, latency: Duration) {
        self.programming.observe(latency.as_secs_f64());
        self.kp_programming.with_label_values(&[family.name()]).observe(latency.as_secs_f64());
    }

    /// `deleted`: IPv4 first.
    pub fn flows_aged(&self, took: Duration, deleted: [u64; 2]) {
        self.flow_gc.observe(took.as_secs_f64());
        self.flow_gc_deleted.inc_by(deleted.iter().sum());
        for (family, deleted) in Family::ALL.into_iter().zip(deleted) {
            let label = [family.name()];
            self.kp_conntrack.with_label_values(&label).observe(took.as_secs_f64());
            self.kp_conntrack_deleted.with_label_values(&label).inc_by(deleted);
        }
    }

    /// A request to the API server at `host`. `code`: None where no answer came.
    pub fn api_request(&self, method: &str, host: &str, code: Option<u16>, took: Duration) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.api_requests.with_label_values(&[code.as_str(), method, host]).inc();
        self.api_duration.with_label_values(&[method, host]).observe(took.as_secs_f64());
    }

    pub fn sockets_destroyed(&self, count: u64) {
        self.sockets_destroyed.inc_by(count);
    }

    pub(super) fn healthz(&self, code: u16) {
        self.kp_healthz.with_label_values(&[code.to_string().as_str()]).inc();
    }

    pub(super) fn livez(&self, code: u16) {
        self.kp_livez.with_label_values(&[code.to_string().as_str()]).inc();
    }

    fn exclusive(&self) -> std::sync::MutexGuard<'_, ()> {
        self.rendering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unix seconds.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
