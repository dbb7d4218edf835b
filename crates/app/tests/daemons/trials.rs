//! What is done to whom, and what must hold after it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use ashlar_lab::Lab;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use crate::members;
use crate::oracle::{now_ms, wait};
use crate::world::{Who, World};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trial {
    /// The leading daemon is killed, its ssh processes are not.
    KillProcess,
    /// Its whole machine.
    KillMachine,
    /// It is paused until another one has done the work.
    PauseProcess,
    /// With its whole machine.
    PauseMachine,
    /// The same while calls that delete files are in libvirtd, which goes on only once another one has the host.
    PauseInCall,
    /// It reaches no member of etcd any more, but the host.
    CutFromMembers,
    /// It reaches nothing any more.
    CutFromAll,
    /// It does not reach one of the members.
    CutFromOne,
    /// A member does not reach the other two, but whoever asks it.
    CutMember,
    /// A member reaches nobody.
    LoseMember,
}

/// All kinds; those with a new leader twice as often as a member's.
pub(crate) const ORDER: [Trial; 10] = [
    Trial::KillProcess,
    Trial::PauseInCall,
    Trial::CutFromMembers,
    Trial::PauseProcess,
    Trial::CutMember,
    Trial::KillMachine,
    Trial::CutFromAll,
    Trial::PauseMachine,
    Trial::CutFromOne,
    Trial::LoseMember,
];

/// Files to delete in each; with calls under way more, so that some are.
const FILES: usize = 4;
const MANY_FILES: usize = 32;

/// How long it took.
struct Took {
    /// From the fault to the first connection of the next one on the host; none where nobody had to take over.
    takeover: Option<u64>,
    /// From the fault, or from when there was something to do, until all files were gone and seen to be gone.
    work: u64,
    /// Deletions that were under way.
    calls: usize,
}

pub(crate) fn run(trials: usize) {
    in_a_world(1, |world, lab| all(world, lab, trials));
}

