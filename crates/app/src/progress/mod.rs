//! What the engine tells, shown to a person: live lines on a terminal, plain timestamped lines elsewhere.

mod live;
mod text;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ashlar_engine::{EngineEvent, EventSink};

use crate::output::{Printer, Verbosity, elapsed};
use live::Live;
pub(crate) use text::{Told, Weight, line};

/// Shows the engine's events.
pub(crate) struct Progress {
    printer: Printer,
    began: Instant,
    live: Option<Arc<Live>>,
    /// Whether this run decided anything.
    has_committed: AtomicBool,
    /// Everything that was told, for the evidence of a failure.
    told: Mutex<Vec<String>>,
}

/// Lines that are kept for evidence; a create of three nodes tells some hundred.
const KEPT: usize = 5000;

impl Progress {
    /// A display on stderr.
    pub(crate) fn new(printer: &Printer) -> Arc<Self> {
        let is_terminal = std::io::stderr().is_terminal() && printer.verbosity() == Verbosity::Normal;
        Arc::new(Progress::with(printer, is_terminal.then(|| Live::start(printer))))
    }

    /// Lines only, for what another process tells.
    pub(crate) fn plain(printer: &Printer) -> Self {
        Progress::with(printer, None)
    }

    fn with(printer: &Printer, live: Option<Arc<Live>>) -> Self {
        Progress {
            printer: printer.clone(),
            began: Instant::now(),
            live,
            has_committed: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// Ends the live display; what was said stays.
    pub(crate) fn finish(&self) {
        if let Some(live) = &self.live {
            live.finish();
            self.printer.set_around(None);
        }
    }

    /// Everything that was told so far, with times.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().map(|told| told.clone()).unwrap_or_default()
    }

    fn keep(&self, line: String) {
        if let Ok(mut told) = self.told.lock()
            && told.len() < KEPT
        {
            told.push(line);
        }
    }
}

impl Progress {
    /// Shows a line.
    pub(crate) fn show(&self, told: &Told) {
        let stamp = elapsed(self.began.elapsed());
        self.keep(format!("[{stamp:>12}] {}", told.text));
        let is_verbose = matches!(self.printer.verbosity(), Verbosity::Verbose(_));
        match told.weight {
            Weight::Detail if !is_verbose => {}
            Weight::Notice if !is_verbose && !self.has_committed.load(Ordering::Relaxed) => {}
            // A terminal shows it in the machine's own line.
            Weight::Live if self.live.is_some() => {}
            Weight::Warning => self.printer.warn(&told.text),
            _ if self.live.is_some() => self.printer.note(&told.text),
            _ => self.printer.note(format!("[{stamp:>12}] {}", told.text)),
        }
    }
}

impl EventSink for Progress {
    fn event(&self, event: &EngineEvent) {
        if let Some(live) = &self.live {
            live.event(event);
        }
        if matches!(event, EngineEvent::Committed { .. }) {
            self.has_committed.store(true, Ordering::Relaxed);
        }
        if let Some(told) = line(event) {
            self.show(&told);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
