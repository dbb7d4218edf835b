//! The host lease, the pinned keys, and tunnels, on hosts of a lab. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_api::DomainIdentity;
use ashlar_engine::effects::{Dial, DialTarget, EffectErrorKind, HostShell, HostTarget, Hypervisor};
use ashlar_libvirt::{Hosts, Settings};
use common::{TestLab, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

fn behind(host: &HostTarget, address: &str, port: u16) -> DialTarget {
    DialTarget {
        via: vec![host.clone()],
        network: "nodes".to_owned(),
        namespace: None,
        address: address.parse().unwrap(),
        others: Vec::new(),
        port,
    }
}

/// Another Ashlar process, as far as the hosts can tell.
fn another(lab: &TestLab, name: &str) -> Arc<Hosts> {
    Hosts::new(Settings::new(lab.dir.path().join(name))).unwrap()
}

#[test]
fn a_newer_token_takes_over_and_ends_what_the_older_one_runs() {
    let lab = TestLab::up(1);
    lab.inside(async |old| {
        let old_target = lab.target(0, 5);
        old.observe(&old_target).await.unwrap();
        // A tunnel: the host's own sshd greets, and then waits.
        let mut tunnel = old.dial(&behind(&old_target, "10.77.0.11", 22)).await.unwrap();
        let mut greeting = [0; 7];
        tunnel.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"SSH-2.0");
        // A visitor's: what a person says to a machine goes on whoever takes the host over.
        let visitor = HostTarget { lease_token: None, ..old_target.clone() };
        let visits = another(&lab, "visits");
        let mut visit = visits.dial(&behind(&visitor, "10.77.0.11", 22)).await.unwrap();
        visit.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"SSH-2.0");
        // A command that takes long: the digest of what never ends.
        let digest = {
            let (old, target) = (Arc::clone(&old), old_target.clone());
            async move { old.file_sha256(&target, "/dev/zero").await }
        };
        let taken_over = async {
            wait_for("the digest is being computed", Duration::from_secs(20), async || {
                lab.on_host(0, &["sh", "-c", "ls /run/ashlar/sessions/5 | wc -l"]).trim() == "3"
            })
            .await;
            let new = another(&lab, "new");
            let begin = Instant::now();
            new.observe(&lab.target(0, 6)).await.unwrap();
            println!("take-over: {:?}", begin.elapsed());
            // Installation, token, and who holds it.
            let lease = lab.on_host(0, &["cat", "/var/lib/libvirt/ashlar/lease"]);
            assert!(lease.starts_with(&format!("{} 6 process ", common::INSTALLATION)), "{lease}");
            assert_eq!(lab.on_host(0, &["ls", "/run/ashlar/sessions"]).trim(), "6");
            new
        };
        let (digest, new) = tokio::join!(digest, taken_over);
        let digest = digest.unwrap_err();
        assert!(matches!(digest.kind, EffectErrorKind::Unreachable | EffectErrorKind::Fenced), "{digest}");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), tunnel.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the tunnel of the old token is still open");
        // It answers to what is said now: with the rest of its greeting, and its offer of algorithms.
        visit.write_all(b"SSH-2.0-visitor\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.windows(10).any(|word| word == b"curve25519") {
            let more = tokio::time::timeout(Duration::from_secs(10), visit.read_buf(&mut said)).await;
            assert!(matches!(more, Ok(Ok(1..))), "the visitor's tunnel was ended: {more:?}");
        }
        let refused = visits.destroy_domain(&visitor, Uuid::new_v4()).await.unwrap_err();
        assert!(refused.message.contains("without a lease changes nothing"), "{refused}");
        visits.file_sha256(&visitor, "/etc/hosts").await.unwrap();

        for _ in 0..2 {
            let fenced = old.observe(&old_target).await.unwrap_err();
            if fenced.kind == EffectErrorKind::Unreachable {
                // The first to notice that the connection is gone.
                tokio::time::sleep(Duration::from_secs(2)).await;
                continue;
            }
            assert_eq!(fenced.kind, EffectErrorKind::Fenced, "{fenced}");
        }
        for error in [
            old.observe(&old_target).await.err(),
            old.file_sha256(&old_target, "/etc/hosts").await.err(),
            old.dial(&behind(&old_target, "10.77.0.11", 22)).await.err(),
        ] {
            let error = error.unwrap();
            assert_eq!(error.kind, EffectErrorKind::Fenced, "{error}");
            let who = format!("another Ashlar (process {} on ", std::process::id());
            for part in [&*who, ") took this host over at 20", " UTC (its token is 6, ours 5)"] {
                assert!(error.message.contains(part), "{part}: {error}");
            }
        }
        // The new one is undisturbed by all that.
        new.observe(&lab.target(0, 6)).await.unwrap();
        // The same token in another process (a command that reads) is let in, and ends nothing.
        let reader = another(&lab, "reader");
        reader.file_sha256(&lab.target(0, 6), "/etc/hosts").await.unwrap();
        new.observe(&lab.target(0, 6)).await.unwrap();
    });
}

