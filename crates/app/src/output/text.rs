//! Small pieces of text.

use std::time::Duration;

use jiff::Timestamp;

use crate::failure::{Failure, Result};

/// How long ago, as kubectl says it: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn age(now: Timestamp, then: Option<Timestamp>) -> String {
    let Some(then) = then else { return "-".to_owned() };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A span of time for people: `850 ms`, `12.3 s`, `3 min 05 s`.
pub(crate) fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..100 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// `1 host`, `2 hosts`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// As YAML.
pub(crate) fn yaml(value: &serde_json::Value) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|error| Failure::internal(format!("cannot write YAML: {error}")))
}
