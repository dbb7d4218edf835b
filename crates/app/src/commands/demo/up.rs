//! `ashlar demo up`: from this machine to a cluster that answers, stage by stage.
//!
//! The first half runs where it was started; the second one in the lab's control namespace, where the hosts are.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use ashlar_api::Object;
use ashlar_engine::{Goal, Scope};
use ashlar_lab::{Lab, Place};
use ashlar_plan::{ClusterSeen, Snapshot};
use jiff::Timestamp;

use super::objects;
use crate::cli::{DemoClusterArgs, DemoUpArgs, EngineArgs, ImageBuildArgs, ImageSource};
use crate::commands::apply::declare;
use crate::commands::host::enrol_lab;
use crate::commands::image::{DEFAULT_KUBERNETES, build, to_object};
use crate::commands::{lab as lab_commands, reach, setup};
use crate::failure::{Context, Exit, Failure, Result};
use crate::objects::cluster_name;
use crate::output::{Printer, Table, elapsed};
use crate::settings::Settings;
use crate::wiring::{Worker, node_login_key};

/// Says which stage runs, and how long each took.
struct Stages<'a> {
    printer: &'a Printer,
    began: Timestamp,
}

impl Stages<'_> {
    fn run<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.printer.note(self.printer.bold(&format!("==> {name}")));
        let began = Instant::now();
        let done = work().map_err(|failure| failure.because_of(format!("stage `{name}` failed")));
        let took = elapsed(began.elapsed());
        match &done {
            Ok(_) => self.printer.note(format!("    {name}: {took}")),
            Err(_) => self.printer.note(format!("    {name}: failed after {took}")),
        }
        done
    }

    fn total(&self) -> Duration {
        Timestamp::now().duration_since(self.began).unsigned_abs()
    }
}

/// Runs the first half, and becomes the second.
pub(crate) fn up(settings: &Settings, args: &DemoUpArgs) -> Result {
    let stages = Stages { printer: &settings.printer, began: Timestamp::now() };
    let lab = Lab::new(&args.name)?;
    stages.run("preflight", || preflight(&lab))?;
    let version = args.kubernetes.clone().unwrap_or_else(|| DEFAULT_KUBERNETES.to_owned());
    let image = stages.run("node image", || {
        let args = ImageBuildArgs {
            kubernetes: Some(version.clone()),
            source: ImageSource::Auto,
            release: args.release.clone(),
            test: false,
            no_register: true,
        };
        build(settings, &args)
    })?;
    stages.run("lab", || lab_commands::up(settings, &lab, 1))?;
    let program = std::env::current_exe().context("cannot find the ashlar program itself")?;
    let mut command: Vec<OsString> = vec![program.into_os_string(), "--cache-dir".into()];
    command.push(settings.cache_dir.clone().into_os_string());
    command.extend(
        ["--color", if settings.printer.is_colored() { "always" } else { "never" }].map(OsString::from),
    );
    match settings.printer.verbosity() {
        crate::output::Verbosity::Quiet => command.push("-q".into()),
        crate::output::Verbosity::Normal => {}
        crate::output::Verbosity::Verbose(level) => {
            command.extend(std::iter::repeat_n(OsString::from("-v"), level.into()));
        }
    }
    if let Some(timeout) = settings.timeout {
        command.extend(["--timeout".to_owned(), format!("{}s", timeout.as_secs())].map(OsString::from));
    }
    if let Some(key) = &settings.key {
        command.extend(["--key".into(), key.clone().into()]);
    }
    command.extend(["internal", "demo-cluster"].map(OsString::from));
    command.extend(
        [args.name.clone(), image.manifest.name.clone(), args.workers.to_string()].map(OsString::from),
    );
    command.push(stages.began.to_string().into());
    match lab.exec(&Place::Control, &command)? {}
}

/// What apt gives is checked here; the compilers were needed before.
fn preflight(lab: &Lab) -> Result<()> {
    let missing = setup::missing(false)?;
    if !missing.is_empty() {
        return Err(Failure::new(format!("these system packages are missing: {}", missing.join(" ")))
            .hint("`ashlar setup` installs them"));
    }
    // A lab that is up has passed.
    if lab.description()?.is_none() {
        ashlar_lab::preflight()?;
    }
    Ok(())
}

