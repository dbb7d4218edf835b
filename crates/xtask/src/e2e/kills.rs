//! Creation with kills: `ashlar demo up` is killed with SIGKILL at six points, and run again each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::canary::Sampler;
use super::context::{Context, file_names, tail};

/// From power-on to Ready takes some minutes under software emulation; this is the limit for all of it.
const CREATE_DEADLINE: Duration = Duration::from_secs(40 * 60);

/// What has to be seen on the host's disk for a kill; no answer of Ashlar's is asked.
struct KillPoint {
    name: &'static str,
    seen: fn(&Places) -> Result<bool>,
}

/// Where to look.
struct Places {
    cluster: String,
    pool: PathBuf,
    definitions: PathBuf,
    consoles: PathBuf,
}

impl Places {
    fn volume(&self, role: &str) -> Result<Option<PathBuf>> {
        let prefix = format!("ashlar-{}-ctrl-1-{role}-", self.cluster);
        let names = file_names(&self.pool)?;
        Ok(names.into_iter().find(|name| name.starts_with(&prefix)).map(|name| self.pool.join(name)))
    }

    fn console_has(&self, text: &str) -> Result<bool> {
        let prefix = format!("{}-ctrl-1", self.cluster);
        for name in file_names(&self.consoles)?.iter().filter(|name| name.starts_with(&prefix)) {
            if String::from_utf8_lossy(&fs::read(self.consoles.join(name)).unwrap_or_default()).contains(text)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

const KILLS: [KillPoint; 6] = [
    KillPoint { name: "volume made", seen: |places| Ok(places.volume("root")?.is_some()) },
    KillPoint { name: "seed made", seen: |places| Ok(places.volume("seed")?.is_some()) },
    KillPoint {
        name: "domain defined",
        seen: |places| Ok(places.definitions.join(format!("{}-ctrl-1.xml", places.cluster)).exists()),
    },
    KillPoint { name: "domain started", seen: |places| places.console_has("ASHLAR-BOOT initrd") },
    KillPoint { name: "during kubeadm", seen: |places| places.console_has("ASHLAR-PHASE kubeadm-certs") },
    KillPoint { name: "joined", seen: |places| places.console_has("ASHLAR-PHASE ready ok") },
];

/// Makes the cluster; every kill but the last leaves it half made.
pub(crate) fn create_with_kills(context: &mut Context) -> Result<()> {
    let host = context.host_dir()?;
    let places = Places {
        cluster: context.name.clone(),
        pool: context.pool_dir()?,
        definitions: host.join("etc-libvirt/qemu"),
        consoles: host.join("log/libvirt/qemu"),
    };
    let log = std::env::temp_dir().join(format!("ashlar-e2e-{}-create.log", std::process::id()));
    let _ = fs::remove_file(&log);
    context.sampler = Some(Sampler::start());
    let begin = std::time::Instant::now();
    let mut kills = 0;
    let points: &[KillPoint] = if context.kills { &KILLS } else { &[] };
    for point in points {
        let mut child = start(context, &log)?;
        loop {
            if (point.seen)(&places)? {
                child.kill().context("kill")?;
                child.wait()?;
                kills += 1;
                println!(
                    "e2e create: killed at «{}» after {:.0} s",
                    point.name,
                    begin.elapsed().as_secs_f64()
                );
                break;
            }
            if let Some(status) = child.try_wait()? {
                bail!("ended ({status}) before «{}» was seen\n{}", point.name, shown(&log));
            }
            if begin.elapsed() > CREATE_DEADLINE {
                child.kill()?;
                bail!(
                    "«{}» was not seen within {} s\n{}",
                    point.name,
                    CREATE_DEADLINE.as_secs(),
                    shown(&log)
                );
            }
            context.watch_tokens();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let mut last = start(context, &log)?;
    let status = loop {
        if let Some(status) = last.try_wait()? {
            break status;
        }
        if begin.elapsed() > CREATE_DEADLINE {
            last.kill()?;
            bail!("not Ready within {} s\n{}", CREATE_DEADLINE.as_secs(), shown(&log));
        }
        context.watch_tokens();
        std::thread::sleep(Duration::from_millis(200));
    };
    context.printed.extend(fs::read(&log)?);
    ensure!(status.success(), "the last run ended with {status}\n{}", shown(&log));
    println!("e2e create: Ready after {kills} kills, {:.0} s in all", begin.elapsed().as_secs_f64());
    // Nothing doubled, nothing orphaned: two domains, and two disks and one etcd disk beside the image's files.
    let domains = context.domains()?;
    ensure!(domains.len() == 2, "expected two domains, libvirt has {domains:?}");
    let files = context.pool_files()?;
    let ours = |role: &str| {
        let infix = format!("-{role}-");
        files
            .iter()
            .filter(|name| name.starts_with(&format!("ashlar-{}", context.name)) && name.contains(&infix))
            .count()
    };
    ensure!(
        (ours("root"), ours("etcd"), ours("seed")) == (2, 1, 0),
        "expected two root disks, one etcd disk and no seed in the pool: {files:?}"
    );
    Ok(())
}

fn start(context: &Context, log: &Path) -> Result<Child> {
    context.spawn(context.outside(&["demo", "up", "--name", &context.name]), log)
}

fn shown(log: &Path) -> String {
    tail(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()), 40)
}
