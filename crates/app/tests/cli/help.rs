//! Every command has help, with examples where there is something to show.

use crate::harness::Place;

#[test]
fn the_top_level_names_commands_and_exit_codes() {
    insta::assert_snapshot!(Place::new().run(&["--help"]));
}

#[test]
fn every_command_has_help() {
    let place = Place::new();
    let mut all = String::new();
    for command in [
        &["apply"][..],
        &["serve"],
        &["store", "backup"],
        &["store", "restore"],
        &["plan"],
        &["get"],
        &["describe"],
        &["delete"],
        &["explain"],
        &["wait"],
        &["events"],
        &["kubeconfig"],
        &["kubectl"],
        &["proxy"],
        &["console"],
        &["ssh"],
        &["setup"],
        &["completions"],
        &["host", "add"],
        &["host", "add-lab"],
        &["host", "check"],
        &["host", "remove"],
        &["cluster", "create"],
        &["cluster", "status"],
        &["cluster", "delete"],
        &["cluster", "start"],
        &["cluster", "stop"],
        &["cluster", "rotate-kubeconfig"],
        &["cluster", "pause"],
        &["cluster", "resume"],
        &["secrets", "rotate"],
        &["secrets", "status"],
        &["etcd-snapshot", "list"],
        &["etcd-snapshot", "verify"],
        &["etcd-snapshot", "extract"],
        &["machine", "replace"],
        &["adopt"],
        &["lab", "up"],
        &["lab", "exec"],
        &["image", "build"],
        &["demo", "up"],
    ] {
        let help = place.run(&[command, &["--help"]].concat());
        assert!(help.starts_with("exit 0\n"), "{command:?}: {help}");
        // Global options are the same everywhere: once is enough.
        let own = help.split("Global options:").next().unwrap_or_default();
        let after = help.rsplit_once("made at first use]").map_or("", |(_, after)| after);
        all.push_str(&format!("$ ashlar {} --help\n{}{}\n", command.join(" "), own, after));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn completions_are_scripts_and_do_not_offer_internal_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]);
        assert!(script.starts_with("exit 0\n"), "{script}");
        assert!(script.contains("cluster"), "{shell}");
    }
}
