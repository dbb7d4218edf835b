//! Image files on real libvirt: sent in chunks, cut and resumed, damaged and repaired, and sparse. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ashlar_api::VolumeFormat;
use ashlar_engine::effects::{
    EffectError, EffectErrorKind, HostShell, HostTarget, Hypervisor, LocalFiles, ThisMachine, VolumeCreate,
    VolumeSource,
};
use ashlar_lab::Link;
use ashlar_libvirt::{Hosts, Settings};
use common::TestLab;
use uuid::Uuid;

const CHUNK: u64 = 64 << 20;
const SIZE: u64 = 256 << 20;
/// Where the file holds something: all of the chunks 0 and 1, nothing of 2, and 1 MiB at the end of 3.
const WRITTEN: [(u64, u64); 2] = [(0, 2 * CHUNK), (SIZE - (1 << 20), 1 << 20)];

/// A file of 256 MiB, as an image's, whose bytes repeat nowhere near.
fn image(dir: &Path) -> PathBuf {
    let path = dir.join("image.raw");
    let mut file = std::fs::File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for (offset, length) in WRITTEN {
        file.seek(SeekFrom::Start(offset)).unwrap();
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        file.write_all(&bytes).unwrap();
    }
    path
}

/// Bytes that left the control namespace, in which this thread is.
fn sent_bytes() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let rows = table.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    rows.map(|(_, row)| row.split_whitespace().nth(8).unwrap().parse::<u64>().unwrap()).sum()
}

struct Upload<'a> {
    hosts: &'a Hosts,
    host: HostTarget,
    pool: Uuid,
    file: &'a str,
    path: String,
    local: PathBuf,
}

impl Upload<'_> {
    async fn send(&self, chunk: u64) -> Result<(), EffectError> {
        let source = VolumeSource::File { path: self.local.clone(), offset: chunk * CHUNK, length: CHUNK };
        self.hosts.upload_volume(&self.host, self.pool, self.file, source).await
    }

    /// Chunks that are not on the host yet, or not as they should be.
    async fn left(&self) -> Vec<u64> {
        let there = self.hosts.file_chunks(&self.host, &self.path, CHUNK).await.unwrap();
        assert_eq!((there.size_bytes, there.sha256.len() as u64), (SIZE, SIZE / CHUNK));
        let mut left = Vec::new();
        for (chunk, there) in (0..).zip(&there.sha256) {
            if ThisMachine.sha256(&self.local, chunk * CHUNK, CHUNK).await.unwrap() != *there {
                left.push(chunk);
            }
        }
        left
    }

    async fn is_whole(&self) -> bool {
        let there = self.hosts.file_sha256(&self.host, &self.path).await.unwrap();
        there == ThisMachine.sha256(&self.local, 0, SIZE).await.unwrap()
    }

    async fn allocated(&self) -> u64 {
        self.hosts.volume(&self.host, self.pool, self.file).await.unwrap().unwrap().allocation_bytes
    }
}

#[test]
fn an_upload_that_was_cut_goes_on_and_a_damaged_chunk_comes_anew() {
    let lab = TestLab::up(1);
    let settings = Settings {
        connect_timeout: Duration::from_secs(8),
        call_timeout: Duration::from_secs(8),
        stall_timeout: Duration::from_secs(4),
        max_backoff: Duration::from_secs(2),
        ..lab.settings()
    };
    lab.inside_with(settings, async |hosts| {
        let host = lab.target(0, 1);
        let pool_name = &lab.description.hosts[0].pool_name;
        let (pool, seen) = hosts.pool_by_name(&host, pool_name).await.unwrap().unwrap();
        let file = "ashlar-test-image.raw";
        let local = image(lab.dir.path());
        let volume = VolumeCreate {
            pool,
            file_name: file.to_owned(),
            format: VolumeFormat::Raw,
            capacity_bytes: SIZE,
            preallocate: false,
            backing_path: None,
        };
        hosts.create_volume(&host, &volume).await.unwrap();
        let path = format!("{}/{file}", seen.path);
        let upload = Upload { hosts: &hosts, host: host.clone(), pool, file, path: path.clone(), local };
        assert_eq!(upload.allocated().await, 0, "a new file holds nothing");
        assert!(ThisMachine.is_zero(&upload.local, 2 * CHUNK, CHUNK).await.unwrap());

        // The cable is cut in the middle of the second chunk.
        upload.send(0).await.unwrap();
        let before = sent_bytes();
        let cut = async {
            let until = Instant::now() + Duration::from_secs(30);
            while sent_bytes() - before < CHUNK / 4 {
                assert!(Instant::now() < until, "nothing is sent");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            lab.lab.cut_link("h1", Link::Management).unwrap();
        };
        let (sent, ()) = tokio::join!(upload.send(1), cut);
        let error = sent.expect_err("the chunk went through before the cable was cut");
        assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
        lab.lab.heal_link("h1", Link::Management).unwrap();
        common::wait_for("the host answers again", Duration::from_secs(60), async || {
            hosts.observe(&host).await.is_ok()
        })
        .await;

        // What is there stays there, and the hole needs no sending.
        let left = upload.left().await;
        assert!(left.ends_with(&[3]) && !left.contains(&0) && !left.contains(&2), "{left:?}");
        let before = sent_bytes();
        for chunk in &left {
            upload.send(*chunk).await.unwrap();
        }
        let (sent, wanted) = (sent_bytes() - before, left.len() as u64 * CHUNK);
        println!("resumed: {sent} bytes over the link for {wanted} bytes of {} chunks", left.len());
        assert!(sent < wanted + wanted / 20, "{sent} bytes were sent for {wanted}");
        assert!(upload.is_whole().await);
        let allocated = upload.allocated().await;
        println!("{} MiB of {} MiB are allocated on the host", allocated >> 20, SIZE >> 20);
        // Chunks 0, 1 and 3, and what the file system needs to say where they lie: ext4 counts a block of extents, if
        // the file is in more than four pieces, as the file's.
        assert!(allocated <= SIZE - CHUNK + CHUNK / 16, "the hole was filled: {allocated}");

        // Damage is found in its chunk, and only that one comes anew.
        let damage = format!("printf damaged | dd of={path} bs=1 seek=1000 conv=notrunc status=none");
        lab.on_host(0, &["sh", "-c", &damage]);
        assert!(!upload.is_whole().await);
        assert_eq!(upload.left().await, [0]);
        upload.send(0).await.unwrap();
        assert!(upload.is_whole().await);

        let none = hosts.file_chunks(&host, "/var/lib/libvirt/images/none", CHUNK).await.unwrap_err();
        assert_eq!(none.kind, EffectErrorKind::NotFound, "{none}");
        let beyond = VolumeSource::File { path: upload.local.clone(), offset: SIZE - 1, length: 2 };
        let refused = hosts.upload_volume(&host, pool, file, beyond).await.unwrap_err();
        assert_eq!(refused.kind, EffectErrorKind::Refused, "{refused}");
        assert!(upload.is_whole().await);
    });
}
