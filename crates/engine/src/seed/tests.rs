#![expect(clippy::unwrap_used, reason = "tests")]

use std::{convert::Infallible, process::Command};

use ashlar_plan::bootstrap::{Encoding, Piece, SeedFile};

use super::*;

fn file(name: &str, pieces: Vec<Piece>) -> SeedFile {
    SeedFile { name: name.to_owned(), pieces }
}

fn text(text: impl Into<String>) -> Vec<Piece> {
    vec![Piece::Text(text.into())]
}

fn secret(encoding: Encoding) -> Vec<Piece> {
    vec![Piece::Secret(SecretRef { object: "demo-pki".to_owned(), key: "ca.key".to_owned(), encoding })]
}

/// More files than one sector of directory records holds; empty, exactly one sector, and several sectors long.
fn template() -> SeedTemplate {
    let mut files = vec![
        file("meta-data", text("instance-id: x\n")),
        file("user-data", text("#cloud-config\n{}\n")),
        file("network-config", secret(Encoding::Base64)),
        file("pki-front-proxy-ca.key", secret(Encoding::Raw)),
        file("empty", text("")),
        file("sector", text("s".repeat(2048))),
        file("long", text("l".repeat(5000))),
    ];
    files.extend(
        (0..30).map(|n| file(&format!("patch-kube-controller-manager-{n}.yaml"), text(format!("{n}\n")))),
    );
    SeedTemplate { files }
}

fn canary(_: &SecretRef) -> Result<Zeroizing<Vec<u8>>, Infallible> {
    Ok(Zeroizing::new(b"CANARY".to_vec()))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {text}");
    text
}

#[test]
fn other_programs_read_it() {
    let image = build(&template(), 1 << 20, canary).unwrap();
    assert!(image.len() < 1 << 20, "what follows it in its volume is not made");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seed.iso");
    std::fs::write(&path, &*image).unwrap();
    // As an upload leaves it.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let path = path.to_str().unwrap();

    let blkid = run("/usr/sbin/blkid", &["-p", "-o", "export", path]);
    assert!(blkid.contains("\nLABEL=CIDATA\n") && blkid.contains("\nTYPE=iso9660\n"), "{blkid}");

    let target = directory.path().join("out");
    let told = run(
        "xorriso",
        &[
            "-abort_on",
            "WARNING",
            "-osirrox",
            "on",
            "-indev",
            path,
            "-find",
            "/",
            "-exec",
            "lsdl",
            "--",
            "-extract",
            "/",
            target.to_str().unwrap(),
        ],
    );
    assert!(told.contains("-r--------    1 0        0            5000"), "{told}");
    let contents = template().render(canary).unwrap();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), contents.len());
    for content in contents {
        assert_eq!(std::fs::read(target.join(&content.name)).unwrap(), *content.bytes, "{}", content.name);
    }
    assert_eq!(std::fs::read(target.join("network-config")).unwrap(), b"Q0FOQVJZ");
}

#[test]
fn the_same_files_give_the_same_bytes() {
    assert_eq!(*build(&template(), 1 << 20, canary).unwrap(), *build(&template(), 1 << 20, canary).unwrap());
}

#[test]
fn what_does_not_fit_is_refused() {
    let error = build(&template(), 8192, canary).unwrap_err();
    assert!(matches!(error, SeedError::Image(IsoError::TooBig { capacity: 8192, .. })), "{error:?}");
    let long = SeedTemplate { files: vec![file(&"n".repeat(200), text(""))] };
    let error = build(&long, 1 << 20, canary).unwrap_err();
    assert!(matches!(error, SeedError::Image(IsoError::Name(_))), "{error:?}");
}
