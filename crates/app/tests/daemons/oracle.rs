//! What the host itself says: who had a connection to its libvirt, and what became of its files.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ashlar_lab::{HostDescription, Lab, Place};

/// Nothing takes longer, whatever was done to whom.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
const SCRIPT: &str = include_str!("oracle.sh");

pub(crate) fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A connection to libvirt as it began.
#[derive(Clone, Debug)]
pub(crate) struct Began {
    pub(crate) at_ms: u64,
    pub(crate) token: u64,
    /// `alone`, or what was wrong.
    pub(crate) verdict: String,
}

/// The host, and the oracle on it.
pub(crate) struct Oracle<'l> {
    lab: &'l Lab,
    host: &'l HostDescription,
}

impl<'l> Oracle<'l> {
    /// Puts it in the way of whoever comes from now on.
    pub(crate) fn install(lab: &'l Lab, host: &'l HostDescription) -> Self {
        let oracle = Oracle { lab, host };
        let install = "mkdir -p /run/oracle && helper=$(command -v virt-ssh-helper) && \
                       cp \"$helper\" /run/oracle/virt-ssh-helper && printf %s \"$1\" >/run/oracle/oracle && \
                       chmod 755 /run/oracle/oracle && mount --bind /run/oracle/oracle \"$helper\"";
        oracle.run(&["sh", "-c", install, "install", SCRIPT]);
        oracle
    }

    /// Runs something on the host.
    pub(crate) fn run(&self, argv: &[&str]) -> String {
        let place = Place::Host(self.host.name.clone());
        let output = self.lab.output(&place, argv, Duration::from_secs(30)).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{argv:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// All that began so far.
    pub(crate) fn began(&self) -> Vec<Began> {
        let text = self.run(&["sh", "-c", "cat /run/oracle/log 2>/dev/null; :"]);
        let began = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            let (at, token, _pid) = (word(), word(), word());
            Began { at_ms: at.parse().unwrap(), token: token.parse().unwrap(), verdict: word().to_owned() }
        };
        text.lines().map(began).collect()
    }

    /// The highest token that was here.
    pub(crate) fn token(&self) -> u64 {
        self.began().iter().map(|began| began.token).max().unwrap_or_default()
    }

    /// The first connection with a token above this one.
    pub(crate) fn wait_for_newer(&self, token: u64) -> Began {
        let what = format!("nobody took the host over from token {token}");
        wait(&what, || self.began().into_iter().find(|began| began.token > token))
    }

    /// Makes files of the pool, and libvirt sees them.
    pub(crate) fn make(&self, names: &[String]) {
        for name in names {
            std::fs::write(self.host.pool_dir.join(name), b"a file of the test's").unwrap();
        }
        self.run(&["virsh", "-q", "pool-refresh", &self.host.pool_name]);
    }

    pub(crate) fn is_there(&self, name: &str) -> bool {
        self.host.pool_dir.join(name).exists()
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.host.pool_dir.join(name)).unwrap();
    }
}

/// Asks until there is an answer.
pub(crate) fn wait<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let ends = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < ends, "{what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
