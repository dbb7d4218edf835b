//! A machine on its way to another host, alive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Machine, MachineVolume, MachineVolumeRole};

/// A live migration that was decided on. It is over when the machine's spec names the target, or when it was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Migration {
    /// The host that it goes to.
    pub to: String,
    /// Its disks there; they are filled as it moves.
    pub volumes: Vec<MachineVolume>,
    /// Volume with the image's root disk there.
    pub disk_volume: String,
    /// Volume with the kernel there.
    pub kernel_volume: String,
    /// Volume with the initrd there.
    pub initrd_volume: String,
    /// When it was decided.
    #[schemars(with = "crate::schema::TimeText")]
    pub decided_at: Timestamp,
    /// Why that host, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How often the call failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_failure: String,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub failed_at: Option<Timestamp>,
    /// When it was certain that all of it is at the target, and that it ran at its source no more after that: from then on what
    /// the target has is the machine. It goes on there only once this stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub arrived_at: Option<Timestamp>,
    /// When it was seen to run at its source, and what is at the target was not, or was the half of a call that failed: that gets old.
    /// Taken away before it is tried again, once nothing is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub went_on_at: Option<Timestamp>,
}

impl Migration {
    /// Whether it is the same one, whatever became of it since.
    pub fn is(&self, other: &Migration) -> bool {
        self.to == other.to && self.volumes == other.volumes
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A machine that was not moved alive from a host that is being emptied, after it was tried: it is replaced instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotMigrated {
    /// The host that it was to leave.
    pub from: String,
    /// Why not.
    pub message: String,
}

impl Machine {
    /// What the machine is once it has moved; none if it is not about to.
    pub fn moved(&self) -> Option<Machine> {
        let migration = self.record.migration.as_ref()?;
        let mut moved = self.clone();
        moved.metadata.generation += 1;
        moved.record.migration = None;
        let spec = &mut moved.spec;
        spec.host.clone_from(&migration.to);
        spec.image.disk_volume.clone_from(&migration.disk_volume);
        spec.image.kernel_volume.clone_from(&migration.kernel_volume);
        spec.image.initrd_volume.clone_from(&migration.initrd_volume);
        // Its seed was spent where it began.
        spec.volumes.retain(|volume| volume.role == MachineVolumeRole::Seed);
        spec.volumes.splice(0..0, migration.volumes.iter().cloned());
        Some(moved)
    }

    /// The hosts that have a claim of it: its own, and the one that it is on its way to.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let to = self.record.migration.as_ref().map(|migration| migration.to.as_str());
        std::iter::once(self.spec.host.as_str()).chain(to)
    }

    /// Names of its volumes, those at the end of its way among them.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        let there = self.record.migration.iter().flat_map(|migration| &migration.volumes);
        self.spec.volumes.iter().chain(there).map(|volume| volume.name.as_str())
    }
}
