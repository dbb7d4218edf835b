//! Sample machines.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use ashlar_api::*;
use ashlar_plan::domain::{DomainDisk, DomainNic};
use ashlar_plan::{DomainMark, DomainSpec};
use uuid::{Uuid, uuid};

pub(crate) const INSTALLATION: Uuid = uuid!("a5a5a5a5-0000-4000-8000-000000000001");
const MACHINE: Uuid = uuid!("a5a5a5a5-0000-4000-8000-000000000002");

pub(crate) fn machine() -> Machine {
    let mut machine = Machine::new(
        "demo-ctrl-1",
        MachineSpec {
            cluster: "demo".to_owned(),
            role: MachineRole::ControlPlane,
            group: String::new(),
            class: "small".to_owned(),
            bootstrap: Bootstrap::Init,
            host: "h1".to_owned(),
            domain: DomainIdentity {
                uuid: uuid!("12345678-0000-4000-8000-000000000003"),
                name: "demo-ctrl-1".to_owned(),
            },
            vcpus: 4,
            memory: Mebibytes::from_gib(8),
            cpu_policy: CpuPolicy::Shared,
            shared_cpus: Default::default(),
            hugepages: None,
            numa: Vec::new(),
            accelerator: Accelerator::Kvm,
            machine_type: "pc-q35-7.2".to_owned(),
            virtual_time: false,
            image: MachineImage {
                name: "node".to_owned(),
                digest: "sha256:00".to_owned(),
                kubernetes_version: "v1.37.2".to_owned(),
                tags: ImageTags::default(),
                command_line: "root=LABEL=ashlar-root ro console=ttyS0".to_owned(),
                disk_volume: "image-00-h1-disk".to_owned(),
                kernel_volume: "image-00-h1-kernel".to_owned(),
                initrd_volume: "image-00-h1-initrd".to_owned(),
            },
            nics: Vec::new(),
            volumes: Vec::new(),
            node: NodeConfig {
                name: "demo-ctrl-1".to_owned(),
                provider_id: format!("ashlar://{INSTALLATION}/{MACHINE}"),
                endpoint: AllocatedEndpoint { address: [10, 88, 1, 1].into(), port: 6443, vrrp_id: 7 },
                extra_sans: Vec::new(),
                pod_cidr: "10.244.0.0/16".parse().unwrap(),
                service_cidr: "10.96.0.0/12".parse().unwrap(),
                dns_domain: "cluster.local".to_owned(),
                cni: Cni::Flannel,
                labels: BTreeMap::from([("zone".to_owned(), "<a & \"b\">".to_owned())]),
                taints: Vec::new(),
                ssh_authorized_keys: Vec::new(),
                ntp_servers: Vec::new(),
                startup_timeout_s: 900,
            },
        },
    );
    machine.metadata.uid = Some(MACHINE);
    machine.metadata.generation = 3;
    machine
}

pub(crate) fn control_plane() -> DomainSpec {
    let machine = machine();
    DomainSpec {
        uuid: machine.spec.domain.uuid,
        name: machine.spec.domain.name.clone(),
        machine_type: machine.spec.machine_type.clone(),
        vcpus: machine.spec.vcpus,
        memory_mib: machine.spec.memory.0,
        binding: Default::default(),
        accelerator: Accelerator::Kvm,
        virtual_time: false,
        kernel_path: "/var/lib/libvirt/images/ashlar-00-kernel.raw".to_owned(),
        initrd_path: "/var/lib/libvirt/images/ashlar-00-initrd.raw".to_owned(),
        command_line: machine.spec.image.command_line.clone(),
        disks: vec![
            DomainDisk {
                path: "/var/lib/libvirt/images/ashlar-demo-ctrl-1-root.qcow2".to_owned(),
                format: VolumeFormat::Qcow2,
                serial: "root".to_owned(),
                backing_path: Some("/var/lib/libvirt/images/ashlar-00-disk.qcow2".to_owned()),
            },
            DomainDisk {
                path: "/var/lib/libvirt/images/ashlar-demo-ctrl-1-etcd.raw".to_owned(),
                format: VolumeFormat::Raw,
                serial: "etcd".to_owned(),
                backing_path: None,
            },
        ],
        seed_path: Some("/var/lib/libvirt/images/ashlar-demo-ctrl-1-seed.iso".to_owned()),
        nics: vec![DomainNic {
            bridge: "br-nodes".to_owned(),
            tap: "as-02a500000001".to_owned(),
            mac: "02:a5:00:00:00:01".to_owned(),
            mtu: 1500,
            vlan: None,
        }],
        mark: DomainMark {
            installation: INSTALLATION,
            machine_uid: MACHINE,
            generation: 3,
            machine: Some(std::sync::Arc::new(machine)),
        },
    }
}

pub(crate) fn worker() -> DomainSpec {
    let mut spec = control_plane();
    spec.name = "demo-wkr-1".to_owned();
    spec.accelerator = Accelerator::Emulated;
    spec.vcpus = 1;
    spec.memory_mib = 2048;
    spec.disks.truncate(1);
    spec.seed_path = None;
    spec.mark.machine = None;
    spec
}
