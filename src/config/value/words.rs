// SPDX-License-Identifier: Apache-2.0
//! Values that are one of a few words.

use super::Value;

/// Defines an enum of words; the first spelling of each is how it prints.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident, $kind:literal {
        $($(#[$note:meta])* $variant:ident = $word:literal $(| $old:literal)*,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$note])* $variant,)+ }

        impl $type {
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl Value for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word $(| $old)* => Ok(Self::$variant),)+
                    _ => Err(format!("`{text}` is none of {}", Self::KIND.replace('|', ", "))),
                }
            }

            fn show(&self) -> String {
                self.name().to_owned()
            }
        }
    };
}

words! {
    /// How much of kube-proxy's work is done.
    KubeProxyReplacement, "true|partial|false" {
        /// All of it; the agent ends with an error where the kernel cannot.
        True = "true" | "strict",
        /// What is enabled and what the kernel can.
        Partial = "partial" | "probe",
        /// ClusterIP for pods only; kube-proxy keeps the rest.
        False = "false" | "disabled",
    }
}

words! {
    /// How a request reaches a backend on another node.
    LbMode, "snat|dsr|hybrid" { Snat = "snat", Dsr = "dsr", Hybrid = "hybrid", }
}

words! {
    Algorithm, "random|maglev" { Random = "random", Maglev = "maglev", }
}

words! {
    /// Whether the driver hook serves.
    Acceleration, "disabled|native|best-effort|testing-only-generic" {
        Disabled = "disabled",
        /// On every external device; the agent is not ready without.
        Native = "native",
        /// Where the driver can; tc serves the other devices.
        BestEffort = "best-effort",
        /// In the kernel's own hook, which no driver must support.
        TestingOnlyGeneric = "testing-only-generic",
    }
}

words! {
    /// How a direct server return request names its service.
    DsrDispatch, "opt|ipip|geneve" { Opt = "opt", Ipip = "ipip", Geneve = "geneve", }
}

words! {
    RoutingMode, "native|tunnel" { Native = "native", Tunnel = "tunnel", }
}

words! {
    LogFormat, "text|json" { Text = "text", Json = "json", }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_words_mean_the_new_ones() {
        for (old, new) in [("strict", "true"), ("probe", "partial"), ("disabled", "false")] {
            assert_eq!(KubeProxyReplacement::parse(old).unwrap().name(), new);
        }
        assert!(KubeProxyReplacement::parse("yes").unwrap_err().contains("true, partial, false"));
    }
}
