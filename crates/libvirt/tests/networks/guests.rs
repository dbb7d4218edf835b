//! Guests on networks: machines as the planner would decide them, run as busybox guests that do what they are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ashlar_api::*;
use ashlar_engine::contract::Place;
use ashlar_engine::effects::{Dial, DialTarget, HostNetworks, HostTarget, Hypervisor};
use ashlar_libvirt::Hosts;
use ashlar_plan::domain::DomainNic;
use ashlar_plan::network::{self, HostNetwork, names};
use ashlar_plan::{DomainMark, DomainSpec, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use crate::common::{INSTALLATION, TestLab, place, put, test_image};
use crate::specs;

/// Boot under emulation, beside others.
const BOOT: Duration = Duration::from_secs(180);
const PORT: u16 = 8080;

/// A guest.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    pub(crate) host: usize,
    pub(crate) network: &'static str,
    pub(crate) address: std::net::Ipv4Addr,
    pub(crate) mac: [u8; 6],
    pub(crate) domain: Uuid,
}

impl Guest {
    pub(crate) fn mac_text(&self) -> String {
        let bytes: Vec<String> = self.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.join(":")
    }

    pub(crate) fn tap(&self) -> String {
        names::tap(&self.mac_text())
    }
}

/// The pool with its networks and guests.
pub(crate) struct Scene<'l> {
    pub(crate) lab: &'l TestLab,
    pub(crate) snapshot: Snapshot,
    pub(crate) guests: BTreeMap<&'static str, Guest>,
}

impl<'l> Scene<'l> {
    /// Hosts and networks as a store would have them.
    pub(crate) fn new(lab: &'l TestLab, networks: &[(&str, serde_json::Value)]) -> Self {
        let mut snapshot = Snapshot::empty(INSTALLATION, "2026-01-01T00:00:00Z".parse().unwrap());
        for host in &lab.description.hosts {
            let uri = format!("qemu+ssh://root@{}:{}/system", host.ssh_address, host.ssh_port);
            let spec =
                serde_json::json!({"uri": uri, "sshHostKey": "k", "underlayAddress": host.node_address});
            snapshot
                .hosts
                .insert(host.name.clone(), Host::new(&host.name, serde_json::from_value(spec).unwrap()));
        }
        for (name, spec) in networks {
            let mut network = Network::new(*name, serde_json::from_value(spec.clone()).unwrap());
            network.metadata.uid = Some(Uuid::new_v4());
            snapshot.networks.insert((*name).to_owned(), network);
        }
        Scene { lab, snapshot, guests: BTreeMap::new() }
    }

    pub(crate) fn target(&self, host: usize) -> HostTarget {
        self.lab.target(host, 1)
    }

    fn host_name(&self, host: usize) -> String {
        self.lab.description.hosts[host].name.clone()
    }

