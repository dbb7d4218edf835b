//! Who may send image files now: few hosts at a time, so that they do not share one link and are all late.

use std::sync::Arc;

use ashlar_api::VolumeContent;
use ashlar_plan::{Action, Snapshot, Step};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lanes::HostLimits;

/// The turns of uploads.
pub(crate) struct Uploads {
    /// One file at a time on each host.
    hosts: HostLimits,
    /// So many hosts at a time.
    all: Arc<Semaphore>,
}

/// A turn; it ends with the value.
pub(crate) struct Turn {
    _host: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Uploads {
    pub(crate) fn new(hosts: usize) -> Self {
        Uploads { hosts: HostLimits::default(), all: Arc::new(Semaphore::new(hosts.max(1))) }
    }

    /// Waits for the step's turn, if it sends an image file.
    pub(crate) async fn turn(&self, snapshot: &Snapshot, step: &Step) -> Option<Turn> {
        let Some(Action::FillVolume { volume }) = &step.action else { return None };
        let volume = snapshot.volumes.get(volume)?;
        let is_image = matches!(volume.spec.content, VolumeContent::ImageFile { .. });
        if is_image { self.of_host(&step.host).await } else { None }
    }

    async fn of_host(&self, host: &str) -> Option<Turn> {
        // The host's first: who waits for an earlier file of the same host must not take another host's turn.
        // Only a closed semaphore gives none, and nobody closes them.
        let host = self.hosts.of(host, 1).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn { _host: host, _all: all })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use futures::executor::block_on;

    use super::*;

    async fn yield_once() {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }

    #[test]
    fn fifty_hosts_with_three_files_each_take_turns_of_four_hosts() {
        let uploads = Uploads::new(4);
        let (running, most) = (RefCell::new(BTreeMap::<String, u32>::new()), Cell::new(0));
        let done = Cell::new(0);
        let upload = async |host: String| {
            let turn = uploads.of_host(&host).await;
            assert!(turn.is_some());
            *running.borrow_mut().entry(host.clone()).or_default() += 1;
            // Others get their say while it is sent.
            for _ in 0..5 {
                let all: u32 = running.borrow().values().sum();
                assert_eq!(running.borrow()[&host], 1, "two files of {host} at once");
                most.set(most.get().max(all));
                yield_once().await;
            }
            *running.borrow_mut().entry(host).or_default() -= 1;
            done.set(done.get() + 1);
        };
        let all = (0..150).map(|number| upload(format!("h{}", number / 3)));
        block_on(futures::future::join_all(all));
        assert_eq!((done.get(), most.get()), (150, 4));
    }
}
