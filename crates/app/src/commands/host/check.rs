//! `ashlar host check`: facts of a host, judged.

use std::collections::BTreeMap;

use ashlar_api::{Accelerator, Kind, Object};
use ashlar_engine::effects::PowerState;
use ashlar_engine::enrol;

use crate::cli::{HostCheckArgs, OutputFormat};
use crate::commands::get::print_value;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref};
use crate::output::Table;
use crate::settings::Settings;
use crate::wiring::Session;

/// A verdict on a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// Good.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// Clusters will not run here.
    Bad,
}

/// One line of the check.
#[derive(Debug, serde::Serialize)]
struct Line {
    check: &'static str,
    value: String,
    verdict: Verdict,
    advice: String,
}

/// Checks hosts. Fails if something is bad, or if a host does not answer.
pub(crate) fn check(settings: &Settings, args: &HostCheckArgs) -> Result {
    let reader = Reader::open(settings)?;
    let names = if args.names.is_empty() {
        reader.list(Kind::Host, None)?.into_iter().map(|stored| stored.key.name).collect()
    } else {
        for name in &args.names {
            reader.get(&object_ref(Kind::Host, name, ""))?;
        }
        args.names.clone()
    };
    if names.is_empty() {
        settings.printer.note("no hosts; `ashlar host add` enrols one");
        return Ok(Exit::Success);
    }
    let session = Session::open_to_look(settings)?;
    let mut all = serde_json::Map::new();
    let mut worst = Verdict::Ok;
    for name in &names {
        let facts = session.block_on(async { Ok(enrol::facts(&session.engine, name).await?) });
        let lines = match facts {
            Ok(facts) => {
                let mut lines = vec![accelerator(&reader, name)?];
                lines.extend(judge(&facts));
                lines.extend(fencing(&session, &reader, name, true)?);
                lines
            }
            Err(failure) => {
                settings.printer.failure(&failure);
                worst = Verdict::Bad;
                let Some(line) = fencing(&session, &reader, name, false)? else { continue };
                vec![line]
            }
        };
        worst = lines.iter().map(|line| line.verdict).max().unwrap_or(Verdict::Ok).max(worst);
        if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
            all.insert(name.clone(), serde_json::to_value(&lines)?);
            continue;
        }
        let mut table = Table::new(vec!["CHECK", "VALUE", "VERDICT", "ADVICE"]);
        for line in lines {
            let verdict = match line.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Bad => "BAD",
            };
            table.push(vec![line.check.to_owned(), line.value, verdict.to_owned(), line.advice]);
        }
        settings.printer.data(|out| {
            writeln!(out, "host {name}:")?;
            table.write(out, 2)
        })?;
    }
    if !all.is_empty() {
        print_value(settings, &serde_json::Value::Object(all))?;
    }
    Ok(if worst == Verdict::Bad { Exit::Failure } else { Exit::Success })
}

/// What the probe VM proved at enrolment: a device that is there may still not work.
fn accelerator(reader: &Reader, name: &str) -> Result<Line> {
    let proved = match reader.object(&object_ref(Kind::Host, name, ""))? {
        Object::Host(host) => host.record.accelerator,
        _ => None,
    };
    let (value, verdict, advice) = match proved {
        Some(Accelerator::Kvm) => ("kvm", Verdict::Ok, ""),
        Some(Accelerator::Emulated) => (
            "emulated",
            Verdict::Warning,
            "KVM did not run the probe VM; `ashlar host add` with the same words tries again",
        ),
        None => (
            "unproved",
            Verdict::Bad,
            "nothing is placed here: `ashlar host add` with the same words goes on",
        ),
    };
    Ok(Line {
        check: "accelerator, by probe VM",
        value: value.to_owned(),
        verdict,
        advice: advice.to_owned(),
    })
}

