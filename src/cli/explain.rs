// SPDX-License-Identifier: Apache-2.0
//! `culvert service explain`: what would happen to a new connection, and why.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::client::{Client, block_on};
use super::error::{self, Hint};
use super::output::Output;
use super::paths::Paths;
use super::table;
use crate::lb::{Answer, Explanation, PortView, Verdict};

/// The source may be asked why it has no such service.
const TIMEOUT: Duration = Duration::from_secs(45);

/// The endpoints of a verdict that a table names; `-o json` has them all.
const NAMED: usize = 3;

/// What would happen to a new connection, and why
///
/// The frontend that is found, the program that decides, the policy, the endpoints that count and
/// why the others do not, how one of them is chosen and reached. Exits with 0 when a client of
/// those asked about gets an endpoint, with 1 when none does, with 2 when there is no telling.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A service, `NAME` in the namespace `default` or `NAMESPACE/NAME`, or an address, `IP:PORT`
    #[arg(value_name = "NAME|VIP:PORT")]
    subject: String,
    /// The client's address; without it the answer is for all clients
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let asked = ask(&args);
    Ok(
        match asked.and_then(|found| {
            args.output.write(&found, draw)?;
            Ok(found.serves())
        }) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => error::unclear(&error),
        },
    )
}

fn ask(args: &Args) -> Result<Answer> {
    let path = path(&args.subject, args.from)?;
    block_on(async {
        let client = Client::connect(&args.paths.resolve()?.socket).await?;
        client.patient(TIMEOUT).get(&path).await
    })
}

fn path(subject: &str, from: Option<IpAddr>) -> Result<String> {
    let bare = subject.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let hint = format!("name one, such as `{}`", SocketAddr::new(ip, 80));
        let message = format!("`{subject}` is an address without a port");
        return Err(anyhow::Error::msg(Hint { message, hint }));
    }
    let mut path = match subject.parse::<SocketAddr>() {
        Ok(address) => format!("/v1/explain?address={}&port={}", address.ip(), address.port()),
        Err(_) if subject.contains('/') => format!("/v1/explain?service={subject}"),
        Err(_) => format!("/v1/explain?service=default/{subject}"),
    };
    if let Some(from) = from {
        path.push_str(&format!("&from={from}"));
    }
    Ok(path)
}

fn draw(found: &Answer) -> String {
    let mut parts: Vec<String> = found.services.iter().map(service).collect();
    if !found.otherwise.is_empty() {
        let rows = found.otherwise.iter().map(verdict_cells);
        parts.push(table::draw(VERDICT, rows));
    }
    if !found.notes.is_empty() {
        parts.push(found.notes.iter().map(|note| format!("{note}\n")).collect());
    }
    parts.join("\n")
}

