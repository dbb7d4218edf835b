//! Against a real server of the protocol (s3s, with a directory behind it), which checks signatures and digests; and a way to
//! it that breaks where it is told to.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use ashlar_api::NamespacedName;
use ashlar_engine::etcd_copy::{CopyFacts, CopyWriter, Manifest, OpenCopy};
use ashlar_engine::vault::{Sealed, Vault};
use hyper::server::conn::http1::Builder as Connection;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::*;
use crate::daemon::copies::Shelf;
use crate::wiring::OsEntropy;

const KEY: &str = "AKIATEST";
const SECRET: &str = "not-to-be-seen-anywhere";

/// What becomes of the requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// The connection ends in the middle of the request.
    Cut,
    /// The server is at fault.
    Fails,
    /// A byte of what is sent is another one when it arrives.
    Damages,
    /// Before the request arrives, somebody else has deleted this.
    Deleted(&'static Path),
}

/// A server, and the way to it.
struct Service {
    dir: tempfile::TempDir,
    address: SocketAddr,
    way: Arc<Mutex<(&'static str, Way)>>,
    _runtime: tokio::runtime::Runtime,
}

impl Service {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("served/copies")).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(dir.path().join("served")).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let server = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connection = Connection::new();
                    connection.serve_connection(TokioIo::new(socket), service).await.ok();
                });
            }
        });
        let way = Arc::new(Mutex::new(("", Way::Open)));
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let shared = Arc::clone(&way);
        std::thread::spawn(move || {
            for socket in front.incoming().map_while(Result::ok) {
                let way = Arc::clone(&shared);
                std::thread::spawn(move || pass_on(socket, server, &way).ok());
            }
        });
        Service { dir, address, way, _runtime: runtime }
    }

    /// From now on, for requests whose first line has this in it.
    fn set(&self, text: &'static str, way: Way) {
        *self.way.lock().unwrap() = (text, way);
    }

    fn copies_with(&self, secret: &str) -> CopiesBucket {
        let credentials_file = self.dir.path().join(format!("credentials-{}", secret.len()));
        let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {secret}\n");
        std::fs::write(&credentials_file, text).unwrap();
        std::fs::set_permissions(&credentials_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let bucket = S3Bucket {
            endpoint: format!("http://{}", self.address),
            region: "us-east-1".to_owned(),
            bucket: "copies".to_owned(),
            prefix: "/ashlar/".to_owned(),
            credentials_file,
            ca_file: None,
            path_style: true,
        };
        CopiesBucket::new(&bucket, self.dir.path()).unwrap()
    }

    /// Where the server keeps what is in the bucket for a cluster.
    fn of(&self, owner: &CopyOwner) -> PathBuf {
        self.dir.path().join("served/copies/ashlar").join(own_directory(owner))
    }

    /// Where it keeps what lay there once.
    fn former(&self) -> PathBuf {
        self.dir.path().join("served/copies/ashlar/default/demo")
    }

    /// Names of what is in the bucket for the cluster.
    fn names(&self) -> Vec<String> {
        names(&self.of(&owner()))
    }
}

fn names(of: &Path) -> Vec<String> {
    let Ok(read) = std::fs::read_dir(of) else { return Vec::new() };
    let mut names: Vec<String> =
        read.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// One connection; each carries requests one after the other.
fn pass_on(
    mut client: TcpStream,
    server: SocketAddr,
    way: &Mutex<(&'static str, Way)>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let (mut back, mut to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut back, &mut to_client));
    let mut buffer = vec![0; 64 * 1024];
    let mut now = Way::Open;
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return server.shutdown(std::net::Shutdown::Both);
        }
        let bytes = &mut buffer[..length];
        let is_head =
            ["PUT ", "GET ", "HEAD ", "DELETE "].iter().any(|verb| bytes.starts_with(verb.as_bytes()));
        if is_head {
            let (text, set) = *way.lock().unwrap();
            let line = String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
            now = if !text.is_empty() && line.contains(text) { set } else { Way::Open };
        }
        match now {
            Way::Open => {}
            Way::Deleted(path) => drop(std::fs::remove_file(path)),
            Way::Cut => {
                server.shutdown(std::net::Shutdown::Both)?;
                return client.shutdown(std::net::Shutdown::Both);
            }
            Way::Fails => {
                client.write_all(
                    b"HTTP/1.1 503 Slow Down\r\ncontent-length: 58\r\nconnection: close\r\n\r\n\
                      <Error><Code>SlowDown</Code><Message>Wait.</Message></Error",
                )?;
                return client.shutdown(std::net::Shutdown::Both);
            }
            Way::Damages => {
                if let Some(last) = bytes.last_mut().filter(|_| !is_head) {
                    *last ^= 1;
                }
            }
        }
        server.write_all(bytes)?;
    }
}

