//! The store in etcd, on real members. All of it runs in a network namespace of its own, in which no host answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ashlar_store::{
    Candidate, EtcdElection, Precondition, Role, SqliteStore, Store as _, StoreError, Tenure as _,
    Transaction,
};
use futures::executor::block_on;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::INSIDE;
use crate::harness::Place;
use crate::members::{self, Cluster, Fsync};
use crate::seed::stock;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_store_in_etcd() {
    if members::binary().is_none() {
        eprintln!("SKIPPED: no etcd binary; `ashlar image build` makes one, or set ASHLAR_ETCD_DIR");
        return;
    }
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--test-threads", "2", "etcd::inside"])
        .args(std::env::args().skip(1).filter(|word| word == "--nocapture"))
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "inside its namespace a test failed");
}

/// A file for `store migrate` in a place, and the certificates that it names.
fn etcd_yaml(place: &Place, cluster: &Cluster, prefix: &str) -> String {
    let options = cluster.options();
    place.file("etcd/ca.crt", &options.ca_pem);
    place.file("etcd/client.crt", &options.certificate_pem);
    place.file("etcd/client.key", &options.key_pem);
    let endpoints = options.endpoints.join(", ");
    let text = format!(
        "endpoints: [{endpoints}]\nprefix: {prefix}\nca: etcd/ca.crt\ncertificate: etcd/client.crt\nkey: etcd/client.key\n"
    );
    place.file("etcd.yaml", &text)
}

/// Members have other addresses in each run, migrations other ids, and this machine a name.
fn plain(text: &str, cluster: &Cluster) -> String {
    let mut text = text.to_owned();
    for (number, endpoint) in cluster.options().endpoints.iter().enumerate() {
        text = text.replace(endpoint, &format!("https://etcd-{}:2379", number + 1));
    }
    let host = nix::unistd::gethostname().unwrap();
    let text = text.replace(&format!("{}:", host.to_string_lossy()), "[HOST]:");
    let mut out = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for word in ["revision ", "go on from ", " at 20", "since 20", "process ", "sha256 "] {
            // What follows is another number each time.
            if let Some(at) = line.find(word) {
                let from = at + word.len();
                let stays = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | ' ' | '.'));
                let is_number = |c: char| !c.is_ascii_alphanumeric();
                let ends = if word.ends_with("20") {
                    line[from..].find(stays)
                } else {
                    line[from..].find(is_number)
                };
                let ends = ends.map_or(line.len(), |end| from + end);
                line.replace_range(from..ends, "…");
            }
        }
        if let Some(at) = line.find("… at ") {
            let from = at + "… at ".len();
            let ends = line[from..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |end| from + end);
            line.replace_range(from..ends, "…");
        }
        out.push(line);
    }
    out.join("\n")
}

/// Another machine of the installation: another state directory, and the same key.
fn other_machine(place: &Place, name: &str) -> PathBuf {
    place.path().join(name)
}

fn on(state: &Path, place: &Place, args: &[&str]) -> String {
    place.run(&[args, &["--state-dir", &state.display().to_string()]].concat())
}

fn hosts(place: &Place) -> usize {
    place.run(&["get", "hosts", "-o", "name"]).matches("host/h").count()
}

mod inside {
    use super::*;

