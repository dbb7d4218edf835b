//! Networks on three lab hosts, with real guests: what should pass passes, what should not does not, and nothing is left.
//! Needs root, the busybox test image, tcpdump and a C compiler.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "networks/frames.rs"]
mod frames;
#[path = "networks/guests.rs"]
mod guests;
mod specs;

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use ashlar_engine::effects::{EffectErrorKind, HostNetworks};
use ashlar_lab::Link;
use ashlar_libvirt::Hosts;
use ashlar_plan::network::names;
use ashlar_plan::{NetworkSeen, NetworksSeen};
use common::TestLab;
use frames::{BROADCAST, Datagram, arp, hex, icmp6, link_local, mac, rarp};
use guests::{Guest, Scene};
use serde_json::json;

const WAIT: Duration = Duration::from_secs(15);

/// A network's description, with the range that all of them use.
fn overlay(vni: u32) -> serde_json::Value {
    json!({
        "attachment": {"vxlan": {"vni": vni}}, "cidrs": ["10.30.0.0/24"], "gateway": "10.30.0.1",
        "ranges": [{"first": "10.30.0.10", "last": "10.30.0.99"}],
    })
}

/// The frames on an interface of a host, as they are.
struct Frames {
    child: std::process::Child,
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Frames {
    fn on(lab: &TestLab, host: usize, device: &str) -> Self {
        let place = ashlar_lab::Place::Host(lab.description.hosts[host].name.clone());
        let mut command = std::process::Command::new("tcpdump");
        command.args(["-i", device, "-n", "-U", "--immediate-mode", "-w", "-"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = lab.lab.spawn(&place, &mut command).unwrap();
        let mut line = String::new();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        while !line.contains("listening on") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
            assert!(read > 0, "tcpdump does not listen on {device}");
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let bytes = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (mut stdout, kept) = (child.stdout.take().unwrap(), bytes.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Frames { child, bytes }
    }

    /// How often the mark was seen.
    fn count(&self, mark: &str) -> usize {
        let bytes = self.bytes.lock().unwrap();
        bytes.windows(mark.len()).filter(|window| *window == mark.as_bytes()).count()
    }

    async fn wait_for(&self, mark: &str) -> bool {
        let until = Instant::now() + WAIT;
        while self.count(mark) == 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.count(mark) > 0
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A frame that must not arrive, and its twin that must.
struct Probe {
    name: &'static str,
    blocked: Vec<u8>,
    twin: Vec<u8>,
}

fn blocked_mark(name: &str) -> String {
    format!("<blocked {name}>")
}

fn twin_mark(name: &str) -> String {
    format!("<passes {name}>")
}

fn datagram<'m>(from: &Guest, to: &Guest, mark: &'m str) -> Datagram<'m> {
    Datagram {
        to_mac: to.mac,
        from_mac: from.mac,
        from: from.address,
        to: to.address,
        ports: (6767, 7777),
        mark,
    }
}

/// What an attacker in one guest sends to another one of its own network.
fn attacks(from: &Guest, to: &Guest) -> Vec<Probe> {
    let own = from.mac;
    let other = mac("52:54:00:66:66:66");
    let stranger = Ipv4Addr::new(to.address.octets()[0], to.address.octets()[1], to.address.octets()[2], 77);
    let broadcast = Ipv4Addr::BROADCAST;
    let probe = |name, make: &dyn Fn(&str, bool) -> Vec<u8>| Probe {
        name,
        blocked: make(&blocked_mark(name), true),
        twin: make(&twin_mark(name), false),
    };
    vec![
        probe("MAC", &|mark, bad| {
            Datagram { from_mac: if bad { other } else { own }, ..datagram(from, to, mark) }.frame()
        }),
        probe("ARP address", &|mark, bad| {
            arp(own, (own, if bad { stranger } else { from.address }), to.address, mark)
        }),
        probe("ARP of the target", &|mark, bad| {
            arp(own, (own, if bad { to.address } else { from.address }), to.address, mark)
        }),
        probe("ARP MAC", &|mark, bad| {
            arp(own, (if bad { other } else { own }, from.address), to.address, mark)
        }),
        probe("RARP", &|mark, bad| rarp(own, if bad { to.mac } else { own }, mark)),
        probe("IP source", &|mark, bad| {
            Datagram { from: if bad { stranger } else { from.address }, ..datagram(from, to, mark) }.frame()
        }),
        probe("DHCP server", &|mark, bad| {
            let ports = (if bad { 67 } else { 6767 }, 68);
            Datagram { to_mac: BROADCAST, to: broadcast, ports, ..datagram(from, to, mark) }.frame()
        }),
        probe("router advertisement", &|mark, bad| {
            icmp6(own, link_local(own), if bad { 134 } else { 128 }, mark)
        }),
        probe("IPv6 source", &|mark, bad| {
            icmp6(own, if bad { link_local(other) } else { link_local(own) }, 128, mark)
        }),
        probe("VLAN tag", &|mark, bad| {
            let honest = datagram(from, to, mark);
            if bad { honest.tagged(42) } else { honest.frame() }
        }),
        probe("spanning tree", &|mark, bad| {
            let to_mac = if bad { mac("01:80:c2:00:00:00") } else { BROADCAST };
            Datagram { to_mac, ..datagram(from, to, mark) }.frame()
        }),
    ]
}

/// Sends all probes; says which blocked ones arrived. A twin that does not arrive fails the test: then nothing was
/// proved.
async fn matrix(scene: &Scene<'_>, hosts: &Hosts, from: &str, to: &str) -> Vec<&'static str> {
    let (from, to) = (&scene.guests[from], &scene.guests[to]);
    let frames = Frames::on(scene.lab, to.host, &to.tap());
    let probes = attacks(from, to);
    let mut script = String::new();
    for probe in &probes {
        script += &format!("/frame eth0 {}\n/frame eth0 {}\n", hex(&probe.blocked), hex(&probe.twin));
    }
    let said = scene.order(hosts, from.name, &format!("{script}echo sent")).await;
    assert_eq!(said, "sent");
    for probe in &probes {
        assert!(
            frames.wait_for(&twin_mark(probe.name)).await,
            "the twin of {} does not pass from {} to {}",
            probe.name,
            from.name,
            to.name
        );
    }
    probes.iter().map(|probe| probe.name).filter(|name| frames.count(&blocked_mark(name)) > 0).collect()
}

/// What is seen of a network on a host.
async fn seen(scene: &Scene<'_>, hosts: &Hosts, network: &str, host: usize) -> Option<NetworkSeen> {
    let uid = scene.snapshot.networks[network].metadata.uid.unwrap();
    match hosts.observe_networks(&scene.target(host)).await.unwrap() {
        NetworksSeen::Seen { networks, foreign, .. } => {
            assert!(foreign.is_empty(), "{foreign:?}");
            networks.get(&uid).cloned()
        }
        other => panic!("{other:?}"),
    }
}

async fn assert_as_desired(scene: &Scene<'_>, hosts: &Hosts, network: &str, host: usize) {
    let seen = seen(scene, hosts, network, host).await.unwrap();
    assert!(seen.intact, "{network} on host {host}");
    assert_eq!(*seen.applied.unwrap(), scene.desired(network, host));
}

/// Every interface, namespace, table, forwarding entry and file of ours on a host.
fn left_over(lab: &TestLab, host: usize) -> String {
    let script = "ip -o link | grep -E ': as(br|vx|gw|up)?-'; ls /run/netns 2>/dev/null; nft list tables | grep ashlar; \
                  bridge fdb show | grep 'dst 10.88'; ls /run/ashlar/networks | grep -v lock; true";
    lab.on_host(host, &["sh", "-c", script])
}

#[test]
fn networks_carry_what_they_should_and_nothing_else() {
    let lab = TestLab::up(3);
    let begin = Instant::now();
    let mut scene = Scene::new(
        &lab,
        &[
            ("red", overlay(4711)),
            ("blue", overlay(4712)),
            (
                "lan",
                json!({
                    "attachment": {"bridge": lab.description.hosts[0].bridge}, "cidrs": ["10.88.0.0/16"],
                    "gateway": "10.88.0.1", "ranges": [{"first": "10.88.1.1", "last": "10.88.1.99"}],
                }),
            ),
        ],
    );
    // The same addresses twice: b1 is a twin of r1, b2 of nobody.
    scene.add("r1", 0, "red", "red", "10.30.0.11");
    scene.add("r2", 1, "red", "red", "10.30.0.12");
    scene.add("b1", 0, "blue", "blue", "10.30.0.11");
    scene.add("b2", 2, "blue", "blue", "10.30.0.22");
    scene.add("a1", 0, "lan", "a", "10.88.1.11");
    scene.add("a2", 2, "lan", "a", "10.88.1.12");
    scene.add("c1", 2, "lan", "c", "10.88.1.13");
    lab.inside(async |hosts| {
        let (hosts, scene) = (hosts.as_ref(), &scene);
        scene.apply(hosts).await;
        scene.boot(hosts).await;
        println!("seven guests on three networks: {:?}", begin.elapsed());
        for (network, host) in scene.places() {
            assert_as_desired(scene, hosts, network, host).await;
        }

        overlay_carries(scene, hosts).await;
        println!("overlay: {:?}", begin.elapsed());
        for (from, to) in [("r1", "r2"), ("b2", "b1"), ("a1", "a2"), ("a2", "a1")] {
            assert_eq!(matrix(scene, hosts, from, to).await, Vec::<&str>::new(), "from {from} to {to}");
        }
        println!("frames: {:?}", begin.elapsed());
        clusters_are_apart(scene, hosts).await;
        hosts_are_out_of_reach(scene, hosts).await;
        println!("clusters and hosts: {:?}", begin.elapsed());
        the_matrix_can_fail(scene, hosts).await;
        rules_are_exchanged_without_a_gap(scene, hosts).await;
        println!("rules: {:?}", begin.elapsed());

        scene.end(hosts).await;
        for (network, host) in scene.places() {
            let uid = scene.snapshot.networks[network].metadata.uid.unwrap();
            hosts.remove_network(&scene.target(host), common::INSTALLATION, uid).await.unwrap();
            // Once more is fine.
            hosts.remove_network(&scene.target(host), common::INSTALLATION, uid).await.unwrap();
            assert_eq!(seen(scene, hosts, network, host).await, None);
        }
        for host in 0..3 {
            assert_eq!(left_over(scene.lab, host), "", "on host {host}");
        }
        println!("all: {:?}", begin.elapsed());
    });
}

/// Full frames and a megabyte both ways between hosts, with none lost; through a cut link and after it.
async fn overlay_carries(scene: &Scene<'_>, hosts: &Hosts) {
    assert_eq!(scene.order(hosts, "r1", "cat /sys/class/net/eth0/mtu").await, "1450");
    for (from, to) in [("r1", "r2"), ("r2", "r1"), ("b1", "b2"), ("b2", "b1"), ("a1", "a2")] {
        let to = &scene.guests[to];
        let payload = if to.network == "lan" { 1472 } else { 1422 };
        let ping = format!("ping -c 20 -i 0.1 -W 5 -s {payload} {} | grep received", to.address);
        let said = scene.order(hosts, from, &ping).await;
        assert!(
            said.contains("20 packets transmitted, 20 packets received, 0% packet loss"),
            "{from}: {said}"
        );
        let there = scene.order(hosts, to.name, "md5sum </www/big").await;
        let here = format!("wget -q -O - http://{}:8080/big | md5sum", to.address);
        assert_eq!(scene.order(hosts, from, &here).await, there, "1 MiB from {} to {from}", to.name);
    }
    let ping = "ping -c 1 -W 1 10.30.0.12 >/dev/null && echo answers || echo silent";
    scene.lab.lab.cut_link("h2", Link::Nodes).unwrap();
    assert_eq!(scene.order(hosts, "r1", ping).await, "silent");
    scene.lab.lab.heal_link("h2", Link::Nodes).unwrap();
    let until = Instant::now() + WAIT;
    while scene.order(hosts, "r1", ping).await != "answers" {
        assert!(Instant::now() < until, "the overlay does not heal");
    }
}

/// Who is in the same network, or on the same bridge, and of another cluster, is not reached.
async fn clusters_are_apart(scene: &Scene<'_>, hosts: &Hosts) {
    // Another network of the same addresses: neither an address that is only there, nor one that both have.
    let at_b2 = Frames::on(scene.lab, 2, &scene.guests["b2"].tap());
    let at_b1 = Frames::on(scene.lab, 0, &scene.guests["b1"].tap());
    let try_all = |address: &str| {
        format!(
            "arping -c 2 -w 2 -I eth0 {address} >/dev/null && echo arp; \
             ping -c 2 -W 1 -p 5a {address} >/dev/null && echo icmp; \
             echo probe | nc -w 2 {address} 8080 >/dev/null 2>&1 && echo tcp; true"
        )
    };
    assert_eq!(scene.order(hosts, "r1", &try_all("10.30.0.22")).await, "");
    let from_red = hex(&Datagram {
        to_mac: BROADCAST,
        from_mac: scene.guests["r1"].mac,
        from: scene.guests["r1"].address,
        to: Ipv4Addr::BROADCAST,
        ports: (6767, 7777),
        mark: "<red>",
    }
    .frame());
    let at_r2 = Frames::on(scene.lab, 1, &scene.guests["r2"].tap());
    scene.order(hosts, "r1", &format!("/frame eth0 {from_red}")).await;
    assert!(at_r2.wait_for("<red>").await);
    assert_eq!((at_b1.count("<red>"), at_b2.count("<red>")), (0, 0));
    // The twin: from inside it is reached.
    assert_eq!(scene.order(hosts, "b1", &try_all("10.30.0.22")).await, "arp\nicmp\ntcp");

    // One bridge, two clusters.
    let at_c1 = Frames::on(scene.lab, 2, &scene.guests["c1"].tap());
    let (a1, c1) = (&scene.guests["a1"], &scene.guests["c1"]);
    for from in ["a1", "a2"] {
        assert_eq!(scene.order(hosts, from, &try_all("10.88.1.13")).await, "", "from {from}");
    }
    let direct = Datagram {
        to_mac: c1.mac,
        from_mac: a1.mac,
        from: a1.address,
        to: c1.address,
        ports: (6767, 6443),
        mark: "<to another cluster>",
    };
    scene.order(hosts, "a1", &format!("/frame eth0 {}", hex(&direct.frame()))).await;
    assert_eq!(scene.order(hosts, "c1", &try_all("10.88.1.11")).await, "");
    assert_eq!(scene.order(hosts, "a1", &try_all("10.88.1.12")).await, "arp\nicmp\ntcp");
    assert_eq!(at_c1.count("<to another cluster>"), 0);
}

/// SSH and libvirt of the hosts, from inside: not by their addresses, not by the gateway's, not by frames to the
/// bridge itself; and what lies outside is reached all the same.
async fn hosts_are_out_of_reach(scene: &Scene<'_>, hosts: &Hosts) {
    let connect = |address: &str, port: u16| {
        format!("(nc -w 2 {address} {port} </dev/null >/dev/null 2>&1 && echo {address}:{port}) & ")
    };
    let mut script = String::new();
    for address in
        ["10.77.0.11", "10.77.0.12", "10.88.0.11", "10.88.0.12", "10.30.0.1", "169.254.64.1", "169.254.64.5"]
    {
        for port in [22, 16509] {
            script += &connect(address, port);
        }
    }
    script += "wait; ping -c 1 -W 1 10.77.0.11 >/dev/null && echo ping; arping -c 1 -w 1 -I eth0 10.77.0.11 >/dev/null && echo arp; \
               ping -c 1 -W 1 169.254.64.1 >/dev/null && echo link-local; true";
    assert_eq!(scene.order(hosts, "r1", &script).await, "");
    // From a frame that names the bridge as its receiver, the host's stack gets nothing.
    let red = scene.desired("red", 0);
    let bridge = red.bridge.clone();
    let bridge_mac = scene.lab.on_host(0, &["cat", &format!("/sys/class/net/{bridge}/address")]);
    let at_bridge = Frames::on(scene.lab, 0, &bridge);
    let at_r2 = Frames::on(scene.lab, 1, &scene.guests["r2"].tap());
    let r1 = &scene.guests["r1"];
    let to = |to_mac, to, mark| {
        hex(&Datagram { to_mac, from_mac: r1.mac, from: r1.address, to, ports: (6767, 22), mark }.frame())
    };
    let at_host = to(mac(bridge_mac.trim()), Ipv4Addr::new(10, 77, 0, 11), "<to the host>");
    let at_peer = to(scene.guests["r2"].mac, scene.guests["r2"].address, "<to the peer>");
    scene.order(hosts, "r1", &format!("/frame eth0 {at_host}; /frame eth0 {at_peer}")).await;
    assert!(at_r2.wait_for("<to the peer>").await);
    assert_eq!(at_bridge.count("<to the host>"), 0);
    // The twins: its own gateway answers a ping, the way out is open, and so is a neighbour's port.
    let twins = "ping -c 1 -W 2 10.30.0.1 >/dev/null && echo gateway; ping -c 1 -W 2 10.88.0.1 >/dev/null && echo outside; \
                 nc -w 2 10.30.0.12 8080 </dev/null >/dev/null 2>&1 && echo neighbour; true";
    assert_eq!(scene.order(hosts, "r1", twins).await, "gateway\noutside\nneighbour");

    // On the shared bridge the host has an address of its own.
    let mut script = String::new();
    for address in ["10.88.0.11", "10.88.0.13", "10.77.0.11"] {
        script += &connect(address, 22);
    }
    script += "wait; ping -c 1 -W 1 10.88.0.11 >/dev/null && echo ping; true";
    assert_eq!(scene.order(hosts, "a1", &script).await, "");
    let twins = "nc -w 2 10.88.1.12 8080 </dev/null >/dev/null 2>&1 && echo neighbour; \
                 ping -c 1 -W 2 10.88.0.1 >/dev/null && echo gateway; true";
    assert_eq!(scene.order(hosts, "a1", twins).await, "neighbour\ngateway");
}

/// A rule is taken out by hand: the matrix says which attack comes through, the host is seen to have been changed, and
/// applying again heals it. So is everything else that somebody removes.
async fn the_matrix_can_fail(scene: &Scene<'_>, hosts: &Hosts) {
    let table = names::table(scene.snapshot.networks["red"].metadata.uid.unwrap());
    let chain = format!("t_{}", scene.guests["r1"].mac_text().replace(':', ""));
    let delete = format!(
        "nft -a list chain bridge {table} {chain} | sed -n 's/.*arp saddr ip != .* handle \\([0-9]*\\)$/\\1/p' | \
         xargs nft delete rule bridge {table} {chain} handle"
    );
    scene.lab.on_host(0, &["sh", "-c", &delete]);
    assert_eq!(matrix(scene, hosts, "r1", "r2").await, ["ARP address", "ARP of the target"]);
    assert!(!seen(scene, hosts, "red", 0).await.unwrap().intact);

    let uid = scene.snapshot.networks["red"].metadata.uid.unwrap();
    let (vx, ns) = (names::overlay(uid), names::namespace(uid));
    let peer = "bridge fdb del 00:00:00:00:00:00 dev VX dst 10.88.0.12";
    for damage in [
        "true".to_owned(),
        "nft flush ruleset".to_owned(),
        peer.replace("VX", &vx),
        format!("ip link del {vx}"),
        format!("ip netns del {ns}"),
        format!("ip link set {vx} mtu 1400"),
        format!("ip netns exec {ns} nft flush ruleset"),
        format!("ip link set {} down", names::bridge(uid)),
        format!("rm /run/ashlar/networks/{}.json", names::id(uid)),
    ] {
        scene.lab.on_host(0, &["sh", "-c", &damage]);
        let whole = seen(scene, hosts, "red", 0).await.unwrap();
        assert!(!whole.intact || whole.applied.is_none(), "{damage} is not seen");
        for network in ["red", "blue", "lan"] {
            hosts.apply_network(&scene.target(0), &scene.desired(network, 0)).await.unwrap();
            assert_as_desired(scene, hosts, network, 0).await;
        }
    }
    assert_eq!(matrix(scene, hosts, "r1", "r2").await, Vec::<&str>::new());

    // What somebody else put under a name of ours is refused, and left as it is.
    let mut other = scene.desired("red", 2);
    other.uid = uuid::Uuid::new_v4();
    let bridge = names::bridge(other.uid);
    scene.lab.on_host(
        2,
        &["sh", "-c", &format!("ip link add {bridge} type bridge; ip link set {bridge} alias theirs")],
    );
    let refused = hosts.apply_network(&scene.target(2), &other).await.unwrap_err();
    assert_eq!(refused.kind, EffectErrorKind::Refused, "{refused}");
    assert!(refused.message.contains(&bridge) && refused.message.contains("left alone"), "{refused}");
    let NetworksSeen::Seen { foreign, .. } = hosts.observe_networks(&scene.target(2)).await.unwrap() else {
        panic!("the host did not say")
    };
    assert_eq!(foreign.into_iter().collect::<Vec<_>>(), std::slice::from_ref(&bridge));
    let refused = hosts.remove_network(&scene.target(2), common::INSTALLATION, other.uid).await.unwrap_err();
    assert_eq!(refused.kind, EffectErrorKind::Refused, "{refused}");
    scene.lab.on_host(2, &["ip", "link", "del", &bridge]);
    // An MTU for which the underlay has no room.
    let mut wide = scene.desired("red", 2);
    wide.uid = other.uid;
    wide.mtu = 1500;
    let refused = hosts.apply_network(&scene.target(2), &wide).await.unwrap_err();
    assert!(refused.message.contains("set the Network's mtu to 1450 at most"), "{refused}");
    hosts.remove_network(&scene.target(2), common::INSTALLATION, other.uid).await.unwrap();
}

/// While the rules are applied again and again, with other contents, an attacker sends all the time.
async fn rules_are_exchanged_without_a_gap(scene: &Scene<'_>, hosts: &Hosts) {
    let (r1, r2) = (&scene.guests["r1"], &scene.guests["r2"]);
    let frames = Frames::on(scene.lab, r2.host, &r2.tap());
    let spoofed = hex(&arp(r1.mac, (r1.mac, Ipv4Addr::new(10, 30, 0, 77)), r2.address, "<spoofed>"));
    let honest = hex(&arp(r1.mac, (r1.mac, r1.address), r2.address, "<honest>"));
    let script = format!(
        "n=0; while [ $n -lt 400 ]; do /frame eth0 {spoofed}; /frame eth0 {honest}; n=$((n + 1)); done; echo sent"
    );
    let attack = scene.order(hosts, "r1", &script);
    let mut attack = std::pin::pin!(attack);
    let mut applied = 0;
    let said = loop {
        let mut wanted = scene.desired("red", 0);
        if applied % 2 == 0 {
            wanted.taps.insert("as-5254000000ff".to_owned(), wanted.taps.values().next().unwrap().clone());
            wanted.taps.get_mut("as-5254000000ff").unwrap().mac = "52:54:00:00:00:ff".to_owned();
        }
        let target = scene.target(0);
        let apply = hosts.apply_network(&target, &wanted);
        match futures_select(attack.as_mut(), apply).await {
            Ok(said) => break said,
            Err(result) => result.unwrap(),
        }
        applied += 1;
    };
    assert_eq!(said, "sent");
    assert!(frames.wait_for("<honest>").await);
    println!("{applied} exchanges of the rules, {} honest frames", frames.count("<honest>"));
    assert!(applied >= 5, "{applied} exchanges prove nothing");
    assert!(frames.count("<honest>") >= 300, "{} honest frames", frames.count("<honest>"));
    assert_eq!(frames.count("<spoofed>"), 0);
    hosts.apply_network(&scene.target(0), &scene.desired("red", 0)).await.unwrap();
}

/// Whichever is ready first: the attack ends everything, an exchange that is ready comes back as an error.
async fn futures_select<A: Unpin + Future, B: Future>(attack: A, other: B) -> Result<A::Output, B::Output> {
    tokio::select! {
        biased;
        result = other => Err(result),
        said = attack => Ok(said),
    }
}