fn owner() -> CopyOwner {
    CopyOwner {
        installation: Uuid::from_u128(1),
        cluster: NamespacedName::new("default", "demo"),
        uid: Uuid::from_u128(9),
        since: Some(at(-60)),
    }
}

/// The clusters of the name that may have copies in the same bucket, under the same prefix.
fn others() -> [CopyOwner; 2] {
    [
        CopyOwner { installation: Uuid::from_u128(2), uid: Uuid::from_u128(8), ..owner() },
        CopyOwner { uid: Uuid::from_u128(7), ..owner() },
    ]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

/// As long as what seals a database of 300 KiB, and the digest at its end.
fn database() -> Vec<u8> {
    vec![7; 35 + 300 * 1024 + 32 + 5 * 16]
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn about(bytes: &[u8]) -> EtcdCopyParts {
    EtcdCopyParts {
        database: Sealed { bytes: bytes.len() as u64, sha256: Sha256::digest(database()).into() },
        database_bytes: 300 * 1024,
        contents: b"sealed".to_vec(),
        manifest: "{\"format\": 1}\n".to_owned(),
    }
}

fn put_for(
    copies: &CopiesBucket,
    owner: &CopyOwner,
    second: i64,
    bytes: &[u8],
) -> Result<EtcdCopy, EffectError> {
    run(async {
        let mut writer = copies.begin(owner, at(second)).await?;
        writer.write_all(bytes).unwrap();
        writer.finish(about(bytes)).await
    })
}

fn put(copies: &CopiesBucket, second: i64, bytes: &[u8]) -> Result<EtcdCopy, EffectError> {
    put_for(copies, &owner(), second, bytes)
}

fn list(copies: &CopiesBucket) -> Vec<EtcdCopy> {
    run(copies.list(&owner())).unwrap()
}

fn own(second: i64) -> EtcdCopy {
    EtcdCopy { taken_at: at(second), size_bytes: 300 * 1024, is_former: false }
}

#[test]
fn whole_copies_are_put_listed_and_deleted() {
    let service = Service::start();
    let copies = service.copies_with(SECRET);
    assert_eq!(list(&copies), []);
    let copy = put(&copies, 0, &database()).unwrap();
    assert_eq!(copy, own(0));
    put(&copies, 5, &database()).unwrap();
    assert_eq!(list(&copies).iter().map(|copy| copy.taken_at).collect::<Vec<_>>(), [at(0), at(5)]);
    let of = service.of(&owner());
    for (ending, bytes) in [
        ("db.sealed", &database()[..]),
        ("contents.sealed", &b"sealed"[..]),
        ("json", &b"{\"format\": 1}\n"[..]),
    ] {
        let name = format!("{}/20260101T000000Z.{ending}", own_directory(&owner()));
        assert!(std::fs::read(of.join(format!("20260101T000000Z.{ending}"))).unwrap() == bytes, "{ending}");
        assert!(copies.files().unwrap().contains(&(name.clone(), bytes.len() as u64)), "{ending}");
        let mut read = Vec::new();
        copies.read(&name, bytes.len() as u64).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == bytes, "{ending}");
    }
    // Another cluster, whose name begins like this one's, has its own.
    let like = CopyOwner { cluster: NamespacedName::new("default", "dem"), ..owner() };
    assert_eq!(run(copies.list(&like)).unwrap(), []);
    run(copies.remove(&owner(), &own(0))).unwrap();
    run(copies.remove(&owner(), &own(0))).unwrap();
    assert_eq!(list(&copies).len(), 1);
    let left = ["contents.sealed", "db.sealed", "json"].map(|ending| format!("20260101T000005Z.{ending}"));
    assert_eq!(service.names(), left);
    // What is not whole is not even sent.
    let error = put(&copies, 9, &database()[1..]).unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Corrupt, "{error}");
    assert_eq!(list(&copies).len(), 1);
}

