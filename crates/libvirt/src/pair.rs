//! Two connections, to one host each, on one thread: for the one call of libvirt's that speaks to both, and takes long.
//! They are not lanes: nobody else waits for them.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::effects::EffectError;
use tokio::sync::oneshot;

use crate::counters::Counters;
use crate::lane::{Manners, Process, Session};
use crate::ssh::Ssh;

/// How a host is reached, and where calls are counted.
pub(crate) type Parts = (Ssh, PathBuf, Arc<Counters>);

/// A call under way. Dropping it ends both connections, and with them the call.
pub(crate) struct Pair<T> {
    processes: [Arc<Process>; 2],
    /// Its answer.
    pub(crate) answered: oneshot::Receiver<Result<T, EffectError>>,
}

impl<T: Send + 'static> Pair<T> {
    /// Begins it on a thread of its own.
    pub(crate) fn start(
        first: Parts,
        second: Parts,
        job: impl FnOnce(&mut Session, &mut Session) -> Result<T, EffectError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let processes = [Arc::<Process>::default(), Arc::<Process>::default()];
        let [mine, other] = processes.clone();
        let (answer, answered) = oneshot::channel();
        std::thread::Builder::new().name("pair".to_owned()).spawn(move || {
            let session = |(ssh, dir, counters): Parts, process| {
                Session::new(ssh, dir, process, Manners::default(), counters)
            };
            let (mut first, mut second) = (session(first, mine), session(second, other));
            let result = job(&mut first, &mut second);
            first.disconnect();
            second.disconnect();
            let _ = answer.send(result);
        })?;
        Ok(Pair { processes, answered })
    }
}

impl<T> Drop for Pair<T> {
    fn drop(&mut self) {
        for process in &self.processes {
            process.give_up();
        }
    }
}
