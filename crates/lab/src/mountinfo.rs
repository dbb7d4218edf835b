//! `/proc/PID/mountinfo`, as far as a lab needs it (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::LabError;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// `major:minor` of the file system.
    pub(crate) device: String,
    pub(crate) mount_point: PathBuf,
    pub(crate) fs_type: String,
    pub(crate) source: String,
    pub(crate) super_options: Vec<String>,
}

/// The mounts that the calling thread sees.
pub(crate) fn of_this_thread() -> Result<Vec<Mount>, LabError> {
    let path = "/proc/thread-self/mountinfo";
    Ok(parse(&fs::read_to_string(path).map_err(LabError::io("read", path))?))
}

/// Parses the file; lines that do not have its shape are left out.
pub(crate) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    // 36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    let (left, right) = line.split_once(" - ")?;
    let left: Vec<&str> = left.split(' ').collect();
    let device = (*left.get(2)?).to_owned();
    let mount_point = unescape(left.get(4)?);
    let mut right = right.split(' ');
    let fs_type = right.next()?.to_owned();
    let source = right.next().unwrap_or("").to_owned();
    let super_options = right.next().unwrap_or("").split(',').map(str::to_owned).collect();
    Some(Mount { device, mount_point, fs_type, source, super_options })
}

/// Blanks in paths are written in octal: `\040`.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| field.get(at + 1..at + 4)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                at += 4;
            }
            None => {
                path.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_fields_and_escapes_are_read() {
        let mounts = parse(
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             40 1 8:1 /a /mnt/my\\040disk rw shared:3 master:2 - ext4 /dev/sda1 rw,discard\n\
             garbage\n",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].fs_type, "cgroup");
        assert_eq!((mounts[1].device.as_str(), mounts[1].source.as_str()), ("8:1", "/dev/sda1"));
        assert_eq!(mounts[0].super_options, ["rw", "cpu"]);
        assert_eq!(mounts[1].mount_point, PathBuf::from("/mnt/my disk"));
        assert_eq!(mounts[1].fs_type, "ext4");
    }
}
