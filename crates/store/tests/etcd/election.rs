//! Three candidates on three members, all of which are killed and paused: one works at a time, and the next soon.
//!
//! What the leader works on is a register in a file, as a host is one: under a lock it refuses whoever shows a lower term than
//! it has seen. The leader writes one item after the other into it, and notes each in the store. Judged is the register: its
//! terms never go back, a term is one candidate's, and every item is there once and in order.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ashlar_store::{
    Candidate, EtcdElection, EtcdOptions, EtcdStore, Precondition, Role, Store as _, StoreError, Tenure as _,
    Transaction,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::members::{Cluster, Fsync};
use crate::suite::key;

/// Where a candidate finds what it needs.
const DIR: &str = "ASHLAR_TEST_CANDIDATE_DIR";
const NAME: &str = "ASHLAR_TEST_CANDIDATE";
/// How many trials, if not as many as fit into [`TIME`].
const TRIALS: &str = "ASHLAR_TEST_TRIALS";
const TIME: Duration = Duration::from_secs(60);
/// Between two items.
const PACE: Duration = Duration::from_millis(20);
/// Nothing takes longer, whatever was done to members.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long something is paused: longer than a lease.
const PAUSE: Duration = Duration::from_secs(5);

/// A line of the register.
#[derive(Clone, Debug)]
struct Entry {
    term: u64,
    item: u64,
    name: String,
    at_ms: u64,
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn entries(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let mut number = || words.next().unwrap().parse().unwrap();
        let (term, item, at_ms) = (number(), number(), number());
        Entry { term, item, at_ms, name: words.next().unwrap().to_owned() }
    };
    whole.lines().map(entry).collect()
}

/// Writes an item as a host would: refuses lower terms; an item that is there is not written again. False if refused.
fn write_item(path: &Path, term: u64, item: u64, name: &str) -> bool {
    let mut file = File::options().create(true).read(true).append(true).open(path).unwrap();
    file.lock().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let last = text.lines().last().map(|line| {
        let mut words = line.split(' ').map(|word| word.parse::<u64>());
        (words.next().unwrap().unwrap(), words.next().unwrap().unwrap())
    });
    match last {
        Some((seen, _)) if seen > term => return false,
        Some((_, there)) if there >= item => return true,
        _ => {}
    }
    file.write_all(format!("{term} {item} {} {name}\n", now_ms()).as_bytes()).unwrap();
    true
}

/// The process of a candidate: this test binary again.
#[test]
#[ignore = "started by one_leads_at_a_time_and_the_next_soon"]
fn candidate() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let name = std::env::var(NAME).unwrap();
    let options: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("etcd.json")).unwrap()).unwrap();
    let text = |field: &str| options[field].as_str().unwrap().to_owned();
    let endpoints =
        options["endpoints"].as_array().unwrap().iter().map(|url| url.as_str().unwrap().to_owned());
    let store = EtcdStore::open(&EtcdOptions {
        endpoints: endpoints.collect(),
        prefix: text("prefix"),
        ca_pem: text("ca"),
        certificate_pem: text("certificate"),
        key_pem: text("key"),
    })
    .unwrap();
    let doing = format!("process {}", std::process::id());
    let election = EtcdElection::new(&store, Candidate { name: name.clone(), role: Role::Daemon, doing });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        loop {
            if let Ok(Some(term)) = election.lead().await {
                let register = dir.join("register");
                let work = work(&term.store, term.number, &name, &register);
                tokio::select! {
                    () = term.ended() => {}
                    () = work => {}
                }
            }
            tokio::time::sleep(EtcdElection::INTERVAL).await;
        }
    });
}

