//! Finds out what vanished while a watch did not look: kube's watcher says only what a new list holds. Pure.

use std::collections::BTreeSet;

use crate::engine::ObjectName;

/// The objects one watch knows of.
#[derive(Debug, Default)]
pub struct Relist {
    known: BTreeSet<ObjectName>,
    listing: Option<BTreeSet<ObjectName>>,
}

impl Relist {
    /// A list begins; an unfinished earlier one counts for nothing.
    pub fn begins(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// Whether a list is under way.
    #[must_use]
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// The object is there.
    pub fn present(&mut self, name: ObjectName) {
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        self.known.insert(name);
    }

    /// The object is gone.
    pub fn gone(&mut self, name: &ObjectName) {
        if let Some(listing) = &mut self.listing {
            listing.remove(name);
        }
        self.known.remove(name);
    }

    /// The list is complete: what it no longer holds.
    pub fn ends(&mut self) -> Vec<ObjectName> {
        let Some(listing) = self.listing.take() else {
            return Vec::new();
        };
        let vanished = self.known.difference(&listing).cloned().collect();
        self.known = listing;
        vanished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Kind;

    fn name(name: &str) -> ObjectName {
        ObjectName {
            kind: Kind::Service,
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    fn list(relist: &mut Relist, names: &[&str]) -> Vec<ObjectName> {
        relist.begins();
        for text in names {
            relist.present(name(text));
        }
        relist.ends()
    }

    #[test]
    fn object_that_a_later_list_lacks_has_vanished_once() {
        let mut relist = Relist::default();
        assert_eq!(list(&mut relist, &["a", "b"]), []);
        relist.present(name("c"));
        relist.gone(&name("b"));
        assert_eq!(list(&mut relist, &["a", "d"]), [name("c")]);
        assert_eq!(list(&mut relist, &["a", "d"]), []);
    }

    #[test]
    fn list_that_was_broken_off_makes_nothing_vanish() {
        let mut relist = Relist::default();
        assert_eq!(list(&mut relist, &["a", "b"]), []);
        relist.begins();
        relist.present(name("a"));
        assert_eq!(list(&mut relist, &["a", "b"]), []);
    }
}
