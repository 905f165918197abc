// SPDX-License-Identifier: Apache-2.0
//! The table of everything that can be set.
//!
//! Flags, environment names, file keys and `docs/reference/config.md` all come from here.

use super::Config;
use super::value::Value;

/// One thing that can be set.
#[derive(Debug)]
pub struct Key {
    /// In the file, dots being levels: `nodePort.range`.
    pub name: &'static str,
    /// Without the dashes: `node-port-range`.
    pub flag: &'static str,
    /// Environment names besides the one that follows from the flag.
    pub aliases: &'static [&'static str],
    /// What to write.
    pub kind: fn() -> &'static str,
    pub doc: &'static str,
    /// For a default that depends on the host or on other keys.
    pub auto: Option<&'static str>,
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    pub get: fn(&Config) -> String,
}

impl Key {
    /// `CULVERT_NODE_PORT_RANGE`.
    pub fn env(&self) -> String {
        format!("CULVERT_{}", self.flag.replace('-', "_").to_uppercase())
    }

    /// A flag of this kind may stand alone.
    pub fn is_switch(&self) -> bool {
        (self.kind)() == bool::KIND
    }

    /// As the reference prints it; empty when nothing is set.
    pub fn default_text(&self) -> String {
        self.auto.map_or_else(|| (self.get)(&Config::default()), str::to_owned)
    }
}

/// The key called `name` in the file.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn set<T: Value>(field: &mut T, text: &str) -> Result<(), String> {
    *field = T::parse(text)?;
    Ok(())
}

fn kind<T: Value>(_: fn(&Config) -> &T) -> &'static str {
    T::KIND
}

const fn first<'a>(given: &[&'a str]) -> Option<&'a str> {
    if given.is_empty() { None } else { Some(given[0]) }
}

macro_rules! keys {
    ($($name:literal, $flag:literal => $($field:ident).+
        $(, env $aliases:tt)? $(, auto $auto:literal)?; $doc:literal)+) => {
        /// In the order of the reference.
        pub static KEYS: &[Key] = &[$(Key {
            name: $name,
            flag: $flag,
            aliases: keys!(@aliases $($aliases)?),
            kind: || kind(|config| &config.$($field).+),
            doc: $doc,
            auto: first(&[$($auto)?]),
            set: |config, text| set(&mut config.$($field).+, text),
            get: |config| config.$($field).+.show(),
        }),+];
    };
    (@aliases) => { &[] };
    (@aliases [$($alias:literal),+]) => { &[$($alias),+] };
}

