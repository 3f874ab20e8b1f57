//! Whatever the order in which the watches tell it, the same world ends in the same versions.

use proptest::prelude::*;

use super::*;

/// What three watches say, each in its own order.
#[derive(Clone, Debug)]
enum Event {
    Pods(Vec<PodView>),
    Pod(PodView),
    PodGone(String),
    Services(Vec<ServiceView>),
    Service(ServiceView),
    ServiceGone(String),
    Remotes(Vec<RemoteView>),
    Remote(RemoteView),
    RemoteGone(RemoteName),
}

fn play(index: &mut Index, event: Event, at: u64) -> Touched {
    match event {
        Event::Pods(pods) => index.pods_listed(NAMESPACE, pods, at, at),
        Event::Pod(pod) => index.pod_applied(pod, at),
        Event::PodGone(name) => index.pod_deleted(NAMESPACE, &name, at, at),
        Event::Services(services) => index.services_listed(NAMESPACE, services, at, at),
        Event::Service(service) => index.service_applied(service, at),
        Event::ServiceGone(name) => index.service_deleted(NAMESPACE, &name, at, at),
        Event::Remotes(remotes) => index.remotes_listed(remotes, at),
        Event::Remote(remote) => index.remote_applied(remote, at),
        Event::RemoteGone(name) => index.remote_deleted(&name),
    }
}

/// Of one remote: each lane with its hash and whether it is released, the services, the problems.
type Published = (RemoteName, Vec<(Lane, String, bool)>, Vec<ServiceDesired>, Vec<Problem>);

/// What is published, without positions and times.
fn published(index: &Index) -> Vec<Published> {
    let of_remote = |name: &RemoteName| {
        let desired = index.desired(name).expect("named");
        let lanes = desired.lanes.iter();
        let lanes = lanes.map(|(lane, snapshot)| (*lane, snapshot.hash().to_string(), snapshot.released()));
        (
            name.clone(),
            lanes.collect(),
            desired.services.clone(),
            desired.problems.clone(),
        )
    };
    index.remote_names().map(of_remote).collect()
}

fn any_pod() -> impl Strategy<Value = PodView> {
    let label = prop::sample::select(vec!["app=a", "app=b", "app=a,x=y"]);
    (1..5_u8, label, any::<bool>(), any::<bool>(), 1..6_u8, 1..4_u16).prop_map(
        |(number, label, ready, terminating, address, named)| PodView {
            ready,
            terminating,
            ports: vec![NamedPort {
                name: "http".to_owned(),
                number: named,
                protocol: Protocol::Tcp,
            }],
            ..pod(&format!("pod-{number}"), label, &format!("10.0.0.{address}"))
        },
    )
}

fn any_service() -> impl Strategy<Value = ServiceView> {
    let name = prop::sample::select(vec!["a", "b"]);
    let selector = prop::sample::select(vec!["", "app=a", "app=b"]);
    let target = prop_oneof![Just(Target::Number(8080)), Just(Target::Name("http".to_owned()))];
    (name, selector, target, 80..82_u16)
        .prop_map(|(name, selector, target, number)| service(name, selector, &[port("http", number, target)]))
}

fn any_remote() -> impl Strategy<Value = RemoteView> {
    let name = prop::sample::select(vec!["r1", "r2"]);
    let selector = || prop::sample::select(vec!["", "app=a", "app in (a,b),!x", "app!=a"]);
    (name, selector(), selector(), 0..3_usize, any::<bool>()).prop_map(|(name, first, second, count, gone)| {
        let view = remote(name, &[enabled("a", first), enabled("b", second)][..count.min(2)]);
        if gone && count == 2 { deleting(&view) } else { view }
    })
}

fn any_pods() -> impl Strategy<Value = Vec<Event>> {
    let list = prop::collection::vec(any_pod(), 0..4).prop_map(Event::Pods);
    let event = prop_oneof![
        4 => any_pod().prop_map(Event::Pod),
        2 => (1..5_u8).prop_map(|number| Event::PodGone(format!("pod-{number}"))),
        1 => prop::collection::vec(any_pod(), 0..4).prop_map(Event::Pods),
    ];
    listed_first(list, event)
}

fn any_services() -> impl Strategy<Value = Vec<Event>> {
    let list = prop::collection::vec(any_service(), 0..3).prop_map(Event::Services);
    let event = prop_oneof![
        3 => any_service().prop_map(Event::Service),
        1 => prop::sample::select(vec!["a", "b"]).prop_map(|name| Event::ServiceGone(name.to_owned())),
    ];
    listed_first(list, event)
}

