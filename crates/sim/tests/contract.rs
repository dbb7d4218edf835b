//! The cases that hold on real libvirt hold here: where the two differ, the simulation is wrong.
#![expect(clippy::unwrap_used, reason = "tests")]

use ashlar_api::VolumeFormat;
use ashlar_engine::contract::{self, Place};
use ashlar_engine::effects::{HostTarget, Hypervisor as _, VolumeCreate};
use ashlar_sim::{HostOptions, Simulation};
use uuid::Uuid;

#[test]
fn the_contract_holds_in_the_simulated_world() {
    let simulation = Simulation::new(1);
    simulation.add_host(&HostOptions::big("h1")).unwrap();
    let world = simulation.world.clone();
    let (pool, pool_path, ssh_host_key, host_uuid) = {
        let state = world.state();
        let host = &state.hosts["h1"];
        let (uuid, pool) = host.pools.iter().next().unwrap();
        (*uuid, pool.path.clone(), host.ssh_host_key.clone(), host.host_uuid)
    };
    let host = HostTarget {
        name: "h1".to_owned(),
        uri: String::new(),
        ssh_host_key,
        ssh_key_path: None,
        installation: Uuid::from_u128(1),
        lease_token: Some(1),
        host_uuid: Some(host_uuid),
    };
    // The judges object to much of this, since none of it is recorded; nobody asks them here.
    futures::executor::block_on(async {
        for name in ["kernel.raw", "initrd.raw"] {
            let volume = VolumeCreate {
                pool,
                file_name: name.to_owned(),
                format: VolumeFormat::Raw,
                capacity_bytes: 1 << 20,
                preallocate: false,
                backing_path: None,
            };
            world.create_volume(&host, &volume).await.unwrap();
        }
        let place = Place {
            hypervisor: &world,
            pool,
            kernel_path: format!("{pool_path}/kernel.raw"),
            initrd_path: format!("{pool_path}/initrd.raw"),
            pool_path,
            bridge: "br0".to_owned(),
            machine_type: "pc-q35-7.2".to_owned(),
            command_line: String::new(),
            host,
        };
        contract::all(&place).await;
    });
    assert!(world.state().hosts["h1"].domains.is_empty());
}
