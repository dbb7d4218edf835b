//! What both sides start from: a lab with one enrolled host, and the node image on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::super::lab::Lab;
use super::super::pool::{self, CTRL_MEMORY_MIB, VCPUS, WKR_MEMORY_MIB};
use super::super::program::{Program, root};
use super::sides::ASHLAR_NAME;
use super::watch::Places;
use super::{Options, WorkerStart};

/// Uploading an image of two gigabytes, hashing included.
const IMAGE_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Everything that a run needs.
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) image: Image,
    /// How the host runs guests: `kvm` or `emulated`.
    pub(super) accelerator: String,
    pub(super) places: Places,
    pub(super) kubectl: PathBuf,
    pub(super) worker_start: WorkerStart,
    pub(super) timeout_min: u32,
    /// With the manifests, the key and the logs.
    pub(super) directory: tempfile::TempDir,
    host_dir: PathBuf,
}

/// The image as it lies on the host.
pub(super) struct Image {
    pub(super) name: String,
    pub(super) kubernetes: String,
    /// Paths on the host of disk, kernel and initrd.
    pub(super) files: [String; 3],
    pub(super) kernel_arguments: String,
    /// OCI tags.
    pub(super) tags: Value,
}

impl Scene {
    /// Makes a fresh lab, enrols its host, and has Ashlar put the image there: a cluster is begun, stopped as soon as its
    /// first machine runs, and deleted. Image files stay on a host.
    pub(super) fn set(ashlar: &Program, options: &Options) -> Result<Scene> {
        let begin = Instant::now();
        // What an earlier run left would be sealed with a key that is gone.
        ashlar.ok(&["lab", "down", &options.lab, "--yes"])?;
        let directory = tempfile::tempdir()?;
        // Keys are made here at first use: those of the developer are not for labs that come and go.
        let keys = directory.path().to_string_lossy().into_owned();
        let lab = Lab::up(&ashlar.with_env("XDG_CONFIG_HOME", &keys), &options.lab, 1)?;
        let manifest = pool::node_image(ashlar, options.image.as_deref())?;
        let text = |pointer: &str| -> Result<String> {
            let value = manifest.pointer(pointer).and_then(Value::as_str);
            Ok(value.with_context(|| format!("the image's manifest has no {pointer}"))?.to_owned())
        };
        let (name, kubernetes) = (text("/name")?, text("/kubernetesVersion")?);
        println!("image     {name}");
        pool::enrol(&lab)?;
        lab.ok(&["image", "register", &name])?;
        pool::declare(&lab, directory.path())?;
        let host_dir = lab.path("/hosts/0/state_dir")?;
        let places = Places {
            pool: lab.path("/hosts/0/pool_dir")?,
            definitions: host_dir.join("etc-libvirt/qemu"),
            consoles: host_dir.join("log/libvirt/qemu"),
        };
        ensure!(places.consoles.is_dir(), "the lab logs no consoles in {}", places.consoles.display());
        let accelerator = lab.json(&["get", "host", "h1"])?;
        let accelerator = accelerator.pointer("/record/accelerator").and_then(Value::as_str);
        let accelerator = accelerator.context("host h1 has no recorded accelerator")?.to_owned();
        let image = put_image(&lab, &places, name, kubernetes)?;
        let kubectl = match &options.kubectl {
            Some(path) => fs::canonicalize(path)?,
            None => find_kubectl(&image.kubernetes)?,
        };
        // The host does not see the whole of the machine's file system, but what lies below its own directories.
        let script_dir = host_dir.join("lib/bench");
        fs::create_dir_all(&script_dir)?;
        fs::copy(root().join("bench/create.sh"), script_dir.join("create.sh"))?;
        println!(
            "guests    {accelerator}; control plane {VCPUS} vCPUs, {CTRL_MEMORY_MIB} MiB; worker {VCPUS} vCPUs, \
             {WKR_MEMORY_MIB} MiB"
        );
        println!("prepared  {:.0} s (lab, host, image on the host)", begin.elapsed().as_secs_f64());
        let (worker_start, timeout_min) = (options.worker_start, options.timeout_min);
        Ok(Scene { lab, image, accelerator, places, kubectl, worker_start, timeout_min, directory, host_dir })
    }