fn any_remotes() -> impl Strategy<Value = Vec<Event>> {
    let list = prop::collection::vec(any_remote(), 0..3).prop_map(Event::Remotes);
    let event = prop_oneof![
        3 => any_remote().prop_map(Event::Remote),
        1 => prop::sample::select(vec!["r1", "r2"]).prop_map(|text| Event::RemoteGone(name(text))),
    ];
    listed_first(list, event)
}

fn listed_first(
    list: impl Strategy<Value = Event>,
    event: impl Strategy<Value = Event>,
) -> impl Strategy<Value = Vec<Event>> {
    (list, prop::collection::vec(event, 0..8)).prop_map(|(list, events)| [vec![list], events].concat())
}

/// Takes the next event of one of the three, as the dice say.
fn interleave(mut queues: [Vec<Event>; 3], dice: &[usize]) -> Vec<Event> {
    for queue in &mut queues {
        queue.reverse();
    }
    let mut events = Vec::new();
    let mut dice = dice.iter().cycle();
    while queues.iter().any(|queue| !queue.is_empty()) {
        let at = dice.next().copied().unwrap_or_default();
        let next = (at..at + 3).find_map(|at| queues[at % 3].pop());
        events.extend(next);
    }
    events
}

proptest! {
    #[test]
    fn any_interleaving_of_the_watches_ends_in_the_same_versions(
        pods in any_pods(),
        services in any_services(),
        remotes in any_remotes(),
        dice in prop::collection::vec(0..3_usize, 1..24),
    ) {
        let [mut one, mut other] = [empty(), empty()];
        for (at, event) in (1..).zip([pods.clone(), services.clone(), remotes.clone()].concat()) {
            play(&mut one, event, at);
        }
        for (at, event) in (1..).zip(interleave([pods, services, remotes], &dice)) {
            play(&mut other, event, at);
        }
        prop_assert_eq!(published(&one), published(&other));
    }

    #[test]
    fn index_that_followed_events_equals_one_that_lists_the_end(
        pods in any_pods(),
        services in any_services(),
        remotes in any_remotes(),
        dice in prop::collection::vec(0..3_usize, 1..24),
    ) {
        let mut followed = empty();
        let (mut by_pod, mut by_service, mut by_remote) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (at, event) in (1..).zip(interleave([pods, services, remotes], &dice)) {
            match event.clone() {
                Event::Pods(pods) => by_pod = pods.into_iter().map(|pod| (pod.name.clone(), pod)).collect(),
                Event::Pod(pod) => { by_pod.insert(pod.name.clone(), pod); }
                Event::PodGone(name) => { by_pod.remove(&name); }
                Event::Services(all) => by_service = all.into_iter().map(|one| (one.name.clone(), one)).collect(),
                Event::Service(service) => { by_service.insert(service.name.clone(), service); }
                Event::ServiceGone(name) => { by_service.remove(&name); }
                Event::Remotes(all) => by_remote = all.into_iter().map(|one| (one.remote.clone(), one)).collect(),
                Event::Remote(remote) => { by_remote.insert(remote.remote.clone(), remote); }
                Event::RemoteGone(name) => { by_remote.remove(&name); }
            }
            play(&mut followed, event, at);
        }
        let views = |all: BTreeMap<RemoteName, RemoteView>| all.into_values().collect::<Vec<_>>();
        let listed = index(
            &by_pod.into_values().collect::<Vec<_>>(),
            &by_service.into_values().collect::<Vec<_>>(),
            &views(by_remote),
        );
        prop_assert_eq!(published(&followed), published(&listed));
    }

    #[test]
    fn whoever_is_not_touched_keeps_exactly_what_was_published(
        pods in any_pods(),
        services in any_services(),
        remotes in any_remotes(),
        dice in prop::collection::vec(0..3_usize, 1..24),
    ) {
        let mut index = empty();
        for (at, event) in (1..).zip(interleave([pods, services, remotes], &dice)) {
            let before: BTreeMap<RemoteName, Arc<Desired>> =
                index.remote_names().map(|name| (name.clone(), index.desired(name).expect("named"))).collect();
            let touched = play(&mut index, event, at);
            for (name, before) in before.iter().filter(|(name, _)| !touched.contains(*name)) {
                let after = index.desired(name);
                prop_assert!(after.is_some_and(|after| Arc::ptr_eq(before, &after)), "{}", name);
            }
        }
    }
}
