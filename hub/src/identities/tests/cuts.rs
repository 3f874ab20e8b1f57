//! When connections are cut, and what a list after a gap cuts.

use super::*;

#[tokio::test]
async fn connection_is_cut_when_it_is_due_and_then_forgotten() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    let (_near, far) = hub.connected(&hub.certificate("remote-1", minutes_ago(15))).await;
    let mut connections = Connections::default();
    let name = remote("remote-1");
    connections.opened(&name, far.peer());
    let due = Instant::now() + CUT_AFTER;
    let condemned = connections.condemn(&name, due, |_| Err(NotAdmitted::Revoked));
    let expected = cut::Condemned {
        reason: NotAdmitted::Revoked,
        connections: 1,
        others_stay: false,
    };
    assert_eq!(condemned, Some(expected));
    assert_eq!(connections.cut_due(due - Duration::from_millis(1)), Some(due));
    assert!(!is_cut(&far).await);
    assert_eq!(connections.cut_due(due), None);
    assert!(is_cut(&far).await);
    assert_eq!(connections.held(), 0);
}

#[tokio::test]
async fn list_cuts_who_was_revoked_or_removed_while_the_watch_was_away() {
    let hub = Hub::new(false);
    hub.bind("remote-1", minutes_ago(60));
    hub.bind("remote-2", minutes_ago(60));
    let (_near, _first) = hub.connected(&hub.certificate("remote-1", minutes_ago(15))).await;
    let (_near, _second) = hub.connected(&hub.certificate("remote-2", minutes_ago(15))).await;
    let told = hub.cut();
    let mut spec = bound(minutes_ago(60));
    spec.revoked = Some(Revocation {
        at: Time(timestamp(SystemTime::now())),
        reason: String::new(),
    });
    let revoked = hub.record("remote-1", spec);
    RecordSink(Arc::clone(&hub.identities)).listed(vec![DeserializeGuard(Ok(revoked))], 99, 0);
    let mut told = told.lock().clone();
    told.sort_by_key(|(remote, _)| remote.clone());
    let expected = [
        (remote("remote-1"), NotAdmitted::Revoked),
        (remote("remote-2"), NotAdmitted::Unknown),
    ];
    assert_eq!(told, expected);
}
