#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

struct Sevens;

impl Entropy for Sevens {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

const KEY: [u8; 32] = [3; 32];

fn seal(plain: &[u8]) -> Vec<u8> {
    let mut sealing = Sealing::new(Vec::new(), &KEY, "here".to_owned(), &Sevens).unwrap();
    // In pieces that fit nothing.
    for piece in plain.chunks(10_007) {
        sealing.write_all(piece).unwrap();
    }
    let (bytes, sealed) = sealing.finish().unwrap();
    assert_eq!(sealed, Sealed { bytes: bytes.len() as u64, sha256: Sha256::digest(&bytes).into() });
    bytes
}

fn open_as(bytes: &[u8], key: &[u8; 32], place: &str) -> Result<(Vec<u8>, Sealed)> {
    let mut opening = Opening::new(bytes, key, place.to_owned())?;
    let mut plain = Vec::new();
    opening.read_to_end(&mut plain)?;
    Ok((plain, opening.finish().unwrap()))
}

fn open(bytes: &[u8]) -> Result<Vec<u8>> {
    let (plain, sealed) = open_as(bytes, &KEY, "here")?;
    assert_eq!(sealed, Sealed { bytes: bytes.len() as u64, sha256: Sha256::digest(bytes).into() });
    Ok(plain)
}

fn refused(bytes: &[u8], what: &str) {
    let error = open(bytes).expect_err(what);
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{what}: {error}");
}

/// Distinct chunks of whatever length.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 1000 % 251) as u8).collect()
}

#[test]
fn what_was_sealed_opens_whatever_its_length() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
        let (plain, sealed) = (content(length), seal(&content(length)));
        assert_eq!(open(&sealed).unwrap(), plain, "{length}");
        assert_eq!(plain_length(sealed.len() as u64), Some(length as u64));
        let chunks = length.div_ceil(CHUNK).max(1);
        assert_eq!(sealed.len(), HEAD + length + chunks * TAG, "{length}");
    }
    for none in [0, 1, HEAD as u64] {
        assert_eq!(plain_length(none), None, "{none}");
    }
}

#[test]
fn nothing_of_it_shows() {
    let sealed = seal(&b"CANARY".repeat(30_000));
    assert!(!sealed.windows(6).any(|window| window == b"CANARY"));
}

#[test]
fn what_was_cut_moved_doubled_continued_or_changed_does_not_open() {
    let sealed = seal(&content(3 * CHUNK + 5));
    let chunk = |number: usize| {
        let from = HEAD + number * (CHUNK + TAG);
        &sealed[from..(from + CHUNK + TAG).min(sealed.len())]
    };
    let head = &sealed[..HEAD];
    for length in [0, 5, HEAD, HEAD + 1, HEAD + CHUNK + TAG, HEAD + 3 * (CHUNK + TAG), sealed.len() - 1] {
        refused(&sealed[..length], &format!("cut to {length}"));
    }
    for (what, order) in [
        ("two chunks changed places", &[1, 0, 2, 3][..]),
        ("one twice", &[0, 0, 1, 2, 3]),
        ("one left out", &[0, 2, 3]),
        ("the last one earlier", &[0, 1, 3, 2]),
        ("one more after the last", &[0, 1, 2, 3, 3]),
        ("two lasts", &[0, 1, 3]),
    ] {
        let moved = [head].into_iter().chain(order.iter().map(|number| chunk(*number)));
        refused(&moved.collect::<Vec<_>>().concat(), what);
    }
    for at in [0, 15, 16, HEAD - 1, HEAD, HEAD + CHUNK + 3, sealed.len() / 2, sealed.len() - 1] {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        refused(&flipped, &format!("byte {at}"));
    }
    let longer = [&sealed[..], b"\0"].concat();
    refused(&longer, "a byte more");
}

#[test]
fn another_key_or_place_opens_nothing() {
    let sealed = seal(b"one");
    assert!(open_as(&sealed, &KEY, "here").is_ok());
    assert!(open_as(&sealed, &[4; 32], "here").is_err());
    assert!(open_as(&sealed, &KEY, "there").is_err());
}

#[test]
fn a_reader_that_failed_stays_failed_and_one_that_stopped_proved_nothing() {
    let mut sealed = seal(&content(2 * CHUNK));
    *sealed.last_mut().unwrap() ^= 1;
    let mut opening = Opening::new(&sealed[..], &KEY, "here".to_owned()).unwrap();
    let mut some = vec![0; CHUNK];
    opening.read_exact(&mut some).unwrap();
    assert!(opening.read(&mut some).is_err() && opening.read(&mut some).is_err());
    assert_eq!(opening.finish(), None);
    let whole = seal(&content(2 * CHUNK));
    let mut opening = Opening::new(&whole[..], &KEY, "here".to_owned()).unwrap();
    opening.read_exact(&mut some).unwrap();
    assert_eq!(opening.finish(), None);
}

/// Takes so many writes.
struct Full(u32);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_could_not_be_written_is_not_gone_on_with() {
    let mut sealing = Sealing::new(Full(3), &KEY, "here".to_owned(), &Sevens).unwrap();
    let error = sealing.write_all(&content(3 * CHUNK)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(sealing.write_all(&content(2 * CHUNK)).is_err());
    assert!(sealing.finish().is_err());
}
