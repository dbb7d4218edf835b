//! `ashlar adopt`: what it is not yet, said before anybody counts on it.

use crate::cli::AdoptArgs;
use crate::failure::{Failure, Result};

/// Refuses, and says what to do instead.
pub(crate) fn adopt(args: &AdoptArgs) -> Result {
    let what = if args.names.is_empty() { "nothing".to_owned() } else { args.names.join(", ") };
    let verb = if args.names.is_empty() { "is" } else { "was not" };
    Err(Failure::new(format!(
        "{what} {verb} adopted: Ashlar cannot take over clusters, domains, volumes or networks that it did not make. They \
         are left alone wherever they are, beside its own"
    ))
    .hint(
        "to bring a cluster under Ashlar, make a new one beside it (`ashlar cluster create`), move what runs on it with your \
         own tools (manifests, Velero, a copy of its data), and remove the old one with what made it",
    )
    .hint("what this installation made and its store lost comes back with a copy of the store: `ashlar store restore`"))
}
