//! Seeds: a machine's first-boot files with their secrets, as an image for its CD-ROM drive.

mod iso9660;

use ashlar_plan::bootstrap::{SecretRef, SeedTemplate};
use zeroize::Zeroizing;

pub use iso9660::IsoError;

/// NoCloud's volume label.
pub const LABEL: &str = "CIDATA";

/// Why no seed can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedError<E: std::error::Error + 'static> {
    /// A secret could not be had.
    #[error("the seed lacks a secret")]
    Secret(#[source] E),
    /// The files do not fit into an image.
    #[error("the seed's image cannot be made")]
    Image(#[source] IsoError),
}

/// Fills the secrets into the template and builds the image: ISO 9660 with Rock Ridge names, for a volume of the capacity.
/// An upload writes zeros behind it, which are not made here: they would be wiped from memory with the secrets, and take
/// ten times as long as these. The same template and secrets give the same bytes.
///
/// # Errors
/// `lookup` failed; the files do not fit.
pub fn build<E: std::error::Error + 'static>(
    template: &SeedTemplate,
    capacity_bytes: u64,
    lookup: impl FnMut(&SecretRef) -> Result<Zeroizing<Vec<u8>>, E>,
) -> Result<Zeroizing<Vec<u8>>, SeedError<E>> {
    let contents = template.render(lookup).map_err(SeedError::Secret)?;
    let files: Vec<(&str, &[u8])> =
        contents.iter().map(|file| (file.name.as_str(), file.bytes.as_slice())).collect();
    iso9660::image(LABEL, &files, capacity_bytes).map_err(SeedError::Image)
}

#[cfg(test)]
mod tests;
