//! A lab of one's own for each test, and the way into its control namespace.

#![allow(dead_code, reason = "each test program uses a part")]

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ashlar_engine::contract::Place;
use ashlar_engine::effects::{HostTarget, Hypervisor, VolumeCreate, VolumeSource};
use ashlar_lab::{HostDescription, Lab, LabDescription};
use ashlar_libvirt::{Hosts, Settings};
use uuid::{Uuid, uuid};

pub(crate) const INSTALLATION: Uuid = uuid!("a5a5a5a5-0000-4000-8000-000000000001");

/// A running lab; it goes with the value.
pub(crate) struct TestLab {
    pub(crate) lab: Lab,
    pub(crate) description: LabDescription,
    pub(crate) dir: tempfile::TempDir,
}

impl TestLab {
    pub(crate) fn up(hosts: u16) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "these tests make namespaces: run them as root");
        let name = format!("lv-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("ashlar-lv-").tempdir_in("/var/tmp").unwrap();
        // QEMU runs as a user of its own, and has to get to its disks.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let lab = Lab::with_state_dir(&name, &dir.path().join("lab")).unwrap();
        lab.up(hosts, &|_| {}).unwrap();
        let description = lab.description().unwrap().unwrap();
        for host in &description.hosts {
            copy_files(&known_qemus(), &host.state_dir.join("cache/qemu/capabilities"));
        }
        TestLab { lab, description, dir }
    }

    /// A host as an engine with that token sees it.
    pub(crate) fn target(&self, index: usize, token: u64) -> HostTarget {
        target(&self.description, &self.description.hosts[index], token)
    }

    /// Runs a future on a thread in the control namespace; the processes and threads that it starts are there too.
    pub(crate) fn inside<F: Future<Output = ()>>(&self, work: impl FnOnce(Arc<Hosts>) -> F + Send) {
        self.inside_with(self.settings(), work);
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(self.dir.path().join("run"))
    }

    pub(crate) fn inside_with<F: Future<Output = ()>>(
        &self,
        settings: Settings,
        work: impl FnOnce(Arc<Hosts>) -> F + Send,
    ) {
        let namespace = PathBuf::from("/run/netns").join(&self.description.control_namespace);
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = std::fs::File::open(namespace).unwrap();
                    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(work(Hosts::new(settings).unwrap()));
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    /// Runs something on a thread in a host's network namespace.
    pub(crate) fn on_network<T: Send>(&self, index: usize, work: impl FnOnce() -> T + Send) -> T {
        let namespace = PathBuf::from("/run/netns").join(&self.description.hosts[index].namespace);
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let file = std::fs::File::open(namespace).unwrap();
                    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command inside a host, and gives what it prints.
    pub(crate) fn on_host(&self, index: usize, argv: &[&str]) -> String {
        let place = ashlar_lab::Place::Host(self.description.hosts[index].name.clone());
        let output = self.lab.output(&place, argv, Duration::from_secs(30)).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{argv:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

/// What libvirt found out about the machine's QEMUs: finding it out takes seconds of each new lab. libvirt itself
/// checks whether it is still true.
fn known_qemus() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("qemu-capabilities")
}

/// A cache is all it is: what cannot be copied (another test copies the same) is left out.
fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for file in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let part = to.join(format!(".part-{}-{number}", std::process::id()));
        let name = file.file_name();
        if name.to_string_lossy().starts_with('.') || std::fs::create_dir_all(to).is_err() {
            continue;
        }
        let copied = std::fs::copy(file.path(), &part).and_then(|_| std::fs::rename(&part, to.join(name)));
        if copied.is_err() {
            let _ = std::fs::remove_file(&part);
        }
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        for host in &self.description.hosts {
            copy_files(&host.state_dir.join("cache/qemu/capabilities"), &known_qemus());
        }
        if let Err(error) = self.lab.down(&|_| {}) {
            eprintln!("lab {} is not gone: {error}", self.lab.name());
        }
    }
}

pub(crate) fn target(lab: &LabDescription, host: &HostDescription, token: u64) -> HostTarget {
    HostTarget {
        name: host.name.clone(),
        uri: format!("qemu+ssh://{}@{}:{}/system", host.ssh_user, host.ssh_address, host.ssh_port),
        ssh_host_key: host.known_hosts_line.split_once(' ').unwrap().1.to_owned(),
        ssh_key_path: Some(lab.client_key.display().to_string()),
        installation: INSTALLATION,
        lease_token: Some(token),
        host_uuid: Some(host.host_uuid),
    }
}

/// The busybox test image on the machine.
pub(crate) fn test_image() -> PathBuf {
    let images = std::fs::read_dir("/var/cache/ashlar/images").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = images
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("test-busybox-"))
        })
        .filter(|path| path.join("vmlinuz").is_file() && path.join("initrd.img").is_file())
        .collect();
    found.sort();
    found.pop().expect("the busybox test image has to be built first: ashlar image build --test")
}

