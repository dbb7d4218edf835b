//! Every scenario gives the transcript that lies beside it. `INSTA_UPDATE=always` writes them anew.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use common::each;

/// All scenarios of a directory. `ASHLAR_SIM_SCENARIO` chooses those with a word in their names.
fn scenarios(directory: &str, at_least: usize) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= at_least, "{} scenarios in {}", files.len(), directory.display());
    if let Ok(word) = std::env::var("ASHLAR_SIM_SCENARIO") {
        files.retain(|file| file.to_string_lossy().contains(&word));
    }
    files
}

#[test]
fn every_scenario_goes_as_written() {
    go_as_written(&scenarios("scenarios", 15));
}

/// R8: what answers is not what it was, or says what is not so. Nothing is destroyed for that, and it is said: by a
/// condition that a person can find, or by an error.
#[test]
fn r8_every_lying_world_is_told_and_nothing_is_destroyed() {
    let worlds = scenarios("scenarios/lying", 50);
    let (mut conditions, mut errors) = (0, 0);
    for world in &worlds {
        let text = std::fs::read_to_string(world).unwrap();
        let count = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
        let watched = text.lines().skip_while(|line| *line != "watch");
        assert!(
            watched.filter(|line| *line == "expect no destruction").count() > 0,
            "{} does not watch, and say after it that nothing is destroyed",
            world.display()
        );
        let (named, said) = (count("expect condition "), count("expect error "));
        assert!(named + said > 0, "{} does not say what a person is told", world.display());
        conditions += named;
        errors += said;
    }
    go_as_written(&worlds);
    println!(
        "R8: {} lying worlds, 0 destructive calls; {conditions} named conditions and {errors} errors tell of them",
        worlds.len()
    );
}

/// What CONTRIBUTING.md shows a newcomer is true.
#[test]
fn the_ten_lines_in_contributing_are_a_scenario() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../CONTRIBUTING.md")).unwrap();
    let part = text.split("### A scenario in the simulated world").nth(1).unwrap();
    let shown: Vec<&str> = part
        .lines()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| line.starts_with("    "))
        .map(str::trim)
        .collect();
    assert_eq!(shown.len(), 10, "{shown:?}");
    let transcript = ashlar_sim::scenario::run(&shown.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    assert!(transcript.contains("host h2 off") && transcript.contains("> expect idle"), "{transcript}");
}

fn go_as_written(files: &[PathBuf]) {
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always");
    let failed = Mutex::new(Vec::new());
    each(files, |file| {
        let name = file.file_stem().unwrap().to_string_lossy();
        let golden = file.with_extension("out");
        let mut told = Vec::new();
        match ashlar_sim::scenario::run(&std::fs::read_to_string(file).unwrap()) {
            Err(error) => told.push(format!("--- {name}\n{error}")),
            Ok(transcript) if update => std::fs::write(&golden, transcript).unwrap(),
            Ok(transcript) => {
                let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
                if transcript != wanted {
                    told.push(format!("--- {name}\n{}", first_difference(&wanted, &transcript)));
                }
            }
        }
        failed.lock().unwrap().append(&mut told);
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort();
    assert!(failed.is_empty(), "{}\nINSTA_UPDATE=always writes the transcripts anew", failed.join("\n"));
}

fn first_difference(wanted: &str, got: &str) -> String {
    let mut pairs =
        wanted.lines().map(Some).chain(std::iter::repeat(None)).zip(got.lines().map(Some).chain([None]));
    let different = pairs.by_ref().enumerate().find(|(_, (wanted, got))| wanted != got);
    let (number, (wanted, _)) = different.unwrap_or((0, (None, None)));
    format!(
        "the transcript differs from line {}: expected {}\ngot:\n{got}",
        number + 1,
        wanted.unwrap_or("nothing more"),
    )
}

#[test]
fn what_is_no_command_is_an_error_with_its_line() {
    let errors: Vec<String> = [
        "host h1\nfly to the moon",
        "host h1 threads",
        "host h1 colour red",
        "apply <<\nkind: Cluster",
        "apply",
        "run until tomorrow",
        "run until cluster demo happy",
        "wait 5",
        "virsh h1 migrate x",
        "crash at effect many before",
        "foreign address br0 nowhere",
        "status <<\nend",
        "serve by two for 8m, three killed at effect 1 before",
        "serve by two for 8m, one eaten",
    ]
    .iter()
    .map(|text| ashlar_sim::scenario::parse(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(errors.join("\n"));
}