/// Works until somebody says that another one does.
async fn work(store: &EtcdStore, term: u64, name: &str, register: &Path) {
    loop {
        let Ok(found) = store.get(&key("next")).await else { continue };
        let (item, expect) = match found {
            Some(found) => (found.value["n"].as_u64().unwrap(), Precondition::Revision(found.revision)),
            None => (0, Precondition::Absent),
        };
        if !write_item(register, term, item, name) {
            return;
        }
        let next = Transaction::new().put(key("next"), json!({"n": item + 1, "by": name}), expect);
        if let Err(StoreError::Deposed) = store.commit(next).await {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

struct Candidates {
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Drop for Candidates {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Candidates {
    fn start(cluster: &Cluster) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = cluster.options();
        let json = json!({
            "endpoints": options.endpoints, "prefix": options.prefix, "ca": options.ca_pem,
            "certificate": options.certificate_pem, "key": options.key_pem,
        });
        std::fs::write(dir.path().join("etcd.json"), json.to_string()).unwrap();
        let children = (0..3).map(|number| spawn(dir.path(), number)).collect();
        Candidates { dir, children }
    }

    fn register(&self) -> PathBuf {
        self.dir.path().join("register")
    }

    fn signal(&self, number: usize, signal: Signal) {
        kill(Pid::from_raw(self.children[number].id().try_into().unwrap()), signal).unwrap();
    }

    /// The last entry, once there is one that fits.
    fn wait(&self, what: &str, fits: impl Fn(&Entry) -> bool) -> Entry {
        let ends = Instant::now() + DEADLINE;
        loop {
            if let Some(entry) = entries(&self.register()).into_iter().find(&fits) {
                return entry;
            }
            assert!(Instant::now() < ends, "{what}: nobody works: {:?}", entries(&self.register()).last());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Somebody writes now.
    fn now(&self) -> Entry {
        let now = now_ms();
        self.wait("now", |entry| entry.at_ms > now)
    }
}

fn spawn(dir: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "election::candidate"])
        .env(DIR, dir)
        .env(NAME, format!("c{number}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What is done to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trial {
    KillLeader,
    PauseLeader,
    KillMember,
    PauseMember,
}

#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn one_leads_at_a_time_and_the_next_soon() {
    let trials: Option<usize> = std::env::var(TRIALS).ok().map(|text| text.parse().unwrap());
    let mut cluster = Cluster::start(3, Fsync::Off);
    let mut candidates = Candidates::start(&cluster);
    candidates.now();
    let began = Instant::now();
    let mut times: std::collections::BTreeMap<Trial, Vec<u64>> = Default::default();
    let order = [
        Trial::KillLeader,
        Trial::PauseLeader,
        Trial::KillMember,
        Trial::KillLeader,
        Trial::PauseMember,
        Trial::PauseLeader,
    ];
    let mut done = 0;
    while trials.map_or(began.elapsed() < TIME, |trials| done < trials) {
        let trial = order[done % order.len()];
        let member = u8::try_from(done % 3).unwrap() + 1;
        let before = candidates.now();
        let leader: usize = before.name[1..].parse().unwrap();
        let (start, elections) = (now_ms(), cluster.elections());
        let took = match trial {
            Trial::KillLeader => {
                candidates.children[leader].kill().unwrap();
                candidates.children[leader].wait().unwrap();
                let next = candidates.wait("killed", |entry| entry.term > before.term);
                candidates.children[leader] = spawn(candidates.dir.path(), leader);
                next.at_ms - start
            }
            Trial::PauseLeader => {
                candidates.signal(leader, Signal::SIGSTOP);
                let next = candidates.wait("paused", |entry| entry.term > before.term);
                assert_ne!(next.name, before.name);
                std::thread::sleep(PAUSE.saturating_sub(Duration::from_millis(now_ms() - start)));
                // It wakes in the middle of what it did.
                candidates.signal(leader, Signal::SIGCONT);
                next.at_ms - start
            }
            Trial::KillMember => {
                cluster.kill(member);
                std::thread::sleep(PAUSE / 2);
                cluster.start_again(member);
                candidates.now();
                longest_gap(&candidates.register(), start)
            }
            Trial::PauseMember => {
                cluster.signal(member, Signal::SIGSTOP);
                std::thread::sleep(PAUSE);
                cluster.signal(member, Signal::SIGCONT);
                candidates.now();
                longest_gap(&candidates.register(), start)
            }
        };
        times.entry(trial).or_default().push(took);
        if took > 5_000 {
            // Whoever is elected among the members gives all leases their whole time again.
            println!("{trial:?}: {took} ms; the members elected {} times", cluster.elections() - elections);
        }
        done += 1;
    }
    candidates.now();
    judge(&entries(&candidates.register()));
    println!("{done} trials in {:?}", began.elapsed());
    for (trial, mut took) in times {
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100];
        let what = if matches!(trial, Trial::KillLeader | Trial::PauseLeader) {
            "until the next works"
        } else {
            "longest pause of the work"
        };
        println!(
            "{trial:?}: {} times; {what}: median {} ms, p99 {} ms, max {} ms",
            took.len(),
            at(50),
            at(99),
            at(100)
        );
        if matches!(trial, Trial::KillLeader | Trial::PauseLeader) {
            assert!(at(50) <= 5_000, "{trial:?}: {took:?}");
        }
    }
}

fn longest_gap(register: &Path, since: u64) -> u64 {
    let times: Vec<u64> =
        entries(register).iter().map(|entry| entry.at_ms).filter(|at| *at >= since).collect();
    let first = times.first().map_or(0, |first| first - since);
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default().max(first)
}

fn judge(entries: &[Entry]) {
    assert!(entries.len() > 100);
    let mut names = std::collections::BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!(entry.item, number as u64, "an item was left out, or done twice");
        let name = names.entry(entry.term).or_insert(&entry.name);
        assert_eq!(*name, &entry.name, "two writers in one term");
    }
    assert!(entries.is_sorted_by_key(|entry| entry.term), "a term went back: two writers at once");
    assert!(names.len() > 3, "there were elections: {names:?}");
}