/// Does something with daemons and a lab of so many hosts.
pub(crate) fn in_a_world(hosts: u16, work: impl FnOnce(&mut World<'_>, &Lab) + Send) {
    if members::binary().is_none() {
        eprintln!("SKIPPED: no etcd binary; `ashlar image build` makes one, or set ASHLAR_ETCD_DIR");
        return;
    }
    assert!(nix::unistd::geteuid().is_root(), "these tests make namespaces: run them as root");
    let dir = tempfile::Builder::new().prefix("ashlar-daemons-").tempdir_in("/var/tmp").unwrap();
    let lab = Lab::with_state_dir(&format!("d{}", std::process::id()), &dir.path().join("lab")).unwrap();
    lab.up(hosts, &|_| {}).unwrap();
    let description = lab.description().unwrap().unwrap();
    let ended = std::thread::scope(|scope| {
        let inside = || {
            let netns = Path::new("/run/netns").join(&description.control_namespace);
            setns(std::fs::File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let mut world = World::start(&lab, &description);
            work(&mut world, &lab);
        };
        scope.spawn(inside).join()
    });
    lab.down(&|_| {}).unwrap();
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn all(world: &mut World<'_>, lab: &Lab, trials: usize) {
    world.give_work(0, FILES);
    world.wait_until_done();
    let began = Instant::now();
    let mut times: BTreeMap<Trial, Vec<Took>> = BTreeMap::new();
    for number in 0..trials {
        let trial = ORDER[number % ORDER.len()];
        let took = one(world, lab, trial, number + 1);
        println!(
            "{:>3} {trial:?}: takeover {} ms, work done after {} ms, {} deletions under way",
            number + 1,
            took.takeover.map_or("no".to_owned(), |took| took.to_string()),
            took.work,
            took.calls
        );
        times.entry(trial).or_default().push(took);
    }
    judge(world);
    println!("{trials} trials in {:?}", began.elapsed());
    report(&times);
}

/// Tokens only rise, and nobody else had a connection to libvirt when one began.
fn judge(world: &World<'_>) {
    let began = world.oracle.began();
    let wrong: Vec<_> = began.iter().filter(|began| began.verdict != "alone").collect();
    assert!(wrong.is_empty(), "two writers on the host: {wrong:?}");
    assert!(began.is_sorted_by_key(|began| began.token), "a token went back: {began:?}");
    println!("{} connections to libvirt, the last with token {}", began.len(), world.oracle.token());
}

fn report(times: &BTreeMap<Trial, Vec<Took>>) {
    let line = |name: &str, what: &str, mut times: Vec<u64>| {
        times.sort_unstable();
        let Some(last) = times.len().checked_sub(1) else { return };
        let at = |percent: usize| times[last * percent / 100];
        println!(
            "{name}: {} times; {what}: min {} ms, median {} ms, p95 {} ms, max {} ms",
            times.len(),
            at(0),
            at(50),
            at(95),
            at(100)
        );
    };
    let mut all = Vec::new();
    for (trial, took) in times {
        let name = format!("{trial:?}");
        let takeovers: Vec<u64> = took.iter().filter_map(|took| took.takeover).collect();
        all.extend_from_slice(&takeovers);
        line(&name, "takeover", takeovers);
        line(&name, "work done", took.iter().map(|took| took.work).collect());
    }
    line("all", "takeover", all.clone());
    all.sort_unstable();
    if let Some(median) = all.get(all.len() / 2) {
        assert!(*median <= 5_000, "takeovers take too long: {all:?}");
    }
    let calls: usize = times.get(&Trial::PauseInCall).into_iter().flatten().map(|took| took.calls).sum();
    println!("{calls} deletions were under way when their daemon was paused");
    assert!(calls > 0, "nothing was under way");
}

fn one(world: &mut World<'_>, lab: &Lab, trial: Trial, number: usize) -> Took {
    let leader = world.leader();
    let member = number % 3;
    let token = world.oracle.token();
    let addresses: Vec<Ipv4Addr> = world.members.iter().map(|member| member.address).collect();
    let others: Vec<Ipv4Addr> =
        addresses.iter().copied().filter(|address| *address != addresses[member]).collect();
    let libvirtd = lab.hypervisor_daemon();
    let has_next = !matches!(trial, Trial::CutFromOne | Trial::CutMember | Trial::LoseMember);
    let count = if trial == Trial::PauseInCall { MANY_FILES } else { FILES };
    // Where nobody has to take over there is something to do only from then on, else it would be done by then.
    let mut files = if has_next { world.give_work(number, count) } else { Vec::new() };
    let mut calls = 0;
    let mut start = now_ms();
    match trial {
        Trial::KillProcess => world.kill(leader, Who::Process),
        Trial::KillMachine => world.kill(leader, Who::Machine),
        Trial::PauseProcess => world.daemons[leader].signal(Signal::SIGSTOP, Who::Process),
        Trial::PauseMachine => world.daemons[leader].signal(Signal::SIGSTOP, Who::Machine),
        Trial::PauseInCall => {
            wait("no file goes", || files.iter().any(|file| !world.oracle.is_there(file)).then_some(()));
            lab.pause_daemon("h1", libvirtd).unwrap();
            world.daemons[leader].signal(Signal::SIGSTOP, Who::Machine);
            calls = world.daemons[leader].under_way();
        }
        Trial::CutFromMembers => world.daemons[leader].netns.cut(&addresses),
        Trial::CutFromAll => {
            let host = lab.description().unwrap().unwrap().hosts[0].ssh_address;
            world.daemons[leader].netns.cut(&[&addresses[..], &[host]].concat());
        }
        Trial::CutFromOne => world.daemons[leader].netns.cut(&addresses[member..=member]),
        Trial::CutMember => world.members[member].cut(&others),
        Trial::LoseMember => {
            let daemons = world.daemons.iter().map(|daemon| daemon.netns.address);
            world.members[member].cut(&others.into_iter().chain(daemons).collect::<Vec<_>>());
        }
    }
    if !has_next {
        files = world.give_work(number, count);
        start = now_ms();
    }
    let takeover = has_next.then(|| world.oracle.wait_for_newer(token).at_ms.saturating_sub(start));
    if trial == Trial::PauseInCall {
        // What was said to it before is carried out now, though who said it is gone from the host.
        lab.resume_daemon("h1", libvirtd).unwrap();
    }
    world.wait_until_done();
    let work = now_ms() - start;
    for file in &files {
        assert!(!world.oracle.is_there(file), "{trial:?}: {file} was seen to be gone, and is there");
    }
    // Whoever comes back and goes on where it was, or whose call is still under way, would delete these.
    world.oracle.make(&files);
    let before = world.daemons[leader].log().len();
    match trial {
        Trial::KillProcess | Trial::KillMachine => world.start_again(leader),
        Trial::PauseProcess => world.daemons[leader].signal(Signal::SIGCONT, Who::Process),
        Trial::PauseMachine | Trial::PauseInCall => {
            world.daemons[leader].signal(Signal::SIGCONT, Who::Machine);
        }
        Trial::CutFromMembers | Trial::CutFromAll | Trial::CutFromOne => {
            world.daemons[leader].netns.heal();
        }
        Trial::CutMember | Trial::LoseMember => world.members[member].heal(),
    }
    if has_next {
        wait("whoever led before does not stand by", || {
            world.daemons[leader].log()[before..].contains("standing by").then_some(())
        });
    }
    for file in &files {
        assert!(world.oracle.is_there(file), "{trial:?}: {file} was deleted twice");
        world.oracle.remove(file);
    }
    judge(world);
    Took { takeover, work, calls }
}
