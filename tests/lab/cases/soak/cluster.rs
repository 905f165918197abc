// SPDX-License-Identifier: Apache-2.0
//! The services and slices of the soak: what they are, and as the API server has them.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::random::Random;
use crate::cases::api::Objects;
use crate::lab::pod::Pod;
use crate::support::apiserver::Resource;

/// Services that come and go; each has its place among addresses and ports.
pub const SERVICES: usize = 8;

/// Name, protocol, number, target.
pub const PORTS: [(&str, &str, u16, u16); 4] = [
    ("web", "TCP", 80, 8080),
    ("ask", "UDP", 80, 8080),
    ("alt", "TCP", 8443, 8081),
    ("name", "UDP", 53, 8081),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// Terminating, and still serving.
    Draining,
    /// Terminating, and serving no more.
    Ending,
    NotReady,
}

#[derive(Clone, Debug)]
pub struct Slice {
    pub v6: bool,
    /// Which of [`PORTS`] it has.
    pub ports: [bool; 4],
    /// Index of a pod, and its state.
    pub endpoints: Vec<(usize, State)>,
}

/// A Service and its slices, either of which may be missing.
#[derive(Clone, Debug, Default)]
pub struct Service {
    pub exists: bool,
    pub kind: &'static str,
    pub local_outside: bool,
    pub local_inside: bool,
    pub external: bool,
    pub v4: bool,
    pub v6: bool,
    pub ports: [bool; 4],
    pub node_ports: bool,
    pub slices: [Option<Slice>; 4],
}

impl Service {
    /// One change of a kind that a cluster sees every day.
    pub fn change(&mut self, random: &mut Random, pods: usize) {
        match random.below(10) {
            _ if !self.exists && random.chance(60) => self.create(random, pods),
            0 => self.exists = false,
            1 => self.set_policies(random),
            2 => self.set_type(random),
            3 => self.ports = some_ports(random),
            4 => {
                let slot = random.below(4);
                self.slices[slot] = random.chance(50).then(|| slice(random, slot, pods));
            }
            5 => *self = Self::default(),
            _ => self.move_endpoints(random, pods),
        }
    }

    fn create(&mut self, random: &mut Random, pods: usize) {
        self.exists = true;
        self.set_type(random);
        self.set_policies(random);
        (self.v4, self.v6) =
            *random.pick(&[(true, true), (true, true), (true, false), (false, true)]);
        self.ports = some_ports(random);
        for slot in 0..4 {
            // The first slice of each family is there more often than the second.
            self.slices[slot] =
                random.chance(90 - 30 * (slot / 2)).then(|| slice(random, slot, pods));
        }
    }

    fn set_type(&mut self, random: &mut Random) {
        self.kind = *random.pick::<&str>(&["ClusterIP", "NodePort", "LoadBalancer"]);
        self.node_ports = self.kind == "NodePort" || random.chance(70);
        self.external = random.chance(30);
    }

    fn set_policies(&mut self, random: &mut Random) {
        self.local_outside = random.chance(50);
        self.local_inside = random.chance(30);
    }

    fn move_endpoints(&mut self, random: &mut Random, pods: usize) {
        for slice in self.slices.iter_mut().flatten() {
            if random.chance(30) {
                slice.endpoints = endpoints(random, pods);
            }
            for (_, state) in &mut slice.endpoints {
                if random.chance(30) {
                    *state = any_state(random);
                }
            }
        }
    }
}

fn some_ports(random: &mut Random) -> [bool; 4] {
    let mut ports = [(); 4].map(|()| random.chance(50));
    ports[random.below(4)] = true;
    ports
}

fn slice(random: &mut Random, slot: usize, pods: usize) -> Slice {
    // A name that only some slices have is a port without these endpoints.
    let ports = [(); 4].map(|()| random.chance(85));
    Slice { v6: slot % 2 == 1, ports, endpoints: endpoints(random, pods) }
}

fn endpoints(random: &mut Random, pods: usize) -> Vec<(usize, State)> {
    let count = random.below(pods);
    let chosen = random.sample((0..pods).collect(), count);
    chosen.into_iter().map(|pod| (pod, any_state(random))).collect()
}

fn any_state(random: &mut Random) -> State {
    *random.pick(&[State::Ready, State::Ready, State::Draining, State::Ending, State::NotReady])
}

pub fn cluster_ip(number: usize, v6: bool) -> IpAddr {
    ip(if v6 { format!("fd96::1:{number}") } else { format!("10.96.1.{number}") })
}

