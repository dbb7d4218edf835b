//! P3: a plan with nothing to do, over domains that are defined and off.

use std::time::{Duration, Instant};

use ashlar_engine::{Engine, Goal, Scope, declare};
use ashlar_plan::HostSeen;
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::{ansible, virsh};

/// Machines asked for at one moment, so that a thousand addresses are not asked about at once.
const BATCH: usize = 100;
const WARM_PLANS: usize = 11;

pub(crate) fn run(rig: &Rig, count: usize, by_ansible: Option<&str>) -> Value {
    rig.inside(async || make(rig, count).await);
    let cold: Vec<Duration> = (0..5)
        .map(|_| {
            rig.inside(async || {
                let begin = Instant::now();
                let (engine, _, _) = rig.engine();
                plan(&engine, count).await;
                begin.elapsed()
            })
        })
        .collect();
    let warm: Vec<Duration> = rig.inside(async || {
        let (engine, _, _) = rig.engine();
        plan(&engine, count).await;
        let mut took = Vec::new();
        for _ in 0..WARM_PLANS {
            let begin = Instant::now();
            plan(&engine, count).await;
            took.push(begin.elapsed());
        }
        took
    });
    let names: Vec<String> =
        virsh::output(rig, &["list", "--all", "--name"]).split_whitespace().map(str::to_owned).collect();
    assert_eq!(names.len(), count, "domains");
    let one_by_one: Vec<Vec<String>> = names.iter().map(|name| vec![format!("dominfo {name}")]).collect();
    let three = |lists: &[Vec<String>]| (0..3).map(|_| virsh::timed(rig, 1, lists)).collect();
    let dominfo: Vec<Duration> = three(&one_by_one);
    let domstats: Vec<Duration> = three(&[vec!["domstats".to_owned()]]);
    let by_ansible = by_ansible.map(|program| ms(ansible::info(rig, program, count)));
    json!({
        "domains": count,
        "plan_cold_ms": ms(median(cold)),
        "plan_warm_ms": ms(median(warm)),
        "dominfo_ms": ms(median(dominfo)),
        "domstats_ms": ms(median(domstats)),
        "ansible_ms": by_ansible,
    })
}

/// One control plane and workers, all defined and none running; nothing is left to do for them.
pub(crate) async fn make(rig: &Rig, count: usize) {
    rig.prepare(false).await;
    let (engine, store, log) = rig.engine();
    let mut defined = 0;
    while defined < count - 1 {
        let next = (defined + BATCH).min(count - 1);
        rig.want_workers(store.as_ref(), next).await;
        // The workers' start waits for an API server that never answers.
        rig.work(&engine, &log, "DefineDomain", next).await;
        defined = next;
        eprintln!("{defined} of {} workers defined", count - 1);
    }
    declare::stop_cluster(store.as_ref(), &rig.cluster(), true).await.unwrap();
    engine.run(&Scope::All, &Goal::ClusterStopped(rig.cluster()), Duration::from_secs(600)).await.unwrap();
    // What was under way when the last run was dropped comes to its end.
    engine.run(&Scope::All, &Goal::Settled, Duration::from_secs(600)).await.unwrap();
}

/// Plans; the plan must have seen all domains, and have nothing to do.
async fn plan(engine: &Engine, count: usize) {
    let (snapshot, plan) = engine.plan(&Scope::All).await.unwrap();
    assert!(plan.steps.is_empty() && plan.decisions.is_empty(), "{:?} {:?}", plan.steps, plan.decisions);
    assert_eq!(snapshot.machines.len(), count);
    for host in snapshot.observed.hosts.values() {
        let HostSeen::Seen(world) = host else { panic!("{host:?}") };
        assert_eq!(world.domains.len(), count);
        assert!(world.domains.values().all(|domain| domain.mark.is_some() && !domain.state.is_active()));
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