    #[test]
    #[ignore = "run by the_store_in_etcd"]
    fn a_store_goes_to_etcd_and_back() {
        let cluster = Cluster::start(1, Fsync::Off);
        let place = Place::with(&stock());
        let file = etcd_yaml(&place, &cluster, "/ashlar");
        let names = place.run(&["get", "all", "-o", "name"]);
        let yaml = |place: &Place| place.run(&["get", "host", "h1", "-o", "yaml"]);
        let version = |text: &str| {
            let line = text.lines().find(|line| line.contains("resourceVersion")).unwrap();
            line.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
        };
        let before = version(&yaml(&place));
        let mut all =
            vec![place.run(&["store", "migrate", "--to-etcd", &file]), place.run(&["store", "show"])];
        assert_eq!(place.run(&["get", "all", "-o", "name"]), names);
        assert!(version(&yaml(&place)) > before);
        // Nothing works on the old one, whatever way it comes.
        let old = place.state().join("store.db");
        assert!(matches!(SqliteStore::open_read_only(&old), Err(StoreError::Moved { .. })));
        // Commands work on the new one, from another machine too.
        let class = place.file("class.yaml", "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {name: new}\nspec: {vcpus: 1, memory: 1Gi, rootDisk: 4Gi}\n");
        let second = other_machine(&place, "second");
        all.push(place.run(&["apply", "--store-only", "-f", &class]));
        all.push(on(&second, &place, &["store", "use", &file]));
        all.push(on(&second, &place, &["get", "machineclasses", "-o", "name"]));
        all.push(on(&second, &place, &["delete", "machineclass", "new", "--yes"]));
        all.push(place.run(&["store", "backup", "copy"]));
        all.push(place.run(&["store", "restore", "copy", "--yes"]));
        all.push(place.run(&["store", "migrate", "--to-etcd", &file]));
        let there = version(&yaml(&place));
        all.push(place.run(&["store", "migrate", "--to-sqlite"]));
        assert_eq!((version(&yaml(&place)), place.run(&["get", "all", "-o", "name"])), (there, names));
        all.push(place.run(&["store", "show"]));
        all.push(on(&second, &place, &["get", "hosts"]));
        all.push(place.run(&["store", "migrate", "--to-sqlite"]));
        // What was left there is not written over.
        all.push(place.run(&["store", "migrate", "--to-etcd", &file]));
        assert!(place.run(&["apply", "--store-only", "-f", &class]).starts_with("exit 0"));
        insta::assert_snapshot!(plain(&all.join("\n"), &cluster));
    }

    #[test]
    #[ignore = "run by the_store_in_etcd"]
    fn what_is_refused_says_why_and_changes_nothing() {
        let mut cluster = Cluster::start_with(1, Fsync::Off, &["--quota-backend-bytes", "4000000"]);
        let place = Place::with(&stock());
        let file = etcd_yaml(&place, &cluster, "/ashlar");
        let text = std::fs::read_to_string(&file).unwrap();
        let with = |name: &str, from: &str, to: &str| place.file(name, &text.replace(from, to));
        let endpoint = cluster.options().endpoints[0].clone();
        let migrate = |file: &str| place.run(&["store", "migrate", "--to-etcd", file]);
        let other_ca = Cluster::authority_pem();
        place.file("etcd/other.crt", &other_ca);
        let mut all = vec![
            migrate("missing.yaml"),
            migrate(&place.file("empty.yaml", "prefix: /ashlar\n")),
            migrate(&with("typo.yaml", "prefix", "prefixes")),
            migrate(&with("prefix.yaml", "/ashlar", "ashlar")),
            migrate(&with("http.yaml", &endpoint, "http://10.0.0.1:2379")),
            migrate(&with("nofile.yaml", "client.key", "nothing.key")),
            migrate(&with("away.yaml", &endpoint, "https://127.8.255.1:2379")),
            migrate(&with("ca.yaml", "etcd/ca.crt", "etcd/other.crt")),
            migrate(&with("nokey.yaml", "etcd/client.key", "etcd/client.crt")),
            place.run(&["store", "migrate", "--to-sqlite"]),
            place.run(&["store", "migrate"]),
            place.run(&["store", "use", &file]),
            on(&other_machine(&place, "empty"), &place, &["store", "use", &file]),
        ];
        // Objects of nobody.
        let stray = Transaction::new().put(
            ashlar_store::Key::cluster_scoped("Host", "h9"),
            serde_json::json!({}),
            Precondition::Any,
        );
        let options = ashlar_store::EtcdOptions { prefix: "/stray".to_owned(), ..cluster.options() };
        block_on(ashlar_store::EtcdStore::open(&options).unwrap().commit(stray)).unwrap();
        all.push(migrate(&with("stray.yaml", "/ashlar", "/stray")));
        // Another installation's.
        let other = Place::with(&stock());
        let theirs = etcd_yaml(&other, &cluster, "/theirs");
        assert!(other.run(&["store", "migrate", "--to-etcd", &theirs]).starts_with("exit 0"));
        all.push(migrate(&with("theirs.yaml", "/ashlar", "/theirs")));
        // Somebody works on the store in SQLite.
        let lock =
            ashlar_store::EngineLock::try_acquire(place.state(), "ashlar apply -f other.yaml").unwrap();
        all.push(migrate(&file));
        drop(lock);
        // It is full.
        let options = ashlar_store::EtcdOptions { prefix: "/fill".to_owned(), ..cluster.options() };
        let fill = ashlar_store::EtcdStore::open(&options).unwrap();
        let full = (0..100).find_map(|n| {
            let key = ashlar_store::Key::cluster_scoped("Host", format!("h{n}"));
            let value = serde_json::json!({"text": "x".repeat(1_000_000)});
            block_on(fill.commit(Transaction::new().put(key, value, Precondition::Any))).err()
        });
        assert!(full.unwrap().to_string().contains("it is full"));
        all.push(migrate(&file));
        assert_eq!(hosts(&place), 3);
        assert!(place.run(&["store", "show"]).contains("store.db"));
        // A store that is full, or gone, under commands that worked.
        all.push(other.run(&["delete", "machineclass", "wkr", "--yes"]));
        cluster.kill(1);
        all.push(other.run(&["get", "hosts"]));
        let shown = plain(&all.join("\n"), &cluster).replace(&other.path().display().to_string(), "[DIR]");
        insta::assert_snapshot!(shown);
    }

