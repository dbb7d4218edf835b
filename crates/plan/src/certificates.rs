//! How long what kubeadm signed at a machine's first boot is good.
//!
//! A control plane's certificates (API server, etcd, front proxy, kubeconfigs of controllers) are made once and last a year;
//! kubelets renew their own. Nobody runs `kubeadm certs renew`: the machine is replaced in its turn, as for an upgrade.

use ashlar_api::{Machine, MachineRole};
use jiff::{SignedDuration, Timestamp};

/// kubeadm's default (`certificateValidityPeriod` of v1beta4: 8760h).
const VALIDITY: SignedDuration = SignedDuration::from_hours(365 * 24);
/// So long before they run out the machine is replaced: time enough for a person where that is held up.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(60 * 24);

/// When the first of its certificates runs out: as its API server's was seen to, or else at the earliest, since they were
/// signed after its domain was first started.
pub fn run_out_at(machine: &Machine) -> Option<Timestamp> {
    if machine.record.certificates_end_at.is_some() {
        return machine.record.certificates_end_at;
    }
    let started = machine.record.first_started_at?;
    let signs = machine.spec.role == MachineRole::ControlPlane && machine.record.joined_at.is_some();
    signs.then(|| started.checked_add(VALIDITY).ok()).flatten()
}

/// Whether it is time to replace the machine for them.
pub(crate) fn are_due(machine: &Machine, now: Timestamp) -> bool {
    run_out_at(machine).is_some_and(|at| at.duration_since(now) <= RENEWED_BEFORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_after_the_first_start_less_sixty_days() {
        let mut machine = Machine::new("demo-ctrl-1", crate::bootstrap::tests::machine());
        machine.spec.role = MachineRole::ControlPlane;
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        machine.record.first_started_at = Some(at("2026-01-01T00:00:00Z"));
        assert_eq!(run_out_at(&machine), None, "nothing is known to be signed before it joined");
        machine.record.joined_at = Some(at("2026-01-01T00:10:00Z"));
        assert_eq!(run_out_at(&machine), Some(at("2027-01-01T00:00:00Z")));
        assert!(!are_due(&machine, at("2026-11-01T23:59:59Z")));
        assert!(are_due(&machine, at("2026-11-02T00:00:00Z")));
        assert!(are_due(&machine, at("2028-01-01T00:00:00Z")));
        machine.record.certificates_end_at = Some(at("2028-06-01T00:00:00Z"));
        assert!(!are_due(&machine, at("2028-01-01T00:00:00Z")), "somebody renewed them by hand");
        machine.record.certificates_end_at = None;
        machine.spec.role = MachineRole::Worker;
        assert!(!are_due(&machine, at("2028-01-01T00:00:00Z")), "kubelets renew their own");
    }
}
