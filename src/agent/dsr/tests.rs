// SPDX-License-Identifier: Apache-2.0
//! Where the key comes from, and what is said without one.

use super::*;
use crate::datapath::probe::Feature as Probed;
use crate::model::{Kind, ObjectKey, ObjectName};

fn probe(geneve: bool) -> Probe {
    let feature = Probed {
        name: "geneve",
        present: geneve,
        detail: String::new(),
        needed_by: "",
        instead: "",
    };
    Probe { kernel: String::new(), features: vec![feature] }
}

fn config(change: impl FnOnce(&mut crate::config::LoadBalancer)) -> Config {
    let mut config = Config::default();
    config.load_balancer.mode = LbMode::Dsr;
    change(&mut config.load_balancer);
    config
}

fn dsr(change: impl FnOnce(&mut crate::config::LoadBalancer)) -> Dsr {
    Dsr::new(&config(change), &probe(false), [NONE; 2]).unwrap()
}

const UID: &str = "00112233-4455-6677-8899-aabbccddeeff";
const KEY: Key = [0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255];

fn kubernetes(uid: Option<&str>) -> Object {
    let yaml = "{apiVersion: v1, kind: Service, metadata: {name: kubernetes, namespace: default}, \
                spec: {clusterIP: 10.96.0.1, ports: [{port: 443}]}}";
    let (objects, _) = crate::k8s::manifests::parse(yaml, "test");
    let Some(Object::Service(mut service)) = objects.into_iter().next() else { panic!() };
    service.cluster = uid.map(str::to_owned);
    Object::Service(service)
}

#[test]
fn the_clusters_identity_is_the_key_where_no_file_is() {
    let mut dsr = dsr(|_| ());
    let (mode, _) = dsr.features(0);
    assert_eq!((mode.requested.as_str(), mode.effective.as_str()), ("DSR", "SNAT"));
    assert!(mode.reason.contains("default/kubernetes") && !dsr.is_on(0), "{}", mode.reason);
    assert!(dsr.forwarding().obstacle.is_some());

    let removed = ObjectKey::Service(ObjectName::new("default", "kubernetes"));
    assert!(!dsr.learn(&Change::Removed(removed.clone())));
    assert!(!dsr.learn(&Change::Set(kubernetes(None))));
    assert!(!dsr.learn(&Change::Set(kubernetes(Some("no-uid")))));
    assert!(dsr.learn(&Change::Listed(Kind::Service, vec![kubernetes(Some(UID))])));
    assert_eq!(dsr.keys(), [KEY, NONE]);
    assert_eq!((dsr.forwarding().obstacle, dsr.is_on(0)), (None, true));
    assert_eq!(dsr.features(0).0, Feature::as_requested("DSR"));
    assert!(!dsr.learn(&Change::Set(kubernetes(Some(UID)))), "known");
    assert!(!dsr.learn(&Change::Removed(removed)), "the other nodes have it still");
    assert_eq!(dsr.keys(), [KEY, NONE]);
}

