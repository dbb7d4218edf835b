//! The columns of each kind.
//!
//! A row reads only the fields that it shows, and borrows its strings: a full parse of ten thousand objects would
//! take longer than everything else that `ashlar get` does.

mod clusters;
mod hosts;

use std::borrow::Cow;

use ashlar_api::Kind;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Cells, age};

/// What every row shows of the metadata.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    deletion_timestamp: Option<IgnoredAny>,
}

/// A condition, as far as rows show it.
#[derive(Debug, Deserialize)]
struct ConditionRow<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

/// One row of a kind.
trait Row<'a>: Deserialize<'a> {
    /// Headings; the flag marks those of `-o wide` only. NAME comes before, AGE after.
    const HEADERS: &'static [(&'static str, bool)];
    /// The metadata.
    fn meta(&self) -> &Meta<'a>;
    /// The cells under [`Row::HEADERS`].
    fn cells(&self, now: Timestamp) -> Vec<Cow<'_, str>>;
}

/// Texts, borrowed where they can be.
macro_rules! cells {
    ($($cell:expr),* $(,)?) => { vec![$(std::borrow::Cow::from($cell)),*] };
}
use cells;

macro_rules! for_kind {
    ($kind:expr, $call:ident $(, $argument:expr)*) => {
        match $kind {
            Kind::Host => $call::<hosts::HostRow>($($argument),*),
            Kind::StoragePool => $call::<hosts::PoolRow>($($argument),*),
            Kind::Network => $call::<hosts::NetworkRow>($($argument),*),
            Kind::Image => $call::<hosts::ImageRow>($($argument),*),
            Kind::MachineClass => $call::<hosts::ClassRow>($($argument),*),
            Kind::Volume => $call::<hosts::VolumeRow>($($argument),*),
            Kind::Secret => $call::<clusters::SecretRow>($($argument),*),
            Kind::Cluster => $call::<clusters::ClusterRow>($($argument),*),
            Kind::WorkerGroup => $call::<clusters::GroupRow>($($argument),*),
            Kind::Machine => $call::<clusters::MachineRow>($($argument),*),
            Kind::Event => $call::<clusters::EventRow>($($argument),*),
        }
    };
}

/// The headings of a kind.
pub(crate) fn headers(kind: Kind, wide: bool) -> Vec<&'static str> {
    fn of<'a, R: Row<'a>>(wide: bool) -> Vec<&'static str> {
        let middle = R::HEADERS.iter().filter(|(_, only_wide)| wide || !only_wide).map(|(name, _)| *name);
        std::iter::once("NAME").chain(middle).chain(["AGE"]).collect()
    }
    for_kind!(kind, of, wide)
}

/// Adds the cells of one object, from its JSON.
pub(crate) fn row(
    kind: Kind,
    json: &str,
    wide: bool,
    now: Timestamp,
    out: &mut Cells,
) -> Result<(), serde_json::Error> {
    fn of<'a, R: Row<'a>>(
        json: &'a str,
        wide: bool,
        now: Timestamp,
        out: &mut Cells,
    ) -> Result<(), serde_json::Error> {
        let row: R = serde_json::from_str(json)?;
        out.push(&row.meta().name);
        let cells = R::HEADERS.iter().zip(row.cells(now));
        cells.filter(|((_, only_wide), _)| wide || !only_wide).for_each(|(_, cell)| out.push(&cell));
        out.push(&age(now, row.meta().creation_timestamp));
        Ok(())
    }
    for_kind!(kind, of, json, wide, now, out)
}

/// The word for a condition: its type where it holds, its reason where it does not.
fn word(conditions: &[ConditionRow<'_>], kind: &str, holds: &str) -> Option<String> {
    let condition = conditions.iter().find(|condition| condition.kind == kind)?;
    Some(match &*condition.status {
        "True" => holds.to_owned(),
        _ => condition.reason.to_string(),
    })
}

/// A dash for what is empty.
fn or_dash<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    if text.is_empty() { Cow::Borrowed("-") } else { text }
}