#[test]
fn another_installation_is_refused_until_the_lease_is_given_back() {
    let lab = TestLab::up(1);
    lab.inside(async |ours| {
        let target = lab.target(0, 1);
        ours.observe(&target).await.unwrap();
        let other = HostTarget { installation: Uuid::new_v4(), lease_token: Some(99), ..target.clone() };
        let theirs = another(&lab, "theirs");
        let error = theirs.observe(&other).await.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
        assert!(
            error.message.contains(&format!("belongs to the Ashlar installation {}", common::INSTALLATION)),
            "{error}"
        );
        let error = theirs.dial(&behind(&other, "10.77.0.11", 22)).await.err().unwrap();
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
        ours.observe(&target).await.unwrap();

        ours.release_lease(&target).await.unwrap();
        theirs.observe(&other).await.unwrap();
        let error = another(&lab, "again").observe(&target).await.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
    });
}

#[test]
fn a_lease_that_cannot_be_read_is_nobodys() {
    let lab = TestLab::up(1);
    lab.on_host(0, &["sh", "-c", "mkdir -p /var/lib/libvirt/ashlar; : >/var/lib/libvirt/ashlar/lease"]);
    lab.inside(async |hosts| {
        let error = hosts.observe(&lab.target(0, 1)).await.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
        assert!(error.message.contains("/var/lib/libvirt/ashlar/lease cannot be read"), "{error}");
    });
}

#[test]
fn many_sessions_at_once_share_the_lease() {
    let lab = TestLab::up(1);
    // As few sessions a connection as an administrator may allow (sshd's default is 10): the others connect anew.
    let config = lab.description.hosts[0].state_dir.join("etc-ssh/sshd_config");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("MaxSessions 500"), "{text}");
    std::fs::write(&config, text.replace("MaxSessions 500", "MaxSessions 3")).unwrap();
    lab.lab.kill_daemon("h1", ashlar_lab::Daemon::Sshd).unwrap();
    lab.lab.start_daemon("h1", ashlar_lab::Daemon::Sshd).unwrap();
    lab.inside(async |hosts| {
        let target = lab.target(0, 1);
        let begin = Instant::now();
        hosts.observe(&target).await.unwrap();
        println!("first answer of a host (SSH, gate, libvirt): {:?}", begin.elapsed());
        let begin = Instant::now();
        hosts.observe(&target).await.unwrap();
        println!("second answer: {:?}", begin.elapsed());
        let digests = (0..24).map(|_| hosts.file_sha256(&target, "/etc/hosts"));
        let dials = (0..24).map(|_| async {
            let mut tunnel = hosts.dial(&behind(&target, "10.77.0.11", 22)).await?;
            let mut greeting = [0; 7];
            tunnel.read_exact(&mut greeting).await.unwrap();
            Ok::<_, ashlar_engine::effects::EffectError>(greeting)
        });
        let begin = Instant::now();
        let (digests, dials) = tokio::join!(futures(digests), futures(dials));
        println!("24 commands and 24 tunnels: {:?}", begin.elapsed());
        let first = digests[0].clone().unwrap();
        assert!(digests.iter().all(|digest| digest.as_ref() == Ok(&first)), "{digests:?}");
        assert!(
            dials.iter().all(|greeting| greeting.as_ref().is_ok_and(|text| text == b"SSH-2.0")),
            "{dials:?}"
        );
    });
    // Nothing of it is left once the process has let go.
    let live = "for file in /run/ashlar/sessions/1/*; do [ -d /proc/${file##*/} ] && echo $file; done; :";
    let until = Instant::now() + Duration::from_secs(20);
    while !lab.on_host(0, &["sh", "-c", live]).trim().is_empty() {
        assert!(Instant::now() < until, "sessions are left: {}", lab.on_host(0, &["sh", "-c", live]));
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn futures<T, F: Future<Output = T>>(all: impl Iterator<Item = F>) -> Vec<T> {
    let mut pinned: Vec<_> = all.map(Box::pin).collect();
    let mut results: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, result) in pinned.iter_mut().zip(&mut results) {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    results.into_iter().map(Option::unwrap).collect()
}

#[test]
fn keys_and_identities_that_do_not_fit_are_told_apart() {
    let lab = TestLab::up(2);
    let key = lab.dir.path().join("stranger");
    let status = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(status.success());
    lab.inside(async |hosts| {
        let target = lab.target(0, 1);
        let wrong_key = HostTarget { ssh_key_path: Some(key.display().to_string()), ..target.clone() };
        let error = hosts.probe(&wrong_key).await.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::Refused, "{error}");
        assert!(
            error.message.contains("refuses our SSH key") && error.message.contains("authorized_keys"),
            "{error}"
        );

        let missing_key = HostTarget { ssh_key_path: Some("/nowhere/key".to_owned()), ..target.clone() };
        let error = hosts.probe(&missing_key).await.unwrap_err();
        assert!(error.message.contains("there is no SSH private key at /nowhere/key"), "{error}");

        let other_host_key = lab.target(1, 1).ssh_host_key;
        let changed = HostTarget { ssh_host_key: other_host_key, ..target.clone() };
        let error = hosts.probe(&changed).await.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");
        assert!(
            error.message.contains("another SSH host key") && error.message.contains("spec.sshHostKey"),
            "{error}"
        );

        let another_machine = HostTarget { host_uuid: lab.target(1, 1).host_uuid, ..target.clone() };
        let error = hosts.observe(&another_machine).await.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::NotOurs, "{error}");

        let enrolling = HostTarget { host_uuid: None, ..target.clone() };
        let probe = hosts.probe(&enrolling).await.unwrap();
        assert_eq!(Some(probe.host_uuid), target.host_uuid);
        assert_eq!((probe.hostname.as_str(), probe.architecture.as_str()), ("h1", "x86_64"));
        assert!(probe.machine_type.starts_with("pc-q35-"), "{probe:?}");
        assert!(probe.capacity.threads > 0 && probe.capacity.memory.0 > 0, "{probe:?}");
    });
}

