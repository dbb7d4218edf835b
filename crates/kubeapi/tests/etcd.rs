//! Three real etcd members in a network namespace of their own, with kubeadm's kind of certificates: what Ashlar asks
//! of them, and what they answer.
//!
//! The binaries are those that `ashlar image build` left in its cache, or `etcd` and `etcdctl` in the directory that
//! `ASHLAR_ETCD_DIR` names. Without them the test says so and proves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{
    Dial, DialTarget, EffectError, EffectErrorKind, Entropy, EtcdApi, EtcdCopy, EtcdCopyParts,
    EtcdCopyWriter, EtcdTarget, Stream,
};
use ashlar_engine::etcd_copy::{CopyFacts, CopyWriter, Manifest, OpenCopy};
use ashlar_engine::pki::{self, Identity, names};
use ashlar_engine::vault::Vault;
use ashlar_kubeapi::EtcdClients;
use async_trait::async_trait;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use zeroize::Zeroizing;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "ASHLAR_TEST_INSIDE";

#[test]
fn etcd_is_spoken_to() {
    let Some(binaries) = binaries() else {
        eprintln!("SKIPPED: no etcd binary; `ashlar image build` makes one, or set ASHLAR_ETCD_DIR");
        return;
    };
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(inside(&binaries));
        return;
    }
    let status = Command::new("unshare")
        .args(["--net", "--map-root-user", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "etcd_is_spoken_to", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare runs");
    assert!(status.success(), "inside its namespace the test failed");
}

fn binaries() -> Option<PathBuf> {
    let named = std::env::var_os("ASHLAR_ETCD_DIR").map(PathBuf::from);
    let built = || {
        let stages = std::fs::read_dir("/var/cache/ashlar/stages").ok()?;
        stages
            .filter_map(|stage| Some(stage.ok()?.path()))
            .find(|stage| stage.file_name().is_some_and(|name| name.to_string_lossy().starts_with("etcd-")))
    };
    named.or_else(built).filter(|dir| dir.join("etcd").is_file() && dir.join("etcdctl").is_file())
}

/// Without hosts in between: both ends are in the same namespace.
struct Direct;

#[async_trait]
impl Dial for Direct {
    async fn dial(&self, target: &DialTarget) -> Result<Box<dyn Stream>, EffectError> {
        match tokio::net::TcpStream::connect((target.address, target.port)).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(EffectError::new(EffectErrorKind::Unreachable, error.to_string())),
        }
    }
}

/// A member that runs; it ends with the test.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Scene<'a> {
    binaries: &'a Path,
    dir: tempfile::TempDir,
    pki: ashlar_engine::vault::SecretValues,
    api: EtcdClients,
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 7, number)
}

