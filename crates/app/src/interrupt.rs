//! Ctrl-C: the first one asks to end cleanly, the second one ends at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::{io, thread};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Context, Exit, Result};

type Callback = Box<dyn FnMut() + Send>;

static CALLBACK: Mutex<Option<Callback>> = Mutex::new(None);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static STARTED: OnceLock<()> = OnceLock::new();

/// Ends the callback when dropped.
#[must_use]
pub(crate) struct Guard(());

impl Drop for Guard {
    fn drop(&mut self) {
        set(None);
    }
}

/// Calls `callback` at the first Ctrl-C (or SIGTERM) from now on, on a thread of its own. A second one ends the
/// process.
pub(crate) fn on_interrupt(callback: impl FnMut() + Send + 'static) -> Result<Guard> {
    set(Some(Box::new(callback)));
    if STARTED.set(()).is_ok() {
        listen().context("cannot listen for Ctrl-C")?;
    }
    Ok(Guard(()))
}

fn set(callback: Option<Callback>) {
    if let Ok(mut slot) = CALLBACK.lock() {
        *slot = callback;
    }
}

fn listen() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (interrupt, terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || runtime.block_on(react(interrupt, terminate)))
        .map(drop)
}

async fn react(mut interrupt: Signal, mut terminate: Signal) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(Exit::Interrupted.code()));
        }
        if let Ok(mut slot) = CALLBACK.lock()
            && let Some(callback) = slot.as_mut()
        {
            callback();
        }
    }
}