/// The second half, in the control namespace.
pub(crate) fn cluster(settings: &Settings, args: &DemoClusterArgs) -> Result {
    let began = args.began.parse().map_err(|_| Failure::internal("the start time is no time"))?;
    let stages = Stages { printer: &settings.printer, began };
    let lab = Lab::new(&args.name)?;
    let description = lab.description()?.ok_or_else(|| lab_commands::no_such_lab(&args.name))?;
    let image = ashlar_image::inspect(&settings.cache_dir, &args.image)?;
    let version = image.manifest.kubernetes_version.clone().unwrap_or_default();
    let (_, ssh_key) = node_login_key(settings)?;
    let worker = Worker::open(settings, &EngineArgs::default())?;
    let mut changed = stages.run("host", || enrol_lab(settings, &worker, &description))?;
    changed |= stages.run("objects", || {
        let mut all = vec![Object::from(to_object(&image)?)];
        all.extend(objects::pool(&description)?);
        all.push(
            objects::cluster(&args.name, &version, &image.manifest.name, args.workers, &ssh_key)?.into(),
        );
        let declared = declare(settings, worker.store(), all, false)?;
        let unchanged = ashlar_engine::declare::Outcome::Unchanged;
        Ok(declared.applied.iter().any(|one| one.outcome != unchanged))
    })?;
    let name = cluster_name(settings, &args.name);
    let (done, snapshot) = stages.run("cluster", || {
        worker.run_and_look(settings, &Scope::Cluster(name.clone()), &Goal::ClusterReady(name.clone()))
    })?;
    changed |= !done.is_unchanged();
    print_nodes(settings, &snapshot, &args.name)?;
    drop(worker);
    if !changed {
        settings.printer.note(format!(
            "nothing to do: cluster {} is as it should be ({})",
            args.name,
            elapsed(stages.total())
        ));
        return Ok(Exit::Success);
    }
    stages.run("smoke test", || reach::smoke(settings, &args.name))?;
    how_to(settings, &args.name);
    settings.printer.note(format!("cluster {} is ready after {}", args.name, elapsed(stages.total())));
    Ok(Exit::Success)
}

fn print_nodes(settings: &Settings, snapshot: &Snapshot, name: &str) -> Result {
    let key = cluster_name(settings, name);
    let mut table = Table::new(vec!["NODE", "STATUS", "VERSION", "HOST", "ADDRESS"]);
    if let Some(ClusterSeen::Seen(world)) = snapshot.observed.clusters.get(&key) {
        for (node, seen) in &world.nodes {
            let machine = snapshot.machines.values().find(|machine| machine.spec.node.name == *node);
            table.push(vec![
                node.clone(),
                if seen.ready { "Ready".to_owned() } else { "NotReady".to_owned() },
                seen.kubelet_version.clone(),
                machine.map_or_else(|| "-".to_owned(), |machine| machine.spec.host.clone()),
                machine
                    .and_then(|machine| machine.spec.node_address())
                    .map_or_else(|| "-".to_owned(), |address| address.to_string()),
            ]);
        }
        settings.printer.data(|out| table.write(out, 0))?;
        settings
            .printer
            .note(format!("kube-system pods ready: {}/{}", world.system_pods_ready, world.system_pods));
    }
    Ok(Exit::Success)
}

fn how_to(settings: &Settings, name: &str) {
    let group = objects::group(name);
    settings.printer.note(format!(
        "
Use it:
  ashlar --lab {name} kubectl {name} -- get pods -A -o wide
  ashlar --lab {name} kubeconfig {name}
Look inside:
  ashlar --lab {name} cluster status {name}
  ashlar --lab {name} get all -A -o wide
  ashlar --lab {name} explain machine {name}-ctrl-1
  ashlar --lab {name} console {name}-ctrl-1
  ashlar --lab {name} ssh {group}-1
  ashlar lab shell {name} --on h1      (then: virsh list)
Remove it:
  ashlar --lab {name} cluster delete {name}      the cluster alone
  make down                                      the lab and all that is in it
"
    ));
}
