//! Places at one listener, and how many of them one source may take. Strangers must not shut everybody else out.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::accept::AcceptBounds;

/// Characters of a source that is no address.
const NAME_MAX_CHARACTERS: usize = 100;

/// Where somebody comes from. An IPv6 user has a whole /64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
    /// Not an address: a simulated network.
    Named(String),
}

impl Source {
    pub(super) fn of(address: &str) -> Self {
        let Ok(address) = address.parse::<SocketAddr>() else {
            return Self::Named(address.chars().take(NAME_MAX_CHARACTERS).collect());
        };
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Self::V6(network)
            }
        }
    }
}

/// The places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Of one source.
    most: usize,
    taken: Arc<Mutex<HashMap<Source, usize>>>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    source: Source,
    taken: Arc<Mutex<HashMap<Source, usize>>>,
}

impl Places {
    fn new(all: usize, of_one_source: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(all)),
            most: of_one_source,
            taken: Arc::default(),
        }
    }

    pub(super) fn of_handshakes(bounds: &AcceptBounds) -> Self {
        Self::new(bounds.handshakes, bounds.handshakes_of_source)
    }

    pub(super) fn of_connections(bounds: &AcceptBounds) -> Self {
        Self::new(bounds.connections, bounds.connections_of_source)
    }

    /// Waits until a place is free. Safe to drop while it waits.
    pub(super) async fn free(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes the semaphore.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// Gives a free place to a source; not if that has its share.
    pub(super) fn give(&self, permit: Option<OwnedSemaphorePermit>, source: &Source) -> Option<Place> {
        let mut taken = self.taken.lock();
        let of_source = taken.entry(source.clone()).or_default();
        if *of_source >= self.most {
            return None;
        }
        *of_source += 1;
        Some(Place {
            _permit: permit,
            source: source.clone(),
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(of_source) = taken.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_address_and_by_network() {
        for (one, other, same) in [
            ("10.0.0.1:1", "10.0.0.1:2", true),
            ("10.0.0.1:1", "10.0.0.2:1", false),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1", true),
            ("[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff::2]:9", true),
            ("[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false),
            ("pipe", "pipe", true),
        ] {
            assert_eq!(Source::of(one) == Source::of(other), same, "{one} and {other}");
        }
    }

    #[tokio::test]
    async fn source_gets_its_share_and_leaves_the_rest_to_others() {
        let places = Places::new(4, 2);
        let (greedy, other) = (Source::of("10.0.0.1:1"), Source::of("10.0.0.2:1"));
        let first = places.give(places.free().await, &greedy).expect("a place");
        let second = places.give(places.free().await, &greedy).expect("a place");
        assert!(places.give(places.free().await, &greedy).is_none(), "it has its share");
        let third = places.give(places.free().await, &other);
        assert!(third.is_some(), "another source is not its affair");
        assert_eq!(places.free.available_permits(), 1, "who is refused holds no place");

        drop(first);
        assert!(places.give(places.free().await, &greedy).is_some(), "a place was freed");
        drop((second, third));
        assert!(places.taken.lock().is_empty(), "who has left is forgotten");
    }
}
