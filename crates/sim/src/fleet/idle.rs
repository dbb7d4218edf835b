//! A fleet that is up: what the daemon costs while nothing happens.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ashlar_engine::effects::Clock as _;
use ashlar_engine::{Control, EngineError, PassReport, ServeObserver};
use futures::future::join;

use super::{Fleet, Measured};
use crate::{SimulationError, bytes_in_use, error_text};

/// Until the first passes, which ask for everything, are long over.
const SETTLE: Duration = Duration::from_secs(10 * 60);

/// What the daemon took, the simulated world's part included.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// For the virtual time that was asked for.
    pub took: Measured,
    /// Passes in that time.
    pub passes: u64,
    /// Transactions in that time.
    pub commits: u64,
    /// The most memory in use at the end of a pass, beyond what was in use before the daemon began; if it is counted.
    pub daemon_bytes: Option<usize>,
}

#[derive(Default)]
struct Passes {
    bytes_before: Option<usize>,
    seen: Mutex<(u64, usize, Option<String>)>,
}

impl ServeObserver for Passes {
    fn pass(&self, report: &PassReport<'_>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.0 += 1;
        let more = bytes_in_use().unwrap_or_default().saturating_sub(self.bytes_before.unwrap_or_default());
        seen.1 = seen.1.max(more);
        if let Some(step) = report.plan.steps.first() {
            seen.2.get_or_insert_with(|| format!("something was left to do: {:?}", step.action));
        }
    }

    fn failed(&self, error: &EngineError, _: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.2.get_or_insert_with(|| error_text(error));
    }
}

impl Fleet {
    /// A new daemon, in a world where nothing happens.
    ///
    /// # Errors
    /// There is something to do, or a pass fails.
    pub fn idle(&self, time: Duration) -> Result<Idle, SimulationError> {
        let passes = Passes { bytes_before: bytes_in_use(), seen: Mutex::default() };
        let (engine, control) = (self.engine(), Control::new());
        let world = &self.simulation.world;
        let people = async {
            world.sleep(SETTLE).await;
            passes.seen.lock().unwrap_or_else(PoisonError::into_inner).0 = 0;
            let commits = self.spent().commits;
            let watch = Measured::begin();
            world.sleep(time).await;
            let took = watch.end();
            control.stop();
            (took, self.spent().commits - commits)
        };
        let ((), (took, commits)) = self.run(join(engine.serve(&control, &passes), people))?;
        let (count, bytes, trouble) = passes.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => Err(SimulationError(trouble)),
            None => Ok(Idle { took, passes: count, commits, daemon_bytes: bytes_in_use().map(|_| bytes) }),
        }
    }
}
