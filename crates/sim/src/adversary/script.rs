//! A seed's story as lines of a scenario.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::Theme;
use super::mix::{Kind, Mix, Size};

/// How often the engines of a story look: seldom, so that a story is told in a fraction of a second.
const POLL: &str = "poll 10s";
/// What production waits for steps that end together. Without it each end is looked at by itself: other orders, and in a
/// large world twice the work.
const GATHER: &str = "gather 20ms";

/// Where nothing goes wrong any more. What follows is not drawn.
pub(super) const MEND: &str = "mend";

/// Phases in which a first boot may end badly, with what the console calls the reason.
const PHASES: [(&str, &str); 10] = [
    ("kernel", "once"),
    ("kernel", "always"),
    ("node-setup", "disk"),
    ("keepalived", "script"),
    ("kubeadm-preflight", "kubeadm"),
    ("kubeadm-control-plane", "kubeadm"),
    ("kubeadm-wait-control-plane", "kubeadm"),
    ("kubeadm-kubelet-start", "kubeadm"),
    ("kubeadm-etcd-join", "kubeadm"),
    ("kubeadm-upload-config", "kubeadm"),
];

/// Names of clusters.
pub(super) const CLUSTERS: [&str; 6] = ["blue", "green", "red", "grey", "pink", "teal"];

/// Whether a word of a message is a cluster's name.
pub(super) fn is_cluster(word: &str) -> bool {
    CLUSTERS.contains(&word.trim_matches(|letter: char| !letter.is_alphanumeric()))
}

/// A cluster as it was asked for.
#[derive(Clone, Copy)]
struct Asked {
    control_planes: u32,
    workers: u32,
    label: u32,
    medium: bool,
    stopped: bool,
    overlay: bool,
}

struct Writer {
    rng: ChaCha12Rng,
    lines: Vec<String>,
    hosts: u32,
    size: Size,
    mix: Mix,
    clusters: BTreeMap<&'static str, Asked>,
    kept: bool,
}

/// The lines of a seed, up to and with [`MEND`].
pub(super) fn of_seed(seed: u64, size: Option<Size>, themes: &[Theme]) -> Vec<String> {
    // The story's dice are others than the world's, so that the engine's draws do not change the story.
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x5EED_0F57_0217);
    let drawn = Size::draw(&mut rng);
    let size = size.unwrap_or(drawn);
    let mix = Mix::draw(&mut rng);
    let is_about_loss = themes.contains(&Theme::HostLoss);
    // Fewer are no majority when one of them is silent: none is turned off by itself.
    let hosts = size.hosts(&mut rng).max(if is_about_loss { 3 } else { 1 });
    let mut writer =
        Writer { rng, lines: Vec::new(), hosts, size, mix, clusters: BTreeMap::new(), kept: false };
    writer.write(seed);
    super::weaving::weave(&mut writer.lines, seed, hosts, themes);
    writer.lines
}

impl Writer {
    fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.random_range(0..limit.max(1))
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    fn write(&mut self, seed: u64) {
        self.line(format!("seed {seed}"));
        self.line(POLL);
        if matches!(self.size, Size::Large) || seed.is_multiple_of(2) {
            self.line(GATHER);
        }
        for number in 1..=self.hosts {
            let rack = (number - 1) % 3 + 1;
            let size = if self.mix.tight { " threads 8 memory 24Gi pool 300Gi" } else { "" };
            self.line(format!("host h{number}{size} rack r{rack}"));
        }
        self.line("image v1.37.2");
        self.line("standard objects");
        self.line("class medium vcpus 2 memory 3Gi");
        if self.mix.overlay {
            self.line("network overlay 10.30.0.0/16 vxlan 4711");
        }
        for _ in 0..self.size.rounds(&mut self.rng) {
            let asks = if self.size == Size::Large { 6 } else { 1 + self.below(3) };
            for _ in 0..asks {
                self.ask();
            }
            self.go_wrong();
            self.run();
        }
        self.line(MEND);
    }

    /// What people ask for.
    fn ask(&mut self) {
        let count = match self.size {
            Size::Tiny => 2,
            Size::Small => 3,
            Size::Medium => 4,
            Size::Large => CLUSTERS.len(),
        };
        let name = self.one(&CLUSTERS[..count]);
        let Some(mut asked) = self.clusters.get(name).copied() else { return self.create(name) };
        match self.below(100) {
            0..20 => {
                let force = if self.chance(30) { " by force" } else { "" };
                match asked.stopped {
                    true => self.line(format!("start cluster {name}")),
                    false => self.line(format!("stop cluster {name}{force}")),
                }
                asked.stopped = !asked.stopped;
            }
            20..40 => {
                self.clusters.remove(name);
                return self.line(format!("delete cluster {name}"));
            }
            40..50 => {
                let machine = self.machine_of(name, asked);
                return self.line(format!("delete machine {machine}"));
            }
            50..70 => {
                asked.workers = self.below(asked.workers + 3).min(self.room() + asked.workers);
                self.cluster(name, asked);
            }
            70..85 => {
                asked.control_planes = match asked.control_planes {
                    3 => self.one(&[1, 5]),
                    _ => 3,
                };
                self.cluster(name, asked);
            }
            85..93 => {
                asked.label += 1;
                self.cluster(name, asked);
            }
            _ => {
                asked.medium = !asked.medium;
                self.cluster(name, asked);
            }
        }
        self.clusters.insert(name, asked);
    }