#[test]
fn what_breaks_on_the_way_leaves_no_copy_and_the_next_one_goes_through() {
    let service = Service::start();
    let copies = service.copies_with(SECRET);
    put(&copies, 0, &database()).unwrap();
    let kept = list(&copies);
    // Another daemon of the installation takes what was put for a leftover.
    let deleted = service.of(&owner()).join("20260101T000009Z.db.sealed");
    let deleted: &'static Path = Box::leak(deleted.into_boxed_path());
    for (second, text, way, kind) in [
        (1, ".db.sealed?", Way::Cut, EffectErrorKind::Unreachable),
        (2, ".db.sealed?", Way::Fails, EffectErrorKind::Unreachable),
        (3, ".db.sealed?", Way::Damages, EffectErrorKind::Corrupt),
        (8, ".contents.sealed?", Way::Fails, EffectErrorKind::Unreachable),
        (4, ".json?", Way::Cut, EffectErrorKind::Unreachable),
        (5, ".json?", Way::Fails, EffectErrorKind::Unreachable),
        (6, "HEAD", Way::Fails, EffectErrorKind::Unreachable),
        (7, "list-type", Way::Fails, EffectErrorKind::Unreachable),
        (9, ".json?", Way::Deleted(deleted), EffectErrorKind::Corrupt),
    ] {
        service.set(text, way);
        let error = put(&copies, second, &database()).unwrap_err();
        assert_eq!(error.kind, kind, "{text} {way:?}: {error}");
        for secret in [SECRET, "X-Amz-Signature", KEY] {
            assert!(!error.message.contains(secret), "{text} {way:?}: {error}");
        }
        service.set("", Way::Open);
        assert_eq!(list(&copies), kept, "{text} {way:?}: {error}");
    }
    // What could not be deleted either goes now.
    put(&copies, 10, &database()).unwrap();
    assert_eq!(list(&copies).len(), 2);
    assert_eq!(service.names().len(), 6, "{:?}", service.names());
}

#[test]
fn who_shares_a_bucket_touches_nothing_of_the_others() {
    let service = Service::start();
    let copies = service.copies_with(SECRET);
    // The others have one copy, at the same time as ours, and parts of one whose upload is under way.
    for other in others() {
        put_for(&copies, &other, 0, &database()).unwrap();
        std::fs::write(service.of(&other).join("20260101T000005Z.db.sealed"), database()).unwrap();
    }
    assert_eq!(list(&copies), [], "none of them counts as ours");
    put(&copies, 0, &database()).unwrap();
    put(&copies, 6, &database()).unwrap();
    run(copies.remove(&owner(), &own(0))).unwrap();
    assert_eq!(list(&copies), [own(6)]);
    for other in others() {
        assert_eq!(run(copies.list(&other)).unwrap(), [own(0)]);
        assert_eq!(names(&service.of(&other)).len(), 4);
    }
}

#[test]
fn of_what_lay_together_once_only_what_says_so_is_ours() {
    let service = Service::start();
    let copies = service.copies_with(SECRET);
    std::fs::create_dir_all(service.former()).unwrap();
    let former = |second: i64, installation: u128| {
        let taken_at = at(second);
        let facts = CopyFacts { installation: Uuid::from_u128(installation), taken_at, ..facts() };
        let vault = Vault::from_key(zeroize::Zeroizing::new([7; 32]));
        let elsewhere = CopyOwner { uid: Uuid::from_u128(99), ..owner() };
        run(async {
            let place = copies.begin(&elsewhere, taken_at).await.unwrap();
            let mut writer = CopyWriter::new(facts, place, &OsEntropy).unwrap();
            writer.write_all(&[0; 512]).unwrap();
            writer.write_all(&Sha256::digest([0; 512])).unwrap();
            writer.finish(Vec::new(), &vault, &OsEntropy).await.unwrap();
        });
        let of = service.of(&elsewhere);
        for name in names(&of) {
            std::fs::rename(of.join(&name), service.former().join(name)).unwrap();
        }
    };
    former(0, 1);
    former(1, 2);
    former(-3600, 1);
    std::fs::write(service.former().join("20250101T000000Z.db"), [0; 544]).unwrap();
    std::fs::write(service.former().join("20250101T000000Z.json"), "{}").unwrap();
    std::fs::write(service.former().join("20260101T000051Z.db.sealed"), database()).unwrap();
    let before = names(&service.former());
    assert_eq!(list(&copies), []);
    let ours = EtcdCopy { taken_at: at(0), size_bytes: 512, is_former: true };
    assert_eq!(run(copies.former(&owner())).unwrap(), std::slice::from_ref(&ours));
    put(&copies, 0, &database()).unwrap();
    assert_eq!(names(&service.former()), before);
    run(copies.remove(&owner(), &ours)).unwrap();
    assert_eq!(run(copies.former(&owner())).unwrap(), []);
    assert_eq!((before.len(), names(&service.former()).len()), (12, 9));
    assert_eq!(list(&copies), [own(0)], "the one of the same time in its own directory stays");
}

