//! `ashlar kubectl`: kubectl against a cluster, through a proxy that lives as long as it does.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use ashlar_engine::effects::Dial;
use jiff::SignedDuration;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{find_cluster, kubeconfig, proxy};
use crate::cli::KubectlArgs;
use crate::failure::{Context, Exit, Failure, Result};
use crate::interrupt::on_interrupt;
use crate::objects::Reader;
use crate::settings::Settings;
use crate::wiring::Reach;

/// Runs kubectl.
pub(crate) fn kubectl(settings: &Settings, args: &KubectlArgs) -> Result {
    let kubectl = Kubectl::open(settings, &args.cluster, args.kubectl.as_deref())?;
    // Ctrl-C is kubectl's: it ends, and then we do.
    let _guard = on_interrupt(|| {})?;
    let mut command = kubectl.command();
    let status =
        command.args(&args.args).status().context(format!("cannot run {}", kubectl.program.display()))?;
    Ok(exit_of(status))
}

/// The code of a program that ended, as a shell would say it.
pub(crate) fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Exit::Program(u8::try_from(code).unwrap_or(1))
}

/// Nobody keeps this one; what is under way goes on when it ends.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// A kubectl with a proxy and a kubeconfig that lie nowhere on a disk.
pub(crate) struct Kubectl {
    program: PathBuf,
    config: File,
    _reach: Reach,
}

impl Kubectl {
    /// Starts the proxy.
    pub(crate) fn open(settings: &Settings, cluster: &str, program: Option<&Path>) -> Result<Kubectl> {
        let reader = Reader::open(settings)?;
        let cluster = find_cluster(settings, &reader, cluster)?;
        let program = find_program(settings, program, &cluster.spec.kubernetes_version)?;
        let reach = Reach::open(settings)?;
        let target = reach.cluster(&reader, &cluster)?;
        let (listener, address) = proxy::listen(0)?;
        let server = format!("https://{address}");
        let (text, _) = kubeconfig::make(settings, &reader, &cluster, Some(&server), LIFETIME)?;
        let config = in_memory(text.as_bytes()).context("cannot make a kubeconfig in memory")?;
        let dial = Arc::clone(&reach.hosts) as Arc<dyn Dial>;
        reach.runtime.spawn(proxy::serve(listener, dial, target, settings.printer.clone()));
        Ok(Kubectl { program, config, _reach: reach })
    }

    /// kubectl, to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", format!("/proc/self/fd/{}", self.config.as_raw_fd()));
        // Set for the lab's own commands; kubectl has no use for them.
        command.env_remove("ASHLAR_KEY");
        command
    }
}

/// A file without a name, which a child inherits: a client key has no business on a disk.
fn in_memory(bytes: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create("kubeconfig", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(file)
}

/// From `--kubectl`, the PATH, or the image cache: there it was built or fetched with the node image.
fn find_program(settings: &Settings, given: Option<&Path>, version: &str) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let in_path = std::env::var_os("PATH").and_then(|list| {
        std::env::split_paths(&list).map(|dir| dir.join("kubectl")).find(|path| path.is_file())
    });
    if let Some(path) = in_path.or_else(|| in_cache(&settings.cache_dir, version)) {
        return Ok(path);
    }
    Err(Failure::new("there is no kubectl on the PATH, and none in the image cache")
        .hint("give one with --kubectl FILE; `ashlar image build` leaves one in the cache"))
}

/// A kubectl of that version, else of any.
fn in_cache(cache: &Path, version: &str) -> Option<PathBuf> {
    let stages = std::fs::read_dir(cache.join("stages")).ok()?;
    let mut found: Vec<PathBuf> = stages
        .flatten()
        .filter(|stage| stage.file_name().to_string_lossy().starts_with("Kubernetes-"))
        .flat_map(|stage| [stage.path().join("bin/kubectl"), stage.path().join("kubectl")])
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    let fits = |path: &&PathBuf| path.to_string_lossy().contains(&format!("Kubernetes-{version}-"));
    found.iter().find(fits).or(found.last()).cloned()
}