impl Scene<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// kubeadm's server and peer certificate in one: the node's address in it, for servers and clients.
    fn write_certificates(&self) {
        let text = |name| std::str::from_utf8(&self.pki[name]).unwrap().to_owned();
        std::fs::write(self.path("ca.crt"), text(names::ETCD_CA_CERTIFICATE)).unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name = rcgen::DistinguishedName::new();
        ca.distinguished_name.push(DnType::CommonName, "etcd-ca");
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let issuer = Issuer::new(ca, KeyPair::from_pem(&text(names::ETCD_CA_KEY)).unwrap());
        for number in 1..=3 {
            let mut params = CertificateParams::default();
            // etcd compares a peer's address with its certificate, and on the loopback device all come from 127.0.0.1.
            params.subject_alt_names = [address(number), Ipv4Addr::LOCALHOST]
                .map(|address| SanType::IpAddress(address.into()))
                .to_vec();
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(self.path(&format!("n{number}.crt")), certificate.pem()).unwrap();
            std::fs::write(self.path(&format!("n{number}.key")), key.serialize_pem()).unwrap();
        }
    }

    fn start(&self, number: u8, initial: &str, state: &str) -> Member {
        let (client, peer) =
            (format!("https://{}:2379", address(number)), format!("https://{}:2380", address(number)));
        let (name, file) = (format!("n{number}"), |suffix: &str| self.path(&format!("n{number}.{suffix}")));
        let log = std::fs::File::create(file("log")).unwrap();
        let mut command = Command::new(self.binaries.join("etcd"));
        command
            .args(["--name", &name, "--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", initial, "--initial-cluster-state", state])
            .args(["--client-cert-auth", "--peer-client-cert-auth", "--data-dir"])
            .arg(file("data"));
        for (flag, path) in [
            ("--trusted-ca-file", self.path("ca.crt")),
            ("--peer-trusted-ca-file", self.path("ca.crt")),
            ("--cert-file", file("crt")),
            ("--key-file", file("key")),
            ("--peer-cert-file", file("crt")),
            ("--peer-key-file", file("key")),
        ] {
            command.arg(flag).arg(path);
        }
        Member(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// As kubeadm does it: known to the others before it starts, without a vote. Members that have not been connected
    /// for long enough yet refuse it with «unhealthy cluster» (etcd's strict-reconfig-check).
    fn add_learner(&self, number: u8) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (name, peer) = (format!("n{number}"), format!("https://{}:2380", address(number)));
            let output = self.etcdctl(&["member", "add", &name, "--learner", "--peer-urls", &peer]);
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("unhealthy cluster") && Instant::now() < deadline, "{said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// etcdctl, spoken to the first member.
    fn etcdctl(&self, arguments: &[&str]) -> Output {
        Command::new(self.binaries.join("etcdctl"))
            .args(["--endpoints", &format!("https://{}:2379", address(1)), "--cacert"])
            .arg(self.path("ca.crt"))
            .arg("--cert")
            .arg(self.path("n1.crt"))
            .arg("--key")
            .arg(self.path("n1.key"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What it says.
    fn ctl(&self, arguments: &[&str]) -> String {
        let output = self.etcdctl(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn target(&self, number: u8) -> EtcdTarget {
        let now = jiff::Timestamp::now();
        let identity = pki::client_identity(&self.pki, Identity::EngineAtEtcd, now).unwrap();
        EtcdTarget {
            cluster: NamespacedName::new("default", "demo"),
            node: format!("n{number}"),
            dial: DialTarget {
                via: Vec::new(),
                network: "lo".to_owned(),
                namespace: None,
                address: address(number),
                others: Vec::new(),
                port: 2379,
            },
            server_name: address(number).to_string(),
            ca_pem: pki::etcd_ca_pem(&self.pki).unwrap(),
            client_certificate_pem: identity.certificate_pem,
            client_key_pem: identity.key_pem,
        }
    }

    async fn members(&self, number: u8) -> Vec<(String, bool)> {
        // A member that was promoted says that it is a learner until it has heard of it.
        let listed = until("a majority answers", async || self.api.members(&self.target(number)).await.ok());
        let mut members: Vec<_> =
            listed.await.into_iter().map(|member| (member.name, member.is_learner)).collect();
        members.sort();
        members
    }

    async fn id(&self, number: u8) -> u64 {
        self.api.status(&self.target(number)).await.expect("it answers").member_id
    }
}

/// Asks until the answer is what is waited for.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let ends = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < ends, "{what}: not within 60 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn inside(binaries: &Path) {
    let scene = Scene {
        binaries,
        dir: tempfile::tempdir().unwrap(),
        pki: pki::create(jiff::Timestamp::now()).unwrap(),
        api: EtcdClients::new(Arc::new(Direct)),
    };
    let api = &scene.api;
    scene.write_certificates();
    let refused = api.status(&scene.target(1)).await.unwrap_err();
    assert_eq!(refused.kind, EffectErrorKind::Unreachable, "{refused}");

    let peer = |number: u8| format!("n{number}=https://{}:2380", address(number));
    let first = scene.start(1, &peer(1), "new");
    let status = until("the first member leads", || async {
        api.status(&scene.target(1)).await.ok().filter(|status| status.leader.is_some())
    })
    .await;
    assert_eq!(status.leader, Some(status.member_id));
    assert!(!status.is_learner && status.errors.is_empty() && status.version.starts_with("3."), "{status:?}");
    assert_eq!(scene.members(1).await, [("n1".to_owned(), false)]);

    // Nobody without a certificate of etcd's own CA is let in, not even one whom the API server trusts.
    let stranger = pki::client_identity(&scene.pki, Identity::Engine, jiff::Timestamp::now()).unwrap();
    let stranger = EtcdTarget {
        client_certificate_pem: stranger.certificate_pem,
        client_key_pem: stranger.key_pem,
        ..scene.target(1)
    };
    assert!(api.members(&stranger).await.is_err());

    // A learner is there before it starts, has no name, and cannot be promoted.
    scene.add_learner(2);
    assert_eq!(scene.members(1).await, [(String::new(), true), ("n1".to_owned(), false)]);
    let listed = api.members(&scene.target(1)).await.unwrap();
    let second_id = listed.iter().find(|member| member.is_learner).unwrap().id;
    let early = api.promote_member(&scene.target(1), second_id).await.unwrap_err();
    assert_eq!(early.kind, EffectErrorKind::Busy, "{early}");
    let _second = scene.start(2, &format!("{},{}", peer(1), peer(2)), "existing");
    until("the second member is promoted", || async {
        api.promote_member(&scene.target(1), second_id).await.ok()
    })
    .await;
    scene.add_learner(3);
    let third = scene.start(3, &format!("{},{},{}", peer(1), peer(2), peer(3)), "existing");
    let third_id = api.members(&scene.target(1)).await.unwrap();
    let third_id = third_id.iter().find(|member| member.is_learner).unwrap().id;
    until("the third member is promoted", || async {
        api.promote_member(&scene.target(1), third_id).await.ok()
    })
    .await;
    let all = ["n1", "n2", "n3"].map(|name| (name.to_owned(), false));
    until("all know all", || async { (scene.members(3).await == all).then_some(()) }).await;

    room_comes_back(&scene).await;
    a_copy_can_be_put_back(&scene).await;

    // Leadership moves from the leader only, and then the former leader can go.
    let not_leader = api.move_leader(&scene.target(2), third_id).await.unwrap_err();
    assert_eq!(not_leader.kind, EffectErrorKind::Busy, "{not_leader}");
    api.move_leader(&scene.target(1), second_id).await.expect("leadership moves");
    until("the second leads", || async {
        let leader = api.status(&scene.target(3)).await.ok()?.leader;
        (leader == Some(second_id)).then_some(())
    })
    .await;
    let first_id = scene.id(1).await;
    until("the first is removed", || async { api.remove_member(&scene.target(2), first_id).await.ok() })
        .await;
    assert_eq!(scene.members(2).await, [("n2".to_owned(), false), ("n3".to_owned(), false)]);
    let gone = api.remove_member(&scene.target(2), first_id).await.unwrap_err();
    assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
    // What was removed is refused when it comes back.
    drop(first);
    let mut first = scene.start(1, &peer(1), "existing");
    let ends = Instant::now() + Duration::from_secs(60);
    while first.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < ends, "a removed member goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Without a majority nobody says who belongs to it, and the one that is left knows no leader.
    drop(third);
    until("no leader", || async {
        let status = api.status(&scene.target(2)).await.ok()?;
        (status.leader.is_none() && !status.errors.is_empty()).then_some(())
    })
    .await;
    let lost = api.members(&scene.target(2)).await.unwrap_err();
    assert_eq!(lost.kind, EffectErrorKind::Unreachable, "{lost}");
}

/// What was deleted and compacted is room in the file, until the member is defragmented.
async fn room_comes_back(scene: &Scene<'_>) {
    scene.ctl(&["put", "/kept", "this"]);
    let large = "x".repeat(100_000);
    for number in 0..60 {
        scene.ctl(&["put", &format!("/large/{number}"), &large]);
    }
    scene.ctl(&["del", "/large", "--prefix"]);
    let fields = scene.ctl(&["get", "/kept", "-w", "fields"]);
    let revision = fields.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).expect("a revision");
    scene.ctl(&["compaction", revision, "--physical"]);
    let target = scene.target(1);
    let before = until("there is room", || async {
        let status = scene.api.status(&target).await.ok()?;
        (status.db_used_bytes * 2 < status.db_size_bytes).then_some(status)
    })
    .await;
    scene.api.defragment(&target).await.expect("it is defragmented");
    let after = scene.api.status(&target).await.expect("it answers again");
    assert!(
        after.db_size_bytes < before.db_size_bytes / 2 && after.db_used_bytes > 0,
        "before {before:?}, after {after:?}"
    );
}

/// etcd's own tool takes the copy for what it is, and a member that starts from it has what was written.
async fn a_copy_can_be_put_back(scene: &Scene<'_>) {
    let copy = scene.path("copy.db");
    sealed_copy(scene, &copy).await;
    let restored = Command::new(scene.binaries.join("etcdutl"))
        .args(["snapshot", "restore"])
        .arg(&copy)
        .arg("--data-dir")
        .arg(scene.path("restored"))
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let (client, peer) = (format!("http://{}:2379", address(9)), format!("http://{}:2380", address(9)));
    let member = Command::new(scene.binaries.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--data-dir"])
        .arg(scene.path("restored"))
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(scene.path("restored.log")).unwrap())
        .spawn();
    let _member = Member(member.unwrap());
    let kept = until("the restored member answers", || async {
        let output = Command::new(scene.binaries.join("etcdctl"))
            .args(["--endpoints", &client, "--command-timeout", "2s", "get", "/kept", "--print-value-only"])
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
    .await;
    assert_eq!(kept.trim(), "this");
}

/// Takes a copy as a daemon does, sealed, and gets the snapshot out of it again.
async fn sealed_copy(scene: &Scene<'_>, to: &Path) {
    let vault = Vault::from_key(Zeroizing::new([7; 32]));
    let facts = CopyFacts {
        installation: uuid::Uuid::from_u128(1),
        namespace: "default".to_owned(),
        cluster: "demo".to_owned(),
        cluster_uid: Some(uuid::Uuid::from_u128(9)),
        taken_at: jiff::Timestamp::now(),
        node: "n2".to_owned(),
        etcd_version: "3.6".to_owned(),
        kubernetes_version: "v1.37.2".to_owned(),
    };
    let file = std::fs::File::create(scene.path("copy.sealed")).unwrap();
    let place = Box::new(Kept { file, dir: scene.dir.path().to_owned() });
    let mut writer = CopyWriter::new(facts, place, &Random).unwrap();
    scene.api.snapshot(&scene.target(2), &mut writer).await.expect("a copy");
    writer.finish(Vec::new(), &vault, &Random).await.expect("a whole copy");
    let read = |name: &str| std::fs::read(scene.path(name)).unwrap();
    let manifest = Manifest::parse(&read("copy.json")).unwrap();
    let open = OpenCopy::new(&manifest, &vault).unwrap();
    let contents = open.contents(&read("copy.contents")[..]).unwrap();
    let mut file = std::fs::File::create(to).unwrap();
    open.database(&read("copy.sealed")[..], &contents, &mut file).unwrap();
    let shows = |name: &str| read(name).windows(5).any(|window| window == b"/kept");
    assert!(shows("copy.db") && !shows("copy.sealed") && !shows("copy.contents") && !shows("copy.json"));
}

struct Random;

impl Entropy for Random {
    fn fill(&self, buffer: &mut [u8]) {
        use std::io::Read as _;
        std::fs::File::open("/dev/urandom").unwrap().read_exact(buffer).unwrap();
    }
}

/// Files of a copy.
struct Kept {
    file: std::fs::File,
    dir: PathBuf,
}

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[async_trait]
impl EtcdCopyWriter for Kept {
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        std::fs::write(self.dir.join("copy.contents"), &parts.contents).unwrap();
        std::fs::write(self.dir.join("copy.json"), &parts.manifest).unwrap();
        Ok(EtcdCopy { taken_at: jiff::Timestamp::now(), size_bytes: parts.database_bytes, is_former: false })
    }
}
