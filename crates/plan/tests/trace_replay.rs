//! The bench's replay of traces, on a slice of one that is made here: what it asserts of every policy, and that it counts
//! host-days as it says.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a failure here is a failed test; the bench uses more of these modules"
)]

#[path = "../examples/placement/policies.rs"]
mod policies;
#[path = "../examples/placement/trace.rs"]
mod trace;

use policies::{Ashlar, Rule, Simple};
use trace::{Machine, Policy, Trace, replay};

const HEADER: &str = "vmId,tenantId,cores,ram,vmTypeId,starttime,endtime\n";

fn policies() -> [Box<dyn Policy>; 4] {
    [
        Box::new(Simple::new(Rule::First)),
        Box::new(Simple::new(Rule::Best)),
        Box::new(Simple::new(Rule::Hindsight)),
        Box::new(Ashlar::new()),
    ]
}

/// Shapes, bursts and lives as in the traces: some alive before 0, some for ever, many that come at once.
fn slice(seed: u64) -> Trace {
    let mut state = seed;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let shapes = [(200, 28), (800, 112), (1600, 448), (4000, 1790), (10_400, 64), (42, 7), (800, 512)];
    let mut text = HEADER.to_owned();
    let mut start = -50.0;
    for vm in 0..3000 {
        if next(10) < 7 {
            start += next(1000) as f64 / 15_000.0;
        }
        let end = match next(10) {
            0 => "inf".to_owned(),
            1 => (start + 0.5 + next(100) as f64).to_string(),
            _ => (start + next(1000) as f64 / 5000.0).to_string(),
        };
        let (cores, ram) = shapes[next(7) as usize];
        text += &format!("{vm},{},{cores}.0,{ram}.0,0,{start},{end}\n", next(40));
    }
    Trace::from_csv(&text)
}

#[test]
fn claims_never_pass_capacity_and_end_at_exactly_zero() {
    for seed in 0..4 {
        let trace = slice(seed);
        assert!(trace.end > 10.0, "the slice reaches beyond 0");
        for mut policy in policies() {
            // `replay` asserts both at every event.
            let days = replay(&trace, policy.as_mut());
            assert!(days.used >= days.bound && days.bound > 0.0, "{days:?}");
        }
    }
}

#[test]
fn host_days_are_counted_from_zero_to_the_last_arrival() {
    // One machine of half a host's memory for ever, one that fills a second host's from day 1 to 3, the last at day 4.
    let text = format!(
        "{HEADER}1,1,100.0,1125.0,0,-5.0,inf\n2,1,100.0,2250.0,0,1.0,3.0\n3,1,100.0,1125.0,0,4.0,99.0\n"
    );
    for mut policy in policies() {
        let days = replay(&Trace::from_csv(&text), policy.as_mut());
        assert_eq!((days.used, days.bound), (4.0 + 2.0, 0.5 * 4.0 + 2.0));
    }
}

/// It puts everything on one host.
struct Overfull;

impl Policy for Overfull {
    fn place(&mut self, _: &Machine) -> usize {
        0
    }
    fn leave(&mut self, _: usize, _: &Machine, _: u64) {}
}

#[test]
#[should_panic(expected = "claims pass the host's capacity")]
fn a_policy_that_overfills_a_host_is_caught() {
    replay(&slice(1), &mut Overfull);
}
