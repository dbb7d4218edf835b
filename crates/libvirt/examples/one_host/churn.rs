//! P4: small machines made and deleted, by Ashlar's engine and by virsh on many connections.

use std::time::{Duration, Instant};

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::{Goal, Scope, declare};
use serde_json::{Value, json};

use crate::rig::{GROUP, NAMESPACE, Rig};
use crate::virsh;
use crate::world::RealTime;

const CONNECTIONS: [usize; 3] = [8, 16, 32];
/// A seed's size, about.
const SEED_BYTES: u32 = 380_928;

/// What a side took, in seconds.
struct Times {
    create: Duration,
    delete: Duration,
}

pub(crate) fn run(rig: &Rig, count: usize) -> Value {
    rig.inside(async || rig.prepare(true).await);
    let mut sample = String::new();
    let ours = rig.inside(async || ashlar(rig, count, &mut sample).await);
    let mut raw = Vec::new();
    for with_seed in [false, true] {
        for connections in CONNECTIONS {
            let times = floor(rig, count, connections, with_seed, &sample);
            eprintln!(
                "virsh, {connections} connections{}: create {:.2} s, delete {:.2} s",
                if with_seed { ", seeds too" } else { "" },
                times.create.as_secs_f64(),
                times.delete.as_secs_f64()
            );
            raw.push(json!({
                "connections": connections, "with_seed": with_seed,
                "create_s": times.create.as_secs_f64(), "delete_s": times.delete.as_secs_f64(),
            }));
        }
    }
    json!({
        "machines": count,
        "create_s": ours.create.as_secs_f64(),
        "delete_s": ours.delete.as_secs_f64(),
        "virsh": raw,
    })
}

/// Ashlar's side alone.
pub(crate) fn alone(rig: &Rig, count: usize) -> Value {
    rig.inside(async || rig.prepare(true).await);
    let mut sample = String::new();
    let ours = rig.inside(async || ashlar(rig, count, &mut sample).await);
    json!({"machines": count, "create_s": ours.create.as_secs_f64(), "delete_s": ours.delete.as_secs_f64()})
}

/// From the wish being written to the last domain running; from its withdrawal to the last machine being gone.
async fn ashlar(rig: &Rig, count: usize, sample: &mut String) -> Times {
    let (engine, store, log) = rig.engine();
    // A pass before, so that connections stand, as those of the other side do.
    let _ = engine.plan(&Scope::All).await.unwrap();
    let begin = Instant::now();
    rig.want_workers(store.as_ref(), count).await;
    let create = rig.work(&engine, &log, "StartDomain", count).await - begin;
    eprintln!("Ashlar: create {:.2} s\n{}", create.as_secs_f64(), log.take());
    let running = virsh::output(rig, &["list", "--name"]).split_whitespace().count();
    assert_eq!(running, count + 1, "domains that run");
    *sample = virsh::output(rig, &["dumpxml", "--inactive", &format!("{GROUP}-1")]);
    let mut gone = rig.names(store.as_ref(), Kind::Machine).await;
    gone.retain(|machine| machine.name.starts_with(GROUP));
    assert_eq!(gone.len(), count);
    let begin = Instant::now();
    let group = ObjectRef::new(Kind::WorkerGroup, NAMESPACE, GROUP);
    declare::delete(store.as_ref(), &RealTime, &[group]).await.unwrap();
    engine.run(&Scope::All, &Goal::ObjectsGone(gone), Duration::from_secs(1800)).await.unwrap();
    let delete = begin.elapsed();
    eprintln!("Ashlar: delete {:.2} s\n{}", delete.as_secs_f64(), log.take());
    let left = virsh::output(rig, &["list", "--all", "--name"]);
    assert_eq!(left.split_whitespace().count(), 1, "{left}");
    let left = virsh::output(rig, &["vol-list", &rig.host().pool_name]);
    assert!(!left.contains(GROUP), "{left}");
    Times { create, delete }
}

/// The same domains by virsh: overlay, definition, start; end, undefinition, deletion. With seeds, those are made, filled
/// and deleted too.
fn floor(rig: &Rig, count: usize, connections: usize, with_seed: bool, sample: &str) -> Times {
    let pool = &rig.host().pool_name;
    let place = rig.host().state_dir.join("lib");
    let backing = between(sample, "<backingStore type='file'", "</backingStore>");
    let backing = between(backing, "<source file='", "'").to_owned();
    std::fs::write(place.join("seed.iso"), vec![1; SEED_BYTES as usize]).unwrap();
    let (mut create, mut delete) = (Vec::new(), Vec::new());
    for number in 0..count {
        let name = format!("raw-{number}");
        std::fs::write(place.join(format!("{name}.xml")), domain(rig, sample, number, with_seed)).unwrap();
        let mut made = vec![format!(
            "vol-create-as {pool} {name}.qcow2 64M --format qcow2 --backing-vol {backing} --backing-vol-format qcow2"
        )];
        let mut gone = vec![
            format!("destroy {name}"),
            format!("undefine {name}"),
            format!("vol-delete {name}.qcow2 {pool}"),
        ];
        if with_seed {
            made.push(format!("vol-create-as {pool} {name}.iso {SEED_BYTES}B --format raw"));
            made.push(format!("vol-upload {name}.iso /var/lib/libvirt/seed.iso {pool}"));
            gone.push(format!("vol-delete {name}.iso {pool}"));
        }
        made.push(format!("define /var/lib/libvirt/{name}.xml"));
        made.push(format!("start {name}"));
        create.push(made);
        delete.push(gone);
    }
    let create = virsh::timed(rig, connections, &create);
    let running = virsh::output(rig, &["list", "--name"]).split_whitespace().count();
    assert_eq!(running, count + 1, "domains that run");
    let delete = virsh::timed(rig, connections, &delete);
    let left = virsh::output(rig, &["list", "--all", "--name"]);
    assert_eq!(left.split_whitespace().count(), 1, "{left}");
    Times { create, delete }
}

/// Ashlar's own definition of a machine, under another name and with other files.
fn domain(rig: &Rig, sample: &str, number: usize, with_seed: bool) -> String {
    let path = |file: &str| rig.host().pool_path.join(file).display().to_string();
    let mac = format!("02:a5:f1:00:00:{number:02x}");
    let root = between(sample, "device='disk'", "</disk>");
    let root = between(root, "<source file='", "'");
    let seed = between(sample, "device='cdrom'", "</disk>");
    let seed = format!("<source file='{}'/>", between(seed, "<source file='", "'"));
    let medium = if with_seed {
        format!("<source file='{}'/>", path(&format!("raw-{number}.iso")))
    } else {
        String::new()
    };
    // Paths first: the machine's name is in them.
    sample
        .replace(between(sample, "<metadata>", "</metadata>"), "")
        .replace(&format!("<uuid>{}</uuid>", between(sample, "<uuid>", "</uuid>")), "")
        .replace(&seed, &medium)
        .replace(root, &path(&format!("raw-{number}.qcow2")))
        .replace(&format!("{GROUP}-1"), &format!("raw-{number}"))
        .replace(between(sample, "<mac address='", "'"), &mac)
        .replace(between(sample, "<target dev='as-", "'"), &mac.replace(':', ""))
}

/// What stands between two texts, the first time.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} after {from}")).0
}
