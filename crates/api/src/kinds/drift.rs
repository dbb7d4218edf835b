//! What happens to what people changed behind Ashlar's back.

use serde::{Deserialize, Serialize};

/// What is done where others than Ashlar changed something of the cluster (`virsh edit`, `kubectl label`). Always healed,
/// since a cluster lives on them: domains that were stopped or removed, disks and nodes that are gone (by `health`), the
/// networks that Ashlar makes, filters of taps. Always told only: a bridge that people made, another server at the API's
/// address. What others made is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftRule {
    /// Whether it is put right, or told only. Either way a condition of the machine says what was declared and what was
    /// found, and an event says so once.
    #[serde(default)]
    pub policy: DriftPolicy,
}

/// What is done about drift. `heal` is the default: Ashlar starts and defines again what was stopped and removed anyway, and
/// what it declares and does not hold is hard to trust. No running machine is stopped or restarted for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// Put right. A domain whose definition was edited, or removed while it runs, is defined again as declared (memory, vCPUs,
    /// what of the host it is bound to, kernel, disks, network cards and their filter; devices that were added go): what runs
    /// goes on as it is, and takes that up at its next start. Labels and taints of nodes that Ashlar set are put back.
    #[default]
    Heal,
    /// Told. An edited definition counts from the domain's next start on; one that was removed is made again only once the
    /// domain is off, and labels and taints stay as they were changed until others are declared.
    Report,
}

impl DriftRule {
    /// Whether it is what nobody has to write.
    pub fn is_default(&self) -> bool {
        *self == DriftRule::default()
    }

    /// Whether what was changed is put right.
    pub fn heals(&self) -> bool {
        self.policy == DriftPolicy::Heal
    }
}
