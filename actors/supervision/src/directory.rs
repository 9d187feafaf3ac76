//! The register of dynamic children.

use std::{fmt, hash::Hash, sync::Arc};

use dashmap::{DashMap, Entry};

/// A concurrent map from a key to what leads to a dynamic child: its port, or a struct of its ports.
///
/// It belongs to whoever owns the supervisor, not to a child, so no child's restart loses it. Readers
/// use it from any thread without asking an actor. A child's `on_exit` removes its entry; between a
/// crash and that call the entry leads to a closed or closing port, so a caller that hears `Down`
/// looks again.
pub struct Directory<K, V> {
    entries: Arc<DashMap<K, V>>,
}

impl<K, V> Clone for Directory<K, V> {
    fn clone(&self) -> Self {
        Self { entries: Arc::clone(&self.entries) }
    }
}

impl<K: Eq + Hash, V> fmt::Debug for Directory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("len", &self.entries.len()).finish()
    }
}

impl<K: Eq + Hash, V> Default for Directory<K, V> {
    fn default() -> Self {
        Self { entries: Arc::new(DashMap::new()) }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Directory<K, V> {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|entry| entry.value().clone())
    }

    /// The entry of `key`, or the one `make` gives, inserted before anybody else can look. Concurrent
    /// callers for one key run one `make`, which must not use the directory. The flag tells whether
    /// it ran here.
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> (V, bool) {
        match self.entries.entry(key) {
            Entry::Occupied(entry) => (entry.get().clone(), false),
            Entry::Vacant(entry) => (entry.insert(make()).value().clone(), true),
        }
    }

    /// Removes the entry of `key` if `same` says that it is the instance meant, and not one built
    /// after it. `same` must not use the directory.
    pub fn remove_if(&self, key: &K, same: impl FnOnce(&V) -> bool) -> Option<V> {
        self.entries.remove_if(key, |_, value| same(value)).map(|(_, value)| value)
    }

    /// Calls `f` for each entry, in no order. Entries inserted or removed meanwhile may be missed. `f`
    /// must not use the directory.
    pub fn for_each(&self, mut f: impl FnMut(&K, &V)) {
        for entry in self.entries.iter() {
            f(entry.key(), entry.value());
        }
    }

    /// All entries, in no order, for loops that change the directory.
    #[must_use]
    pub fn entries(&self) -> Vec<(K, V)> {
        let mut all = Vec::with_capacity(self.len());
        self.for_each(|key, value| all.push((key.clone(), value.clone())));
        all
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn concurrent_callers_for_one_key_make_one_entry() {
        let directory = Directory::<u32, usize>::new();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for key in 0..100 {
                        directory.get_or_insert_with(key, || made.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 100);
        assert_eq!(directory.len(), 100);
    }

    #[test]
    fn remove_spares_an_instance_built_after_the_one_meant() {
        let directory = Directory::new();
        let (first, inserted) = directory.get_or_insert_with("k", || Arc::new(1));
        assert!(inserted);
        directory.remove_if(&"k", |_| true).unwrap();
        let (second, _) = directory.get_or_insert_with("k", || Arc::new(2));
        assert!(directory.remove_if(&"k", |there| Arc::ptr_eq(there, &first)).is_none());
        assert!(Arc::ptr_eq(&directory.get(&"k").unwrap(), &second));
    }

    #[test]
    fn entries_can_be_removed_while_looping_over_them() {
        let directory = Directory::new();
        for key in 0..50 {
            directory.get_or_insert_with(key, || key * 2);
        }
        for (key, value) in directory.entries() {
            assert_eq!(value, key * 2);
            directory.remove_if(&key, |_| true);
        }
        assert!(directory.is_empty());
    }
}