    fn room(&self) -> u32 {
        let taken: u32 = self.clusters.values().map(|asked| asked.control_planes + asked.workers).sum();
        self.size.machines().saturating_sub(taken)
    }

    fn create(&mut self, name: &'static str) {
        let most = if self.size == Size::Large { 30 } else { 4 };
        let asked = Asked {
            control_planes: if self.chance(35) { 3 } else { 1 },
            workers: self.below(most).min(self.room()),
            label: 0,
            medium: false,
            stopped: false,
            overlay: self.mix.overlay && self.chance(50),
        };
        if self.room() < 4 {
            return;
        }
        self.clusters.insert(name, asked);
        self.cluster(name, asked);
    }

    fn cluster(&mut self, name: &str, asked: Asked) {
        let network = if asked.overlay { " network overlay" } else { "" };
        let label = if asked.label > 0 { format!(" label turn={}", asked.label) } else { String::new() };
        let class = if asked.medium { " worker-class medium" } else { "" };
        let Asked { control_planes, workers, .. } = asked;
        self.line(format!(
            "cluster {name} control-planes {control_planes} workers {workers}{network}{class}{label}"
        ));
    }

    fn machine_of(&mut self, name: &str, asked: Asked) -> String {
        // One more of each than there are: numbers go on when machines are replaced.
        if self.chance(50) {
            format!("{name}-ctrl-{}", 1 + self.below(asked.control_planes + 1))
        } else {
            format!("{name}-wkr-{}", 1 + self.below(asked.workers + 1))
        }
    }

