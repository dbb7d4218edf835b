//! A simulated BMC, whose host is a process that sleeps.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ashlar_api::{HostFencing, IpmiFencing, IpmiPrivilege};
use ashlar_engine::effects::{FenceTarget, Fencer};
use ashlar_libvirt::PowerControl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::script::{runs, write};

/// OpenIPMI's BMC. Its user has operator's privilege.
pub(crate) struct Bmc {
    directory: TempDir,
    port: u16,
    simulator: Child,
    host: Child,
}

impl Bmc {
    /// Starts one, and waits until it answers.
    pub(crate) async fn start(port: u16) -> Bmc {
        let directory = TempDir::new().unwrap();
        let place = directory.path().display();
        let host = Command::new("sleep").arg("1000").spawn().unwrap();
        let chassis = format!(
            "#!/bin/sh\nshift\nrun=$(cut -d' ' -f3 /proc/{pid}/stat 2>/dev/null)\ncase \"$1 $2 $3\" in\n\
             'get power '*) case \"$run\" in ''|Z) echo power:0;; *) echo power:1;; esac ;;\n\
             'set power 0') kill -9 {pid} 2>/dev/null; true ;;\n\
             *) echo \"$2:0\" ;;\nesac\n",
            pid = host.id()
        );
        write(&directory.path().join("chassis"), &chassis, 0o700);
        let all = "none md2 md5 straight";
        let config = format!(
            "name \"test\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n\
             allowed_auths_callback {all}\nallowed_auths_user {all}\nallowed_auths_operator {all}\n\
             allowed_auths_admin {all}\nguid a123456789abcdefa123456789abcdef\nendlan\n\
             chassis_control \"{place}/chassis 0x20\"\nuser 2 true \"ashlar\" \"geheim\" operator 10 {all}\n"
        );
        write(&directory.path().join("lan.conf"), &config, 0o600);
        let commands = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                        mc_enable 0x20\n";
        write(&directory.path().join("commands"), commands, 0o600);
        fs::create_dir(directory.path().join("state")).unwrap();
        let simulator = Command::new("ipmi_sim")
            .args(["-c", "lan.conf", "-f", "commands", "-s", "state", "-n"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("said")).unwrap())
            .spawn()
            .unwrap();
        let bmc = Bmc { directory, port, simulator, host };
        let target = FenceTarget {
            host: "h1".to_owned(),
            uri: String::new(),
            fencing: bmc.fencing("ashlar", "geheim"),
        };
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = PowerControl::default().power_status(&target).await {
            let said = fs::read_to_string(bmc.directory.path().join("said")).unwrap();
            assert!(Instant::now() < end, "the simulated BMC does not come up: {error}; {said}");
        }
        bmc
    }

    /// The host's fencing by it, with a password in a file.
    pub(crate) fn fencing(&self, username: &str, password: &str) -> HostFencing {
        let ipmi = IpmiFencing {
            address: "127.0.0.1".to_owned(),
            port: self.port,
            username: username.to_owned(),
            password_file: self.file(password, &format!("{password}\n"), 0o600),
            privilege: IpmiPrivilege::Operator,
            // The simulated one does not tell which it has.
            cipher_suite: Some(3),
        };
        HostFencing { ipmi: Some(ipmi), command: Vec::new(), after_s: None }
    }

    /// A file beside it.
    pub(crate) fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.path(name);
        write(&path, text, mode);
        path.display().to_string()
    }

    /// Its name does not say what is in it: it is looked for in arguments.
    fn path(&self, name: &str) -> PathBuf {
        let number: usize = name.bytes().map(usize::from).sum();
        self.directory.path().join(format!("file-{number}"))
    }

    /// By an `ipmitool` that says with which arguments and environment it was run.
    pub(crate) fn watched(&self) -> PowerControl {
        let place = self.directory.path();
        let text = format!(
            "#!/bin/sh\necho \"$@\" >> {0}/heard; env >> {0}/heard\nexec ipmitool \"$@\"\n",
            place.display()
        );
        write(&place.join("ipmitool"), &text, 0o700);
        PowerControl { ipmitool: place.join("ipmitool"), ..PowerControl::default() }
    }

    pub(crate) fn heard(&self) -> String {
        fs::read_to_string(self.directory.path().join("heard")).unwrap()
    }

    pub(crate) fn host_runs(&self) -> bool {
        runs(&self.host.id().to_string())
    }

    /// It answers nothing any more.
    pub(crate) fn freeze(&self) {
        kill(self.simulator_pid(), Signal::SIGSTOP).unwrap();
    }

    fn simulator_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.simulator.id()).unwrap())
    }

    pub(crate) fn without_place(&self, text: &str) -> String {
        let text = text.replace(&self.directory.path().display().to_string(), "[PLACE]");
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        for word in words.iter_mut().filter(|word| word.starts_with("[PLACE]")) {
            *word = "[FILE]".to_owned();
        }
        words.join(" ")
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        let _ = self.simulator.kill();
        let _ = self.simulator.wait();
        let _ = self.host.kill();
        let _ = self.host.wait();
    }
}