#[test]
fn tunnels_end_as_their_two_sides_do() {
    let lab = TestLab::up(2);
    let settings = Settings { connect_timeout: Duration::from_secs(5), ..lab.settings() };
    lab.inside_with(settings, async |hosts| {
        let target = lab.target(0, 1);
        // What the guest would be: it reads until the other side is closed, and answers then.
        let listener = lab.on_network(0, || std::net::TcpListener::bind("10.88.0.11:7000").unwrap());
        let guest = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(&vec![7; 300_000]).unwrap();
            got.len()
        });
        let mut tunnel = hosts.dial(&behind(&target, "10.88.0.11", 7000)).await.unwrap();
        let (mut answer, sent) = (Vec::new(), vec![9; 500_000]);
        let (mut reading, mut writing) = tokio::io::split(&mut tunnel);
        let (read, wrote) = tokio::join!(reading.read_to_end(&mut answer), async {
            writing.write_all(&sent).await?;
            writing.shutdown().await
        });
        wrote.unwrap();
        assert_eq!(read.unwrap(), 300_000);
        assert_eq!(guest.join().unwrap(), 500_000);

        let refused = hosts.dial(&behind(&target, "10.88.0.11", 7001)).await.err().unwrap();
        assert!(refused.message.contains("connection refused"), "{refused}");
        let nobody = hosts.dial(&behind(&target, "10.88.1.250", 6443)).await.err().unwrap();
        assert_eq!(nobody.kind, EffectErrorKind::Unreachable, "{nobody}");
        assert!(nobody.message.contains("10.88.1.250:6443"), "{nobody}");
        let none = hosts
            .dial(&DialTarget { via: Vec::new(), ..behind(&target, "10.88.1.1", 6443) })
            .await
            .err()
            .unwrap();
        assert!(none.message.contains("no host carries network nodes"), "{none}");
        // The first host that carries the network does not answer; the second does.
        let dead = HostTarget { uri: "qemu+ssh://root@10.77.0.99/system".to_owned(), ..lab.target(1, 1) };
        let two = DialTarget { via: vec![dead, target.clone()], ..behind(&target, "10.77.0.11", 22) };
        hosts.dial(&two).await.unwrap();
        // A virtual address that nobody holds; what it stands for has addresses of its own.
        let others = vec!["10.88.1.249".parse().unwrap(), "10.77.0.11".parse().unwrap()];
        hosts.dial(&DialTarget { others, ..behind(&target, "10.88.1.250", 22) }).await.unwrap();
        let others = vec!["10.88.1.249".parse().unwrap()];
        let nobody =
            hosts.dial(&DialTarget { others, ..behind(&target, "10.88.1.250", 22) }).await.err().unwrap();
        assert!(nobody.message.contains("10.88.1.250:22"), "the one that was meant: {nobody}");
    });
}

