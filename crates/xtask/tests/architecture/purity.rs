//! `api` and `plan` have no clock, randomness, file system or environment: held by Clippy, whose configuration is
//! tried here on code that breaks each rule, since a lint that is not read passes everything.

use std::process::Command;

use super::{files_below, root, text_of};

const PURE: [&str; 2] = ["api", "plan"];

#[test]
fn both_pure_crates_have_the_same_rules() {
    let [api, plan] = PURE.map(|name| text_of(format!("crates/{name}/clippy.toml").as_ref()));
    assert_eq!(api, plan);
    let workspace = text_of("Cargo.toml".as_ref());
    for lint in ["disallowed_methods = \"deny\"", "disallowed_types = \"deny\""] {
        assert!(workspace.contains(lint), "Cargo.toml does not have {lint}");
    }
}

#[test]
fn pure_crates_are_not_async() {
    for path in PURE.iter().flat_map(|name| files_below(&format!("crates/{name}/src"))) {
        for (index, line) in text_of(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_async =
                ["async fn", "async move", "async {", ".await"].iter().any(|word| code.contains(word));
            assert!(!is_async, "{}:{}: {line}", path.display(), index + 1);
        }
    }
}

#[test]
fn the_rules_catch_what_they_forbid() {
    let forbidden = [
        "std::time::SystemTime::now()",
        "std::time::Instant::now()",
        "std::fs::read(\"x\")",
        "std::fs::File::open(\"x\")",
        "std::path::Path::new(\"x\").exists()",
        "std::env::var(\"x\")",
        "std::env::args()",
        "std::collections::HashMap::<u8, u8>::new()",
        "std::collections::HashSet::<u8>::new()",
        "std::process::Command::new(\"x\")",
        "std::net::TcpStream::connect(\"x\")",
        "std::thread::spawn(|| ())",
        "std::io::stdin()",
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir(path.join("src")).unwrap();
    std::fs::copy(root().join("crates/api/clippy.toml"), path.join("clippy.toml")).unwrap();
    std::fs::copy(root().join("rust-toolchain.toml"), path.join("rust-toolchain.toml")).unwrap();
    let manifest = "[package]\nname = \"rules\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
                    [lints.clippy]\ndisallowed_methods = \"deny\"\ndisallowed_types = \"deny\"\n";
    std::fs::write(path.join("Cargo.toml"), manifest).unwrap();
    let code: String = forbidden
        .iter()
        .enumerate()
        .map(|(index, expression)| format!("pub fn f{index}() {{ let _ = {expression}; }}\n"))
        .collect();
    std::fs::write(path.join("src/lib.rs"), code).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--offline", "--quiet", "--message-format=short"])
        .env("CARGO_TARGET_DIR", path.join("target"))
        .env_remove("CLIPPY_CONF_DIR")
        .env_remove("CARGO_MANIFEST_DIR")
        .current_dir(path)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    for (index, expression) in forbidden.iter().enumerate() {
        let place = format!("src/lib.rs:{}:", index + 1);
        let is_caught = messages.lines().any(|line| line.starts_with(&place) && line.contains("disallowed"));
        assert!(is_caught, "{expression} passes:\n{messages}");
    }
    assert!(!output.status.success());
}
