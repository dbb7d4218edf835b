//! `ashlar host add`

use std::path::Path;
use std::process::Command;

use ashlar_api::host_uri::HostUri;
use ashlar_api::{Accelerator, HostFencing, HostSpec, IpmiFencing, Kind, Object};
use ashlar_engine::enrol::{Enrolled, NewHost};
use ashlar_image::Purpose;
use serde_json::json;

use crate::cli::{FencingArgs, HostAddArgs, ImageBuildArgs, ImageSource, ReleaseArgs};
use crate::commands::apply::declare;
use crate::commands::image::{build, to_object};
use crate::failure::{Context, Exit, Failure, Result};
use crate::objects::Reader;
use crate::output::plural;
use crate::settings::{Settings, home_dir};
use crate::wiring::Worker;

/// Enrols a host.
pub(crate) fn add(settings: &Settings, args: &HostAddArgs) -> Result {
    let uri: HostUri = args.uri.parse()?;
    let ssh_host_key = match &args.ssh_host_key {
        Some(key) => key.trim().to_owned(),
        None => known_host_key(&uri, args.known_hosts.as_deref())?,
    };
    // Through the reader of manifests, so that defaults are those of a file.
    let mut spec: HostSpec = serde_json::from_value(json!({"uri": args.uri, "sshHostKey": ssh_host_key}))?;
    if let Some(path) = &args.ssh_key {
        spec.ssh_key_path = Some(std::path::absolute(path)?.display().to_string());
    }
    spec.rack.clone_from(&args.rack);
    spec.zone.clone_from(&args.zone);
    if let Some(memory) = args.reserved_memory {
        spec.reserved.memory = memory;
    }
    if let Some(overcommit) = args.cpu_overcommit {
        spec.cpu_overcommit = overcommit;
    }
    spec.fencing = fencing(&args.fencing)?;
    let image = test_image(settings)?;
    let worker = Worker::open(settings, &args.engine)?;
    declare(settings, worker.store(), vec![image.clone()], false)?;
    let new = NewHost {
        name: args.name.clone(),
        spec,
        pools: args.pools.clone(),
        test_image: Some(image.metadata().name.clone()),
    };
    enrol(settings, &worker, &new)?;
    Ok(Exit::Success)
}

/// How the host is turned off, if anything says so. What is wrong with it is said with the rest of the host.
fn fencing(args: &FencingArgs) -> Result<Option<HostFencing>> {
    let mut fencing = HostFencing { ipmi: None, command: Vec::new(), after_s: None };
    if let (Some(address), Some(username), Some(file)) =
        (&args.ipmi_address, &args.ipmi_username, &args.ipmi_password_file)
    {
        let password_file = std::path::absolute(file)?.display().to_string();
        let ipmi = json!({"address": address, "username": username, "passwordFile": password_file});
        let mut ipmi: IpmiFencing = serde_json::from_value(ipmi)?;
        ipmi.port = args.ipmi_port.unwrap_or(ipmi.port);
        fencing.ipmi = Some(ipmi);
    }
    if let Some(command) = &args.fence_command {
        fencing.command = shlex::split(command)
            .ok_or_else(|| Failure::new("--fence-command: a quotation mark is not closed"))?;
    }
    fencing.after_s = args.fence_after.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    let says_nothing = fencing.ipmi.is_none() && fencing.command.is_empty() && fencing.after_s.is_none();
    Ok((!says_nothing).then_some(fencing))
}

/// Enrols, and says what was found.
pub(super) fn enrol(settings: &Settings, worker: &Worker, new: &NewHost) -> Result<()> {
    say_enrolled(settings, new, &worker.add_host(new)?);
    Ok(())
}

fn say_enrolled(settings: &Settings, new: &NewHost, enrolled: &Enrolled) {
    let record = &enrolled.host.record;
    let capacity = record.capacity.clone().unwrap_or_default();
    let printer = &settings.printer;
    printer.note(format!(
        "host/{} enrolled: {}, {}, libvirt {}, QEMU {}, {}",
        new.name,
        plural(capacity.threads as usize, "thread"),
        capacity.memory,
        record.libvirt_version,
        record.qemu_version,
        plural(enrolled.pools.len(), "pool")
    ));
    if let Some(proof) = &enrolled.proof {
        match (proof.accelerator, &proof.kvm_refusal) {
            (Accelerator::Kvm, _) => printer.note("a probe VM ran with KVM"),
            (Accelerator::Emulated, Some(refusal)) => printer.warn(format!(
                "KVM does not work on host {} ({}): its VMs run by software emulation, many times slower, with \
                 the slow profile",
                new.name,
                // The lines after it are QEMU's dump of registers.
                refusal.lines().next().unwrap_or_default()
            )),
            (Accelerator::Emulated, None) => printer.warn(format!(
                "host {} has no KVM: its VMs run by software emulation, many times slower, with the slow profile",
                new.name
            )),
        }
    }
}

/// The image that a probe VM boots: one of the store, else one of the cache, else a new one.
pub(crate) fn test_image(settings: &Settings) -> Result<Object> {
    let reader = Reader::open(settings)?;
    let known = reader.objects(Kind::Image, None)?.into_iter().find(|object| {
        matches!(object, Object::Image(image) if image.spec.kubernetes_version.is_empty()
            && Path::new(&image.spec.directory).is_dir())
    });
    if let Some(known) = known {
        return Ok(known);
    }
    let cached = ashlar_image::list(&settings.cache_dir).unwrap_or_default();
    if let Some(found) = cached.images.iter().find(|image| image.manifest.purpose == Purpose::Test) {
        return Ok(Object::from(to_object(found)?));
    }
    settings.printer.note("building the image that a probe VM boots");
    let args = ImageBuildArgs {
        kubernetes: None,
        source: ImageSource::Auto,
        release: ReleaseArgs::default(),
        test: true,
        no_register: true,
    };
    Ok(Object::from(to_object(&build(settings, &args)?)?))
}

/// The host's key in a known_hosts file, found by ssh-keygen: names there may be hashed.
fn known_host_key(uri: &HostUri, file: Option<&Path>) -> Result<String> {
    let name = if uri.port == 22 { uri.address.clone() } else { format!("[{}]:{}", uri.address, uri.port) };
    let mut command = Command::new("ssh-keygen");
    command.args(["-F", &name]);
    let place = match file {
        Some(file) => {
            command.arg("-f").arg(file);
            file.display().to_string()
        }
        None => {
            let home =
                home_dir().ok_or_else(|| Failure::new("$HOME is not set").hint("give --known-hosts FILE"))?;
            home.join(".ssh/known_hosts").display().to_string()
        }
    };
    let output =
        command.output().context("cannot run ssh-keygen").hint("`ashlar setup` installs openssh-client")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut keys: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with('@'))
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect();
    keys.sort_by_key(|key| !key.starts_with("ssh-ed25519 "));
    keys.into_iter().next().ok_or_else(|| {
        Failure::new(format!("the SSH host key of {name} is not known: {place} does not have it"))
            .hint("get it over a way that you trust (on the host: cat /etc/ssh/ssh_host_ed25519_key.pub)")
            .hint("then give --ssh-host-key 'ssh-ed25519 AAAA…'")
    })
}
