//! `ashlar console`: a machine's serial console, from its first line on.

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::effects::Hypervisor;
use tokio::sync::Notify;

use super::find_machine;
use crate::cli::ConsoleArgs;
use crate::failure::{Exit, Result};
use crate::interrupt::on_interrupt;
use crate::objects::Reader;
use crate::settings::Settings;
use crate::wiring::Reach;

/// How often the log is asked for more.
const INTERVAL: Duration = Duration::from_millis(500);

/// Shows the console's log.
pub(crate) fn console(settings: &Settings, args: &ConsoleArgs) -> Result {
    let reader = Reader::open(settings)?;
    let machine = find_machine(settings, &reader, &args.machine)?;
    let reach = Reach::open(settings)?;
    let host = reach.host_of(&reader, &machine)?;
    let stop = Arc::new(Notify::new());
    let _guard = on_interrupt({
        let stop = Arc::clone(&stop);
        move || stop.notify_one()
    })?;
    let show = async {
        let mut offset = 0;
        loop {
            let chunk = reach.hosts.read_console(&host, &machine.spec.domain, offset).await?;
            if chunk.next_offset < offset {
                settings.printer.note("(the log was rotated)");
            }
            offset = chunk.next_offset;
            if !chunk.bytes.is_empty() {
                settings.printer.data(|out| out.write_all(&chunk.bytes))?;
            } else if args.follow {
                tokio::time::sleep(INTERVAL).await;
            } else {
                return Ok(Exit::Success);
            }
        }
    };
    reach.runtime.block_on(async {
        tokio::select! {
            shown = show => shown,
            () = stop.notified() => Ok(Exit::Success),
        }
    })
}