    /// Adds a machine to the store.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        host: usize,
        network: &'static str,
        cluster: &'static str,
        address: &str,
    ) {
        let number = u8::try_from(self.guests.len() + 1).unwrap();
        let guest = Guest {
            name,
            host,
            network,
            address: address.parse().unwrap(),
            mac: [0x52, 0x54, 0, 0xa5, 1, number],
            domain: Uuid::new_v4(),
        };
        let object = &self.snapshot.networks[network];
        let mut machine = specs::machine();
        machine.metadata.name = name.to_owned();
        machine.metadata.uid = Some(Uuid::new_v4());
        machine.spec.cluster = cluster.to_owned();
        machine.spec.host = self.host_name(host);
        machine.spec.role = MachineRole::Worker;
        let bridge = match object.spec.attachment.existing_bridge() {
            Some(bridge) => bridge.to_owned(),
            None => names::bridge(object.metadata.uid.unwrap()),
        };
        machine.spec.nics = vec![Nic {
            network: network.to_owned(),
            bridge,
            mac: guest.mac_text(),
            address: ipnet::Ipv4Net::new(guest.address, object.spec.cidrs[0].prefix_len()).unwrap(),
            gateway: object.spec.gateway,
            dns: Vec::new(),
            mtu: object.spec.mtu(),
            vlan: None,
        }];
        self.snapshot.machines.insert(machine.key(), machine);
        self.guests.insert(name, guest);
    }

    pub(crate) fn desired(&self, network: &str, host: usize) -> HostNetwork {
        network::desired(&self.snapshot, network, &self.host_name(host)).unwrap()
    }

    /// Every network on every host where a machine is attached to it.
    pub(crate) fn places(&self) -> Vec<(&'static str, usize)> {
        let mut places: Vec<_> = self.guests.values().map(|guest| (guest.network, guest.host)).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    pub(crate) async fn apply(&self, hosts: &Hosts) {
        for (network, host) in self.places() {
            hosts.apply_network(&self.target(host), &self.desired(network, host)).await.unwrap();
        }
    }

    /// A host with what guests boot from.
    pub(crate) async fn place<'h>(&self, hosts: &'h Hosts, host: usize) -> Place<'h> {
        let initrd = initrd(self.lab.dir.path());
        let mut place = place(hosts, &self.lab.description, self.target(host)).await;
        let file = "ashlar-test-guest.raw";
        place.initrd_path = put(hosts, &place.host, place.pool, &place.pool_path, &initrd, file).await;
        place
    }

    /// A guest's domain, without disks.
    pub(crate) fn spec(&self, place: &Place<'_>, guest: &Guest) -> DomainSpec {
        let machine = &self.snapshot.machines[&NamespacedName::new("default", guest.name)];
        let nic = &machine.spec.nics[0];
        let command_line = format!(
            "{} test.address={} test.gateway={} test.name={}",
            place.command_line, nic.address, nic.gateway, guest.name
        );
        DomainSpec {
            uuid: guest.domain,
            memory_mib: 128,
            command_line,
            disks: Vec::new(),
            nics: vec![DomainNic {
                bridge: nic.bridge.clone(),
                tap: guest.tap(),
                mac: nic.mac.clone(),
                mtu: nic.mtu,
                vlan: None,
            }],
            mark: DomainMark {
                installation: INSTALLATION,
                machine_uid: machine.metadata.uid.unwrap(),
                generation: 1,
                machine: None,
            },
            ..place.domain(guest.name, "none", None)
        }
    }

    /// Starts all guests, and waits until each takes orders.
    pub(crate) async fn boot(&self, hosts: &Hosts) {
        let count = self.lab.description.hosts.len();
        for host in 0..count {
            let place = self.place(hosts, host).await;
            for guest in self.guests.values().filter(|guest| guest.host == host) {
                hosts.define_domain(&place.host, &self.spec(&place, guest)).await.unwrap();
                hosts.start_domain(&place.host, guest.domain).await.unwrap();
            }
        }
        self.ready(hosts).await;
    }

    /// Waits until every guest takes orders.
    pub(crate) async fn ready(&self, hosts: &Hosts) {
        let until = Instant::now() + BOOT;
        for guest in self.guests.values() {
            while !self.try_order(hosts, guest.name, "echo ready").await.is_ok_and(|said| said == "ready") {
                assert!(Instant::now() < until, "{} does not boot", guest.name);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }

    /// Lets a guest run a shell script, and gives what it says.
    pub(crate) async fn order(&self, hosts: &Hosts, guest: &str, script: &str) -> String {
        self.try_order(hosts, guest, script)
            .await
            .unwrap_or_else(|error| panic!("{guest}: {script}: {error}"))
    }

    pub(crate) async fn try_order(&self, hosts: &Hosts, guest: &str, script: &str) -> Result<String, String> {
        let guest = &self.guests[guest];
        let network = &self.snapshot.networks[guest.network];
        let target = DialTarget {
            via: vec![self.target(guest.host)],
            network: guest.network.to_owned(),
            namespace: network.spec.is_made_by_us().then(|| names::namespace(network.metadata.uid.unwrap())),
            address: guest.address,
            others: Vec::new(),
            port: PORT,
        };
        let talk = async {
            let mut stream = hosts.dial(&target).await.map_err(|error| error.to_string())?;
            let length = script.len();
            let request = format!("POST /cgi-bin/run HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{script}");
            stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
            stream.flush().await.map_err(|error| error.to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
            let (head, body) =
                answer.split_once("\r\n\r\n").or(answer.split_once("\n\n")).unwrap_or_default();
            if head.contains(" 200 ") {
                Ok(body.trim().to_owned())
            } else {
                Err(format!("it said {answer:?}"))
            }
        };
        tokio::time::timeout(Duration::from_secs(60), talk).await.map_err(|error| error.to_string())?
    }

    /// Ends all guests.
    pub(crate) async fn end(&self, hosts: &Hosts) {
        for guest in self.guests.values() {
            hosts.destroy_domain(&self.target(guest.host), guest.domain).await.unwrap();
            hosts.undefine_domain(&self.target(guest.host), guest.domain).await.unwrap();
        }
    }
}

/// The test image's initrd with a guest that runs whatever it is sent.
fn initrd(dir: &Path) -> PathBuf {
    let tree = dir.join("guest-tree");
    std::fs::create_dir_all(tree.join("www/cgi-bin")).unwrap();
    let init = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
for word in $(cat /proc/cmdline); do
    case $word in
    test.address=*) address=${word#*=} ;;
    test.gateway=*) gateway=${word#*=} ;;
    test.name=*) hostname ${word#*=} ;;
    esac
done
for module in failover net_failover virtio_net; do insmod /modules/*-$module.ko; done
ip link set lo up
n=0; until [ -e /sys/class/net/eth0 ] || [ $n -ge 100 ]; do n=$((n + 1)); usleep 100000; done
ip link set eth0 up
ip addr add $address dev eth0
ip route add default via $gateway
dd if=/dev/urandom of=/www/big bs=1024 count=1024
httpd -p 8080 -h /www
echo ASHLAR-GUEST $address $(cat /sys/class/net/eth0/mtu)
while :; do sleep 3600; done
"#;
    std::fs::write(tree.join("init"), init).unwrap();
    let run = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nhead -c \"$CONTENT_LENGTH\" >/tmp.$$\nsh /tmp.$$ 2>&1\n";
    std::fs::write(tree.join("www/cgi-bin/run"), run).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/frame.c");
    let frame = tree.join("frame");
    let built =
        std::process::Command::new("cc").args(["-static", "-O1", "-o"]).arg(&frame).arg(source).status();
    assert!(built.unwrap().success(), "the C compiler is needed, with the C library to link statically");
    for file in ["init", "www/cgi-bin/run", "frame"] {
        std::fs::set_permissions(tree.join(file), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    }
    let path = dir.join("guest-initrd.img");
    let status = std::process::Command::new("sh")
        .args(["-c", "cp \"$1\" \"$2\" && cd \"$3\" && find . | cpio --quiet -o -H newc >>\"$2\"", "initrd"])
        .arg(test_image().join("initrd.img"))
        .arg(&path)
        .arg(&tree)
        .status()
        .unwrap();
    assert!(status.success());
    path
}