    fn any_machine(&mut self) -> Option<String> {
        let clusters: Vec<(&'static str, Asked)> =
            self.clusters.iter().map(|(name, asked)| (*name, *asked)).collect();
        if clusters.is_empty() {
            return None;
        }
        let (name, asked) = self.one(&clusters);
        Some(self.machine_of(name, asked))
    }

    fn go_wrong(&mut self) {
        let kinds = self.mix.kinds.clone();
        if !kinds.is_empty() {
            for _ in 0..self.below(self.mix.faults + 1) {
                let kind = self.one(&kinds);
                self.fault(kind);
            }
        }
        let moment = |writer: &mut Self| if writer.chance(50) { "before" } else { "after" };
        let effects = self.effects();
        if self.chance(self.mix.kill) {
            let (number, moment) = (self.below(effects), moment(self));
            self.line(format!("crash at effect {number} {moment}"));
        }
        for _ in 0..self.below(self.mix.calls + 1) {
            let number = self.below(effects);
            let fault = match self.below(10) {
                0 => "lost".to_owned(),
                1 => "cut".to_owned(),
                2 => "unanswered".to_owned(),
                3 => "failed".to_owned(),
                4 | 5 => format!("late {}s", 5 + self.below(400)),
                6 => format!("slow {}s", 1 + self.below(90)),
                7 => "damaged".to_owned(),
                8 => format!("answered late {}s", 1 + self.below(90)),
                _ => "twice".to_owned(),
            };
            self.line(format!("call {number} {fault}"));
        }
    }

    /// About so many effects has a round.
    fn effects(&mut self) -> u32 {
        match self.size {
            Size::Tiny => 120,
            Size::Small => 300,
            Size::Medium => 700,
            Size::Large => 2000,
        }
    }

    fn run(&mut self) {
        let effects = self.effects();
        let two = self.chance(self.mix.two_engines);
        if two && self.chance(50) || self.chance(self.mix.sleep) {
            let (number, time) = (self.below(effects / 2), self.one(&["2m", "1h"]));
            self.line(format!("sleep at effect {number} for {time}"));
        }
        let time = self.one(&["1m", "5m", "10m"]);
        // Two commands at once: both for everything, or each for a cluster of its own.
        let names: Vec<&'static str> = self.clusters.keys().copied().collect();
        let one = self.below(u32::try_from(names.len()).unwrap_or(1)) as usize;
        let what = match names.as_slice() {
            [_, _, ..] if two && self.chance(50) => {
                format!("clusters {} and {} settled", names[one], names[(one + 1) % names.len()])
            }
            _ if two => "settled by two engines".to_owned(),
            _ => "settled".to_owned(),
        };
        self.line(format!("run until {what} within {time}"));
    }

    /// Now, or in the middle of the run.
    fn when(&mut self) -> u32 {
        if self.chance(30) { 0 } else { 1 + self.below(240) }
    }

    fn at(&mut self, second: u32, line: &str) {
        if second == 0 {
            self.line(line);
        } else {
            self.line(format!("after {second}s {line}"));
        }
    }

    /// Something begins now or soon, and mostly ends after a while.
    fn spell(&mut self, begin: &str, end: &str) {
        let from = self.when();
        self.at(from, begin);
        if self.chance(70) {
            let until = from + self.one(&[3, 20, 90, 400, 3600]);
            self.at(until, end);
        }
    }

    fn fault(&mut self, kind: Kind) {
        let host = format!("host h{}", 1 + self.below(self.hosts));
        let pool = host.replace("host", "pool");
        match kind {
            Kind::HostDown => self.spell(&format!("{host} down"), &format!("{host} up")),
            Kind::HostHung => self.spell(&format!("{host} hung"), &format!("{host} up")),
            Kind::HostFrozen => {
                let order = if self.chance(50) { " reversed" } else { "" };
                self.spell(&format!("{host} frozen"), &format!("{host} thawed{order}"));
            }
            Kind::HostMute => self.spell(&format!("{host} mute"), &format!("{host} heard")),
            Kind::HostPower => self.spell(&format!("{host} off"), &format!("{host} on")),
            Kind::HostSlow => {
                let seconds = self.one(&[5, 30, 59, 61]);
                self.spell(&format!("{host} slow {seconds}s"), &format!("{host} slow 0s"));
            }
            Kind::DiskSlow => self.spell(&format!("{host} disk slow 20s"), &format!("{host} disk slow 0s")),
            Kind::LinksCut => {
                let links = host.replace("host", "links of");
                self.spell(&format!("{links} cut"), &format!("{links} whole"));
            }
            Kind::LinkOneWay => {
                let other = 1 + self.below(self.hosts);
                let link = format!("{} to h{other}", host.replace("host", "link"));
                self.spell(&format!("{link} cut"), &format!("{link} whole"));
            }
            Kind::DaemonRestart => {
                let when = self.when();
                self.at(when, &format!("{host} restarts libvirtd"));
            }
            Kind::PoolUnmounted => {
                let how = self.one(&["unmounted", "hidden"]);
                self.spell(&format!("{pool} {how}"), &format!("{pool} mounted"));
            }
            Kind::PoolFull => self.spell(&format!("{pool} full"), &format!("{pool} mounted")),
            Kind::VirshPower => self.virsh(&["destroy", "start"]),
            Kind::VirshUndefine => self.virsh(&["undefine"]),
            Kind::VirshRename => self.virsh(&["rename", "rename-back"]),
            Kind::VirshStrip => self.virsh(&["strip-mark"]),
            Kind::VirshTakeDisk => self.virsh(&["take-disk"]),
            Kind::HostHides => {
                let what = self.one(&["volumes", "pools"]);
                self.spell(&format!("{host} hides {what}"), &format!("{host} shows all"));
            }
            Kind::BootFails => {
                let Some(machine) = self.any_machine() else { return };
                let (phase, reason) = self.one(&PHASES);
                self.line(format!("fail boot {machine} {phase} {reason}"));
            }
            Kind::BootHangs => {
                let Some(machine) = self.any_machine() else { return };
                self.line(format!("hang boot {machine}"));
            }
            Kind::DisksDie => {
                let Some(machine) = self.any_machine() else { return };
                let when = self.when();
                self.at(when, &format!("disks of {machine} die"));
            }
            Kind::ImageRots => {
                let when = self.when();
                self.at(when, &format!("{host} rots"));
            }
            Kind::FiltersLost => {
                let when = self.when();
                self.at(when, &format!("{host} loses filters"));
            }
            Kind::ClockWrong => {
                let error = self.one(&["+1h", "-1h", "+90s", "-90s"]);
                self.spell(&format!("clock {error}"), "clock right");
            }
            Kind::HostClockWrong => {
                let error = self.one(&["+1h", "-1h", "+90s", "-90s"]);
                self.spell(&format!("{host} clock {error}"), &format!("{host} clock right"));
            }
            Kind::OldStore if self.kept => self.line("restore store"),
            Kind::OldStore => {
                self.kept = true;
                self.line("keep store");
            }
        }
    }

    fn virsh(&mut self, verbs: &[&'static str]) {
        let Some(machine) = self.any_machine() else { return };
        let (verb, when) = (self.one(verbs), self.when());
        self.at(when, &format!("virsh any {verb} {machine}"));
    }
}
