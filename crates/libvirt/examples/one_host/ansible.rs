//! Ansible's community.libvirt, on the host itself, so that no SSH is in its time.

use std::time::{Duration, Instant};

use ashlar_lab::Place;

use crate::rig::Rig;

/// How long it takes to tell about all domains of the host; what it tells must be about so many.
pub(crate) fn info(rig: &Rig, ansible: &str, domains: usize) -> Duration {
    // The distribution's: libvirt's own module for Python belongs to it.
    let interpreter = "ansible_python_interpreter=/usr/bin/python3";
    let argv = [
        ansible,
        "localhost",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        interpreter,
        "-m",
        "community.libvirt.virt",
        "-a",
        "command=info",
    ];
    let place = Place::Host(rig.host().name.clone());
    let begin = Instant::now();
    let output = rig.lab.output(&place, &argv, Duration::from_secs(600)).unwrap();
    let elapsed = begin.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.matches("\"maxMem\"").count();
    assert!(
        output.status.success() && told == domains,
        "Ansible told of {told} domains: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    elapsed
}
