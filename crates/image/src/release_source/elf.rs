//! What kind of machine a program is for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// Offset of `e_machine` in an ELF header, and its end.
const MACHINE: std::ops::Range<usize> = 18..20;

/// Why a file is no program for x86-64; none if it is one.
pub(super) fn objection(stage: &str, path: &Path) -> Result<Option<String>> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MACHINE.end as u64).read_to_end(&mut header))
        .map_err(Error::io(stage, "read", path))?;
    Ok(judge(&header))
}

fn judge(header: &[u8]) -> Option<String> {
    let (Some(rest), Some(machine)) = (header.strip_prefix(b"\x7fELF"), header.get(MACHINE)) else {
        return Some("this is no Linux program".to_owned());
    };
    // Class 2 is 64 bit, data 1 is little-endian.
    let machine = match (rest, machine) {
        ([2, 1, ..], [low, high]) => u16::from_le_bytes([*low, *high]),
        _ => return Some("this is no program for a 64-bit little-endian machine".to_owned()),
    };
    let name = match machine {
        62 => return None,
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        21 => "ppc64le".to_owned(),
        other => format!("machine number {other}"),
    };
    Some(format!("this is a program for {name}, and nodes are x86-64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_x86_64_will_do() {
        let with = |machine: u16| {
            let mut header = vec![0; 18];
            header[..6].copy_from_slice(b"\x7fELF\x02\x01");
            header.extend_from_slice(&machine.to_le_bytes());
            judge(&header)
        };
        assert_eq!(with(62), None);
        assert_eq!(with(183).unwrap(), "this is a program for aarch64, and nodes are x86-64");
        assert!(judge(b"#!/bin/sh\necho this is long enough\n").unwrap().contains("no Linux program"));
        assert!(judge(b"").is_some());
        let own = std::env::current_exe().unwrap();
        assert_eq!(objection("t", &own).unwrap().is_none(), cfg!(target_arch = "x86_64"));
    }
}
