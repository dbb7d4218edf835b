//! `ashlar host add-lab`: the hosts of a lab, which says itself how they are reached.

use ashlar_api::{HostSpec, Kind, Object};
use ashlar_engine::enrol::NewHost;
use ashlar_lab::{HostDescription, Lab, LabDescription};
use serde_json::json;

use super::add::{enrol, test_image};
use crate::cli::HostAddLabArgs;
use crate::commands::apply::declare;
use crate::commands::lab::no_such_lab;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, object_ref, typed};
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::Worker;

/// Enrols the hosts of the lab that `--lab` names.
pub(super) fn add_lab(settings: &Settings, args: &HostAddLabArgs) -> Result {
    let name = settings.lab.as_deref().ok_or_else(|| {
        Failure::new("which lab?")
            .hint("`ashlar --lab NAME host add-lab`; `ashlar lab up NAME --hosts 3` makes one")
    })?;
    let description = Lab::new(name)?.description()?.ok_or_else(|| no_such_lab(name))?;
    let worker = Worker::open(settings, &args.engine)?;
    if !enrol_lab(settings, &worker, &description)? {
        let hosts = plural(description.hosts.len(), "host");
        settings.printer.note(format!("nothing to do: lab {name} has {hosts}, enrolled before"));
    }
    Ok(Exit::Success)
}

/// Enrols the lab's hosts that are not yet. Says whether anything was done.
pub(crate) fn enrol_lab(settings: &Settings, worker: &Worker, lab: &LabDescription) -> Result<bool> {
    let mut changed = false;
    for host in &lab.hosts {
        let reader = Reader::open(settings)?;
        if let Some(stored) = reader.find(&object_ref(Kind::Host, &host.name, ""))?
            && let Object::Host(known) = typed(stored)?
            && known.record.accelerator.is_some()
        {
            continue;
        }
        let image = test_image(settings)?;
        let image_name = image.metadata().name.clone();
        declare(settings, worker.store(), vec![image], false)?;
        enrol(settings, worker, &new_host(lab, host, &image_name)?)?;
        changed = true;
    }
    Ok(changed)
}

fn new_host(lab: &LabDescription, host: &HostDescription, test_image: &str) -> Result<NewHost> {
    let key = host.known_hosts_line.split_once(' ').map(|(_, key)| key.trim()).ok_or_else(|| {
        Failure::internal(format!("lab {} has no SSH host key of host {}", lab.name, host.name))
    })?;
    let spec: HostSpec = serde_json::from_value(json!({
        "uri": format!("qemu+ssh://{}@{}:{}/system", host.ssh_user, host.ssh_address, host.ssh_port),
        "sshHostKey": key,
        "sshKeyPath": lab.client_key,
    }))?;
    Ok(NewHost {
        name: host.name.clone(),
        spec,
        pools: vec![host.pool_name.clone()],
        test_image: Some(test_image.to_owned()),
    })
}