fn service(found: &Explanation) -> String {
    let mut text = format!("{}\n", found.subject);
    let width = found.rules.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    for rule in &found.rules {
        text.push_str(&format!("  {:width$}   {}\n", rule.name, rule.value));
    }
    for problem in &found.problems {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    for port in &found.ports {
        text.push('\n');
        text.push_str(&port_tables(port));
    }
    if !found.unserved.is_empty() {
        let rows = found
            .unserved
            .iter()
            .map(|row| [&row.frontend, &row.service_type, &row.reason].map(String::clone));
        text.push('\n');
        text.push_str(&table::draw(["Not served", "Service Type", "Why"], rows));
    }
    text
}

const VERDICT: [&str; 4] = ["From", "By", "Outcome", "Why"];

fn port_tables(port: &PortView) -> String {
    let list = match port.id {
        0 => "not written yet".to_owned(),
        id => format!("list {id}"),
    };
    let mut text = format!("{}/{} {}, {list}\n", port.port, port.protocol, port.family);
    let rows = port.frontends.iter().flat_map(|frontend| {
        frontend.verdicts.iter().enumerate().map(move |(line, verdict)| {
            let (name, kind) = match line {
                0 => (frontend.frontend.clone(), frontend.service_type.clone()),
                _ => (String::new(), String::new()),
            };
            let [from, by, outcome, why] = verdict_cells(verdict);
            [name, kind, from, by, outcome, why]
        })
    });
    text.push_str(&table::draw(["Frontend", "Service Type", "From", "By", "Outcome", "Why"], rows));
    for frontend in port.frontends.iter().filter(|frontend| !frontend.addresses.is_empty()) {
        let addresses = frontend.addresses.join(", ");
        text.push_str(&format!("* in {} is {addresses}\n", frontend.frontend));
    }
    if !port.endpoints.is_empty() {
        let rows = port.endpoints.iter().map(|endpoint| {
            let counts = if endpoint.counts { "yes" } else { "no" }.to_owned();
            let [address, node, state, reason] =
                [&endpoint.address, &endpoint.node, &endpoint.state, &endpoint.reason]
                    .map(String::clone);
            [address, node, state, counts, reason]
        });
        let titles = ["Endpoint", "Node", "State", "Counts", "Why not (for everyone)"];
        text.push('\n');
        text.push_str(&table::draw(titles, rows));
    }
    text
}

fn verdict_cells(verdict: &Verdict) -> [String; 4] {
    let from: Vec<&str> = verdict.from.iter().map(|side| side.name()).collect();
    let mut why = verdict.reason.clone();
    let named: Vec<&str> = verdict.endpoints.iter().take(NAMED).map(String::as_str).collect();
    if !named.is_empty() {
        let more = if verdict.endpoints.len() > NAMED { ", ..." } else { "" };
        why.push_str(&format!(": {}{more}", named.join(", ")));
    }
    let affinity = verdict.remembered.as_ref().map(|last| format!("affinity gives {last}"));
    let counted = verdict.counted.as_ref().map(|name| format!("counted as {name}"));
    let how = [&verdict.algorithm, &verdict.mode, &affinity, &counted];
    for word in how.into_iter().flatten() {
        why.push_str(&format!("; {word}"));
    }
    [from.join(", "), verdict.hooks.join(", "), verdict.fate.name().to_owned(), why]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lb::{EndpointView, Fate, FrontendView, Rule, Side, Unserved};

    #[test]
    fn a_subject_is_a_frontend_or_a_name() {
        let from = Some("10.0.0.9".parse().unwrap());
        let path = |subject, from| path(subject, from).unwrap();
        assert_eq!(path("web", None), "/v1/explain?service=default/web");
        assert_eq!(path("kube-system/dns", None), "/v1/explain?service=kube-system/dns");
        assert_eq!(path("[fd00::1]:80", from), "/v1/explain?address=fd00::1&port=80&from=10.0.0.9");
    }

    #[test]
    fn an_address_alone_is_no_name_of_a_service() {
        for (subject, example) in [
            ("10.96.0.1", "10.96.0.1:80"),
            ("fd00::1", "[fd00::1]:80"),
            ("[fd00::1]", "[fd00::1]:80"),
        ] {
            let error = path(subject, None).unwrap_err();
            assert_eq!(error.to_string(), format!("`{subject}` is an address without a port"));
            assert!(error.downcast_ref::<Hint>().unwrap().hint.contains(example));
        }
    }

    fn verdict(from: &[Side], hooks: &[&str], fate: Fate, reason: &str) -> Verdict {
        Verdict {
            from: from.to_vec(),
            hooks: hooks.iter().map(|hook| (*hook).to_owned()).collect(),
            fate,
            reason: reason.to_owned(),
            counted: None,
            algorithm: None,
            mode: None,
            remembered: None,
            endpoints: Vec::new(),
        }
    }

    #[test]
    fn the_answer_reads_from_top_to_bottom() {
        let served = Verdict {
            algorithm: Some("random".to_owned()),
            remembered: Some("10.244.1.5:8080".to_owned()),
            endpoints: ["10.244.1.5:8080", "10.244.2.6:8080"].map(str::to_owned).to_vec(),
            ..verdict(&[Side::Node, Side::Pod], &["socket"], Fate::Served, "policy Cluster")
        };
        let dropped = Verdict {
            counted: Some("cluster_ip_from_outside".to_owned()),
            ..verdict(&[Side::Outside], &["xdp_entry", "from_netdev"], Fate::Dropped, "not served")
        };
        let explanation = Explanation {
            subject: "Service default/web".to_owned(),
            rules: vec![Rule { name: "type".to_owned(), value: "ClusterIP".to_owned() }],
            ports: vec![PortView {
                port: 80,
                protocol: "TCP".to_owned(),
                family: "IPv4".to_owned(),
                id: 4,
                frontends: vec![FrontendView {
                    frontend: "10.96.0.1:80/TCP".to_owned(),
                    service_type: "ClusterIP".to_owned(),
                    addresses: Vec::new(),
                    verdicts: vec![served, dropped],
                }],
                endpoints: vec![EndpointView {
                    address: "10.244.1.7:8080".to_owned(),
                    node: "n1".to_owned(),
                    state: "not ready".to_owned(),
                    counts: false,
                    reason: "not ready".to_owned(),
                }],
            }],
            unserved: vec![Unserved {
                frontend: "192.0.2.1:80/TCP".to_owned(),
                service_type: "LoadBalancer".to_owned(),
                reason: "Service default/other has it".to_owned(),
            }],
            problems: vec!["it is odd".to_owned()],
        };
        let answer = Answer { services: vec![explanation], ..Answer::default() };
        assert_eq!(draw(&answer), include_str!("explain/example.txt"));
        assert!(answer.serves());
    }

    #[test]
    fn what_no_service_takes_is_told_too() {
        let otherwise = vec![verdict(&[Side::Pod], &["socket"], Fate::Refused, "no such port")];
        let notes = vec!["10.96.0.1:80/TCP is Service default/web".to_owned()];
        let answer = Answer { otherwise, notes, ..Answer::default() };
        let lines = "\
From   By       Outcome   Why
pod    socket   refused   no such port

10.96.0.1:80/TCP is Service default/web
";
        assert_eq!(draw(&answer), lines);
        assert!(!answer.serves());
    }
}