    /// Reads the image once, so that both sides find it in the page cache.
    pub(super) fn read_image(&self) -> Result<()> {
        for path in &self.image.files {
            let name = Path::new(path).file_name().context("an image file without a name")?;
            let mut file = fs::File::open(self.places.pool.join(name))?;
            std::io::copy(&mut file, &mut std::io::sink())?;
        }
        Ok(())
    }

    /// The script on the host, with all that it needs to know.
    pub(super) fn script(&self, verb: &str, variables: &[(&str, String)]) -> Command {
        let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let mut words = vec!["env".to_owned()];
        words.extend(variables);
        words.extend(["sh", "/var/lib/libvirt/bench/create.sh", verb].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.lab.on_host(&words)
    }

    /// Lines at the end of each console, for a run that failed.
    pub(super) fn evidence(&self) -> String {
        format!("consoles are in {}", self.host_dir.join("log/libvirt/qemu").display())
    }
}

/// Arguments of the command that is measured.
pub(super) fn create_arguments(kubernetes: &str, timeout_min: u32) -> Vec<String> {
    let timeout = format!("{timeout_min}m");
    [
        "-v",
        "--timeout",
        &timeout,
        "cluster",
        "create",
        ASHLAR_NAME,
        "--kubernetes",
        kubernetes,
        "--control-plane-class",
        "ctrl",
        "--workers",
        "wkr=1:wkr",
        "--network",
        "lab",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn put_image(lab: &Lab, places: &Places, name: String, kubernetes: String) -> Result<Image> {
    let arguments = create_arguments(&kubernetes, 30);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let log = tempfile::NamedTempFile::new()?;
    let mut command = lab.command(&arguments);
    let mut child = command.stdout(Stdio::null()).stderr(log.reopen()?).spawn()?;
    let begin = Instant::now();
    let is_started = || {
        let entries = fs::read_dir(&places.consoles).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(ASHLAR_NAME))
    };
    while !is_started() {
        if let Some(status) = child.try_wait()? {
            bail!("ended ({status}) before the first machine ran\n{}", fs::read_to_string(log.path())?);
        }
        if begin.elapsed() > IMAGE_DEADLINE {
            child.kill()?;
            bail!("the first machine did not run within {} s", IMAGE_DEADLINE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let machine = lab.json(&["get", "machine", &format!("{ASHLAR_NAME}-ctrl-1")])?;
    let volumes = lab.json(&["get", "volumes", "-n", "ashlar-system"])?;
    // Ctrl-C: the next command goes on where this one stopped.
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    child.wait()?;
    lab.ok(&["cluster", "delete", ASHLAR_NAME, "--yes"])?;
    let file = |part: &str| {
        let items = volumes["items"].as_array().into_iter().flatten();
        let is_wanted = |volume: &&Value| {
            volume["spec"]["content"]["part"] == part && volume["spec"]["content"]["image"] == name.as_str()
        };
        let spec = &items
            .into_iter()
            .find(is_wanted)
            .with_context(|| format!("no {part} of {name} on the host"))?["spec"];
        let (pool, file) = (spec["poolPath"].as_str(), spec["fileName"].as_str());
        anyhow::Ok(format!("{}/{}", pool.unwrap_or_default(), file.unwrap_or_default()))
    };
    let spec = &machine["spec"]["image"];
    Ok(Image {
        files: [file("disk")?, file("kernel")?, file("initrd")?],
        kernel_arguments: spec["commandLine"]
            .as_str()
            .context("a machine without a command line")?
            .to_owned(),
        tags: spec["tags"].clone(),
        name,
        kubernetes,
    })
}

/// A kubectl of that version: the one of the PATH, or the one that was built with the image.
fn find_kubectl(kubernetes: &str) -> Result<PathBuf> {
    let says_so = |path: &PathBuf| {
        let output = Command::new(path).args(["version", "--client"]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(kubernetes))
    };
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).map(|dir| dir.join("kubectl"));
    let stages = fs::read_dir("/var/cache/ashlar/stages").into_iter().flatten().flatten();
    let built = stages.flat_map(|stage| ["bin/kubectl", "kubectl"].map(|file| stage.path().join(file)));
    let mut found = on_path.chain(built).filter(|path| path.is_file());
    found.find(says_so).with_context(|| format!("no kubectl {kubernetes} was found; give one with --kubectl"))
}