/// What turns the host off says whether it has power: nothing is turned off.
fn fencing(session: &Session, reader: &Reader, name: &str, answers: bool) -> Result<Option<Line>> {
    let Object::Host(host) = reader.object(&object_ref(Kind::Host, name, ""))? else { return Ok(None) };
    let Some(fencing) = &host.spec.fencing else { return Ok(None) };
    let power = session.block_on(async { Ok(session.engine.power_status(&host).await) })?;
    let (value, verdict, advice) = match power {
        Ok(PowerState::On) if answers => ("on", Verdict::Ok, String::new()),
        Ok(PowerState::On) => {
            ("on", Verdict::Warning, format!("it does not answer: `ashlar host fence {name}` turns it off"))
        }
        Ok(PowerState::Off) if answers => (
            "off",
            Verdict::Bad,
            "the host answers: that is another machine's power, which would be cut in its place".to_owned(),
        ),
        Ok(PowerState::Off) => ("off", Verdict::Warning, format!("`ashlar host fence {name}` records that")),
        Ok(PowerState::Unknown) => ("unknown", Verdict::Bad, String::new()),
        Err(error) => ("unknown", Verdict::Bad, error.to_string()),
    };
    let value = format!("{fencing}: {value}");
    Ok(Some(Line { check: "power, for fencing", value, verdict, advice }))
}

/// etcd's own guidance: fdatasync within 10 ms at the 99th percentile (https://etcd.io/docs/latest/op-guide/hardware/).
const SYNC_GOOD_US: u64 = 10_000;
/// Beyond half of etcd's default heartbeat of 100 ms elections begin by themselves.
const SYNC_BAD_US: u64 = 50_000;
/// Clocks further apart than this make certificates invalid that were made just now (they begin five minutes early).
const CLOCK_BAD_MS: u64 = 60_000;
/// The versions that Debian 12 has.
const LIBVIRT_FLOOR: (u32, u32) = (9, 0);
const QEMU_FLOOR: (u32, u32) = (7, 2);