    #[test]
    #[ignore = "run by the_store_in_etcd"]
    fn a_migration_that_is_killed_leaves_one_store_and_goes_on() {
        let cluster = Cluster::start(1, Fsync::Off);
        let place = Place::with(&stock());
        let many: Vec<_> = (100..900).map(|n| crate::seed::class(&format!("c{n}"), n, 1, "1Gi")).collect();
        place.put(&many);
        let file = etcd_yaml(&place, &cluster, "/ashlar0");
        let text = std::fs::read_to_string(&file).unwrap();
        let count = |place: &Place| place.run(&["get", "machineclasses,hosts", "-o", "name"]).lines().count();
        let all = count(&place);
        assert!(all > 800);
        // How long one takes that is left alone.
        let began = Instant::now();
        assert!(place.run(&["store", "migrate", "--to-etcd", &file]).starts_with("exit 0"));
        let whole = began.elapsed();
        assert!(place.run(&["store", "migrate", "--to-sqlite"]).starts_with("exit 0"));
        let (mut rounds, mut forth, mut back) = (0, 0, 0);
        for step in 0..16_u32 {
            // Where it is in etcd it goes home, else into a place of its own.
            let in_etcd = place.state().join("store.yaml").exists();
            let file = place.file("etcd.yaml", &text.replace("/ashlar0", &format!("/ashlar{}", step + 1)));
            let args: &[&str] = if in_etcd {
                &["store", "migrate", "--to-sqlite"]
            } else {
                &["store", "migrate", "--to-etcd", &file]
            };
            let mut child = place.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole * (step % 8 + 1) / 8);
            child.kill().unwrap();
            child.wait().unwrap();
            // Whichever it is, all is in it, and the other one is out of use.
            assert_eq!(count(&place), all, "round {step}");
            let is_moved = matches!(
                SqliteStore::open_read_only(place.state().join("store.db")),
                Err(StoreError::Moved { .. } | StoreError::Missing { .. })
            );
            let now_in_etcd = place.state().join("store.yaml").exists();
            assert_eq!(is_moved, now_in_etcd, "round {step}: one of the two is the store");
            (forth, back) =
                (forth + u32::from(!in_etcd && now_in_etcd), back + u32::from(in_etcd && !now_in_etcd));
            rounds += 1;
            // Writing goes on, too; the leader that was killed leads for some seconds.
            let class = crate::seed::class("c100", 100, 1 + step, "1Gi");
            let yaml = place.file("c.yaml", &format!("apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {{name: c100}}\nspec: {{vcpus: {}, memory: 1Gi, rootDisk: 40Gi}}\n", 2 + class["spec"]["vcpus"].as_u64().unwrap()));
            let ends = Instant::now() + DEADLINE;
            loop {
                let said = place.run(&["apply", "--store-only", "-f", &yaml]);
                if said.starts_with("exit 0") {
                    break;
                }
                assert!(said.contains("is being moved") && Instant::now() < ends, "{said}");
                std::thread::sleep(Duration::from_millis(300));
            }
            while now_in_etcd && !place.run(&["store", "show"]).contains("leads:    nobody") {
                assert!(Instant::now() < ends);
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        println!(
            "{rounds} migrations of {whole:?} were killed: {forth} had arrived in etcd, {back} in SQLite"
        );
    }

    /// Another machine learns of another key by itself, and lacks only the key; a daemon that was paused meanwhile does not lead
    /// with the one before it; a command that is killed is gone on with, from either machine.
    #[test]
    #[ignore = "run by the_store_in_etcd"]
    fn the_key_of_secrets_is_changed_for_all_machines() {
        let cluster = Cluster::start(1, Fsync::Off);
        let place = Place::with(&[stock(), crate::seed::demo()].concat());
        place.put_pki("demo");
        let file = etcd_yaml(&place, &cluster, "/ashlar");
        assert!(place.run(&["store", "migrate", "--to-etcd", &file]).starts_with("exit 0"));
        let (first, second) = (place.state(), other_machine(&place, "second"));
        assert!(on(&second, &place, &["store", "use", &file]).starts_with("exit 0"));
        let key = |n: usize| format!("file:{}", place.key_file(&format!("key-number-{n:02}")));
        let kubeconfig = |state: &Path, key: &[&str]| {
            // Where another machine changed the key, nobody can tell whose the note of this one's audit log is.
            on(state, &place, &[&["audit", "accept", "--yes"], key].concat());
            on(state, &place, &[&["kubeconfig", "demo"], key].concat())
        };
        assert!(kubeconfig(&second, &[]).contains("client-key-data"));
        let class = place.file("class.yaml", "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {name: new}\nspec: {vcpus: 1, memory: 1Gi, rootDisk: 4Gi}\n");
        assert!(on(&first, &place, &["apply", "--store-only", "-f", &class]).starts_with("exit 0"));
        // A daemon leads: refused from anywhere. It is paused, and leads no more.
        let mut daemon = Daemon::start(&place, &first, "one");
        daemon.wait_for("leading");
        for state in [&first, &second] {
            let busy = on(state, &place, &["secrets", "rotate", "--new-key", &key(0)]);
            assert!(busy.starts_with("exit 1") && busy.contains("works on"), "{busy}");
        }
        daemon.signal(Signal::SIGSTOP);
        let rotated = until(|| on(&second, &place, &["secrets", "rotate", "--new-key", &key(0)]));
        assert!(rotated.contains("no seal of the old key is left"), "{rotated}");
        daemon.signal(Signal::SIGCONT);
        let line = daemon.wait_for("the key was changed");
        assert!(line.contains("start this daemon anew"), "{line}");
        assert!(!daemon.get("/readyz").starts_with("HTTP/1.1 200"), "it does not lead");
        daemon.signal(Signal::SIGKILL);
        daemon.child.wait().unwrap();
        let wrong = kubeconfig(&first, &[]);
        assert!(wrong.contains("wrong key") && wrong.contains("that is the new one"), "{wrong}");
        audit_log_after_a_rotation_elsewhere(&place, &first, &key(0));
        assert!(kubeconfig(&first, &["--key", &key(0)]).contains("client-key-data"));
        // Killed on the one machine, gone on with on the other.
        let began = Instant::now();
        until(|| on(&first, &place, &["secrets", "rotate", "--key", &key(0), "--new-key", &key(1)]));
        let whole = began.elapsed().min(Duration::from_secs(2));
        let mut arrived = 0;
        for round in 1..7_usize {
            let (old, new) = (key(round), key(round + 1));
            let args = ["secrets", "rotate", "--key", &old, "--new-key", &new];
            let mut child = place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole * (round as u32) / 6);
            child.kill().unwrap();
            child.wait().unwrap();
            let opens =
                |state: &Path, key: &str| kubeconfig(state, &["--key", key]).contains("client-key-data");
            let told = [(&first, &old), (&first, &new), (&second, &old), (&second, &new)];
            let told = told.map(|(state, key)| opens(state, key));
            assert!(
                told == [true, false, true, false] || told == [false, true, false, true],
                "{round}: {told:?}"
            );
            arrived += usize::from(told[1]);
            let finished = until(|| on(&second, &place, &args));
            assert!(
                finished.starts_with("exit 0") || finished.contains("that is the key already"),
                "{finished}"
            );
            assert!(opens(&first, &new) && opens(&second, &new), "{round}");
        }
        println!("6 rotations of {whole:?} were killed: {arrived} had the new key by then");
    }

