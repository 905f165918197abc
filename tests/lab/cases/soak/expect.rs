// SPDX-License-Identifier: Apache-2.0
//! What must answer: the contract of a Service, worked out from the objects alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::cluster::{
    PORTS, SERVICES, Service, State, balancer_ip, cluster_ip, external_ip, node_port,
};
use crate::client::Outcome;
use crate::lab::cluster::node_ip;

/// Who asks. Nodes count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Pod(usize),
    Node(usize),
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frontend {
    Cluster,
    Balancer,
    External,
    /// That node's.
    NodePort(usize),
}

/// One way to ask a service.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    pub who: Who,
    pub to: SocketAddr,
    pub protocol: &'static str,
    pub service: usize,
    port: usize,
    frontend: Frontend,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One of these servers.
    From(BTreeSet<String>),
    /// Told at once: no endpoint anywhere.
    Refused,
    /// No service answers; whether anybody else says no is not its business.
    Nothing,
}

impl Expected {
    pub fn is_met_by(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::From(names), Outcome::Answer { name, .. }) => names.contains(name),
            (Self::Refused, outcome) => outcome.is_refusal(),
            (Self::Nothing, outcome) => matches!(outcome, Outcome::Error { .. }),
            (Self::From(_), Outcome::Error { .. }) => false,
        }
    }
}

/// Where the pods are: the node of each by its index.
pub struct Map<'a> {
    pub node_of: &'a [usize],
    pub name_of: &'a [String],
}

/// Every way to ask any service that may ever be there.
pub fn visits() -> Vec<Visit> {
    let mut visits = Vec::new();
    let clients = [Who::Pod(1), Who::Pod(2), Who::Node(1), Who::Node(2), Who::Outside];
    for (service, (port, (_, protocol, number, _))) in
        (0..SERVICES).flat_map(|service| PORTS.into_iter().enumerate().map(move |p| (service, p)))
    {
        for v6 in [false, true] {
            let mut add = |who, frontend, ip: IpAddr, number| {
                let protocol = if protocol == "TCP" { "tcp" } else { "udp" };
                let to = SocketAddr::new(ip, number);
                visits.push(Visit { who, to, protocol, service, port, frontend });
            };
            for who in clients {
                for node in [1, 2] {
                    let ip = node_ip(node as u8, v6);
                    add(who, Frontend::NodePort(node), ip, node_port(service, port));
                }
                add(who, Frontend::Balancer, balancer_ip(service, v6), number);
                if who == Who::Outside {
                    // Who else is served on externalIPs is a matter of configuration.
                    add(who, Frontend::External, external_ip(service, v6), number);
                } else {
                    add(who, Frontend::Cluster, cluster_ip(service, v6), number);
                }
            }
        }
    }
    visits
}

impl Visit {
    /// The node that serves it. Service addresses lead from outside to the first one.
    pub fn served_by(&self) -> usize {
        match (self.frontend, self.who) {
            (Frontend::NodePort(node), _) => node,
            (_, Who::Pod(node) | Who::Node(node)) => node,
            (_, Who::Outside) => 1,
        }
    }

    /// `services` are those that the serving node knows.
    pub fn expected(&self, services: &[Service], map: &Map<'_>) -> Expected {
        let service = &services[self.service];
        let v6 = self.to.is_ipv6();
        let has_family = if v6 { service.v6 } else { service.v4 };
        let has_frontend = match self.frontend {
            Frontend::Cluster => true,
            Frontend::Balancer => service.kind == "LoadBalancer",
            Frontend::External => service.external,
            Frontend::NodePort(_) => service.kind != "ClusterIP" && service.node_ports,
        };
        if !service.exists || !has_family || !has_frontend || !service.ports[self.port] {
            return Expected::Nothing;
        }

        let node = self.served_by();
        let inside = matches!(self.who, Who::Pod(of) | Who::Node(of) if of == node);
        let local = match self.frontend {
            Frontend::Cluster => service.local_inside,
            _ => service.local_outside && !inside,
        };
        let is_local = |pod: &usize| map.node_of[*pod] == node;
        let of = |wanted: State, local: bool| -> BTreeSet<usize> {
            self.best_states(service)
                .into_iter()
                .filter(|(pod, state)| *state == wanted && (!local || is_local(pod)))
                .map(|(pod, _)| pod)
                .collect()
        };
        let usable = |local| {
            let ready = of(State::Ready, local);
            if ready.is_empty() { of(State::Draining, local) } else { ready }
        };
        let chosen = usable(local);
        let target = PORTS[self.port].3;
        match (chosen.is_empty(), usable(false).is_empty()) {
            (false, _) => Expected::From(
                chosen.iter().map(|pod| server_name(&map.name_of[*pod], target)).collect(),
            ),
            (true, true) => Expected::Refused,
            (true, false) => Expected::Nothing,
        }
    }

    /// The endpoints of the port's name in all slices; one that is there twice in its best state.
    fn best_states(&self, service: &Service) -> Vec<(usize, State)> {
        let v6 = self.to.is_ipv6();
        let slices = service.slices.iter().flatten();
        let with_port = slices.filter(|slice| slice.v6 == v6 && slice.ports[self.port]);
        let mut best: Vec<(usize, State)> = Vec::new();
        for (pod, state) in with_port.flat_map(|slice| &slice.endpoints) {
            match best.iter_mut().find(|(known, _)| known == pod) {
                Some((_, known)) if rank(*state) < rank(*known) => *known = *state,
                Some(_) => {}
                None => best.push((*pod, *state)),
            }
        }
        best
    }
}

fn rank(state: State) -> u8 {
    match state {
        State::Ready => 0,
        State::Draining => 1,
        State::Ending | State::NotReady => 2,
    }
}

/// A pod's servers tell their ports apart.
pub fn server_name(pod: &str, port: u16) -> String {
    format!("{pod}:{port}")
}
