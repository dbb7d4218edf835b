//! Kubelets that are silent while their nodes count as Ready, static pods that are not well, VMs that run and never answer.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::patients::*;
use common::*;
use jiff::SignedDuration;

const TEN_MINUTES: SignedDuration = SignedDuration::from_mins(10);

fn fall_silent(world: &mut World, machine: &str) {
    let since = world.snapshot.now;
    node(world, machine).kubelet = KubeletSeen::Silent { since };
}

fn crash(world: &mut World, machine: &str, pod: &str) {
    let reason = "CrashLoopBackOff, exit code 1".to_owned();
    node(world, machine).static_pods.insert(pod.to_owned(), StaticPodSeen { ready: false, reason });
}

#[test]
fn a_kubelet_that_is_silent_while_its_node_counts_as_ready_costs_it_its_machine() {
    let mut world = living(1, 3);
    fall_silent(&mut world, "prod-wkr-2");
    insta::assert_snapshot!("silent_patience", decided_fates(&world.plan()));
    be_patient(&mut world);
    insta::assert_snapshot!("silent_goes", decided_fates(&world.plan()));
}

#[test]
fn where_no_kubelet_is_heard_none_is_silent() {
    let mut world = living(1, 2);
    for machine in ["prod-wkr-1", "prod-wkr-2", "prod-ctrl-1"] {
        fall_silent(&mut world, machine);
    }
    for _ in 0..10 {
        let plan = world.plan();
        assert!(plan.decisions.is_empty(), "{:?}", plan.decisions);
        world.snapshot.now += SignedDuration::from_mins(5);
    }
    // One that another installation, or nobody, made proves nothing of ours.
    let stranger = NodeSeen { kubelet: KubeletSeen::Heard, ..NodeSeen::default() };
    let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) else {
        unreachable!("the API answers")
    };
    api.nodes.insert("stranger".to_owned(), stranger);
    assert!(world.plan().decisions.is_empty());
    node(&mut world, "prod-ctrl-1").kubelet = KubeletSeen::Heard;
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-wkr-1"), Some(AilmentKind::KubeletSilent));
}

#[test]
fn an_ashlar_that_has_just_been_started_neither_counts_nor_forgets() {
    let mut world = living(1, 3);
    fall_silent(&mut world, "prod-wkr-2");
    pass(&mut world);
    let recorded = world.snapshot.machines[&key("prod-wkr-2")].record.ailment.clone();
    assert!(recorded.is_some());
    node(&mut world, "prod-wkr-2").kubelet = KubeletSeen::Unknown;
    world.snapshot.now += SignedDuration::from_mins(30);
    assert!(world.plan().decisions.is_empty());
    node(&mut world, "prod-wkr-2").kubelet = KubeletSeen::Heard;
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-wkr-2"), None);
}

