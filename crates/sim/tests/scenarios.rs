//! Every scenario gives the transcript that lies beside it. `INSTA_UPDATE=always` writes them anew.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

#[test]
fn every_scenario_goes_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 15, "{} scenarios in {}", files.len(), directory.display());
    let mut failed = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy();
        let golden = file.with_extension("out");
        match ashlar_sim::scenario::run(&std::fs::read_to_string(file).unwrap()) {
            Err(error) => failed.push(format!("--- {name}\n{error}")),
            Ok(transcript) if update => std::fs::write(&golden, transcript).unwrap(),
            Ok(transcript) => {
                let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
                if transcript != wanted {
                    failed.push(format!("--- {name}\n{}", first_difference(&wanted, &transcript)));
                }
            }
        }
    }
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
    ]
    .iter()
    .map(|text| ashlar_sim::scenario::parse(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(errors.join("\n"));
}
