// SPDX-License-Identifier: Apache-2.0
//! That work grows with the change, not with the cluster.

use super::support::*;
use crate::lb::{Balancer, Context, Plan};
use crate::model::{Endpoint, EndpointSlice};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;

fn web(number: u32, edition: u32) -> EndpointSlice {
    let endpoint = |index: u32| -> Endpoint {
        let [_, a, b, c] = (number * ENDPOINTS + index).to_be_bytes();
        let net = if index == 0 { 10 + edition } else { 10 };
        endpoint(&format!("{net}.{a}.{b}.{c}"))
    };
    slice(&format!("s{number}"), (0..ENDPOINTS).map(endpoint).collect())
}

fn apply(balancer: &mut Balancer, plans: Vec<Plan>) {
    plans.iter().for_each(|plan| balancer.applied(plan));
}

#[test]
fn one_endpoint_of_many_services_is_a_handful_of_writes() {
    let mut balancer = Balancer::new(Context::of("here"), SERVICES * ENDPOINTS + 1);
    for number in 0..SERVICES {
        let vip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
        balancer.set_service(service(&format!("s{number}"), &[&vip]));
        balancer.set_slice(web(number, 0));
    }
    while balancer.pending() > 0 {
        let plans = balancer.plan(512);
        apply(&mut balancer, plans);
    }
    for edition in 1..=3 {
        balancer.set_slice(web(SERVICES / 2, edition));
        assert_eq!(balancer.pending(), 1);
        let plans = balancer.plan(512);
        assert_eq!(plans.len(), 1);
        let writes = plans[0].phases().map(<[_]>::len);
        // A target and ten slots; nine that moved up; the flip; the old target; ten old slots.
        let most = [11, 0, 9, 1, 1, 10];
        let writes: Vec<usize> = writes.collect();
        assert!(writes.iter().zip(most).all(|(is, most)| *is <= most), "{writes:?}");
        apply(&mut balancer, plans);
    }
}
