//! Commands that reach into clusters and machines, all through hosts: there is no route to a node.

mod console;
pub(crate) mod kubeconfig;
mod kubectl;
mod proxy;
mod smoke;
mod ssh;

pub(crate) use self::kubeconfig::kubeconfig;
pub(crate) use console::console;
pub(crate) use kubectl::kubectl;
pub(crate) use proxy::proxy;
pub(crate) use smoke::smoke;
pub(crate) use ssh::{dial, ssh};

use ashlar_api::{Cluster, Kind, Machine, Object};

use crate::failure::{Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;

pub(crate) fn find_cluster(settings: &Settings, reader: &Reader, name: &str) -> Result<Cluster> {
    match reader.object(&object_ref(Kind::Cluster, name, &settings.namespace))? {
        Object::Cluster(cluster) => Ok(*cluster),
        other => Err(Failure::internal(format!("{} is not a cluster", other.object_ref()))),
    }
}

fn find_machine(settings: &Settings, reader: &Reader, name: &str) -> Result<Machine> {
    match reader.object(&object_ref(Kind::Machine, name, &settings.namespace))? {
        Object::Machine(machine) => Ok(*machine),
        other => Err(Failure::internal(format!("{} is not a machine", other.object_ref()))),
    }
}
