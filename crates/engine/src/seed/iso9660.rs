//! A writer of small ISO 9660 images: one directory, Rock Ridge names and modes.
//!
//! Own code rather than a crate: what it writes holds secrets, so that all of it must be in one buffer that is wiped,
//! and the same files must give the same bytes. ECMA-119 for the structure, SUSP 1.12 and RRIP 1.09 for the names.

use zeroize::Zeroizing;

const SECTOR: usize = 2048;
/// Sectors before the first volume descriptor.
const SYSTEM_SECTORS: usize = 16;
/// Primary descriptor, terminator, both path tables.
const ROOT_SECTOR: usize = SYSTEM_SECTORS + 4;
/// Owner-readable directory and file (`S_IFDIR | 0500`, `S_IFREG | 0400`).
const DIRECTORY_MODE: u32 = 0o040500;
const FILE_MODE: u32 = 0o100400;
/// 2026-01-01 00:00:00 UTC, for all: the same files give the same image.
const DATE: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];
/// A path table with the root alone.
const PATH_TABLE_BYTES: u32 = 10;

/// Why no image can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsoError {
    /// A name that one directory record cannot hold.
    #[error("the file name {0} is too long for a seed")]
    Name(String),
    /// The files are more than the image may hold.
    #[error("the seed needs {needed} bytes and its volume has {capacity}")]
    TooBig {
        /// Bytes needed.
        needed: u64,
        /// Bytes that there are.
        capacity: u64,
    },
}

/// Builds an image with the volume label, for a volume of the capacity; nothing but zeros may follow it there.
pub(super) fn image(
    label: &str,
    files: &[(&str, &[u8])],
    capacity_bytes: u64,
) -> Result<Zeroizing<Vec<u8>>, IsoError> {
    let directory_sectors = directory_layout(files)?;
    let mut next = ROOT_SECTOR + directory_sectors;
    let mut extents = Vec::with_capacity(files.len());
    for (_, bytes) in files {
        extents.push(next);
        next += bytes.len().div_ceil(SECTOR);
    }
    let needed = (next * SECTOR) as u64;
    if needed > capacity_bytes {
        return Err(IsoError::TooBig { needed, capacity: capacity_bytes });
    }
    let mut image = Zeroizing::new(vec![0u8; next * SECTOR]);
    let root = record(&[0], ROOT_SECTOR, directory_sectors * SECTOR, true, &[]);
    write(&mut image, SYSTEM_SECTORS, &primary_descriptor(label, next, &root));
    write(&mut image, SYSTEM_SECTORS + 1, b"\xffCD001\x01");
    write(&mut image, SYSTEM_SECTORS + 2, &path_table(u32::to_le_bytes, u16::to_le_bytes));
    write(&mut image, SYSTEM_SECTORS + 3, &path_table(u32::to_be_bytes, u16::to_be_bytes));
    let mut offset = ROOT_SECTOR * SECTOR;
    let records = directory_records(files, &extents, directory_sectors * SECTOR);
    for record in records {
        offset = place(offset, record.len());
        image[offset..offset + record.len()].copy_from_slice(&record);
        offset += record.len();
    }
    for ((_, bytes), extent) in files.iter().zip(extents) {
        write(&mut image, extent, bytes);
    }
    Ok(image)
}

/// Sectors of the root directory.
fn directory_layout(files: &[(&str, &[u8])]) -> Result<usize, IsoError> {
    if let Some((name, _)) = files
        .iter()
        .find(|(name, _)| record_length(FILE_NAME_BYTES, system_use(FILE_MODE, Some(name)).len()) > 254)
    {
        return Err(IsoError::Name((*name).to_owned()));
    }
    // Extents and sizes have fixed widths, so zeros give the right lengths.
    let records = directory_records(files, &vec![0; files.len()], 0);
    let end = records.iter().fold(0, |offset, record| place(offset, record.len()) + record.len());
    Ok(end.div_ceil(SECTOR))
}

/// Where a record goes: none crosses a sector's end.
fn place(offset: usize, length: usize) -> usize {
    if offset % SECTOR + length > SECTOR { offset.next_multiple_of(SECTOR) } else { offset }
}

/// Bytes of `F0000.;1`.
const FILE_NAME_BYTES: usize = 8;

