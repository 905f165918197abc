// SPDX-License-Identifier: Apache-2.0
//! Histogram buckets, in seconds: those of kube-proxy, so that its dashboards fit.

/// 1 ms doubled fifteen times.
pub(super) fn sync() -> Vec<f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power)).collect()
}

/// Those of `rest_client_request_duration_seconds` in every component of Kubernetes.
pub(super) fn requests() -> Vec<f64> {
    vec![0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0]
}

/// Fine up to a minute, coarse up to five.
pub(super) fn programming() -> Vec<f64> {
    let steps = |from: u32, to: u32, by: usize| (from..=to).step_by(by).map(f64::from);
    [0.25, 0.5]
        .into_iter()
        .chain(steps(1, 59, 1))
        .chain(steps(60, 115, 5))
        .chain(steps(120, 300, 30))
        .collect()
}