    /// The first command on a machine whose audit log was last noted by the key before: the log is whole, and lines that are cut off
    /// are missed all the same.
    fn audit_log_after_a_rotation_elsewhere(place: &Place, state: &Path, key: &str) {
        let verify = || on(state, place, &["audit", "verify", "--key", key]);
        let whole = verify();
        assert!(whole.starts_with("exit 0") && whole.contains("the installation's before"), "{whole}");
        let record = state.join("audit.jsonl");
        let lines = std::fs::read_to_string(&record).unwrap();
        std::fs::write(&record, format!("{}\n", lines.lines().next().unwrap())).unwrap();
        let cut = verify();
        assert!(cut.starts_with("exit 1") && cut.contains("removed at the end"), "{cut}");
        let delete = || on(state, place, &["delete", "machineclass", "new", "--yes", "--key", key]);
        let refused = delete();
        assert!(refused.starts_with("exit 1") && refused.contains("lines once and has"), "{refused}");
        std::fs::write(&record, lines).unwrap();
        let deleted = delete();
        assert!(deleted.starts_with("exit 0"), "{deleted}");
        let noted = verify();
        assert!(noted.starts_with("exit 0") && !noted.contains("before"), "{noted}");
    }

    /// Again until nobody leads whose lease is not over yet.
    fn until(command: impl Fn() -> String) -> String {
        let ends = Instant::now() + DEADLINE;
        loop {
            let said = command();
            if !said.contains("works on") {
                return said;
            }
            assert!(Instant::now() < ends, "{said}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// The store cannot be used at the moment of the takeover, and a little later it can: the daemon needs no restart.
    #[test]
    #[ignore = "run by the_store_in_etcd"]
    fn a_daemon_whose_takeover_failed_leads_once_it_can() {
        let cluster = Cluster::start(1, Fsync::Off);
        let place = Place::with(&stock());
        let file = etcd_yaml(&place, &cluster, "/ashlar");
        assert!(place.run(&["store", "migrate", "--to-etcd", &file]).starts_with("exit 0"));
        let store = cluster.store();
        let other = Candidate { name: "other".to_owned(), role: Role::Daemon, doing: "a test".to_owned() };
        let term = block_on(EtcdElection::new(&store, other).lead()).unwrap().unwrap();
        let mut daemon = Daemon::start(&place, &place.state(), "one");
        daemon.wait_for("standing by");
        let certificate = place.path().join("etcd/client.crt");
        let aside = certificate.with_extension("aside");
        std::fs::rename(&certificate, &aside).unwrap();
        block_on(term.resign()).unwrap();
        daemon.wait_for("the store cannot be used");
        assert!(!daemon.get("/readyz").starts_with("HTTP/1.1 200"), "it does not lead");
        std::fs::rename(&aside, &certificate).unwrap();
        daemon.wait_for("leading");
        daemon.wait_for("the first pass is over");
    }

    #[test]
    #[ignore = "run by the_store_in_etcd"]
    fn of_two_daemons_one_works_and_the_other_takes_over() {
        let cluster = Cluster::start(3, Fsync::Off);
        let place = Place::with(&stock());
        let file = etcd_yaml(&place, &cluster, "/ashlar");
        assert!(place.run(&["store", "migrate", "--to-etcd", &file]).starts_with("exit 0"));
        let (first, second) = (place.state(), other_machine(&place, "second"));
        assert!(on(&second, &place, &["store", "use", &file]).starts_with("exit 0"));
        let mut one = Daemon::start(&place, &first, "one");
        one.wait_for("leading");
        one.wait_for("the first pass is over");
        let mut two = Daemon::start(&place, &second, "two");
        let line = two.wait_for("standing by");
        assert!(line.contains("daemon one"), "{line}");
        assert!(two.get("/readyz").contains("ok: standing by: daemon one"), "{}", two.get("/readyz"));
        assert!(two.get("/healthz").starts_with("HTTP/1.1 200"));
        assert!(
            two.get("/metrics").contains("ashlar_leading 0\n")
                && two.get("/metrics").contains("ashlar_leader{daemon=\"one\"} 1")
        );
        assert!(one.get("/metrics").contains("ashlar_leading 1\n"));
        // A third under a name that is taken is refused, and told by whom.
        let third = other_machine(&place, "third");
        assert!(on(&third, &place, &["store", "use", &file]).starts_with("exit 0"));
        let refused = on(&third, &place, &["serve", "--name", "two"]);
        let host = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
        let said = &refused[refused.find("error:").unwrap_or(0)..];
        let said = plain(said, &cluster).replace(&format!("on {host},"), "on [HOST],");
        assert!(refused.starts_with("exit 1"), "{refused}");
        insta::assert_snapshot!("a_name_that_is_taken", said);
        // Commands reach the one that leads: over its socket, past the one that stands by, and from a third machine.
        let class = |n: u32| {
            place.file("class.yaml", &format!("apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {{name: new}}\nspec: {{vcpus: {n}, memory: 1Gi, rootDisk: 4Gi}}\n"))
        };
        for (n, state) in [(1, &first), (2, &second), (3, &third)] {
            let said = on(state, &place, &["apply", "-f", &class(n), "--timeout", "40s"]);
            assert!(
                said.starts_with("exit 0") && said.contains("works on it") && said.contains("nothing to do"),
                "{n}: {said}"
            );
        }
        let show = on(&third, &place, &["store", "show"]);
        assert!(show.contains("leads:    daemon one") && show.contains("stands by: daemon two"), "{show}");
        let busy = on(&third, &place, &["store", "migrate", "--to-sqlite"]);
        assert!(
            busy.starts_with("exit 1") && busy.contains("daemon one") && busy.contains("works on"),
            "{busy}"
        );
        // The leases of all hosts were taken at once.
        let token = |place: &Place| {
            let text = place.run(&["get", "host", "h1", "-o", "yaml"]);
            let line = text.lines().find(|line| line.contains("leaseToken")).unwrap();
            line.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap()
        };
        let before = token(&place);
        let began = Instant::now();
        one.signal(Signal::SIGKILL);
        two.wait_for("leading");
        let took = began.elapsed();
        two.wait_for("the first pass is over");
        println!("the second daemon leads {took:?} after the first was killed");
        assert_eq!(token(&place), before + 1);
        // The first comes back under its name, and stands by; it is paused for longer than a lease while it leads.
        let mut one = Daemon::start(&place, &first, "one");
        let line = one.wait_for("standing by");
        assert!(line.contains("daemon two"), "{line}");
        two.signal(Signal::SIGSTOP);
        let began = Instant::now();
        one.wait_for("leading");
        let took = began.elapsed();
        println!("the first daemon leads {took:?} after the second was paused");
        two.signal(Signal::SIGCONT);
        two.wait_for("no longer leads");
        two.wait_for("standing by");
        // Told to stop, it gives the leadership up at once.
        let began = Instant::now();
        one.signal(Signal::SIGTERM);
        two.wait_for("leading");
        println!("the second daemon leads {:?} after the first was told to stop", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(3));
        one.wait_for("stopped");
        two.signal(Signal::SIGTERM);
        two.wait_for("stopped");
        // Nobody leads: a command does the work itself.
        let alone = on(&third, &place, &["apply", "-f", &class(4), "--timeout", "40s"]);
        assert!(
            alone.starts_with("exit 0") && alone.contains("nothing to do") && !alone.contains("works on it"),
            "{alone}"
        );
        assert!(on(&third, &place, &["store", "show"]).contains("leads:    nobody"));
    }
}

/// A daemon, and what it logs.
struct Daemon {
    state: PathBuf,
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Daemon {
    fn start(place: &Place, state: &Path, name: &str) -> Self {
        let state_dir = state.display().to_string();
        let mut command = place.command(&["serve", "--name", name, "--state-dir", &state_dir]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Daemon { state: state.to_owned(), child, lines, said: Vec::new() }
    }

    fn wait_for(&mut self, text: &str) -> String {
        let ends = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(ends.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("it did not say `{text}`:\n{}", self.said.join("\n")),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.state.join("run/daemon.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: ashlar\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}
