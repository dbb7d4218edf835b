//! What etcd's alarms say. Every member tells all of them, whichever member they are about.

use std::collections::BTreeSet;

use ashlar_plan::EtcdStatus;

/// Members that hold other data than the rest. Their databases have digests that fit all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Corrupt {
    members: BTreeSet<u64>,
    /// etcd saw that they differ, and not who is wrong.
    is_anybody: bool,
}

impl Corrupt {
    /// What members tell of it (`memberID:7 alarm:CORRUPT`; without an id where no majority agrees).
    pub(super) fn told<'s>(statuses: impl IntoIterator<Item = &'s EtcdStatus>) -> Self {
        let mut corrupt = Corrupt::default();
        let errors = statuses.into_iter().flat_map(|status| &status.errors);
        for error in errors.filter(|error| error.contains("CORRUPT")) {
            match member(error) {
                Some(id) if id != 0 => _ = corrupt.members.insert(id),
                _ => corrupt.is_anybody = true,
            }
        }
        corrupt
    }

    /// Whether there is such an alarm.
    pub(super) fn is_told(&self) -> bool {
        self.is_anybody || !self.members.is_empty()
    }

    /// Whether the member's data may be what is wrong.
    pub(super) fn may_be(&self, member: u64) -> bool {
        self.is_anybody || self.members.contains(&member)
    }
}

fn member(error: &str) -> Option<u64> {
    let (_, rest) = error.split_once("memberID:")?;
    rest.trim_start().split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[&str]) -> Corrupt {
        let errors = errors.iter().map(|error| (*error).to_owned()).collect();
        Corrupt::told([&EtcdStatus {
            member_id: 1,
            leader: Some(1),
            is_learner: false,
            errors,
            version: String::new(),
            db_size_bytes: 0,
            db_used_bytes: 0,
        }])
    }

    #[test]
    fn whom_an_alarm_means() {
        // The text is protobuf's, which puts more or fewer blanks between fields from one build to the next.
        for text in [
            "memberID:13803658152347727308 alarm:CORRUPT ",
            "memberID:13803658152347727308  alarm:CORRUPT",
            "memberID: 13803658152347727308 alarm: CORRUPT",
        ] {
            let corrupt = told(&["etcdserver: no leader", text]);
            assert!(corrupt.is_told() && corrupt.may_be(13_803_658_152_347_727_308), "{text}");
            assert!(!corrupt.may_be(7), "{text}");
        }
        for text in ["alarm:CORRUPT", "memberID:0 alarm:CORRUPT", "memberID:x alarm:CORRUPT"] {
            assert!(told(&[text]).may_be(7), "{text}: nobody knows who");
        }
        for errors in [&[][..], &["memberID:7 alarm:NOSPACE"], &["etcdserver: no leader"]] {
            let none = told(errors);
            assert!(!none.is_told() && !none.may_be(7), "{errors:?}");
        }
    }
}