#[test]
fn a_key_file_is_read_again_and_a_bad_one_changes_nothing() {
    let dir = std::env::temp_dir().join(format!("culvert-dsr-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("key");
    let new = || {
        let config = config(|lb| lb.dsr_key_file = Some(file.clone()));
        Dsr::new(&config, &probe(false), [[7; 16]; 2])
    };
    let error = |text: &str| {
        fs::write(&file, text).unwrap();
        format!("{:#}", new().unwrap_err())
    };
    assert!(format!("{:#}", new().unwrap_err()).starts_with("cannot read `"));
    for bad in ["secret", "00112233", &"0".repeat(32), &"g".repeat(32)] {
        let error = error(bad);
        assert!(error.contains("openssl rand -hex 16") && !error.contains(bad), "{error}");
    }
    let one = "00112233445566778899AABBCCDDEEFF\n";
    let two = format!("{one}\n  {}\n", "1".repeat(32));
    assert!(error("").contains("holds 0 keys"));
    assert!(error(&format!("{two}{one}")).contains("holds 3 keys"));

    fs::write(&file, one).unwrap();
    let mut dsr = new().unwrap();
    assert_eq!(dsr.keys(), [KEY, NONE], "not those of an earlier agent");
    assert!(!dsr.reread());
    assert!(!dsr.learn(&Change::Set(kubernetes(Some(&"2".repeat(32))))));
    fs::write(&file, &two).unwrap();
    assert!(dsr.reread());
    assert_eq!(dsr.keys(), [KEY, [0x11; 16]]);
    fs::write(&file, "oops").unwrap();
    assert!(!dsr.reread());
    assert_eq!((dsr.keys(), dsr.problems().count()), ([KEY, [0x11; 16]], 1));
    fs::write(&file, one).unwrap();
    assert!(dsr.reread());
    assert_eq!(dsr.problems().count(), 0);
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_earlier_agents_keys_hold_until_others_are_known() {
    let mut dsr = Dsr::new(&config(|_| ()), &probe(false), [[7; 16], NONE]).unwrap();
    assert!(dsr.is_on(0));
    assert!(dsr.learn(&Change::Set(kubernetes(Some(UID)))));
    assert_eq!(dsr.keys(), [KEY, NONE]);
}

#[test]
fn what_needs_no_key_waits_for_none_and_geneve_waits_for_the_kernel() {
    assert!(dsr(|lb| lb.dsr_dispatch = DsrDispatch::Ipip).is_on(0));
    let plain = dsr(|lb| lb.dsr_plain = true);
    assert!(plain.is_on(0));
    assert_eq!(plain.features(0).1.effective, "IP Option/Extension");
    assert!(plain.features(0).1.reason.contains("no proof"));
    let geneve = |present| {
        let config = config(|lb| lb.dsr_dispatch = DsrDispatch::Geneve);
        Dsr::new(&config, &probe(present), [KEY, NONE]).unwrap()
    };
    assert!(geneve(true).is_on(0) && !geneve(false).is_on(0));
    assert!(geneve(false).features(0).0.reason.contains("Geneve"));
    let hybrid = dsr(|lb| (lb.mode, lb.dsr_plain) = (LbMode::Hybrid, true));
    assert_eq!(hybrid.features(0).0, Feature::as_requested("Hybrid"));
    let snat = dsr(|lb| lb.mode = LbMode::Snat);
    assert_eq!(snat.features(0).0, Feature::as_requested("SNAT"), "nobody asked");
}

/// A device of 1500 bytes, in the driver or not.
fn device(acceleration: &str, problem: &str) -> Device {
    let json = serde_json::json!({"name": "eth0", "ifindex": 2, "addresses": [], "mtu": 1500});
    Device {
        acceleration: acceleration.to_owned(),
        acceleration_problem: problem.to_owned(),
        ..serde_json::from_value(json).unwrap()
    }
}

#[test]
fn one_frontend_by_an_annotation_shows_what_fits_under_snat_too() {
    let snat = dsr(|lb| lb.mode = LbMode::Snat);
    let described = |served| {
        let mut device = device("native", "");
        snat.describe(&mut device, served);
        assert_eq!(device.acceleration_problem, "", "the driver sends options");
        device.dsr_mtu
    };
    assert_eq!([described(0), described(1)], [None, Some([1484, 1468])]);
    assert_eq!(snat.features(1).0.reason, "1 frontend by DSR, as annotations ask");
    assert_eq!(snat.features(3).0.effective, "SNAT");
    let all = dsr(|lb| lb.dsr_plain = true);
    assert_eq!(all.features(3).0, Feature::as_requested("DSR"));
}

#[test]
fn a_device_in_the_driver_says_that_geneve_is_left_to_tc() {
    let config = config(|lb| (lb.mode, lb.dsr_dispatch) = (LbMode::Snat, DsrDispatch::Geneve));
    let geneve = Dsr::new(&config, &probe(true), [KEY, NONE]).unwrap();
    let said = |served, acceleration, problem| {
        let mut device = device(acceleration, problem);
        geneve.describe(&mut device, served);
        device.acceleration_problem
    };
    let left = "requests by direct server return with Geneve are sent by tc";
    assert_eq!(said(0, "native", ""), "", "nobody asks for it");
    assert_eq!(said(1, "native", ""), left);
    assert_eq!(said(1, "native", "being watched"), format!("being watched; {left}"));
    assert_eq!(said(1, "", "the driver has no XDP"), "the driver has no XDP");
}
