// SPDX-License-Identifier: Apache-2.0
//! `docs/reference/metrics.md`, written from the registered metrics.

use std::fmt::Write as _;

use super::Metrics;

/// The whole page.
pub fn page() -> Result<String, prometheus::Error> {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Written by `culvert docs`; change `src/serve/metrics.rs` instead. -->\n\n\
         Served as `/metrics` at `kubeProxyReplacementHealthzBindAddr`. The `kubeproxy_` names mean what\n\
         they mean in kube-proxy. Map fill is `culvert_map_entries / culvert_map_max_entries`.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in &Metrics::new()?.registry.descriptions {
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            metric.labels.join(", "),
            metric.help
        );
    }
    Ok(page)
}
