//! Which address of the hub is dialled next. Pure: the seed comes from the owner.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use remote_istio::transport::HubAddress;

/// Where the hub listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hubs {
    /// Dialled in a random order, so that agents spread over replicas.
    pub first: Vec<HubAddress>,
    /// Dialled after those, for when all of them are out of date.
    pub last: Vec<HubAddress>,
}

/// The order in which addresses are dialled, again and again.
pub(super) struct Addresses {
    of: Hubs,
    order: Vec<HubAddress>,
    turn: usize,
    random: StdRng,
}

impl Addresses {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            of: Hubs::default(),
            order: Vec::new(),
            turn: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The next one; nothing if there is none. A list that has changed is begun anew.
    pub(super) fn next(&mut self, hubs: &Hubs) -> Option<HubAddress> {
        if self.of != *hubs {
            self.of = hubs.clone();
            self.order.clone_from(&hubs.first);
            self.order.shuffle(&mut self.random);
            let known = |address: &&HubAddress| !hubs.first.contains(address);
            self.order.extend(hubs.last.iter().filter(known).cloned());
            self.turn = 0;
        }
        let address = self.order.get(self.turn % self.order.len().max(1)).cloned();
        self.turn = self.turn.wrapping_add(1);
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hubs(first: &[&str], last: &[&str]) -> Hubs {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
        Hubs {
            first: all(first),
            last: all(last),
        }
    }

    fn dialled(addresses: &mut Addresses, hubs: &Hubs, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| addresses.next(hubs).expect("some").to_string())
            .collect()
    }

    #[test]
    fn addresses_of_last_resort_come_after_all_others_and_once() {
        let hubs = hubs(&["a:1", "b:1", "c:1"], &["b:1", "old:1"]);
        let mut addresses = Addresses::new(1);
        let round = dialled(&mut addresses, &hubs, 4);
        assert_eq!(round[3], "old:1");
        let mut sorted = round[..3].to_vec();
        sorted.sort();
        assert_eq!(sorted, ["a:1", "b:1", "c:1"]);
        assert_eq!(dialled(&mut addresses, &hubs, 4), round, "the same order again");
    }

    #[test]
    fn new_list_is_taken_at_once_and_none_is_no_panic() {
        let mut addresses = Addresses::new(1);
        assert_eq!(addresses.next(&Hubs::default()), None);
        dialled(&mut addresses, &hubs(&["a:1", "b:1"], &[]), 3);
        assert_eq!(dialled(&mut addresses, &hubs(&["c:1"], &["a:1"]), 2), ["c:1", "a:1"]);
    }
}
