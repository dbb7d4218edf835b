//! What is checked, in order.

/// One stage.
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Program and arguments; `cargo` is the cargo that runs this.
    pub(super) command: &'static [&'static str],
    /// Without it nothing after it makes sense.
    pub(super) is_vital: bool,
    /// In which company.
    pub(super) runs: Runs,
}

/// What runs beside a stage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// After the one before it, beside what runs beside others.
    InTurn,
    /// At the lowest priority while the stages after it go on, which wait more than they compute.
    Beside,
    /// With nothing beside it: kubeadm gives up on an emulated machine that does not get its processors, and where
    /// priorities count for nothing (processes of one container may share one autogroup) it would get half of them.
    Alone,
}

/// What is run, in this order: cheap checks first, real VMs last.
pub(super) const STAGES: &[Stage] = &[
    Stage {
        name: "build",
        what: "the binary",
        command: &["cargo", "build", "--package", "ashlar-app"],
        is_vital: true,
        runs: Runs::InTurn,
    },
    Stage {
        name: "setup",
        what: "system packages (apt)",
        command: &["target/debug/ashlar", "setup", "--tests"],
        is_vital: true,
        runs: Runs::InTurn,
    },
    Stage {
        name: "test-image",
        what: "the small guest that lab tests boot",
        command: &["target/debug/ashlar", "image", "build", "--test", "--no-register"],
        is_vital: true,
        runs: Runs::InTurn,
    },
    Stage {
        name: "format",
        what: "rustfmt",
        command: &["cargo", "fmt", "--all", "--check"],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "lints",
        what: "clippy, warnings are errors",
        command: &["cargo", "clippy", "--workspace", "--", "-D", "warnings"],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "lints-of-tests",
        what: "clippy in tests, where unwrap may stand",
        command: &[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
            "-A",
            "clippy::unwrap_used",
        ],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "tests",
        what: "unit, golden, property and simulation tests; no network, no libvirt",
        command: &[
            "cargo",
            "test",
            "--workspace",
            "--no-fail-fast",
            "--exclude",
            "ashlar-lab",
            "--exclude",
            "ashlar-libvirt",
        ],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "search",
        what: "1 000 simulated worlds of all sizes in which everything goes wrong that can; a seed always tells the same",
        command: &["cargo", "xtask", "sim", "search", "--seeds", "0..1000", "--fresh"],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "search-lost-hosts",
        what: "800 small worlds in which hosts are lost again and again",
        command: &[
            "cargo",
            "xtask",
            "sim",
            "search",
            "--seeds",
            "0..800",
            "--about",
            "host-loss",
            "--size",
            "tiny",
            "--fresh",
        ],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "search-daemons",
        what: "800 worlds in which two daemons share a store, and are killed, frozen or cut off",
        command: &[
            "cargo",
            "xtask",
            "sim",
            "search",
            "--seeds",
            "0..800",
            "--about",
            "two-daemons",
            "--fresh",
        ],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "search-large",
        what: "2 000 such worlds of 20 hosts and up to 100 machines",
        command: &["cargo", "xtask", "sim", "search", "--seeds", "0..2000", "--size", "large", "--fresh"],
        is_vital: false,
        runs: Runs::Beside,
    },
    Stage {
        name: "lab",
        what: "labs made of namespaces, and real libvirt in them",
        command: &["cargo", "test", "--no-fail-fast", "-p", "ashlar-lab", "-p", "ashlar-libvirt"],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "node-image",
        what: "the node image: Kubernetes, Debian, every OCI image; from the cache where its inputs are unchanged",
        command: &["target/debug/ashlar", "image", "build", "--no-register"],
        is_vital: true,
        runs: Runs::InTurn,
    },
    Stage {
        name: "etcd",
        what: "real etcd members, whose binary the image has: the store on them under kills, and what control planes ask of theirs",
        command: &[
            "cargo",
            "test",
            "--workspace",
            "--no-fail-fast",
            "--exclude",
            "ashlar-lab",
            "--exclude",
            "ashlar-libvirt",
            "--test",
            "etcd",
        ],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "etcd-commands",
        what: "commands and two daemons on a store in etcd; the store moved there and back, and killed on the way",
        command: &[
            "cargo",
            "test",
            "--workspace",
            "--exclude",
            "ashlar-lab",
            "--exclude",
            "ashlar-libvirt",
            "--test",
            "cli",
            "the_store_in_etcd",
        ],
        is_vital: false,
        runs: Runs::InTurn,
    },
    Stage {
        name: "daemons",
        what: "three daemons on three members of etcd and a lab host: killed, paused in the middle of calls, cut off, ten times; and beside a host that hangs",
        command: &[
            "cargo",
            "test",
            "-p",
            "ashlar-app",
            "--test",
            "daemons",
            "--",
            "--ignored",
            "--nocapture",
            "--test-threads",
            "1",
            "--skip",
            "two_hundred",
        ],
        is_vital: false,
        runs: Runs::Alone,
    },
    Stage {
        name: "example",
        what: "the README's pool example on a lab of three hosts: where its machines land",
        command: &["cargo", "xtask", "test-example"],
        is_vital: false,
        runs: Runs::Alone,
    },
    Stage {
        name: "e2e",
        what: "one real cluster: made with kills in the middle, used, searched for secrets, rebooted, failing nodes, deleted",
        command: &["cargo", "xtask", "e2e"],
        is_vital: false,
        runs: Runs::Alone,
    },
];
