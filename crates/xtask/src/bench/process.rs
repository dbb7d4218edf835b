//! The time that a process takes, from its start until it is reaped.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) wall: Duration,
    /// User and system time.
    pub(super) cpu: Duration,
}

/// All runs of one command.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

/// Runs a command that must work and throws away what it prints.
pub(super) fn sample(command: &mut Command) -> Result<Sample> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let cpu_before = children_cpu()?;
    let begin = Instant::now();
    let status = command.status().with_context(|| format!("could not run {command:?}"))?;
    let wall = begin.elapsed();
    ensure!(status.success(), "{command:?}: {status}");
    Ok(Sample { wall, cpu: children_cpu()?.saturating_sub(cpu_before) })
}

/// The processor time of all children that were waited for. This program runs one at a time.
fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

impl Samples {
    pub(super) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Least, median and most of the wall time, and the median of the processor time.
    pub(super) fn figures(&self) -> Option<Figures> {
        let sorted = |of: fn(&Sample) -> Duration| {
            let mut all: Vec<Duration> = self.0.iter().map(of).collect();
            all.sort_unstable();
            all
        };
        let wall = sorted(|sample| sample.wall);
        let cpu = sorted(|sample| sample.cpu);
        Some(Figures {
            min: *wall.first()?,
            median: wall[wall.len() / 2],
            max: *wall.last()?,
            cpu: cpu[cpu.len() / 2],
        })
    }
}

/// What is printed of some runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) min: Duration,
    pub(super) median: Duration,
    pub(super) max: Duration,
    pub(super) cpu: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_the_sorted_runs() {
        let mut samples = Samples::default();
        assert_eq!(samples.figures(), None);
        for (wall, cpu) in [(5, 1), (9, 3), (1, 2)] {
            samples.push(Sample { wall: Duration::from_millis(wall), cpu: Duration::from_millis(cpu) });
        }
        let [one, two, five, nine] = [1, 2, 5, 9].map(Duration::from_millis);
        assert_eq!(samples.figures(), Some(Figures { min: one, median: five, max: nine, cpu: two }));
    }

    #[test]
    fn a_run_that_burns_processor_time_shows_it() -> Result<()> {
        let sample =
            sample(Command::new("sh").args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"]))?;
        assert!(sample.cpu > Duration::ZERO && sample.wall > Duration::ZERO, "{sample:?}");
        Ok(())
    }

    #[test]
    fn a_run_that_fails_is_no_sample() {
        assert!(sample(&mut Command::new("false")).is_err());
    }
}
