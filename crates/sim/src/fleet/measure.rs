//! Time and memory of this process.

use std::time::{Duration, Instant};

/// What was done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Transactions of the store.
    pub commits: u64,
    /// Events that the engine told.
    pub events: u64,
    /// Calls that change the world.
    pub calls: u64,
    /// Virtual time.
    pub virtual_s: i64,
}

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// By the clock on the wall.
    pub wall: Duration,
    /// Of the processor, all threads together.
    pub processor_s: f64,
}

/// What is being measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measuring {
    began: Instant,
    processor_s: f64,
}

impl Measuring {
    pub(super) fn end(self) -> Measured {
        Measured { wall: self.began.elapsed(), processor_s: processor_s() - self.processor_s }
    }
}

impl Measured {
    /// Measures.
    pub fn of<T>(work: impl FnOnce() -> T) -> (T, Measured) {
        let measuring = Measured::begin();
        let done = work();
        (done, measuring.end())
    }

    pub(super) fn begin() -> Measuring {
        Measuring { began: Instant::now(), processor_s: processor_s() }
    }

    /// Milliseconds by the clock on the wall.
    pub fn ms(&self) -> f64 {
        self.wall.as_secs_f64() * 1000.0
    }
}

/// Processor time that this process has used, in and for user space, in hundredths of a second; 0 where nobody tells.
pub fn processor_s() -> f64 {
    used_s("/proc/self/stat")
}

/// The same of the calling thread alone.
pub fn thread_processor_s() -> f64 {
    used_s("/proc/thread-self/stat")
}

fn used_s(stat: &str) -> f64 {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    // The name, in parentheses, may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_A_SECOND
}

/// The most memory that this process has had.
pub fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}
