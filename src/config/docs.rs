// SPDX-License-Identifier: Apache-2.0
//! `docs/reference/config.md`, written from the table of keys.

use std::fmt::Write as _;

use super::DEFAULT_FILE;
use super::keys::KEYS;

/// The whole page.
pub fn page() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         <!-- Written by `culvert docs`; change `src/config/keys.rs` instead. -->\n\n\
         Every key can be given as a flag of `culvert agent`, in the environment, or in a YAML file\n\
         (`--config`, `CULVERT_CONFIG`, else `{DEFAULT_FILE}`). A flag wins over the environment, the\n\
         environment over the file, the file over the default. Dots in a key are levels of the file:\n\n\
         ```yaml\nnodePort:\n  range: \"30000,32767\"\n```\n\n\
         Unknown keys, impossible combinations and values that this version does not support are\n\
         refused, with the key named, and so is a `CULVERT_` variable that is nearly one of these; others\n\
         are logged, but for those that Kubernetes makes of a Service's name. Lists take commas; durations are written `90s`, `5m` or `2h`.\n\n\
         | key | flag and environment | default | what it does |\n|---|---|---|---|\n"
    );
    for key in KEYS {
        let mut env = vec![key.env()];
        env.extend(key.aliases.iter().map(|alias| (*alias).to_owned()));
        let env = env.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ");
        let default = match key.auto {
            Some(text) => text.to_owned(),
            None if key.default_text().is_empty() => String::new(),
            None => format!("`{}`", key.default_text()),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | `--{} <{}>` {env} | {default} | {} |",
            key.name,
            key.flag,
            (key.kind)().replace('|', "\\|"),
            key.doc
        );
    }
    page.push_str(
        "\n`kubeProxyReplacement` also reads the older `strict` (true), `probe` (partial) and `disabled`\n\
         (false); `tunnel: disabled` is read as `routingMode: native`. Both warn.\n",
    );
    page
}
