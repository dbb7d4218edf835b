//! Measures the stores: durable commits a second, and a cold process that lists 10 000 objects.
//!
//! `cargo run --release -p ashlar-store --example bench_store [directory]`; the directory should be on the disk
//! that is to be measured, since durable writes are what its flushes cost.

use std::{
    error::Error,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use ashlar_store::{Key, MemoryStore, Precondition, Revision, Row, SqliteStore, Store, Transaction};
use serde::Deserialize;
use serde_json::{Value, json};

const OBJECTS: u64 = 10_000;
const HOSTS: u64 = 300;
const WRITERS: u64 = 64;
const VALUE_BYTES: usize = 512;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cold", what, path] => cold(what, Path::new(path)),
        ["fill", path] => fill(&PathBuf::from(path)),
        [] => bench(&std::env::temp_dir()),
        [directory] => bench(Path::new(directory)),
        _ => Err("usage: bench_store [directory]".into()),
    }
}

fn bench(parent: &Path) -> Result<()> {
    let directory = tempfile::tempdir_in(parent)?;
    let path = directory.path().join("store.db");
    report(&format!("one flush of this disk: {:?}", median_flush(directory.path())?));

    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    report(&format!("memory, 1 writer: {:.0} commits/s", commits_per_second(&memory, 1, 100_000)?));
    let started = Instant::now();
    for _ in 0..100 {
        wait_for(memory.list_raw(Some("Machine"), None))?;
    }
    report(&format!("memory, list_raw of {} objects: {:?}", memory_len(&memory)?, started.elapsed() / 100));

    let sqlite: Arc<dyn Store> = Arc::new(SqliteStore::open(&path)?);
    report(&format!("sqlite, 1 writer: {:.0} commits/s", commits_per_second(&sqlite, 1, 2_000)?));
    for round in 1..=3 {
        let rate = commits_per_second(&sqlite, WRITERS, 60_000)?;
        report(&format!("sqlite, {WRITERS} writers, round {round}: {rate:.0} commits/s"));
    }
    drop(sqlite);

    let path = directory.path().join("machines.db");
    fill(&path)?;
    report(&format!(
        "{OBJECTS} machines and {HOSTS} hosts, {} bytes of file",
        std::fs::metadata(&path)?.len()
    ));
    for what in ["nothing", "get", "list_raw", "list_raw+decode", "scan", "scan+decode", "list", "hosts"] {
        let times = (0..15).map(|_| cold_process(what, &path)).collect::<Result<Vec<_>>>()?;
        report(&format!("cold process, {what}: {:?}", median(times)));
    }
    Ok(())
}

/// The time that a process of this program needs from start to end.
fn cold_process(what: &str, path: &Path) -> Result<Duration> {
    let started = Instant::now();
    let status = Command::new(std::env::current_exe()?).args(["cold", what]).arg(path).status()?;
    if status.success() { Ok(started.elapsed()) } else { Err(format!("{what}: {status}").into()) }
}

/// What a table of machines needs.
#[derive(Deserialize)]
struct Brief<'a> {
    #[serde(borrow)]
    status: BriefStatus<'a>,
}

#[derive(Deserialize)]
struct BriefStatus<'a> {
    phase: &'a str,
}