/// Uploads a file into the host's pool, and gives its path there.
pub(crate) async fn put(
    hosts: &Hosts,
    host: &HostTarget,
    pool: Uuid,
    pool_path: &str,
    source: &std::path::Path,
    file_name: &str,
) -> String {
    let volume = VolumeCreate {
        pool,
        file_name: file_name.to_owned(),
        format: ashlar_api::VolumeFormat::Raw,
        capacity_bytes: source.metadata().unwrap().len(),
        preallocate: false,
        backing_path: None,
    };
    hosts.create_volume(host, &volume).await.unwrap();
    let content = VolumeSource::File { path: source.to_owned(), offset: 0, length: volume.capacity_bytes };
    hosts.upload_volume(host, pool, file_name, content).await.unwrap();
    format!("{pool_path}/{file_name}")
}

/// The test image's kernel and initrd, in the host's pool.
async fn put_kernel(hosts: &Hosts, host: &HostTarget, pool: Uuid, pool_path: &str) -> (String, String) {
    let image = test_image();
    let kernel = put(hosts, host, pool, pool_path, &image.join("vmlinuz"), "ashlar-test-vmlinuz.raw").await;
    let initrd = put(hosts, host, pool, pool_path, &image.join("initrd.img"), "ashlar-test-initrd.raw").await;
    (kernel, initrd)
}

/// The test image's initrd with a script of the test's in the place of its init: the kernel unpacks one archive after
/// the other.
pub(crate) fn guest_initrd(dir: &std::path::Path, script: &str) -> PathBuf {
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\nmount -t devtmpfs dev /dev\n\
         mount -t proc proc /proc\nmount -t sysfs sys /sys\nexec </dev/console >/dev/console 2>&1\n\
         for module in /modules/*.ko; do insmod $module; done\nip link set lo up\n\
         n=0; until [ -e /sys/class/net/eth0 ] || [ $n -ge 100 ]; do n=$((n + 1)); usleep 100000; done\n{script}"
    );
    let tree = dir.join("initrd-tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("init"), init).unwrap();
    std::fs::set_permissions(tree.join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = dir.join("initrd.img");
    let status = std::process::Command::new("sh")
        .args([
            "-c",
            "cp \"$1\" \"$2\" && cd \"$3\" && echo init | cpio --quiet -o -H newc >>\"$2\"",
            "initrd",
        ])
        .arg(test_image().join("initrd.img"))
        .arg(&path)
        .arg(&tree)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

/// tcpdump in a host.
pub(crate) struct Capture {
    child: std::process::Child,
}

impl Capture {
    /// Ends it, and gives what it saw.
    pub(crate) fn stop(mut self) -> String {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut text).unwrap();
        self.child.wait().unwrap();
        text
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A test that failed: what is left of it would keep the host.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TestLab {
    /// Begins to write down the frames on a device of a host.
    pub(crate) fn capture(&self, index: usize, device: &str) -> Capture {
        let place = ashlar_lab::Place::Host(self.description.hosts[index].name.clone());
        let mut command = std::process::Command::new("tcpdump");
        command.args(["-i", device, "-e", "-n", "-l", "--immediate-mode", "not", "ip6"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = self.lab.spawn(&place, &mut command).unwrap();
        // It says so when it listens.
        let mut line = String::new();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        while !line.contains("listening on") {
            line.clear();
            assert!(
                std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0,
                "tcpdump does not listen"
            );
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Capture { child }
    }
}

/// The place of the contract's cases on a host.
pub(crate) async fn place<'a>(hosts: &'a Hosts, lab: &LabDescription, host: HostTarget) -> Place<'a> {
    let description = lab.host(&host.name).unwrap();
    let (pool, seen) = hosts.pool_by_name(&host, &description.pool_name).await.unwrap().unwrap();
    let (kernel_path, initrd_path) = put_kernel(hosts, &host, pool, &seen.path).await;
    let machine_type = hosts.probe(&host).await.unwrap().machine_type;
    Place {
        hypervisor: hosts,
        pool,
        pool_path: seen.path,
        bridge: description.bridge.clone(),
        machine_type,
        kernel_path,
        initrd_path,
        command_line: "console=ttyS0 panic=-1 no5lvl tsc=reliable".to_owned(),
        host,
    }
}

/// Waits until it is so; panics with the description after the deadline.
pub(crate) async fn wait_for(what: &str, deadline: Duration, mut done: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + deadline;
    while !done().await {
        assert!(Instant::now() < until, "not within {deadline:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
