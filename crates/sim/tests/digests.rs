//! The same seed gives the same run, bit for bit, on every machine: a digest of all that happens in it.
//!
//! A digest changes when Ashlar or the simulated world behaves differently, which is no fault: `INSTA_UPDATE=always` writes
//! the table anew. One that changes without a change of behaviour, or from machine to machine, comes of something that no
//! run may depend on: the order of a hash map, an address, the clock, the environment.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use ashlar_sim::adversary::{Options, Size, run_seed};

const SEEDS: [u64; 4] = [3, 17, 42, 2026];

fn digest(seed: u64) -> String {
    run_seed(seed, &Options { size: Some(Size::Tiny), ..Options::default() }).unwrap().digest
}

#[test]
fn a_seed_has_one_digest_wherever_it_runs() {
    let table: Vec<String> = SEEDS.iter().map(|seed| format!("{seed}: {}", digest(*seed))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_run_does_not_depend_on_its_environment_or_on_what_runs_beside_it() {
    let seed = SEEDS[0];
    let told = |environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar-sim"));
        command.args(["run", "--size", "tiny", "--seed", &seed.to_string()]).env_clear();
        let output = command.envs(environment.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let here = told(&[]);
    assert!(here.contains(&digest(seed)), "{here}");
    for environment in [
        [("TZ", "Pacific/Chatham"), ("LANG", "tr_TR.UTF-8"), ("HOME", "/nonexistent")],
        [("TZ", "America/St_Johns"), ("LC_ALL", "C"), ("HOME", "/")],
    ] {
        assert_eq!(told(&environment), here, "{environment:?}");
    }
    // Others at the same time, on other threads, with other memory.
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| digest(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(together.iter().all(|other| here.contains(other)), "{together:?}");
}
