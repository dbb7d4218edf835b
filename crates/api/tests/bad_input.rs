//! What people get wrong, and what they are told: every file of `data/bad` against the world of `data/world.yaml`,
//! in one golden file that reads from input to messages.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test reads its cases from files")]

mod world;

use std::fmt::Write;

use ashlar_api::{manifest, validate};

#[test]
fn bad_inputs_and_their_messages() {
    let existing = world::stored();
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bad");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 40, "{} files", files.len());
    let mut golden = String::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let messages: Vec<String> = match manifest::read_located(&text, "f.yaml") {
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
            Ok(located) => {
                let objects: Vec<_> = located.iter().map(|object| object.object.clone()).collect();
                validate::validate_apply(&objects, &existing)
                    .iter()
                    .map(|violation| {
                        assert!(!violation.message.is_empty());
                        let place = manifest::locate(violation, &located);
                        place.map_or_else(
                            || format!("f.yaml: {violation}"),
                            |at| format!("f.yaml:{}:{}: {violation}", at.line, at.column),
                        )
                    })
                    .collect()
            }
        };
        assert!(!messages.is_empty(), "{name}: nothing is wrong with it");
        writeln!(golden, "=== {name}").unwrap();
        for (index, line) in text.lines().enumerate() {
            // Keys are long, and all the same here.
            let line: String = line.chars().take(110).collect();
            writeln!(golden, "{:>3} | {line}", index + 1).unwrap();
        }
        for message in messages {
            writeln!(golden, "  ✗ {message}").unwrap();
        }
        golden.push('\n');
    }
    insta::assert_snapshot!("bad_inputs", golden);
}