#[test]
fn facts_are_told() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let facts = hosts.check_facts(&lab.target(0, 1), "/var/lib/libvirt/images").await.unwrap();
        println!("{facts:#?}");
        for name in [
            "kernel",
            "libvirt",
            "qemu",
            "cgroups",
            "apparmor",
            "kvm-device",
            "memory-available-mib",
            "bridge-netfilter",
            "pool-filesystem",
            "pool-free-mib",
            "pool-sync-write-mean-us",
            "pool-direct-io",
            "time-unix-ms",
        ] {
            assert!(facts.get(name).is_some_and(|value| !value.is_empty()), "{name}: {facts:#?}");
        }
        assert_eq!(lab.on_host(0, &["sh", "-c", "ls -A /var/lib/libvirt/images | wc -l"]).trim(), "0");
        let target = lab.target(0, 1);
        let addresses = ["10.88.1.77".parse().unwrap(), "10.88.0.1".parse().unwrap()];
        let answered = hosts.addresses_answer(&target, "br-nodes", &addresses).await.unwrap();
        assert_eq!(answered, addresses[1..].iter().copied().collect());
        let error = hosts.addresses_answer(&target, "br-none", &addresses).await.unwrap_err();
        assert!(error.message.contains("no network device br-none"), "{error}");
    });
}

#[test]
fn a_console_that_was_rotated_loses_nothing() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let target = lab.target(0, 1);
        let domain = DomainIdentity { uuid: Uuid::new_v4(), name: "demo-ctrl-1".to_owned() };
        let log = ashlar_libvirt::xml::console_log_path(&domain);
        let write = |file: &str, text: &str| {
            lab.on_host(0, &["sh", "-c", "printf %s \"$2\" >\"$1\"", "write", file, text]);
        };
        let nothing = hosts.read_console(&target, &domain, 0).await.unwrap();
        assert_eq!((nothing.bytes.len(), nothing.next_offset), (0, 0));
        write(&log, "one ");
        let one = hosts.read_console(&target, &domain, 0).await.unwrap();
        assert_eq!((one.bytes.as_slice(), one.next_offset), (&b"one "[..], 4));
        // virtlogd renames at a limit: what was read has moved, what comes is new.
        lab.on_host(0, &["mv", &log, &format!("{log}.0")]);
        write(&log, "two ");
        let two = hosts.read_console(&target, &domain, one.next_offset).await.unwrap();
        assert_eq!((two.bytes.as_slice(), two.next_offset), (&b"two "[..], 8));
        lab.on_host(0, &["mv", &format!("{log}.0"), &format!("{log}.1")]);
        lab.on_host(0, &["mv", &log, &format!("{log}.0")]);
        write(&log, "three");
        let all = hosts.read_console(&target, &domain, 0).await.unwrap();
        assert_eq!((all.bytes.as_slice(), all.next_offset), (&b"one two three"[..], 13));
        // The oldest part is gone, and less is left than was read: from the oldest byte that is kept on.
        lab.on_host(0, &["rm", &format!("{log}.1"), &format!("{log}.0")]);
        let rest = hosts.read_console(&target, &domain, 13).await.unwrap();
        assert_eq!((rest.bytes.as_slice(), rest.next_offset), (&b"three"[..], 5));
        // No more than a MiB at once.
        lab.on_host(0, &["sh", "-c", "head -c 2500000 /dev/zero | tr '\\0' x >\"$1\"", "fill", &log]);
        let mut offset = 0;
        for length in [1_048_576, 1_048_576, 402_848, 0] {
            let chunk = hosts.read_console(&target, &domain, offset).await.unwrap();
            assert_eq!(chunk.bytes.len(), length);
            offset = chunk.next_offset;
        }
    });
}
