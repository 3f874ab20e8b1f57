//! What a watch has seen of one kind, by name, with what this process wrote itself. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Resource;

use super::follow::position;

/// All objects of one kind in one namespace, as far as is known.
#[derive(Debug)]
pub(crate) struct Mirror<K> {
    by_name: BTreeMap<String, Arc<K>>,
    /// How far the watch is known to have come. What is not newer and not here was deleted, whoever says otherwise.
    reached: u64,
}

/// What became of one object.
#[derive(Debug)]
pub(crate) struct Change<K> {
    pub(crate) name: String,
    pub(crate) before: Option<Arc<K>>,
    pub(crate) after: Option<Arc<K>>,
}

impl<K> Default for Mirror<K> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
            reached: 0,
        }
    }
}

impl<K: Resource> Mirror<K> {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<K>> {
        self.by_name.get(name).cloned()
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<K>> {
        self.by_name.values()
    }

    /// A list as of `position` is the truth, whatever was known. What was written since arrives by the watch that
    /// starts from it.
    pub(crate) fn listed(&mut self, objects: Vec<K>, position: u64) -> Vec<Change<K>> {
        self.reached = position;
        let listed = objects.into_iter().filter_map(|object| {
            let name = object.meta().name.clone()?;
            Some((name, Arc::new(object)))
        });
        let mut before = std::mem::replace(&mut self.by_name, listed.collect());
        let mut changes = Vec::new();
        for (name, after) in &self.by_name {
            let before = before.remove(name);
            if before.as_ref().is_none_or(|before| differ(&**before, &**after)) {
                changes.push(Change {
                    name: name.clone(),
                    before,
                    after: Some(Arc::clone(after)),
                });
            }
        }
        changes.extend(before.into_iter().map(|(name, before)| Change {
            name,
            before: Some(before),
            after: None,
        }));
        changes
    }

    /// New or changed, seen or written. Nothing comes of one that is not newer than what is known, nor of one that was
    /// written before its deletion was seen and whose answer comes afterwards.
    pub(crate) fn applied(&mut self, object: K) -> Option<Change<K>> {
        let name = object.meta().name.clone()?;
        let known = self.by_name.get(&name);
        if known.is_some_and(|known| version(&**known) >= version(&object) && !differ_in_uid(&**known, &object)) {
            return None;
        }
        if known.is_none() && version(&object) <= self.reached {
            return None;
        }
        let after = Arc::new(object);
        let before = self.by_name.insert(name.clone(), Arc::clone(&after));
        Some(Change {
            name,
            before,
            after: Some(after),
        })
    }

    /// Gone, unless what is known was made afterwards.
    pub(crate) fn deleted(&mut self, object: &K) -> Option<Change<K>> {
        let name = object.meta().name.as_ref()?;
        self.reached = self.reached.max(version(object));
        let known = self.by_name.get(name)?;
        if version(&**known) > version(object) {
            return None;
        }
        let before = self.by_name.remove(name);
        Some(Change {
            name: name.clone(),
            before,
            after: None,
        })
    }
}

fn version<K: Resource>(object: &K) -> u64 {
    position(object.meta().resource_version.as_deref().unwrap_or_default())
}

fn differ<K: Resource>(one: &K, other: &K) -> bool {
    one.meta().resource_version != other.meta().resource_version || differ_in_uid(one, other)
}

fn differ_in_uid<K: Resource>(one: &K, other: &K) -> bool {
    one.meta().uid != other.meta().uid
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                uid: Some(uid.to_owned()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn held(mirror: &Mirror<ConfigMap>) -> Vec<(String, u64)> {
        let name = |object: &ConfigMap| object.metadata.name.clone().unwrap_or_default();
        mirror
            .objects()
            .map(|object| (name(object), version(&**object)))
            .collect()
    }

    #[test]
    fn what_was_written_is_not_undone_by_an_older_event() {
        let mut mirror = Mirror::default();
        assert!(mirror.applied(object("a", "u", 5)).is_some());
        assert!(mirror.applied(object("a", "u", 4)).is_none());
        assert!(mirror.applied(object("a", "u", 5)).is_none());
        assert!(mirror.deleted(&object("a", "t", 3)).is_none());
        assert_eq!(held(&mirror), [("a".to_owned(), 5)]);
        assert!(mirror.deleted(&object("a", "u", 6)).is_some());
        assert_eq!(held(&mirror), []);
    }

    #[test]
    fn list_replaces_everything_and_tells_what_differs() {
        let mut mirror = Mirror::default();
        mirror.listed(vec![object("a", "u", 1), object("b", "u", 2), object("c", "u", 3)], 3);
        let changes = mirror.listed(vec![object("a", "u", 1), object("b", "u", 9), object("d", "u", 4)], 9);
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.name.as_str(), change.before.is_some(), change.after.is_some()))
            .collect();
        assert_eq!(told, [("b", true, true), ("d", false, true), ("c", true, false)]);
        assert_eq!(
            held(&mirror),
            [("a".to_owned(), 1), ("b".to_owned(), 9), ("d".to_owned(), 4)]
        );
    }

    #[test]
    fn list_of_a_restored_store_counts_although_its_versions_are_lower() {
        let mut mirror = Mirror::default();
        mirror.applied(object("a", "u", 100));
        mirror.listed(vec![object("a", "u", 7)], 8);
        assert_eq!(held(&mirror), [("a".to_owned(), 7)]);
        assert!(mirror.applied(object("b", "u", 9)).is_some(), "newer than the list");
    }

    #[test]
    fn answer_that_comes_after_the_deletion_brings_nothing_back() {
        let mut mirror = Mirror::default();
        mirror.applied(object("a", "u", 5));
        assert!(mirror.deleted(&object("a", "u", 8)).is_some());
        assert!(mirror.applied(object("a", "u", 7)).is_none());
        assert_eq!(held(&mirror), []);
        assert!(mirror.applied(object("a", "v", 9)).is_some(), "made anew afterwards");

        // The deletion was missed, and a list shows that it is gone.
        mirror.listed(Vec::new(), 20);
        assert!(mirror.applied(object("a", "v", 19)).is_none());
        assert_eq!(held(&mirror), []);
    }
}
