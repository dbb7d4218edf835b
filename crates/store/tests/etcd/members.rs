//! Real members of etcd on the loopback device, with certificates on both sides.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use ashlar_store::{EtcdOptions, EtcdStore, Store as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};

use crate::suite::run;

const DEADLINE: Duration = Duration::from_secs(60);

/// Each cluster has addresses of its own.
static CLUSTERS: AtomicU8 = AtomicU8::new(1);

/// Where etcd is, if it is anywhere.
pub(crate) fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("ASHLAR_ETCD_DIR").map(PathBuf::from);
    let built = || {
        let stages = std::fs::read_dir("/var/cache/ashlar/stages").ok()?;
        stages
            .filter_map(|stage| Some(stage.ok()?.path()))
            .find(|stage| stage.file_name().is_some_and(|name| name.to_string_lossy().starts_with("etcd-")))
    };
    named.or_else(built).map(|dir| dir.join("etcd")).filter(|path| path.is_file())
}

/// Whether members wait for the disk. What is killed with its machine is not tested where they do not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    On,
    Off,
}

/// Where a member runs.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) address: Ipv4Addr,
    /// A network namespace of its own, by name; else the one of the test.
    pub(crate) netns: Option<String>,
}

/// Members that run; they end with the test.
pub(crate) struct Cluster {
    seats: Vec<Seat>,
    size: u8,
    fsync: Fsync,
    /// More options of etcd's.
    options: Vec<String>,
    dir: tempfile::TempDir,
    members: Vec<Option<Child>>,
    ca: Issuer<'static, KeyPair>,
    ca_pem: String,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().flatten() {
            // One that is stopped would not end otherwise, and one that has ended is no matter.
            member.kill().ok();
            member.wait().ok();
        }
    }
}

/// A CA of its own.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "etcd-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// Certificate and key that a CA signed.
fn signed(ca: &Issuer<'static, KeyPair>, addresses: &[Ipv4Addr]) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        addresses.iter().map(|address| SanType::IpAddress((*address).into())).collect();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

impl Cluster {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(size: u8, fsync: Fsync) -> Self {
        Self::start_with(size, fsync, &[])
    }

    /// The same, with more options of etcd's.
    pub(crate) fn start_with(size: u8, fsync: Fsync, options: &[&str]) -> Self {
        assert!(std::env::var_os(super::INSIDE).is_some(), "only inside a namespace of its own");
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let seat = |member| Seat { address: Ipv4Addr::new(127, 8, number, member), netns: None };
        Self::start_on((1..=size).map(seat).collect(), fsync, options)
    }

    /// The same, each member in its place; the test reaches them all.
    pub(crate) fn start_on(seats: Vec<Seat>, fsync: Fsync, options: &[&str]) -> Self {
        let size = u8::try_from(seats.len()).unwrap();
        let (ca, ca_pem) = authority();
        let dir = tempfile::tempdir().unwrap();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut cluster = Cluster { seats, size, fsync, options, dir, members: Vec::new(), ca, ca_pem };
        std::fs::write(cluster.path("ca.crt"), &cluster.ca_pem).unwrap();
        for member in 1..=size {
            // etcd compares a peer's address with its certificate, and on the loopback device all come from 127.0.0.1.
            let (certificate, key) = signed(&cluster.ca, &[cluster.address(member), Ipv4Addr::LOCALHOST]);
            std::fs::write(cluster.path(&format!("m{member}.crt")), certificate).unwrap();
            std::fs::write(cluster.path(&format!("m{member}.key")), key).unwrap();
            let child = cluster.spawn(member);
            cluster.members.push(Some(child));
        }
        let store = cluster.store();
        let ends = Instant::now() + DEADLINE;
        while let Err(error) = run(store.list(Some("-"), None)) {
            assert!(Instant::now() < ends, "etcd does not answer: {error}\n{}", cluster.log(1));
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self, member: u8) -> String {
        std::fs::read_to_string(self.path(&format!("m{member}.log"))).unwrap_or_default()
    }

    /// How often the members elected one of them so far, as they tell.
    #[allow(dead_code, reason = "the tests of elections use it")]
    pub(crate) fn elections(&self) -> usize {
        (1..=self.size).map(|member| self.log(member).matches("elected leader").count()).sum()
    }

    fn address(&self, member: u8) -> Ipv4Addr {
        self.seats[usize::from(member) - 1].address
    }

    fn spawn(&self, member: u8) -> Child {
        let url = |member: u8, port: u16| format!("https://{}:{port}", self.address(member));
        let all: Vec<String> =
            (1..=self.size).map(|member| format!("m{member}={}", url(member, 2380))).collect();
        let file = |suffix: &str| self.path(&format!("m{member}.{suffix}"));
        let log = std::fs::File::options().create(true).append(true).open(file("log")).unwrap();
        let mut command = match &self.seats[usize::from(member) - 1].netns {
            Some(netns) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{netns}")).arg("--").arg(binary().unwrap());
                command
            }
            None => Command::new(binary().unwrap()),
        };
        command
            .args(["--name", &format!("m{member}")])
            .args(["--listen-client-urls", &url(member, 2379), "--advertise-client-urls", &url(member, 2379)])
            .args(["--listen-peer-urls", &url(member, 2380)])
            .args(["--initial-advertise-peer-urls", &url(member, 2380)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--client-cert-auth", "--peer-client-cert-auth"])
            .args(&self.options);
        if self.fsync == Fsync::Off {
            command.arg("--unsafe-no-fsync");
        }
        for (flag, path) in [
            ("--data-dir", file("data")),
            ("--trusted-ca-file", self.path("ca.crt")),
            ("--peer-trusted-ca-file", self.path("ca.crt")),
            ("--cert-file", file("crt")),
            ("--key-file", file("key")),
            ("--peer-cert-file", file("crt")),
            ("--peer-key-file", file("key")),
        ] {
            command.arg(flag).arg(path);
        }
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    pub(crate) fn options(&self) -> EtcdOptions {
        let (certificate_pem, key_pem) = signed(&self.ca, &[]);
        let endpoints = (1..=self.size).map(|member| format!("https://{}:2379", self.address(member)));
        EtcdOptions {
            endpoints: endpoints.collect(),
            prefix: "/ashlar".to_owned(),
            ca_pem: self.ca_pem.clone(),
            certificate_pem,
            key_pem,
        }
    }

    pub(crate) fn store(&self) -> EtcdStore {
        EtcdStore::open(&self.options()).unwrap()
    }

    /// The certificate of another CA.
    #[allow(dead_code, reason = "the tests of the commands use it")]
    pub(crate) fn authority_pem() -> String {
        authority().1
    }

    /// Who has a certificate that another CA signed.
    pub(crate) fn stranger(&self) -> EtcdStore {
        let (certificate_pem, key_pem) = signed(&authority().0, &[]);
        EtcdStore::open(&EtcdOptions { certificate_pem, key_pem, ..self.options() }).unwrap()
    }

    pub(crate) fn signal(&self, member: u8, signal: Signal) {
        let child = self.members[usize::from(member) - 1].as_ref().unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }

    pub(crate) fn kill(&mut self, member: u8) {
        let mut child = self.members[usize::from(member) - 1].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self, member: u8) {
        let child = self.spawn(member);
        self.members[usize::from(member) - 1] = Some(child);
    }
}
