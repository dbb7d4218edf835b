//! Files stay short enough to be read, and say nothing that is unfinished.

use std::path::{Path, PathBuf};

use super::{files_below, text_of};

const LONGEST: usize = 800;
const MEDIAN: usize = 250;

fn is_test(path: &Path) -> bool {
    let in_tests =
        path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")));
    in_tests || path.file_name().is_some_and(|name| name == "tests.rs")
}

fn rust_files() -> Vec<PathBuf> {
    files_below("crates").into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<(usize, PathBuf)> = rust_files()
        .into_iter()
        .filter(|path| !is_test(path))
        .map(|path| (text_of(&path).lines().count(), path))
        .collect();
    lengths.sort();
    assert!(lengths.len() > 30, "only {} files were found", lengths.len());
    let (median, _) = &lengths[lengths.len() / 2];
    assert!(*median <= MEDIAN, "the median file has {median} lines, more than {MEDIAN}");
    let long: Vec<String> = lengths
        .iter()
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{} has {lines} lines: split it by concern", path.display()))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn nothing_is_marked_as_unfinished() {
    // Written in two parts, so that this file passes its own test.
    let marks =
        [("FIX", "ME"), ("XX", "X"), ("to", "do!("), ("unimpl", "emented!("), ("not implemented", " yet")]
            .map(|(first, second)| format!("{first}{second}"));
    let mut found = Vec::new();
    for path in rust_files() {
        for (index, line) in text_of(&path).lines().enumerate() {
            // `XXXXXX` is what mktemp replaces, and no mark.
            let words = line.split(|c: char| !(c.is_alphanumeric() || matches!(c, '!' | '(' | ' ' | '_')));
            let is_marked = words.flat_map(|words| words.split(' ')).any(|word| {
                marks.iter().any(|mark| word == mark || (mark.ends_with('(') && word.contains(mark.as_str())))
            }) || line.contains(marks[4].as_str());
            if is_marked {
                found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