fn cold(what: &str, path: &Path) -> Result<()> {
    if what == "nothing" {
        return Ok(());
    }
    let store = SqliteStore::open_read_only(path)?;
    let count = match what {
        "get" => {
            u64::from(wait_for(store.get(&Key::new("Machine", "tenant-3", "machine-0003")))?.is_some())
                * OBJECTS
        }
        "list_raw" => wait_for(store.list_raw(Some("Machine"), None))?.items.len() as u64,
        "list" => wait_for(store.list(Some("Machine"), None))?.items.len() as u64,
        "scan" => wait_for(store.scan(Some("Machine"), None, |row| row.revision))?.1.len() as u64,
        "hosts" => wait_for(store.list(Some("Host"), None))?.items.len() as u64 / HOSTS * OBJECTS,
        "scan+decode" => {
            let ready =
                |row: Row<'_>| serde_json::from_str::<Brief<'_>>(row.json).map(|b| b.status.phase == "Ready");
            let (_, rows) = wait_for(store.scan(Some("Machine"), None, ready))?;
            rows.into_iter().filter(|ready| matches!(ready, Ok(true))).count() as u64
        }
        _ => {
            let listing = wait_for(store.list_raw(Some("Machine"), None))?;
            let mut ready = 0;
            for item in &listing.items {
                ready += u64::from(item.value.decode::<Brief<'_>>()?.status.phase == "Ready");
            }
            ready
        }
    };
    if count == OBJECTS { Ok(()) } else { Err(format!("{count} objects instead of {OBJECTS}").into()) }
}

/// Machines of a realistic size, written as a controller would.
fn fill(path: &PathBuf) -> Result<()> {
    let store = SqliteStore::open(path)?;
    for chunk in 0..OBJECTS / 100 {
        let transaction = (0..100).fold(Transaction::new(), |transaction, m| {
            let n = chunk * 100 + m;
            let key = Key::new("Machine", format!("tenant-{}", n % 10), format!("machine-{n:04}"));
            transaction.put(key, machine(n), Precondition::Absent)
        });
        wait_for(store.commit(transaction))?;
    }
    for n in 0..HOSTS {
        let key = Key::cluster_scoped("Host", format!("host-{n:03}"));
        wait_for(store.commit(Transaction::new().put(key, machine(n), Precondition::Absent)))?;
    }
    wait_for(store.compact(Revision(u64::MAX)))?;
    Ok(())
}

fn machine(n: u64) -> Value {
    json!({
        "apiVersion": "ashlar.dev/v1alpha1", "kind": "Machine",
        "metadata": {"name": format!("machine-{n:04}"), "namespace": format!("tenant-{}", n % 10),
            "uid": format!("6f2c0e1a-0000-4000-8000-{n:012}"), "generation": 3,
            "labels": {"ashlar.dev/cluster": "demo", "ashlar.dev/role": "worker"},
            "creationTimestamp": "2026-08-01T12:00:00Z", "finalizers": ["ashlar.dev/machine"]},
        "spec": {"host": format!("host-{}", n % 300), "domainUuid": format!("7a2c0e1a-0000-4000-8000-{n:012}"),
            "vcpus": 16, "memoryMib": 65536, "version": "v1.37.2", "role": "worker",
            "image": "sha256:4b0f8e6d0c3c8f3f0f7a3b0f8e6d0c3c8f3f0f7a3b0f8e6d0c3c8f3f0f7a3b0f",
            "nics": [{"network": "lab", "mac": "52:54:00:12:34:56", "addresses": ["10.0.0.17/24"]}],
            "volumes": [{"name": "root", "sizeGib": 40}, {"name": "data", "sizeGib": 200}]},
        "status": {"phase": "Ready", "observedGeneration": 3, "conditions": [
            {"type": "Running", "status": "True", "reason": "DomainRunning", "message": "", "lastTransitionTime": "2026-08-01T12:05:00Z"},
            {"type": "Ready", "status": "True", "reason": "NodeReady", "message": "", "lastTransitionTime": "2026-08-01T12:06:00Z"}]},
    })
}

/// Durable commits a second of `writers` threads that each update objects of their own, one after the other.
fn commits_per_second(store: &Arc<dyn Store>, writers: u64, commits: u64) -> Result<f64> {
    let text = "x".repeat(VALUE_BYTES - 20);
    let started = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, text) = (Arc::clone(store), text.clone());
            thread::spawn(move || -> Result<()> {
                for n in 0..commits / writers {
                    let key = Key::new("Machine", "bench", format!("w{writer}-{}", n % (OBJECTS / writers)));
                    let transaction =
                        Transaction::new().put(key, json!({"n": n, "text": text}), Precondition::Any);
                    wait_for(store.commit(transaction))?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a writer panicked")??;
    }
    Ok((commits / writers * writers) as f64 / started.elapsed().as_secs_f64())
}

fn memory_len(store: &Arc<dyn Store>) -> Result<usize> {
    Ok(wait_for(store.list_raw(None, None))?.items.len())
}

fn median_flush(directory: &Path) -> Result<Duration> {
    let mut file = std::fs::File::create(directory.join("flush"))?;
    let times = (0..50).map(|_| {
        let started = Instant::now();
        std::io::Write::write_all(&mut file, &[7; 4096])?;
        file.sync_data()?;
        Ok(started.elapsed())
    });
    Ok(median(times.collect::<std::io::Result<_>>()?))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn report(line: &str) {
    println!("{line}");
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The stores need no async runtime, so the bench brings none that would be measured with them.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