fn judge(facts: &BTreeMap<String, String>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut say = |check, fact: &str, judge: &dyn Fn(&str) -> (Verdict, &'static str)| {
        let (value, (verdict, advice)) = match facts.get(fact) {
            Some(value) => (value.clone(), judge(value)),
            None => ("unknown".to_owned(), (Verdict::Warning, "the host could not say")),
        };
        lines.push(Line { check, value, verdict, advice: advice.to_owned() });
    };
    let at_least = |floor: (u32, u32)| {
        move |value: &str| match version(value) {
            Some(found) if found >= floor => (Verdict::Ok, ""),
            _ => (Verdict::Bad, "too old: libvirt 9.0 and QEMU 7.2 (Debian 12) are the floor"),
        }
    };
    say("operating system", "os", &|_| (Verdict::Ok, ""));
    say("kernel", "kernel", &|_| (Verdict::Ok, ""));
    say("libvirt", "libvirt", &at_least(LIBVIRT_FLOOR));
    say("QEMU", "qemu", &at_least(QEMU_FLOOR));
    say("KVM device", "kvm-device", &|value| match value {
        "yes" => (Verdict::Ok, ""),
        _ => (
            Verdict::Warning,
            "VMs are emulated: enable virtualization in the firmware, load kvm_intel or kvm_amd",
        ),
    });
    say("cgroups", "cgroups", &|value| match value {
        "v2" => (Verdict::Ok, ""),
        _ => (Verdict::Warning, "works; v2 is what distributions ship"),
    });
    say("AppArmor", "apparmor", &|value| match value {
        "enabled" => (Verdict::Ok, ""),
        _ => (Verdict::Warning, "VMs are confined by their user only"),
    });
    say("nft, ip and bridge", "nft", &|value| match value {
        "yes" => (Verdict::Ok, ""),
        _ => (Verdict::Bad, "no machine starts without its filter: install nftables and iproute2"),
    });
    let bridged = facts.get("bridge-netfilter").is_some_and(|value| value == "1");
    let forward = |value: &str| match value.to_ascii_lowercase().as_str() {
        "drop" if bridged => (
            Verdict::Bad,
            "bridged frames are dropped: set net.bridge.bridge-nf-call-iptables=0, or accept them",
        ),
        "drop" => (Verdict::Ok, "drops routed packets only; bridged ones pass"),
        _ => (Verdict::Ok, ""),
    };
    if facts.contains_key("forward-policy-iptables") {
        say("FORWARD policy (iptables)", "forward-policy-iptables", &forward);
    }
    if facts.contains_key("forward-policy-nft") {
        say("FORWARD policy (nft)", "forward-policy-nft", &forward);
    }
    if facts.contains_key("time-synchronized") {
        say("time synchronized", "time-synchronized", &|value| match value {
            "yes" => (Verdict::Ok, ""),
            _ => (Verdict::Warning, "install chrony or enable systemd-timesyncd"),
        });
    }
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    say("clock (Unix time, ms)", "time-unix-ms", &|value| match value.parse::<u64>() {
        Ok(there) if there.abs_diff(now_ms) < CLOCK_BAD_MS => (Verdict::Ok, ""),
        _ => {
            (Verdict::Bad, "differs from this machine's by more than a minute: certificates will be refused")
        }
    });
    say("pool file system", "pool-filesystem", &|_| (Verdict::Ok, ""));
    say("pool free (MiB)", "pool-free-mib", &|value| match value.parse::<u64>() {
        Ok(mib) if mib >= 20_480 => (Verdict::Ok, ""),
        _ => (Verdict::Warning, "room for few machines"),
    });
    say("pool direct I/O", "pool-direct-io", &|value| match value {
        "yes" => (Verdict::Ok, ""),
        _ => (Verdict::Warning, "disks go through the host's page cache"),
    });
    let speed = |value: &str| match value.parse::<u64>() {
        Ok(us) if us <= SYNC_GOOD_US => (Verdict::Ok, ""),
        Ok(us) if us <= SYNC_BAD_US => (Verdict::Warning, "slow for etcd: 10 ms is its guidance"),
        _ => (Verdict::Bad, "too slow for etcd: put control planes on another pool"),
    };
    say("pool synced write, mean (µs)", "pool-sync-write-mean-us", &speed);
    if facts.contains_key("pool-fdatasync-p99-us") {
        say("pool fdatasync, 99th percentile (µs)", "pool-fdatasync-p99-us", &speed);
    }
    lines
}

/// `9.0.0` → (9, 0)
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(facts: &[(&str, &str)], check: &str) -> Option<Verdict> {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        judge(&facts).iter().find(|line| line.check == check).map(|line| line.verdict)
    }

    #[test]
    fn versions_and_speeds_are_judged() {
        assert_eq!(verdict(&[("libvirt", "9.0.0")], "libvirt"), Some(Verdict::Ok));
        assert_eq!(verdict(&[("libvirt", "8.9.0")], "libvirt"), Some(Verdict::Bad));
        assert_eq!(verdict(&[("qemu", "10.0.2")], "QEMU"), Some(Verdict::Ok));
        let speed = "pool synced write, mean (µs)";
        assert_eq!(verdict(&[("pool-sync-write-mean-us", "800")], speed), Some(Verdict::Ok));
        assert_eq!(verdict(&[("pool-sync-write-mean-us", "20000")], speed), Some(Verdict::Warning));
        assert_eq!(verdict(&[("pool-sync-write-mean-us", "90000")], speed), Some(Verdict::Bad));
        assert_eq!(verdict(&[], "libvirt"), Some(Verdict::Warning));
    }

    #[test]
    fn a_dropping_forward_chain_is_bad_only_where_bridged_frames_go_through_it() {
        let check = "FORWARD policy (iptables)";
        let drop = ("forward-policy-iptables", "DROP");
        assert_eq!(verdict(&[drop, ("bridge-netfilter", "0")], check), Some(Verdict::Ok));
        assert_eq!(verdict(&[drop, ("bridge-netfilter", "1")], check), Some(Verdict::Bad));
    }
}