#[test]
fn a_silent_node_is_not_waited_for_longer_than_one_that_is_not_ready() {
    let mut world = living(1, 3);
    fall_silent(&mut world, "prod-wkr-2");
    be_patient(&mut world);
    pass(&mut world);
    let steps_of = |world: &mut World| {
        let plan = world.plan();
        let steps = plan.steps.iter().filter(|step| step.object.name == "prod-wkr-2");
        steps
            .map(|step| match &step.state {
                StepState::Waiting(wait) if !wait.message.is_empty() => {
                    format!("{} (waits, {}: {})", step.why, wait.reason, wait.message)
                }
                state => format!("{} ({state:?})", step.why),
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!("silent_drain", steps_of(&mut world));
    world.snapshot.now += SignedDuration::from_mins(6);
    insta::assert_snapshot!("silent_drain_given_up", steps_of(&mut world));
}

#[test]
fn a_control_plane_goes_whose_static_pod_is_not_ready_or_gone() {
    let mut world = living(3, 1);
    crash(&mut world, "prod-ctrl-2", "kube-scheduler");
    be_patient_for(&mut world, TEN_MINUTES);
    insta::assert_snapshot!("pod_crashes", decided_fates(&world.plan()));

    let mut world = living(3, 1);
    node(&mut world, "prod-ctrl-2").static_pods.remove("kube-controller-manager");
    be_patient_for(&mut world, TEN_MINUTES);
    insta::assert_snapshot!("pod_gone", decided_fates(&world.plan()));

    // That none is mirrored says nothing of what runs, and workers have none.
    let mut world = living(3, 1);
    node(&mut world, "prod-ctrl-2").static_pods.clear();
    assert!(world.plan().decisions.is_empty());

    let mut world = living(3, 1);
    crash(&mut world, "prod-ctrl-2", "kube-scheduler");
    crash(&mut world, "prod-ctrl-3", "etcd");
    be_patient_for(&mut world, TEN_MINUTES);
    insta::assert_snapshot!("pods_of_two", decided_fates(&world.plan()));
}

#[test]
fn no_worker_is_replaced_while_no_controllers_work() {
    let mut world = living(1, 3);
    fall_silent(&mut world, "prod-wkr-2");
    crash(&mut world, "prod-ctrl-1", "kube-controller-manager");
    be_patient_for(&mut world, TEN_MINUTES);
    insta::assert_snapshot!("no_controllers", decided_fates(&world.plan()));
}

fn domain_is(world: &mut World, machine: &str, state: DomainState) {
    let spec = world.snapshot.machines[&key(machine)].spec.clone();
    let Some(HostSeen::Seen(host)) = world.snapshot.observed.hosts.get_mut(&spec.host) else {
        unreachable!("the host answers")
    };
    host.domains.get_mut(&spec.domain.uuid).unwrap().state = state;
}

#[test]
fn a_vm_that_was_off_has_its_own_time_to_come_up() {
    let mut world = living(1, 3);
    domain_is(&mut world, "prod-wkr-2", DomainState::ShutOff);
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-wkr-2"), Some(AilmentKind::GuestNotUp));
    world.snapshot.now += SignedDuration::from_hours(5);
    assert!(world.plan().decisions.is_empty(), "while it is off nothing is counted");
    domain_is(&mut world, "prod-wkr-2", DomainState::Running);
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-wkr-2"), None, "it came up");
    domain_is(&mut world, "prod-wkr-2", DomainState::ShutOff);
    pass(&mut world);
    domain_is(&mut world, "prod-wkr-2", DomainState::Running);
    let seen = node(&mut world, "prod-wkr-2");
    (seen.ready, seen.message) = (false, "Kubelet stopped posting node status.".to_owned());
    // More than enough for one that only is not Ready.
    be_patient(&mut world);
    insta::assert_snapshot!("not_up_patience", decided_fates(&world.plan()));
    for _ in 0..2 {
        world.snapshot.now += TEN_MINUTES / 4;
        pass(&mut world);
    }
    insta::assert_snapshot!("not_up_goes", decided_fates(&world.plan()));
}

/// It runs for so many quarters of its patience, and its node does not become Ready.
fn runs_and_is_not_up(world: &mut World, machine: &str, quarters: u32) {
    domain_is(world, machine, DomainState::Running);
    node(world, machine).ready = false;
    for _ in 0..quarters {
        pass(world);
        world.snapshot.now += TEN_MINUTES / 4;
    }
    pass(world);
}

fn goes(world: &mut World, machine: &str) -> bool {
    decided_fates(&world.plan()).contains(&format!("{machine} goes"))
}

#[test]
fn a_vm_that_goes_off_while_it_is_waited_for_has_its_time_anew() {
    let living_and_off = || {
        let mut world = living(1, 3);
        domain_is(&mut world, "prod-wkr-2", DomainState::ShutOff);
        pass(&mut world);
        world
    };
    // In the middle of its patience, and when that was over and the cluster rested.
    for quarters in [3, 4] {
        let mut world = living_and_off();
        let rests = |world: &mut World, paused| {
            world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.paused = paused;
        };
        rests(&mut world, true);
        runs_and_is_not_up(&mut world, "prod-wkr-2", quarters);
        world.snapshot.now += TEN_MINUTES / 4;
        domain_is(&mut world, "prod-wkr-2", DomainState::ShutOff);
        pass(&mut world);
        rests(&mut world, false);
        world.snapshot.now += SignedDuration::from_secs(2);
        runs_and_is_not_up(&mut world, "prod-wkr-2", 3);
        assert!(!goes(&mut world, "prod-wkr-2"), "{quarters} quarters");
        world.snapshot.now += TEN_MINUTES / 4;
        pass(&mut world);
        assert!(goes(&mut world, "prod-wkr-2"), "{quarters} quarters");
    }
    // A cluster that is stopped and started: nothing of what was before.
    let mut world = living_and_off();
    let stopped = |world: &mut World, stopped| {
        world.snapshot.clusters.get_mut(&key("prod")).unwrap().record.stopped = stopped;
    };
    runs_and_is_not_up(&mut world, "prod-wkr-2", 3);
    stopped(&mut world, true);
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-wkr-2"), None);
    stopped(&mut world, false);
    world.snapshot.now += TEN_MINUTES / 4;
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-wkr-2"), Some(AilmentKind::NodeNotReady));
    pass(&mut world);
    assert!(!goes(&mut world, "prod-wkr-2"));
}

#[test]
fn what_else_a_node_suffers_from_is_told_and_nobody_is_replaced_for_it() {
    let mut world = living(1, 3);
    let troubles =
        [("DiskPressure", "kubelet has disk pressure"), ("PIDPressure", "kubelet has no PID left")];
    node(&mut world, "prod-wkr-2").troubles =
        troubles.map(|(kind, message)| (kind.to_owned(), message.to_owned())).into();
    let plan = world.plan();
    assert!(plan.decisions.is_empty());
    let told: Vec<String> = status::status(&world.snapshot, &plan)
        .into_iter()
        .filter_map(|update| match update.status {
            status::StatusValue::Machine(status) => {
                let condition = condition::find_condition(&status.conditions, "NodeHealthy")?.clone();
                Some(format!(
                    "{} {:?} {}: {}",
                    update.object, condition.status, condition.reason, condition.message
                ))
            }
            _ => None,
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"machine prod-wkr-2 False DiskPressure: node prod-wkr-2 has DiskPressure: kubelet has disk pressure; PIDPressure: kubelet has no PID left: `ashlar kubectl prod -- describe node prod-wkr-2`");
}
