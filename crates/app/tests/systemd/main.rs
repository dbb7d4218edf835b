//! The unit of `packaging/systemd`, under a real systemd that is the first process of its own namespaces: installed as
//! `packaging/README.md` says, with a sealed key.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

/// A booted systemd; all of it ends with it.
struct Booted {
    unshare: Child,
    cgroup: PathBuf,
    log: PathBuf,
}

impl Booted {
    fn boot(directory: &Path) -> Booted {
        let hierarchy = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].map(Path::new);
        let hierarchy = hierarchy.into_iter().find(|path| path.join("cgroup.procs").exists()).unwrap();
        let cgroup = hierarchy.join(format!("ashlar-systemd-test-{}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let log = directory.join("log");
        let unshare = Command::new("sh")
            .args(["-c", "echo $$ >\"$0\"/cgroup.procs && exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --net \"$@\""])
            .arg(&cgroup)
            .arg("sh")
            .arg(source.join("tests/systemd/boot.sh"))
            .arg(env!("CARGO_BIN_EXE_ashlar"))
            .arg(source.join("../../packaging"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).unwrap())
            .stderr(fs::File::options().append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Booted { unshare, cgroup, log }
    }

    /// A shell's words inside, by what it says and whether it went well.
    fn says(&self, script: &str) -> Result<String, String> {
        let children = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        let first = fs::read_to_string(children).unwrap_or_default();
        let first = first.split_whitespace().next().ok_or("it has not begun, or ended")?;
        let output = Command::new("nsenter").args(["-t", first, "-a", "sh", "-c", script]).output().unwrap();
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    fn until(&self, what: &str, script: &str, holds: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let said = self.says(script);
            match said {
                Ok(text) if holds(&text) => return text,
                said => assert!(Instant::now() < end, "{what}: {said:?}\n{}", self.evidence()),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn evidence(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!(
            "{log}\n{:?}",
            self.says("journalctl -u ashlar --no-pager -o cat; systemctl status ashlar --no-pager")
        )
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // Whatever it left in there, deepest first; the kernel keeps what still has processes.
        let end = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.cgroup).is_err() && Instant::now() < end {
            let _ = Command::new("find")
                .arg(&self.cgroup)
                .args(["-mindepth", "1", "-type", "d", "-delete"])
                .output();
        }
    }
}

#[test]
fn the_unit_starts_reloads_restarts_and_stops() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/lib/systemd/systemd").exists() {
        println!("SKIPPED: it needs root and a systemd to boot (`ashlar setup --tests`)");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let booted = Booted::boot(directory.path());
    let state = "systemctl show ashlar -p ActiveState -p SubState -p NRestarts";
    // Type=notify: active once it takes commands.
    let first = booted.until("it is active", state, |text| text.contains("SubState=running"));
    assert!(first.contains("NRestarts=0"), "{first}");
    let show = "ashlar --key file:/root/key store show && stat -c %a /var/lib/ashlar && ashlar --key file:/root/key get hosts";
    let shown = booted.says(show).unwrap();
    assert!(shown.contains("/var/lib/ashlar/store.db") && shown.contains("700"), "{shown}");

    booted.says("systemctl reload ashlar").unwrap();
    booted.until("it read its settings anew", "journalctl -u ashlar --no-pager -o cat", |text| {
        text.contains("reloaded")
    });

    // Killed, it is started again, with the same store.
    booted.says("kill -9 $(systemctl show ashlar -p MainPID --value)").unwrap();
    booted.until("it was started again", state, |text| {
        text.contains("NRestarts=1") && text.contains("SubState=running")
    });

    booted.says("systemctl stop ashlar").unwrap();
    let ended = booted.says("systemctl show ashlar -p Result -p ExecMainStatus -p ActiveState").unwrap();
    for word in ["Result=success", "ExecMainStatus=0", "ActiveState=inactive"] {
        assert!(ended.contains(word), "{ended}");
    }
    let log = booted.says("journalctl -u ashlar --no-pager -o cat").unwrap();
    assert!(log.contains("stopping: waiting for the calls under way"), "{log}");
    // The key came sealed, and nobody but the service had it.
    assert!(!log.contains(&booted.says("cat /root/key").unwrap()), "the key is in the log");
}
