#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::*;
use crate::effects::Entropy;
use crate::vault::Vault;

struct Counter;

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

struct Place {
    directory: tempfile::TempDir,
    vault: Arc<Vault>,
}

impl Place {
    fn new() -> Self {
        let vault = Arc::new(Vault::from_key(Zeroizing::new([1; 32])));
        Place { directory: tempfile::tempdir().unwrap(), vault }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    fn open(&self) -> AuditFile {
        AuditFile::open(
            &self.path(),
            Author("root@bastion".to_owned()),
            self.vault.clone(),
            Arc::new(Counter),
        )
        .unwrap()
    }

    fn verify(&self) -> Result<Verified, Broken> {
        verify(&self.path(), &self.vault).unwrap()
    }

    /// A record of so many lines, closed.
    fn with_lines(lines: u64) -> Self {
        let place = Place::new();
        let log = place.open();
        (0..lines).for_each(|number| record(&log, number));
        drop(log);
        place
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
    }

    fn put(&self, lines: &[String]) {
        fs::write(self.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

fn record(log: &AuditFile, number: u64) {
    let deed = Deed::Done { action: "startDomain".to_owned(), object: format!("machine default/m{number}") };
    log.record(Timestamp::from_second(number.cast_signed()).unwrap(), &deed).unwrap();
}

fn line_of(broken: &Result<Verified, Broken>) -> Option<u64> {
    broken.as_ref().unwrap_err().line
}

#[test]
fn lines_are_as_documented() {
    let place = Place::with_lines(2);
    insta::assert_snapshot!(place.lines().join("\n"));
}

#[test]
fn a_record_goes_on_in_the_next_process_and_beside_another() {
    let place = Place::with_lines(3);
    let (one, other) = (place.open(), place.open());
    for number in 0..4 {
        record(&one, number);
        record(&other, number);
    }
    drop((one, other));
    assert_eq!(place.verify().unwrap().lines, 11);
}

#[test]
fn an_empty_record_is_whole() {
    assert_eq!(Place::new().verify().unwrap().lines, 0);
    assert_eq!(Place::with_lines(0).verify().unwrap().lines, 0);
}

#[test]
fn what_is_changed_removed_added_or_moved_is_noticed() {
    let place = Place::with_lines(6);
    let whole = place.lines();
    for at in 0..6_usize {
        let number = Some(at as u64 + 1);
        let mut lines = whole.clone();
        lines[at] = lines[at].replace("startDomain", "stopsDomain");
        place.put(&lines);
        assert_eq!(line_of(&place.verify()), number, "changed");
        let mut lines = whole.clone();
        lines.remove(at);
        place.put(&lines);
        assert_eq!(line_of(&place.verify()), number.filter(|_| at < 5), "removed");
        let mut lines = whole.clone();
        lines.insert(at, lines[at].clone());
        place.put(&lines);
        assert_eq!(line_of(&place.verify()), number.map(|number| number + 1), "added");
        if at > 0 {
            let mut lines = whole.clone();
            lines.swap(at - 1, at);
            place.put(&lines);
            assert_eq!(line_of(&place.verify()), Some(at as u64), "moved");
        }
    }
    place.put(&whole);
    assert!(place.verify().is_ok());
}

#[test]
fn a_record_that_is_written_anew_is_noticed_by_an_older_note() {
    let place = Place::with_lines(6);
    let lines = place.lines();
    let head = fs::read(place.path().with_extension("head")).unwrap();
    place.put(&lines[..3]);
    assert_eq!(line_of(&place.verify()), None);
    let author = Author("root@bastion".to_owned());
    let again = AuditFile::open(&place.path(), author, place.vault.clone(), Arc::new(Counter));
    assert!(again.is_err_and(|error| format!("{:?}", error.source).contains("had 6 lines once and has 3")));
    fs::remove_file(place.path()).unwrap();
    fs::remove_file(place.path().with_extension("head")).unwrap();
    let log = place.open();
    (10..20).for_each(|number| record(&log, number));
    drop(log);
    // Whole by itself; but there is an older note, in a backup.
    assert!(place.verify().is_ok());
    fs::write(place.path().with_extension("head"), head).unwrap();
    assert_eq!(line_of(&place.verify()), Some(6));
}

#[test]
fn a_note_that_is_gone_or_forged_is_noticed() {
    let place = Place::with_lines(2);
    let head = place.path().with_extension("head");
    fs::remove_file(&head).unwrap();
    assert_eq!(line_of(&place.verify()), None);
    fs::write(&head, "bm90IG91cnM=").unwrap();
    assert!(place.verify().unwrap_err().why.contains("not written by Ashlar"), "{:?}", place.verify());
}

/// Another machine changed the key: this one has the new one, and its record was noted by the old.
#[test]
fn a_note_of_the_key_before_counts_until_something_is_recorded() {
    let mut place = Place::with_lines(6);
    let old = Arc::clone(&place.vault);
    let mut new = Vault::from_key(Zeroizing::new([2; 32]));
    new.take_over(&old.hand_on(&new, &Counter).unwrap());
    place.vault = Arc::new(new);
    let verified = place.verify().unwrap();
    assert_eq!((verified.lines, verified.noted_before.as_deref()), (6, Some(old.key_id())));
    // Lines that are cut off then are missed, and nothing hides that.
    let lines = place.lines();
    place.put(&lines[..5]);
    assert_eq!(line_of(&place.verify()), None);
    let author = Author("root@bastion".to_owned());
    let again = AuditFile::open(&place.path(), author, place.vault.clone(), Arc::new(Counter));
    assert!(again.is_err_and(|error| format!("{:?}", error.source).contains("had 6 lines once and has 5")));
    assert_eq!(line_of(&place.verify()), None);
    place.put(&lines);
    let log = place.open();
    record(&log, 9);
    drop(log);
    let verified = place.verify().unwrap();
    assert_eq!((verified.lines, verified.noted_before), (7, None));
    // By the old key alone nobody can tell any more.
    place.vault = old;
    assert_eq!(line_of(&place.verify()), None);
}

#[test]
fn a_torn_last_line_goes_and_the_record_goes_on() {
    let place = Place::with_lines(3);
    let torn = format!("{}\n{}", place.lines().join("\n"), &place.lines()[0][..40]);
    fs::write(place.path(), torn).unwrap();
    assert_eq!(line_of(&place.verify()), Some(4));
    let log = place.open();
    record(&log, 9);
    drop(log);
    assert_eq!(place.verify().unwrap().lines, 4);
}

#[test]
fn what_cannot_be_recorded_is_an_error() {
    let place = Place::new();
    std::os::unix::fs::symlink("/dev/full", place.path()).unwrap();
    let log = place.open();
    let deed = Deed::Conflicted { plan: Timestamp::UNIX_EPOCH };
    let told = log.record(Timestamp::UNIX_EPOCH, &deed).unwrap_err().to_string();
    assert!(told.starts_with("cannot write the audit log"), "{told}");
}

/// Why the record is not gone on with.
fn refusal(place: &Place) -> String {
    let author = Author("root@bastion".to_owned());
    match AuditFile::open(&place.path(), author, place.vault.clone(), Arc::new(Counter)) {
        Ok(_) => "it is gone on with".to_owned(),
        Err(error) => error.source.to_string(),
    }
}

fn accept_it(place: &Place, second: i64) -> Option<Doubt> {
    let author = Author("alice@bastion".to_owned());
    let time = Timestamp::from_second(second).unwrap();
    accept(&place.path(), author, place.vault.clone(), Arc::new(Counter), time).unwrap()
}

fn try_record(log: &AuditFile, second: i64) -> Result<(), String> {
    let deed = Deed::Conflicted { plan: Timestamp::UNIX_EPOCH };
    log.record(Timestamp::from_second(second).unwrap(), &deed).map_err(|error| error.source.to_string())
}

/// Refused is refused again: whoever only looked has not noted what is there.
#[test]
fn a_record_that_was_shortened_is_not_gone_on_with_until_somebody_says_so() {
    let place = Place::with_lines(6);
    place.put(&place.lines()[..3]);
    for _ in 0..3 {
        let told = refusal(&place);
        assert!(
            told.contains("had 6 lines once and has 3") && told.contains("ashlar audit accept"),
            "{told}"
        );
        assert_eq!(doubt(&place.path(), place.vault.clone(), Arc::new(Counter)).unwrap(), {
            Some(Doubt::Shorter { was: 6, is: 3 })
        });
    }
    assert_eq!(accept_it(&place, 50), Some(Doubt::Shorter { was: 6, is: 3 }));
    assert_eq!(place.verify().unwrap().lines, 4);
    let lines = place.lines();
    assert!(
        lines[3].contains("\"accepted\"")
            && lines[3].contains("alice")
            && lines[3].contains("had 6 lines once")
    );
    record(&place.open(), 60);
    assert_eq!(place.verify().unwrap().lines, 5);
    // What is whole is not accepted once more.
    assert_eq!(accept_it(&place, 70), None);
    assert_eq!(place.lines().len(), 5);
}

/// As after an upgrade, or where somebody took the note away with the lines it spoke of.
#[test]
fn a_record_without_a_note_of_ours_is_not_noted_silently() {
    let place = Place::with_lines(6);
    let head = place.path().with_extension("head");
    for forged in [None, Some("bm90IG91cnM="), Some("")] {
        place.put(&place.lines()[..3]);
        match forged {
            None => fs::remove_file(&head).unwrap(),
            Some(text) => fs::write(&head, text).unwrap(),
        }
        for _ in 0..2 {
            let told = refusal(&place);
            assert!(told.contains("audit.head") && told.contains("ashlar audit accept"), "{told}");
            assert!(place.verify().is_err());
        }
        assert!(accept_it(&place, 50).is_some());
        assert_eq!(place.verify().unwrap().lines, 4);
    }
    // Taken elsewhere with its note, a new one begins.
    fs::remove_file(place.path()).unwrap();
    assert!(refusal(&place).contains("had 4 lines once and has 0"), "the note is still there");
    fs::remove_file(&head).unwrap();
    record(&place.open(), 1);
    assert_eq!(place.verify().unwrap().lines, 1);
}

#[test]
fn the_last_line_that_was_noted_must_stand() {
    let place = Place::with_lines(6);
    let whole = place.lines();
    // Written anew from line 5 on, by somebody who has no key, and longer than it was.
    let other = Place::with_lines(4);
    let log = other.open();
    (20..25).for_each(|number| record(&log, number));
    drop(log);
    let anew: Vec<String> = other.lines();
    assert_eq!(whole[..4], anew[..4]);
    place.put(&anew);
    assert!(refusal(&place).contains("line 6 is not the one that was there"), "{}", refusal(&place));
}

#[test]
fn lines_that_are_cut_off_under_a_process_are_noticed_by_it_and_by_those_after_it() {
    let place = Place::with_lines(2);
    let log = place.open();
    // Within a second: only the first is noted.
    let deed = Deed::Done { action: "startDomain".to_owned(), object: "machine default/m".to_owned() };
    for millis in 0..5 {
        log.record(Timestamp::from_millisecond(100_000 + millis).unwrap(), &deed).unwrap();
    }
    place.put(&place.lines()[..4]);
    for _ in 0..3 {
        let told = try_record(&log, 101).unwrap_err();
        assert!(told.contains("had 7 lines once and has 4"), "{told}");
    }
    assert_eq!(place.lines().len(), 4, "nothing was recorded");
    // Without its memory nobody would have known.
    assert!(refusal(&place).contains("had 7 lines once and has 4"));
    // Somebody has looked: the process goes on too, and sees no other acceptance in that.
    assert!(accept_it(&place, 102).is_some());
    let head = place.path().with_extension("head");
    let noted_then = fs::read(&head).unwrap();
    try_record(&log, 103).unwrap();
    assert_eq!(place.verify().unwrap().lines, 6);
    place.put(&place.lines()[..5]);
    fs::write(&head, noted_then).unwrap();
    let told = try_record(&log, 104).unwrap_err();
    assert!(told.contains("had 6 lines once and has 5"), "an acceptance of before is none: {told}");
    drop(log);
    assert!(
        refusal(&place).contains("had 6 lines once and has 5"),
        "it did not note what is there at its end"
    );
}

#[test]
fn lines_that_are_exchanged_or_put_in_under_a_process_are_noticed() {
    let place = Place::with_lines(2);
    let log = place.open();
    record(&log, 100);
    let whole = place.lines();
    let mut lines = whole.clone();
    lines[2] = lines[2].replace("startDomain", "stopsDomain");
    place.put(&lines);
    assert!(try_record(&log, 101).unwrap_err().contains("line 3 is not the one"));
    // A line that does not follow.
    place.put(&[whole.clone(), vec![whole[0].clone()]].concat());
    assert!(try_record(&log, 102).unwrap_err().contains("line 4 is not the one"));
    place.put(&whole);
    try_record(&log, 103).unwrap();
    drop(log);
    assert_eq!(place.verify().unwrap().lines, 4);
}

#[test]
fn a_record_that_is_moved_away_under_a_process_is_not_written_there() {
    let place = Place::with_lines(2);
    let log = place.open();
    record(&log, 100);
    let elsewhere = place.directory.path().join("audit.old");
    fs::rename(place.path(), &elsewhere).unwrap();
    assert!(try_record(&log, 101).unwrap_err().contains("moved away"));
    fs::remove_file(place.path().with_extension("head")).unwrap();
    record(&place.open(), 102);
    assert!(try_record(&log, 103).unwrap_err().contains("moved away"), "another file is there");
    drop(log);
    assert_eq!(place.verify().unwrap().lines, 1, "the new one's note is the new one's");
    assert_eq!(fs::read_to_string(elsewhere).unwrap().lines().count(), 3);
}

/// A process that is killed runs nothing at its end: what it did before its last second is noted all the same.
#[test]
fn the_note_follows_the_deeds_within_a_second() {
    let place = Place::new();
    let log = place.open();
    let deed = Deed::Conflicted { plan: Timestamp::UNIX_EPOCH };
    for millis in (0..5_000).step_by(100) {
        log.record(Timestamp::from_millisecond(millis).unwrap(), &deed).unwrap();
    }
    std::mem::forget(log);
    let all = place.lines();
    assert_eq!(all.len(), 50);
    // The last 10 of them are younger than the note.
    place.put(&all[..40]);
    assert!(refusal(&place).contains("had 41 lines once and has 40"), "{}", refusal(&place));
    place.put(&all[..41]);
    assert_eq!(place.verify().unwrap().lines, 41);
}

#[test]
fn on_lines_that_do_not_follow_one_another_nothing_is_built() {
    let place = Place::with_lines(6);
    let mut lines = place.lines();
    lines.remove(2);
    place.put(&lines);
    fs::remove_file(place.path().with_extension("head")).unwrap();
    let author = Author("alice@bastion".to_owned());
    let refused =
        accept(&place.path(), author, place.vault.clone(), Arc::new(Counter), Timestamp::UNIX_EPOCH)
            .unwrap_err();
    let told = refused.source.to_string();
    assert!(told.contains("line 3 does not follow") && told.contains("begins a new one"), "{told}");
    fs::rename(place.path(), place.directory.path().join("audit.broken")).unwrap();
    record(&place.open(), 1);
    assert_eq!(place.verify().unwrap().lines, 1);
}
