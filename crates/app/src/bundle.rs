//! The evidence of a failure, in one file: what was wanted, what was done, and what the machine said.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ashlar_api::{Kind, NamespacedName, Object};
use ashlar_engine::Scope;
use ashlar_engine::effects::Hypervisor;
use ashlar_plan::render::plan_text;
use jiff::Timestamp;

use crate::failure::{Context, Failure, Result};
use crate::objects::{Reader, object_ref, shown};
use crate::output::yaml;
use crate::settings::Settings;
use crate::wiring::{Reach, Session};

/// Pieces of a console that are kept: 8 MiB, more than a first boot writes.
const CONSOLE_CHUNKS: u32 = 8;

/// A tar file that only its owner reads, with all files in one directory.
pub(crate) struct Bundle {
    tar: tar::Builder<fs::File>,
    stem: String,
}

impl Bundle {
    /// Makes the file; one that is there is left alone.
    pub(crate) fn create(path: &Path, stem: &str) -> Result<Bundle> {
        let what = || format!("cannot write {}", path.display());
        let file = fs::File::options().write(true).create_new(true).mode(0o600).open(path).context(what())?;
        Ok(Bundle { tar: tar::Builder::new(file), stem: stem.to_owned() })
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, name: &str, text: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(Timestamp::now().as_second()).unwrap_or(0));
        let path = format!("{}/{name}", self.stem);
        self.tar.append_data(&mut header, path, text).context(format!("cannot write {name}"))
    }

    /// Ends it.
    pub(crate) fn finish(self) -> Result<()> {
        self.tar.into_inner().and_then(|mut file| file.flush()).context("cannot write the bundle")
    }
}

/// Writes `logs/failure-MACHINE-TIME.tar` with console, objects (no secrets), plan, progress and events.
pub(crate) fn write(
    settings: &Settings,
    session: &Session,
    told: &[String],
    machine: &NamespacedName,
    failure: &Failure,
) -> Result<PathBuf> {
    let dir = settings.state_dir.join("logs");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let stem = format!("failure-{}-{stamp}", machine.to_string().replace('/', "-"));
    let path = dir.join(format!("{stem}.tar"));
    let mut bundle = Bundle::create(&path, &stem)?;
    let report: Vec<&str> = failure.chain.iter().map(String::as_str).collect();
    bundle.add("failure.txt", report.join("\n").as_bytes())?;
    bundle.add("progress.txt", told.join("\n").as_bytes())?;
    // What follows is had or not: a bundle with less in it is better than none, and says what is missing.
    bundle.add("console.log", &console(settings, session, machine).unwrap_or_else(missing))?;
    bundle.add("objects.yaml", &objects(settings).unwrap_or_else(missing))?;
    bundle.add("plan.txt", &plan(session).unwrap_or_else(missing))?;
    bundle.finish()?;
    Ok(path)
}

fn missing(failure: Failure) -> Vec<u8> {
    format!("not available: {}\n", failure.chain.join(": ")).into_bytes()
}

fn console(settings: &Settings, session: &Session, machine: &NamespacedName) -> Result<Vec<u8>> {
    let reader = Reader::open(settings)?;
    let Object::Machine(machine) =
        reader.object(&object_ref(Kind::Machine, &machine.name, &machine.namespace))?
    else {
        return Err(Failure::internal("a machine is not a machine"));
    };
    let reach = Reach::open(settings)?;
    let host = reach.host_of(&reader, &machine)?;
    let mut text = Vec::new();
    let mut offset = 0;
    session.block_on(async {
        for _ in 0..CONSOLE_CHUNKS {
            let chunk = reach.hosts.read_console(&host, &machine.spec.domain, offset).await?;
            if chunk.bytes.is_empty() {
                break;
            }
            text.extend_from_slice(&chunk.bytes);
            offset = chunk.next_offset;
        }
        Ok(())
    })?;
    Ok(text)
}

/// Every object but secrets, which are shown without their values.
fn objects(settings: &Settings) -> Result<Vec<u8>> {
    let reader = Reader::open(settings)?;
    let mut text = String::new();
    for kind in Kind::ALL {
        for stored in reader.list(kind, None)? {
            text.push_str("---\n");
            text.push_str(&yaml(&shown(stored)?)?);
        }
    }
    Ok(text.into_bytes())
}

fn plan(session: &Session) -> Result<Vec<u8>> {
    let (snapshot, plan) = session.block_on(async { Ok(session.engine.plan(&Scope::All).await?) })?;
    Ok(plan_text(&snapshot, &plan).into_bytes())
}
