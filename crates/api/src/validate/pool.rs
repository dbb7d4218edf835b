//! Storage pools.

use super::Report;
use crate::{StoragePoolSpec, names::quoted};

pub(super) fn check(report: &mut Report<'_>, spec: &StoragePoolSpec) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if spec.libvirt_name.is_empty() {
        report.add("spec.libvirtName", "is empty: name the pool as `virsh pool-list` does");
    } else if !spec.libvirt_name.chars().all(is_plain) || spec.libvirt_name.starts_with('-') {
        report.add("spec.libvirtName", format!("{} is not a pool's name", quoted(&spec.libvirt_name)));
    }
    if !(1..=100).contains(&spec.max_fill_percent) {
        report.add("spec.maxFillPercent", format!("{} is outside of 1 to 100", spec.max_fill_percent));
    }
}
