//! Names and revisions, as etcd has them.

use crate::{Key, Revision, StoreError};

/// A key of the store's own, beside the objects.
pub(super) fn beside(prefix: &str, name: &str) -> Vec<u8> {
    format!("{}/{name}", prefix.trim_end_matches('/')).into_bytes()
}

/// Between the parts of a name. It is in no name (`Key::validate`) and sorts before all that is, so that etcd's order
/// is that of [`Key`].
const SEPARATOR: u8 = 0;

/// Where the objects lie.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Keys { prefix: beside(prefix, "objects/") }
    }

    /// An object's.
    pub(super) fn of(&self, key: &Key) -> Vec<u8> {
        let mut bytes = self.prefix.clone();
        bytes.extend_from_slice(key.kind.as_bytes());
        for part in [&key.namespace, &key.name] {
            bytes.push(SEPARATOR);
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }

    /// From the first to behind the last of a kind and namespace.
    pub(super) fn range(&self, kind: Option<&str>, namespace: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let mut first = self.prefix.clone();
        if let Some(kind) = kind {
            first.extend_from_slice(kind.as_bytes());
            first.push(SEPARATOR);
            if let Some(namespace) = namespace {
                first.extend_from_slice(namespace.as_bytes());
                first.push(SEPARATOR);
            }
        }
        let end = behind(&first);
        (first, end)
    }

    /// What an object's name was.
    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Key, StoreError> {
        let parse = || {
            let text = std::str::from_utf8(bytes.strip_prefix(self.prefix.as_slice())?).ok()?;
            let mut parts = text.split(char::from(SEPARATOR));
            let key = Key::new(parts.next()?, parts.next()?, parts.next()?);
            parts.next().is_none().then_some(key)
        };
        parse().ok_or_else(|| {
            let name = String::from_utf8_lossy(bytes).into_owned();
            StoreError::unavailable(format!("etcd has `{name}` among the objects, which no Ashlar wrote"))
        })
    }
}

/// The end of the range of all names that begin so.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Everything from there on.
    vec![0]
}

/// From etcd's revisions to the store's. etcd counts its own birth: a store that nothing was ever written to is at 1.
/// A store that came from elsewhere goes on from where it was there: its revisions are larger by a base.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counting {
    pub(super) base: u64,
}

impl Counting {
    pub(super) fn of(self, revision: i64) -> Revision {
        Revision(self.base.saturating_add(u64::try_from(revision.saturating_sub(1)).unwrap_or_default()))
    }

    /// The other way. What is from before the store's time becomes 1, at which no object was ever written.
    pub(super) fn in_etcd(self, revision: Revision) -> i64 {
        i64::try_from(revision.0.saturating_sub(self.base)).unwrap_or(i64::MAX).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_sort_as_keys_do() {
        let keys = Keys::new("/ashlar/");
        let mut all = vec![
            Key::new("Machine", "a", "z"),
            Key::new("Machine", "a-b", "a"),
            Key::new("Machine", "a.b", "a"),
            Key::new("Machine", "", "pool"),
            Key::new("MachineClass", "", "a"),
            Key::cluster_scoped("Host", "h1"),
        ];
        let mut bytes: Vec<Vec<u8>> = all.iter().map(|key| keys.of(key)).collect();
        all.sort();
        bytes.sort();
        let parsed: Vec<Key> = bytes.iter().map(|bytes| keys.parse(bytes).expect("ours")).collect();
        assert_eq!(parsed, all);
        assert!(keys.parse(b"/ashlar/objects/Host").is_err());
        assert!(keys.parse(b"/other").is_err());
    }

    #[test]
    fn ranges_hold_a_kind_or_a_namespace_and_no_other() {
        let keys = Keys::new("/ashlar");
        let holds = |kind, namespace, key: &Key| {
            let (first, end) = keys.range(kind, namespace);
            let bytes = keys.of(key);
            first <= bytes && bytes < end
        };
        let machine = Key::new("Machine", "a", "z");
        assert!(holds(None, None, &machine) && holds(Some("Machine"), None, &machine));
        assert!(holds(Some("Machine"), Some("a"), &machine) && !holds(Some("Machine"), Some(""), &machine));
        assert!(!holds(Some("Machine"), None, &Key::new("MachineClass", "", "a")));
        assert!(!holds(Some("Machine"), Some("a"), &Key::new("Machine", "a-b", "z")));
        assert!(holds(Some("Host"), Some(""), &Key::cluster_scoped("Host", "h1")));
    }

    #[test]
    fn an_empty_etcd_is_an_empty_store() {
        let counting = Counting::default();
        assert_eq!((counting.of(1), counting.in_etcd(Revision(0))), (Revision(0), 1));
        assert_eq!(counting.of(counting.in_etcd(Revision(41))), Revision(41));
        assert_eq!(counting.in_etcd(Revision(u64::MAX)), i64::MAX);
    }

    #[test]
    fn a_store_that_came_from_elsewhere_counts_on() {
        let counting = Counting { base: 500 };
        assert_eq!((counting.of(7), counting.in_etcd(Revision(506))), (Revision(506), 7));
        // Revisions from before are those of no object: etcd writes none at 1.
        assert_eq!((counting.in_etcd(Revision(499)), counting.in_etcd(Revision(0))), (1, 1));
    }
}
