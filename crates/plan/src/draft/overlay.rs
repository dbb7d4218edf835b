//! A map that was read, with the changes of this plan laid over it. Nothing is copied that does not change.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use crate::Objects;
use crate::objects::{Iter, Shared};

/// A map with changes over it.
pub(crate) struct Overlay<'a, K, V> {
    base: &'a Objects<K, V>,
    changed: BTreeMap<K, Option<Arc<V>>>,
}

impl<'a, K: Ord + Clone, V> Overlay<'a, K, V>
where
    Shared<K>: Borrow<K>,
{
    pub(crate) fn new(base: &'a Objects<K, V>) -> Self {
        Overlay { base, changed: BTreeMap::new() }
    }

    /// To change in place: what was read is copied the first time.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V>
    where
        V: Clone,
    {
        if !self.changed.contains_key(key) {
            let value = Arc::clone(self.base.get_shared(key)?);
            self.changed.insert(key.clone(), Some(value));
        }
        self.changed.get_mut(key)?.as_mut().map(Arc::make_mut)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.get_shared(key).map(Arc::as_ref)
    }

    /// One of them, to keep.
    pub(crate) fn get_shared(&self, key: &K) -> Option<&Arc<V>> {
        match self.changed.get(key) {
            Some(change) => change.as_ref(),
            None => self.base.get_shared(key),
        }
    }

    /// What became of one that was read.
    pub(crate) fn now<'o>(&'o self, key: &K, read: &'o Arc<V>) -> Option<&'o Arc<V>> {
        self.changed.get(key).map_or(Some(read), Option::as_ref)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn insert(&mut self, key: K, value: impl Into<Arc<V>>) {
        self.changed.insert(key, Some(value.into()));
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.changed.insert(key.clone(), None);
    }

    /// What was changed or is new.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&K, &V)> {
        self.changed.iter().filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }

    /// Whether nothing was changed.
    pub(crate) fn is_as_read(&self) -> bool {
        self.changed.is_empty()
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
    base: Peekable<Iter<'m, K, V>>,
    changed: Peekable<btree_map::Iter<'m, K, Option<Arc<V>>>>,
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
                self.changed.next().map(|(key, value)| (key, value.as_deref()))
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
        let key = |number: u32| number.to_string();
        let base: Objects<String, &str> = [(key(1), "a"), (key(3), "c"), (key(5), "e")].into_iter().collect();
        let mut overlay = Overlay::new(&base);
        overlay.insert(key(0), "zero");
        overlay.insert(key(3), "C");
        overlay.remove(&key(5));
        overlay.insert(key(6), "f");
        let seen: Vec<_> = overlay.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(seen, [("0", "zero"), ("1", "a"), ("3", "C"), ("6", "f")]);
        assert_eq!(overlay.get(&key(5)), None);
        assert!(overlay.contains(&key(1)));
    }
}