/// As they were before a copy named its cluster's identity.
fn facts() -> CopyFacts {
    CopyFacts {
        installation: Uuid::from_u128(1),
        namespace: "default".to_owned(),
        cluster: "demo".to_owned(),
        cluster_uid: None,
        taken_at: at(0),
        node: "demo-ctrl-1".to_owned(),
        etcd_version: "3.6.8".to_owned(),
        kubernetes_version: "v1.37.2".to_owned(),
    }
}

#[test]
fn a_sealed_copy_comes_out_of_the_bucket_as_it_went_in() {
    let service = Service::start();
    let copies = service.copies_with(SECRET);
    let vault = Vault::from_key(zeroize::Zeroizing::new([7; 32]));
    let facts = CopyFacts { cluster_uid: Some(owner().uid), ..facts() };
    let database = b"CANARY-pod-data-".repeat(20_000);
    let snapshot = [&database[..], &Sha256::digest(&database)].concat();
    let copy = run(async {
        let place = copies.begin(&owner(), at(0)).await.unwrap();
        let mut writer = CopyWriter::new(facts, place, &OsEntropy).unwrap();
        writer.write_all(&snapshot).unwrap();
        writer.finish(Vec::new(), &vault, &OsEntropy).await.unwrap()
    });
    assert_eq!(copy, EtcdCopy { size_bytes: 320_000, ..own(0) });
    assert_eq!(list(&copies), [copy]);
    let shelf = Shelf::Bucket(Box::new(copies));
    let kept = shelf.list().unwrap();
    let names: Vec<&str> = kept.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [format!("{}/20260101T000000Z", own_directory(&owner()))]);
    assert_eq!(kept[0].short_name(), "default/demo/20260101T000000Z");
    let read = |part| {
        let mut bytes = Vec::new();
        shelf.open(&kept[0], part).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"CANARY"), "{part:?}");
        bytes
    };
    let manifest = Manifest::parse(&read(Part::Manifest)).unwrap();
    let open = OpenCopy::new(&manifest, &vault).unwrap();
    let contents = open.contents(&read(Part::Contents)[..]).unwrap();
    let mut back = Vec::new();
    open.database(&read(Part::Database)[..], &contents, &mut back).unwrap();
    assert!(back == snapshot);
    // A download that is cut is told.
    service.set(".db.sealed?", Way::Cut);
    let mut none = Vec::new();
    let cut = shelf.open(&kept[0], Part::Database).and_then(|mut from| Ok(from.read_to_end(&mut none)?));
    assert!(cut.is_err());
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let service = Service::start();
    let wrong = service.copies_with("wrong");
    let error = run(wrong.list(&owner())).unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Refused, "{error}");
    assert!(
        error.message.contains("SignatureDoesNotMatch") && error.message.contains("bucket copies at"),
        "{error}"
    );
    assert!(!error.message.contains("wrong") && !error.message.contains(KEY), "{error}");
    let nowhere = S3Bucket {
        endpoint: "http://127.0.0.1:1".to_owned(),
        region: "us-east-1".to_owned(),
        bucket: "copies".to_owned(),
        prefix: String::new(),
        credentials_file: service.dir.path().join("credentials-5"),
        ca_file: None,
        path_style: true,
    };
    let nowhere = CopiesBucket::new(&nowhere, service.dir.path()).unwrap();
    let error = run(nowhere.list(&owner())).unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("onnection"), "{error}");
}
