//! Ethernet frames of attackers and of honest nodes. Each carries a mark, by which a capture finds it.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

/// A MAC as text.
pub(crate) fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// The address that a node makes of its MAC.
pub(crate) fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f].into()
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// An ARP answer that claims an address.
pub(crate) fn arp(from: [u8; 6], claims: ([u8; 6], Ipv4Addr), to: Ipv4Addr, mark: &str) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let body = [&head[..], &claims.0, &claims.1.octets(), &BROADCAST, &to.octets(), mark.as_bytes()].concat();
    ethernet(BROADCAST, from, 0x0806, &body)
}

/// What QEMU sends for a guest that has moved.
pub(crate) fn rarp(from: [u8; 6], announces: [u8; 6], mark: &str) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 3];
    let body = [&head[..], &announces, &[0; 4], &announces, &[0; 4], mark.as_bytes()].concat();
    ethernet(BROADCAST, from, 0x8035, &body)
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// A datagram.
pub(crate) struct Datagram<'m> {
    pub(crate) to_mac: [u8; 6],
    pub(crate) from_mac: [u8; 6],
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) ports: (u16, u16),
    pub(crate) mark: &'m str,
}

impl Datagram<'_> {
    fn packet(&self) -> Vec<u8> {
        let payload = self.mark.as_bytes();
        let length = u16::try_from(8 + payload.len()).unwrap();
        let udp = [
            &self.ports.0.to_be_bytes()[..],
            &self.ports.1.to_be_bytes(),
            &length.to_be_bytes(),
            // No checksum, as IPv4 allows.
            &[0, 0],
            payload,
        ]
        .concat();
        let total = u16::try_from(20 + udp.len()).unwrap().to_be_bytes();
        let mut head =
            [&[0x45, 0][..], &total, &[0, 1, 0, 0, 64, 17, 0, 0], &self.from.octets(), &self.to.octets()]
                .concat();
        let checksum = sum(&head).to_be_bytes();
        head[10..12].copy_from_slice(&checksum);
        [head, udp].concat()
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(self.to_mac, self.from_mac, 0x0800, &self.packet())
    }

    /// In a VLAN of the sender's choice.
    pub(crate) fn tagged(&self, tag: u16) -> Vec<u8> {
        let inner = [&tag.to_be_bytes()[..], &[0x08, 0x00], &self.packet()].concat();
        ethernet(self.to_mac, self.from_mac, 0x8100, &inner)
    }
}

/// An ICMPv6 message to all nodes: 134 is a router advertisement, 128 an echo request.
pub(crate) fn icmp6(from_mac: [u8; 6], from: Ipv6Addr, kind: u8, mark: &str) -> Vec<u8> {
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let mut body = [&[kind, 0, 0, 0][..], &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0], mark.as_bytes()].concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let pseudo = [&from.octets()[..], &all.octets(), &length, &[0, 0, 0, 58], &body].concat();
    let checksum = sum(&pseudo).to_be_bytes();
    body[2..4].copy_from_slice(&checksum);
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let packet = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &from.octets(), &all.octets(), &body].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], from_mac, 0x86dd, &packet)
}

/// As hexadecimal digits.
pub(crate) fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