keys! {
    "nodeName", "node-name" => node_name, env ["NODE_NAME", "K8S_NODE_NAME"],
        auto "the host's name"; "Name of this node in Kubernetes"
    "manifests", "manifests" => manifests;
        "Serve from the YAML files of this directory instead of from an API server"
    "k8sServiceHost", "k8s-service-host" => k8s.service_host,
        env ["API_SERVER_IP", "KUBERNETES_SERVICE_HOST"];
        "Host name or address of the API server"
    "k8sServicePort", "k8s-service-port" => k8s.service_port,
        env ["API_SERVER_PORT", "KUBERNETES_SERVICE_PORT"]; "Port of the API server"
    "k8s.apiServerURLs", "k8s-api-server-urls" => k8s.api_server_urls;
        "URLs of the cluster's API servers, tried in the order of their health; instead of \
         `k8sServiceHost`"
    "k8s.serviceProxyName", "k8s-service-proxy-name" => k8s.service_proxy_name;
        "Serve also Services whose label `service.kubernetes.io/service-proxy-name` says this; others \
         with that label are another proxy's"
    "kubeconfig", "kubeconfig" => k8s.kubeconfig;
        "Reach the API server as this kubeconfig file says"
    "kubeProxyReplacement", "kube-proxy-replacement" => kube_proxy_replacement;
        "How much of kube-proxy's work is done: `true` all of it, or the agent ends with an error; \
         `partial` what is enabled and what the kernel can; `false` ClusterIP for pods only, routed by the \
         host's stack, where kube-proxy's rules are"
    "kubeProxyReplacementHealthzBindAddr", "kube-proxy-replacement-healthz-bind-addr" =>
        healthz_bind;
        "Addresses of `/healthz`, `/livez`, `/readyz` and `/metrics`; load balancers that are set up \
         for kube-proxy probe port 10256, so `0.0.0.0:1025,0.0.0.0:10256` serves both"
    "healthzTimeout", "healthz-timeout" => healthz_timeout;
        "`/healthz` answers 503 once an update has waited this long"
    "nodePort.enabled", "node-port-enabled" => node_port.enabled; "Serve NodePorts"
    "nodePort.range", "node-port-range" => node_port.range;
        "Ports that the API server gives to NodePorts, both ends included"
    "nodePort.addresses", "node-port-addresses" => node_port.addresses,
        auto "every address of the node";
        "Serve NodePorts only on addresses of the node inside these CIDRs, or with `primary` only \
         on the node's first InternalIP of each family"
    "nodePort.bindProtection", "node-port-bind-protection" => node_port.bind_protection;
        "Refuse `bind()` to a port that a service owns"
    "externalIPs.enabled", "external-ips-enabled" => external_ips;
        "Serve externalIPs and LoadBalancer addresses"
    "externalIPs.servedInside", "external-ips-served-inside" => external_ips_inside;
        "Serve externalIPs that the node does not own to pods and to the node itself too: whoever \
         may create Services can then take the traffic to any address (CVE-2020-8554)"
    "hostPort.enabled", "host-port-enabled" => host_port;
        "Serve `hostPort` of pods; the CNI plugin `portmap` is then not needed"
    "loadBalancer.mode", "load-balancer-mode" => load_balancer.mode;
        "How requests from outside reach backends on other nodes: with the node's address (`snat`), or \
         with the client's, and the backend's node answers the client itself (`dsr`); `hybrid` is `dsr` for \
         TCP and SCTP and `snat` for UDP. Annotation `service.culvert.io/forwarding-mode` says it for one \
         service"
    "loadBalancer.algorithm", "load-balancer-algorithm" => load_balancer.algorithm;
        "How a backend is chosen for clients outside the cluster: `random`, or `maglev`, which gives \
         a client the same one on every node"
    "loadBalancer.acceleration", "load-balancer-acceleration" => load_balancer.acceleration;
        "Whether the driver hook (XDP) of external devices serves: on each (`native`) or where it can"
    "loadBalancer.dsrDispatch", "load-balancer-dsr-dispatch" => load_balancer.dsr_dispatch;
        "How a request by direct server return names its service: in an IP option or extension header \
         (`opt`), or in a packet around it (`ipip`, `geneve`); all nodes alike"
    "loadBalancer.dsrKeyFile", "load-balancer-dsr-key-file" => load_balancer.dsr_key_file,
        auto "the UID of Service `default/kubernetes`";
        "File with the key by which a node knows the other nodes' requests by direct server return: 32 \
         hexadecimal digits, the same on every node; read again when it changes"
    "loadBalancer.dsrPlain", "load-balancer-dsr-plain" => load_balancer.dsr_plain;
        "Send and accept requests by direct server return that carry no proof of their origin: whoever \
         reaches a node can then have its pods answer in any service's name"
    "loadBalancer.sourceRangesAllTypes", "load-balancer-source-ranges-all-types" =>
        load_balancer.source_ranges_all_types;
        "loadBalancerSourceRanges also guard NodePorts and externalIPs of their service"
    "loadBalancer.classes", "load-balancer-classes" => load_balancer.classes,
        auto "none";
        "Values of `spec.loadBalancerClass` whose addresses are ours alone: a port that no service \
         has is refused there; at an address of another class it is left alone"
    "maglev.hashSeed", "maglev-hash-seed" => maglev_seed;
        "Twelve bytes in base64 that the choices of `maglev` depend on; the same on all nodes"
    "socketLB.enabled", "socket-lb-enabled" => socket_lb.enabled;
        "Translate service addresses at connect() and sendmsg()"
    "socketLB.hostNamespaceOnly", "socket-lb-host-namespace-only" =>
        socket_lb.host_namespace_only;
        "Leave the sockets of pods alone and serve their packets one by one"
    "routingMode", "routing-mode" => routing_mode;
        "How pods reach pods of other nodes; this version has `native`"
    "autoDirectNodeRoutes", "auto-direct-node-routes" => auto_direct_node_routes;
        "Install a route to every other node's pods; needs all nodes in one L2 network"
    "ipv4NativeRoutingCIDR", "ipv4-native-routing-cidr" => ipv4_native_routing_cidr;
        "IPv4 destinations that the network routes by itself; a node whose pods lie outside is named \
         in the status"
    "ipv6NativeRoutingCIDR", "ipv6-native-routing-cidr" => ipv6_native_routing_cidr;
        "IPv6 destinations that the network routes by itself; a node whose pods lie outside is named \
         in the status"
    "devices", "devices" => devices, auto "those with a default route or a node address";
        "External devices to serve on; a trailing `+` matches any ending"
    "MTU", "mtu" => mtu, auto "that of the external device"; "MTU of pod devices, in bytes"
    "cgroupRoot", "cgroup-root" => cgroup_root,
        auto "`/run/culvert/cgroupv2`, else where cgroup2 is mounted";
        "Root of the cgroup v2 tree whose sockets are load-balanced"
    "bpfRoot", "bpf-root" => bpf_root; "Directory on a bpffs for pinned maps and links"
    "stateDir", "state-dir" => state_dir; "Directory for what must survive an agent's restart"
    "socket", "socket" => socket, auto "`culvert.sock` in `stateDir`";
        "Unix socket of the agent's local API"
    "bpf.hostLegacyRouting", "bpf-host-legacy-routing" => bpf.host_legacy_routing;
        "Route through the host's stack, with its netfilter, even where BPF could"
    "bpf.sourceCheck", "bpf-source-check" => bpf.source_check;
        "Drop what a pod sends with an address that is not its own"
    "bpf.snatPortRange", "bpf-snat-port-range" => bpf.snat_port_range,
        auto "the larger side of `nodePort.range`"; "Source ports that SNAT may take"
    "bpf.hairpinIPv4", "bpf-hairpin-ipv4" => bpf.hairpin_v4;
        "Source that a pod sees when it talks to itself through its own service"
    "bpf.hairpinIPv6", "bpf-hairpin-ipv6" => bpf.hairpin_v6; "The same for IPv6"
    "bpf.servicesMax", "bpf-services-max" => bpf.services_max;
        "Entries of map `services`, one a frontend"
    "bpf.backendsMax", "bpf-backends-max" => bpf.backends_max; "Entries of map `backends`"
    "bpf.targetsMax", "bpf-targets-max" => bpf.targets_max; "Entries of map `target_state`"
    "bpf.flowsMax", "bpf-flows-max" => bpf.flows_max;
        "Entries of map `flows`, two a connection"
    "bpf.flowsNewMax", "bpf-flows-new-max" => bpf.flows_new_max;
        "Entries of map `flows_new`, two a half-open connection"
    "bpf.endpointsMax", "bpf-endpoints-max" => bpf.endpoints_max;
        "Entries of map `endpoints`, one an address of a pod"
    "bpf.ownedMax", "bpf-owned-max" => bpf.owned_max;
        "Entries of map `owned`, one an address of the node"
    "bpf.vipsMax", "bpf-vips-max" => bpf.vips_max;
        "Entries of map `vips`, one an address that services use"
    "bpf.sourceRangesMax", "bpf-source-ranges-max" => bpf.source_ranges_max;
        "Entries of map `source_ranges`, one a range of a service port"
    "bpf.affinitiesMax", "bpf-affinities-max" => bpf.affinities_max;
        "Entries of map `affinities`, one a client of a service port with session affinity"
    "bpf.maglevMax", "bpf-maglev-max" => bpf.maglev_max,
        auto "7900000 with `loadBalancer.algorithm: maglev`, else 131072";
        "Entries of map `maglev`, eight bytes each; the table of up to 30 backends takes 750, and equal sets share one"
    "flowTimeouts.tcpSyn", "flow-timeouts-tcp-syn" => flow_timeouts.tcp_syn;
        "Life of an unanswered or half-open TCP flow"
    "flowTimeouts.tcpEstablished", "flow-timeouts-tcp-established" =>
        flow_timeouts.tcp_established; "Life of an idle TCP flow"
    "flowTimeouts.tcpClosing", "flow-timeouts-tcp-closing" => flow_timeouts.tcp_closing;
        "Life of a TCP flow after its end"
    "flowTimeouts.udpUnreplied", "flow-timeouts-udp-unreplied" => flow_timeouts.udp_unreplied;
        "Life of an idle UDP or ICMP flow that was never answered"
    "flowTimeouts.udpStream", "flow-timeouts-udp-stream" => flow_timeouts.udp_stream;
        "Life of an idle UDP or ICMP flow that was answered"
    "cni.install", "cni-install" => cni.install;
        "Write the CNI network configuration once the agent is ready"
    "cni.confPath", "cni-conf-path" => cni.conf_path;
        "Directory that the container runtime reads network configurations from"
    "cni.exclusive", "cni-exclusive" => cni.exclusive;
        "Rename the network configurations of others to `*.culvert_bak`"
    "debug.enabled", "debug-enabled" => debug; "Log in detail"
    "logLevel", "log-level" => log_level;
        "Least severe level to log, or directives such as `info,culvert::lb=debug`"
    "logFormat", "log-format" => log_format; "How log lines are written to stderr"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_flags_and_environment_are_unique() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        let flags: BTreeSet<_> = KEYS.iter().map(|key| key.flag).collect();
        let env: Vec<_> = KEYS
            .iter()
            .flat_map(|key| key.aliases.iter().map(|a| (*a).to_owned()).chain([key.env()]))
            .collect();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(flags.len(), KEYS.len());
        assert_eq!(env.iter().collect::<BTreeSet<_>>().len(), env.len());
    }

    #[test]
    fn every_default_can_be_written_down_again() {
        for key in KEYS.iter().filter(|key| key.auto.is_none()) {
            let mut config = Config::default();
            let text = (key.get)(&config);
            (key.set)(&mut config, &text).unwrap();
            assert_eq!(config, Config::default(), "{}", key.name);
        }
    }

    #[test]
    fn a_flag_is_its_key_in_kebab_case() {
        for key in KEYS {
            let squeezed = |text: &str| text.replace(['-', '.'], "").to_lowercase();
            assert_eq!(squeezed(key.flag), squeezed(key.name));
        }
    }
}