fn directory_records(files: &[(&str, &[u8])], extents: &[usize], directory_bytes: usize) -> Vec<Vec<u8>> {
    let mut own = vec![b'S', b'P', 7, 1, 0xbe, 0xef, 0];
    own.extend_from_slice(&system_use(DIRECTORY_MODE, None));
    own.extend_from_slice(b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A");
    let mut records = vec![
        record(&[0], ROOT_SECTOR, directory_bytes, true, &own),
        record(&[1], ROOT_SECTOR, directory_bytes, true, &system_use(DIRECTORY_MODE, None)),
    ];
    for (number, ((name, bytes), extent)) in files.iter().zip(extents).enumerate() {
        // ISO's own names are only there to be distinct and in order; Rock Ridge has the real ones.
        let iso_name = format!("F{number:04}.;1");
        let system_use = system_use(FILE_MODE, Some(name));
        records.push(record(iso_name.as_bytes(), *extent, bytes.len(), false, &system_use));
    }
    records
}

/// Rock Ridge: mode, owner, and name.
fn system_use(mode: u32, name: Option<&str>) -> Vec<u8> {
    let mut entries = b"PX\x24\x01".to_vec();
    let links = if name.is_some() { 1 } else { 2 };
    for number in [mode, links, 0, 0] {
        entries.extend_from_slice(&both(number));
    }
    if let Some(name) = name {
        // Lengths above what a record can hold are refused before this is used.
        entries.extend_from_slice(&[b'N', b'M', (5 + name.len()).min(255) as u8, 1, 0]);
        entries.extend_from_slice(name.as_bytes());
    }
    entries
}

fn record_length(name: usize, system_use: usize) -> usize {
    (33 + name + (name + 1) % 2 + system_use).next_multiple_of(2)
}

/// ECMA-119 §9.1.
fn record(name: &[u8], extent: usize, size: usize, is_directory: bool, system_use: &[u8]) -> Vec<u8> {
    let length = record_length(name.len(), system_use.len());
    let mut record = vec![length.min(255) as u8, 0];
    record.extend_from_slice(&both(extent as u32));
    record.extend_from_slice(&both(size as u32));
    record.extend_from_slice(&DATE);
    record.extend_from_slice(&[if is_directory { 2 } else { 0 }, 0, 0]);
    record.extend_from_slice(&both16(1));
    record.push(name.len() as u8);
    record.extend_from_slice(name);
    if name.len().is_multiple_of(2) {
        record.push(0);
    }
    record.extend_from_slice(system_use);
    record.resize(length, 0);
    record
}

/// ECMA-119 §8.4.
fn primary_descriptor(label: &str, sectors: usize, root: &[u8]) -> Vec<u8> {
    let mut descriptor = b"\x01CD001\x01\x00".to_vec();
    let padded = |text: &str, length: usize| format!("{text:<length$.length$}").into_bytes();
    descriptor.extend(padded("LINUX", 32));
    descriptor.extend(padded(label, 32));
    descriptor.extend([0; 8]);
    descriptor.extend(both(sectors as u32));
    descriptor.extend([0; 32]);
    descriptor.extend([both16(1), both16(1), both16(SECTOR as u16)].concat());
    descriptor.extend(both(PATH_TABLE_BYTES));
    descriptor.extend(((SYSTEM_SECTORS + 2) as u32).to_le_bytes());
    descriptor.extend([0; 4]);
    descriptor.extend(((SYSTEM_SECTORS + 3) as u32).to_be_bytes());
    descriptor.extend([0; 4]);
    descriptor.extend_from_slice(root);
    // Volume set, publisher, preparer, application; then the three file identifiers.
    descriptor.extend(padded("", 4 * 128 + 3 * 37));
    for _ in 0..4 {
        descriptor.extend(b"0000000000000000\x00");
    }
    descriptor.push(1);
    descriptor.resize(SECTOR, 0);
    descriptor
}

/// ECMA-119 §9.4, the root alone.
fn path_table(long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut table = vec![1, 0];
    table.extend(long(ROOT_SECTOR as u32));
    table.extend(short(1));
    table.extend([0, 0]);
    table
}

fn both(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn both16(number: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&number.to_le_bytes());
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn write(image: &mut [u8], sector: usize, bytes: &[u8]) {
    let start = sector * SECTOR;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}
