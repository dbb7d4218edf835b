//! Looks at the lab's host from outside while a cluster comes up: which files are there, and what the consoles say. It
//! asks neither Ashlar nor libvirt, so it sees both sides alike and disturbs neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::marks::{Mark, Node, stage_of};

/// How often it looks. A stage is known to this.
const INTERVAL: Duration = Duration::from_millis(50);

/// Where to look.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The storage pool's directory.
    pub(super) pool: PathBuf,
    /// Where libvirtd keeps the definitions of domains.
    pub(super) definitions: PathBuf,
    /// Where consoles are logged.
    pub(super) consoles: PathBuf,
}

/// Stages by node, in the order in which they began.
pub(super) type Marks = BTreeMap<Node, Vec<Mark>>;

/// A watch in a thread of its own.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Marks>,
}

impl Watch {
    /// Begins; times count from `began`. What lies there now is of no interest.
    pub(super) fn start(places: &Places, began: Instant) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let mut eyes = Eyes::new(places.clone(), began);
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    eyes.look();
                    std::thread::sleep(INTERVAL);
                }
                eyes.look();
                eyes.marks
            }
        });
        Watch { stop, thread }
    }

    /// Ends; what was seen.
    pub(super) fn finish(self) -> Result<Marks> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the watch of the consoles panicked"))
    }
}

struct Eyes {
    places: Places,
    began: Instant,
    old: BTreeSet<PathBuf>,
    consoles: BTreeMap<PathBuf, Console>,
    marks: Marks,
}

/// How far a console was read.
#[derive(Default)]
struct Console {
    offset: u64,
    line: Vec<u8>,
}

impl Eyes {
    fn new(places: Places, began: Instant) -> Self {
        let old =
            [&places.pool, &places.definitions, &places.consoles].into_iter().flat_map(|dir| files(dir));
        Eyes { old: old.collect(), places, began, consoles: BTreeMap::new(), marks: Marks::new() }
    }

    fn look(&mut self) {
        let pool: Vec<(Node, String)> = self.new_files(&self.places.pool);
        for node in Node::ALL {
            let has = |role: &str| {
                let infix = format!("{}-{role}", node.infix());
                pool.iter().any(|(_, name)| name.contains(&infix))
            };
            if has("root") {
                self.mark(node, "root disk");
            }
            if has("seed") {
                self.mark(node, "seed");
            } else if self.was(node, "seed") {
                self.mark(node, "seed is gone");
            }
        }
        for (node, name) in self.new_files(&self.places.definitions) {
            if name.ends_with(".xml") {
                self.mark(node, "define");
            }
        }
        for (node, name) in self.new_files(&self.places.consoles) {
            self.mark(node, "start");
            self.read_console(node, self.places.consoles.join(name));
        }
    }

    /// Names of the nodes' files that were not there at the beginning.
    fn new_files(&self, directory: &Path) -> Vec<(Node, String)> {
        let new = files(directory).into_iter().filter(|path| !self.old.contains(path));
        new.filter_map(|path| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((Node::of(&name)?, name))
        })
        .collect()
    }

    fn was(&self, node: Node, stage: &str) -> bool {
        self.marks.get(&node).is_some_and(|marks| marks.iter().any(|mark| mark.stage == stage))
    }

    fn mark(&mut self, node: Node, stage: &str) {
        if !self.was(node, stage) {
            let mark = Mark { stage: stage.to_owned(), at: self.began.elapsed() };
            self.marks.entry(node).or_default().push(mark);
        }
    }

    fn read_console(&mut self, node: Node, path: PathBuf) {
        let console = self.consoles.entry(path.clone()).or_default();
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(console.offset))?;
            file.read_to_end(&mut bytes)
        });
        // It may be gone by now, with its machine.
        let Ok(count) = read else { return };
        console.offset += count as u64;
        let mut stages = Vec::new();
        for byte in bytes {
            if byte == b'\n' {
                stages.extend(stage_of(&String::from_utf8_lossy(&std::mem::take(&mut console.line))));
            } else {
                console.line.push(byte);
            }
        }
        for stage in stages {
            self.mark(node, &stage);
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_lines_become_stages_in_their_order() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let dir = |name: &str| -> Result<PathBuf> {
            let path = directory.path().join(name);
            fs::create_dir(&path)?;
            Ok(path)
        };
        let places = Places { pool: dir("pool")?, definitions: dir("etc")?, consoles: dir("log")? };
        let old = places.consoles.join("side-a-ctrl-1-0.console.log");
        fs::write(&old, "Linux version\n")?;
        let mut eyes = Eyes::new(places.clone(), Instant::now());
        eyes.look();
        assert_eq!(eyes.marks, Marks::new(), "what was there before does not count");

        fs::write(places.pool.join("ashlar-side-a-ctrl-1-root-1.qcow2"), "")?;
        fs::write(places.pool.join("ashlar-side-a-ctrl-1-seed-1.iso"), "")?;
        eyes.look();
        let console = places.consoles.join("side-a-ctrl-1-1.console.log");
        fs::write(&console, "Linux version 6\nASHLAR-PHASE kubea")?;
        eyes.look();
        fs::write(&console, "Linux version 6\nASHLAR-PHASE kubeadm-certs start\n")?;
        fs::remove_file(places.pool.join("ashlar-side-a-ctrl-1-seed-1.iso"))?;
        eyes.look();
        let stages: Vec<&str> =
            eyes.marks[&Node::ControlPlane].iter().map(|mark| mark.stage.as_str()).collect();
        assert_eq!(stages, ["root disk", "seed", "start", "kernel", "seed is gone", "kubeadm certs"]);
        Ok(())
    }
}
