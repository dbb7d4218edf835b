//! A map of objects that are shared, not copied: a snapshot of a big pool costs as much as what changed in it.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::{Bound, Index};
use std::sync::Arc;

use ashlar_api::NamespacedName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name that is shared by all copies of a map.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Shared<K>(Arc<K>);

impl<K> Clone for Shared<K> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl Borrow<String> for Shared<String> {
    fn borrow(&self) -> &String {
        &self.0
    }
}

impl Borrow<str> for Shared<String> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<NamespacedName> for Shared<NamespacedName> {
    fn borrow(&self) -> &NamespacedName {
        &self.0
    }
}

/// Objects by name, in order. A copy shares all of them; one that is changed is copied first, alone.
pub struct Objects<K, V>(Arc<BTreeMap<Shared<K>, Arc<V>>>);

impl<K, V> Clone for Objects<K, V> {
    fn clone(&self) -> Self {
        Objects(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Objects<K, V> {
    fn default() -> Self {
        Objects(Arc::default())
    }
}

impl<K: Ord, V> Objects<K, V> {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        Shared<K>: Borrow<Q>,
    {
        self.0.get(key).map(Arc::as_ref)
    }

    /// One of them, to keep.
    pub fn get_shared<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        Shared<K>: Borrow<Q>,
    {
        self.0.get(key)
    }

    /// Whether it is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        Shared<K>: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// All of them, by name.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.iter())
    }

    /// All of them, by name, to keep.
    pub fn iter_shared(&self) -> impl Iterator<Item = (&K, &Arc<V>)> {
        self.0.iter().map(|(key, value)| (key.0.as_ref(), value))
    }

    /// Those from a name on, in the order of their names.
    pub fn from<'a, Q: Ord + ?Sized>(
        &'a self,
        first: &Q,
    ) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V, Q>
    where
        Shared<K>: Borrow<Q>,
    {
        let range = self.0.range((Bound::Included(first), Bound::Unbounded));
        range.map(|(key, value)| (key.0.as_ref(), value.as_ref()))
    }

    /// Their names.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.keys().map(|key| key.0.as_ref())
    }

    /// All of them, in the order of their names.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.0.values().map(Arc::as_ref)
    }

    /// Puts one in; gives the one that it takes the place of.
    pub fn insert(&mut self, key: K, value: impl Into<Arc<V>>) -> Option<Arc<V>> {
        let objects = Arc::make_mut(&mut self.0);
        match objects.entry(Shared(Arc::new(key))) {
            btree_map::Entry::Occupied(mut place) => Some(place.insert(value.into())),
            btree_map::Entry::Vacant(place) => {
                place.insert(value.into());
                None
            }
        }
    }

    /// Takes one out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        Shared<K>: Borrow<Q>,
    {
        if !self.0.contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.0).remove(key)
    }

    /// Whether both share all that they hold. `false` says nothing.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<K: Ord, V: Clone> Objects<K, V> {
    /// One of them, to change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        Shared<K>: Borrow<Q>,
    {
        Arc::make_mut(&mut self.0).get_mut(key).map(Arc::make_mut)
    }

    /// All of them, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        Arc::make_mut(&mut self.0).values_mut().map(Arc::make_mut)
    }
}

/// Objects by name.
pub struct Iter<'a, K, V>(btree_map::Iter<'a, Shared<K>, Arc<V>>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key.0.as_ref(), value.as_ref()))
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Objects<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Objects<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, objects: I) {
        let shared = |(key, value)| (Shared(Arc::new(key)), Arc::new(value));
        Arc::make_mut(&mut self.0).extend(objects.into_iter().map(shared));
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Objects<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(objects: I) -> Self {
        let mut all = Self::default();
        all.extend(objects);
        all
    }
}

impl<K: Ord, V, Q: Ord + ?Sized> Index<&Q> for Objects<K, V>
where
    Shared<K>: Borrow<Q>,
{
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        &self.0[key]
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Objects<K, V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.0.len() == other.0.len()
                && self.0.iter().zip(other.0.iter()).all(|((name, object), (other_name, other))| {
                    (Arc::ptr_eq(&name.0, &other_name.0) || name == other_name)
                        && (Arc::ptr_eq(object, other) || object == other)
                })
    }
}

impl<K: fmt::Debug + Ord, V: fmt::Debug> fmt::Debug for Objects<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<V: Serialize> Serialize for Objects<String, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Objects<String, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<String, V>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shares_what_is_not_changed_and_nothing_else() {
        let mut one: Objects<String, Vec<u32>> = [("a", vec![1]), ("b", vec![2])]
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect();
        let other = one.clone();
        assert!(one.is_same(&other));
        one.get_mut("a").expect("it is there").push(3);
        one.insert("c".to_owned(), vec![4]);
        assert_eq!((&one["a"], other["a"].as_slice()), (&vec![1, 3], [1].as_slice()));
        assert!(Arc::ptr_eq(one.get_shared("b").expect("there"), other.get_shared("b").expect("there")));
        assert_eq!(other.len(), 2);
        assert_ne!(one, other);
        one.remove("c");
        one.insert("a".to_owned(), vec![1]);
        assert_eq!(one, other);
        assert_eq!(one.keys().collect::<Vec<_>>(), ["a", "b"]);
    }
}
