//! A map that was read, with the changes of this plan laid over it. Nothing is copied that does not change.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// A map with changes over it.
pub(crate) struct Overlay<'a, K, V> {
    base: &'a BTreeMap<K, V>,
    changed: BTreeMap<K, Option<V>>,
}

impl<'a, K: Ord + Clone, V> Overlay<'a, K, V> {
    pub(crate) fn new(base: &'a BTreeMap<K, V>) -> Self {
        Overlay { base, changed: BTreeMap::new() }
    }

    /// To change in place: what was read is copied the first time.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V>
    where
        V: Clone,
    {
        if !self.changed.contains_key(key) {
            let value = self.base.get(key)?.clone();
            self.changed.insert(key.clone(), Some(value));
        }
        self.changed.get_mut(key)?.as_mut()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self.changed.get(key) {
            Some(change) => change.as_ref(),
            None => self.base.get(key),
        }
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.changed.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.changed.insert(key.clone(), None);
    }

    /// All that is left, ordered by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        Merge { base: self.base.iter().peekable(), changed: self.changed.iter().peekable() }
            .filter_map(|(key, value)| value.map(|value| (key, value)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

struct Merge<'m, K, V> {
    base: Peekable<btree_map::Iter<'m, K, V>>,
    changed: Peekable<btree_map::Iter<'m, K, Option<V>>>,
}

impl<'m, K: Ord, V> Iterator for Merge<'m, K, V> {
    type Item = (&'m K, Option<&'m V>);

    fn next(&mut self) -> Option<Self::Item> {
        match (self.base.peek(), self.changed.peek()) {
            (Some((base, _)), Some((changed, _))) if base < changed => {
                self.base.next().map(|(key, value)| (key, Some(value)))
            }
            (base, Some((changed, _))) => {
                if base.is_some_and(|(base, _)| base == changed) {
                    self.base.next();
                }
                self.changed.next().map(|(key, value)| (key, value.as_ref()))
            }
            (_, None) => self.base.next().map(|(key, value)| (key, Some(value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_laid_over_in_key_order() {
        let base = BTreeMap::from([(1, "a"), (3, "c"), (5, "e")]);
        let mut overlay = Overlay::new(&base);
        overlay.insert(0, "zero");
        overlay.insert(3, "C");
        overlay.remove(&5);
        overlay.insert(6, "f");
        let seen: Vec<_> = overlay.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(seen, [(0, "zero"), (1, "a"), (3, "C"), (6, "f")]);
        assert_eq!(overlay.get(&5), None);
        assert!(overlay.contains(&1));
    }
}