pub fn balancer_ip(number: usize, v6: bool) -> IpAddr {
    ip(if v6 { format!("2001:db8:c0::{number}") } else { format!("192.0.2.{number}") })
}

pub fn external_ip(number: usize, v6: bool) -> IpAddr {
    ip(if v6 { format!("2001:db8:51::{number}") } else { format!("198.51.100.{number}") })
}

pub fn node_port(number: usize, port: usize) -> u16 {
    30500 + (number * 4 + port) as u16
}

/// Whether one of the tables' lines is about a frontend of this service.
pub fn is_frontend_of(number: usize, line: &str) -> bool {
    let ips = [false, true]
        .into_iter()
        .flat_map(|v6| [cluster_ip(number, v6), balancer_ip(number, v6), external_ip(number, v6)]);
    ips.map(|ip| format!("{ip}:")).any(|start| line.starts_with(&start))
        || (0..PORTS.len()).any(|port| line.contains(&format!(":{}/", node_port(number, port))))
}

fn ip(text: String) -> IpAddr {
    text.parse().unwrap()
}

/// Everything as the API server has it.
pub fn objects(services: &[Service], pods: &[Pod]) -> Objects {
    let mut objects = Objects::new();
    for (number, service) in services.iter().enumerate() {
        let name = format!("s{number}");
        if service.exists {
            let object = service_object(&name, number, service);
            objects.insert((Resource::Services, name.clone()), object);
        }
        for (slot, slice) in service.slices.iter().enumerate() {
            if let Some(slice) = slice {
                let slice_name = format!("{name}-{slot}");
                let object = slice_object(&slice_name, &name, slice, pods);
                objects.insert((Resource::EndpointSlices, slice_name), object);
            }
        }
    }
    objects
}

fn service_object(name: &str, number: usize, service: &Service) -> Value {
    let both = [(service.v4, false), (service.v6, true)];
    let families: Vec<bool> = both.into_iter().filter(|(has, _)| *has).map(|(_, v6)| v6).collect();
    let ips: Vec<IpAddr> = families.iter().map(|v6| cluster_ip(number, *v6)).collect();
    let has = (0..4).filter(|port| service.ports[*port]);
    let ports: Vec<Value> = has
        .map(|port| {
            let (name, protocol, number_of, target) = PORTS[port];
            let mut object =
                json!({ "name": name, "protocol": protocol, "port": number_of, "targetPort": target });
            if service.kind != "ClusterIP" && service.node_ports {
                object["nodePort"] = node_port(number, port).into();
            }
            object
        })
        .collect();
    let policy = |local| if local { "Local" } else { "Cluster" };
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name, "namespace": "lab" },
        "spec": {
            "type": service.kind,
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ports": ports,
            "internalTrafficPolicy": policy(service.local_inside),
        },
    });
    let of = |ip_of: fn(usize, bool) -> IpAddr| -> Vec<IpAddr> {
        families.iter().map(|v6| ip_of(number, *v6)).collect()
    };
    if service.external {
        object["spec"]["externalIPs"] = json!(of(external_ip));
    }
    if service.external || service.kind != "ClusterIP" {
        object["spec"]["externalTrafficPolicy"] = policy(service.local_outside).into();
    }
    if service.kind == "LoadBalancer" {
        object["spec"]["allocateLoadBalancerNodePorts"] = service.node_ports.into();
        let ingress: Vec<Value> = of(balancer_ip).iter().map(|ip| json!({ "ip": ip })).collect();
        object["status"] = json!({ "loadBalancer": { "ingress": ingress } });
    }
    object
}

fn slice_object(name: &str, service: &str, slice: &Slice, pods: &[Pod]) -> Value {
    let endpoints = slice.endpoints.iter().map(|(pod, state)| {
        let (ready, serving, terminating) = match state {
            State::Ready => (true, true, false),
            State::Draining => (false, true, true),
            State::Ending => (false, false, true),
            State::NotReady => (false, false, false),
        };
        json!({
            "addresses": [pods[*pod].ip(slice.v6)],
            "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
            "nodeName": pods[*pod].node,
        })
    });
    let ports = PORTS.iter().zip(slice.ports).filter(|(_, has)| *has);
    let ports: Vec<Value> = ports
        .map(|((name, protocol, _, target), _)| {
            json!({ "name": name, "protocol": protocol, "port": target })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "lab",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": if slice.v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": ports,
    })
}
