use proptest::prelude::*;

use super::*;

fn key() -> Key {
    Key::endpoints("istio-system", "istio-pilot")
}

fn port(number: u16) -> Port {
    Port {
        name: String::new(),
        number,
        protocol: remote_istio::model::Protocol::Tcp,
        app_protocol: String::new(),
    }
}

fn set(count: u32) -> EndpointSet {
    let address = |index: u32| IpAddr::from((0x0a00_0000 + index).to_be_bytes());
    let endpoints = (1..=count).map(|index| (address(index), Endpoint::ready())).collect();
    EndpointSet {
        endpoints,
        port_sets: vec![vec![port(1)]],
    }
}

#[test]
fn hundred_addresses_fill_a_slice_and_one_more_starts_the_next() {
    assert_eq!(pack(&key(), &[], &set(100)).slices.len(), 1);
    let packing = pack(&key(), &[], &set(101));
    assert_eq!(
        packing
            .slices
            .iter()
            .map(|slice| slice.endpoints.len())
            .collect::<Vec<_>>(),
        [100, 1]
    );
}

#[test]
fn patched_address_touches_exactly_one_slice() {
    let before = pack(&key(), &[], &set(1_000)).slices;
    let mut next = set(1_000);
    next.endpoints.values_mut().nth(555).unwrap().ready = false;
    assert_eq!(pack(&key(), &before, &next).touched.len(), 1);
    assert_eq!(pack(&key(), &before, &set(1_000)).touched.len(), 0);
}

#[test]
fn new_address_takes_the_first_free_place() {
    let before = pack(&key(), &[], &set(300)).slices;
    let mut next = set(301);
    let gone = *before[1].endpoints.keys().next().unwrap();
    next.endpoints.remove(&gone);
    let packing = pack(&key(), &before, &next);
    assert_eq!(packing.slices.len(), 3);
    assert_eq!(packing.touched, [before[1].name.clone()].into());
}

#[test]
fn empty_set_has_one_empty_slice_of_ipv4() {
    let packing = pack(&key(), &[], &set(0));
    assert_eq!(
        packing
            .slices
            .iter()
            .map(|slice| (slice.ipv6, slice.endpoints.len()))
            .collect::<Vec<_>>(),
        [(false, 0)]
    );
    let emptied = pack(&key(), &pack(&key(), &[], &set(250)).slices, &set(0));
    assert_eq!(emptied.slices.len(), 1);
    assert_eq!(emptied.slices[0].name, packing.slices[0].name);
}

#[test]
fn new_ports_stay_in_their_slices() {
    let before = pack(&key(), &[], &set(150)).slices;
    let next = EndpointSet {
        port_sets: vec![vec![port(2)]],
        ..set(150)
    };
    let packing = pack(&key(), &before, &next);
    let names = |slices: &[Packed]| slices.iter().map(|slice| slice.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&packing.slices), names(&before));
    assert!(packing.slices.iter().all(|slice| slice.ports == [port(2)]));
}

#[test]
fn families_and_ports_never_share_a_slice() {
    let mut mixed = EndpointSet {
        port_sets: vec![vec![port(1)], vec![port(2)]],
        ..set(2)
    };
    mixed.endpoints.insert("fd00::1".parse().unwrap(), Endpoint::ready());
    mixed.endpoints.insert(
        "fd00::2".parse().unwrap(),
        Endpoint {
            port_set: 1,
            ..Endpoint::ready()
        },
    );
    let packing = pack(&key(), &[], &mixed);
    let mut groups: Vec<(bool, u32, usize)> = packing
        .slices
        .iter()
        .map(|slice| (slice.ipv6, slice.port_set, slice.endpoints.len()))
        .collect();
    groups.sort_unstable();
    assert_eq!(groups, [(false, 0, 2), (true, 0, 1), (true, 1, 1)]);
}

/// Indices of addresses, port set of each.
fn some_set() -> impl Strategy<Value = EndpointSet> {
    proptest::collection::btree_map(1_u32..600, (0_u32..2, any::<bool>(), any::<bool>()), 0..400).prop_map(|entries| {
        let entry = |(index, (port_set, ready, ipv6)): (u32, (u32, bool, bool))| {
            let address = if ipv6 {
                IpAddr::from((0xfd00_u128 << 112 | u128::from(index)).to_be_bytes())
            } else {
                IpAddr::from((0x0a00_0000 + index).to_be_bytes())
            };
            (
                address,
                Endpoint {
                    ready,
                    port_set,
                    ..Endpoint::ready()
                },
            )
        };
        let endpoints = entries.into_iter().map(entry).collect();
        EndpointSet {
            endpoints,
            port_sets: vec![vec![port(1)], vec![port(2)]],
        }
    })
}

proptest! {
    #[test]
    fn slices_always_hold_exactly_the_set(sets in proptest::collection::vec(some_set(), 1..6)) {
        let mut slices = Vec::new();
        for set in &sets {
            let packing = pack(&key(), &slices, set);
            for slice in &packing.slices {
                let before = slices.iter().find(|before: &&Packed| before.name == slice.name);
                prop_assert_eq!(packing.touched.contains(&slice.name), before != Some(slice));
                prop_assert!(slice.endpoints.len() <= limits::ADDRESSES_PER_SLICE);
                prop_assert_eq!(&slice.ports, &set.port_sets[slice.port_set as usize]);
                let fits = |(address, endpoint): (&IpAddr, &Endpoint)| {
                    address.is_ipv6() == slice.ipv6 && endpoint.port_set == slice.port_set
                };
                prop_assert!(slice.endpoints.iter().all(fits));
            }
            let union: BTreeMap<IpAddr, Endpoint> =
                packing.slices.iter().flat_map(|slice| slice.endpoints.clone()).collect();
            let total: usize = packing.slices.iter().map(|slice| slice.endpoints.len()).sum();
            prop_assert_eq!(&union, &set.endpoints);
            prop_assert_eq!(total, union.len());
            slices = packing.slices;
        }
    }
}
