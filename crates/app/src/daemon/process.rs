//! What this process itself costs, under the names that Prometheus' own clients give it.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Looked up at each scrape.
#[derive(Debug)]
pub(super) struct ProcessFigures {
    started_s: f64,
}

impl ProcessFigures {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        ProcessFigures { started_s: now.as_secs_f64() }
    }
}

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let started = ConstGauge::new(self.started_s);
        let help = "When the process was started, since 1970";
        let kind = started.metric_type();
        started.encode(encoder.encode_descriptor(
            "process_start_time",
            help,
            Some(&Unit::Seconds),
            kind,
        )?)?;
        // What cannot be read is left out.
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
            let used = ConstCounter::new(seconds(usage.user_time()) + seconds(usage.system_time()));
            let help = "Processor time used, in user space and in the kernel";
            let kind = used.metric_type();
            used.encode(encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), kind)?)?;
        }
        if let Some(bytes) = resident_bytes() {
            let resident = ConstGauge::new(bytes);
            let help = "Memory that is resident";
            let kind = resident.metric_type();
            let named =
                encoder.encode_descriptor("process_resident_memory", help, Some(&Unit::Bytes), kind)?;
            resident.encode(named)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let open = ConstGauge::new(i64::try_from(files.count()).unwrap_or(i64::MAX));
            let kind = open.metric_type();
            open.encode(encoder.encode_descriptor("process_open_fds", "Open files", None, kind)?)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}
