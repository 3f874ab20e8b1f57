//! What the engine starts from: everything that the first list of every watch shows.

use std::collections::{BTreeMap, BTreeSet};

use remote_istio::process::Condition;
use tokio::sync::mpsc;

use crate::apply::name_of_resource;
use crate::engine::{ObjectName, Resource, Seen};
use crate::observe::Observed;

/// Everything the first lists show; nothing when the watches have ended.
pub(super) async fn first_lists(
    observed: &mut mpsc::Receiver<Observed>,
    mut missing: BTreeSet<String>,
    listed: &Condition,
) -> Option<Vec<Resource>> {
    let mut objects: BTreeMap<ObjectName, Resource> = BTreeMap::new();
    let mut failing: BTreeMap<String, String> = BTreeMap::new();
    while !missing.is_empty() {
        listed.waits_for(waits_for(&missing, &failing));
        match observed.recv().await? {
            Observed::Seen(Seen::Present(resource)) => {
                objects.insert(name_of_resource(&resource), resource);
            }
            Observed::Seen(Seen::Gone(name)) => {
                objects.remove(&name);
            }
            Observed::Listed(watch) => {
                missing.remove(&watch);
            }
            Observed::Failing(watch, error) => {
                failing.insert(watch, error);
            }
        }
    }
    Some(objects.into_values().collect())
}

fn waits_for(missing: &BTreeSet<String>, failing: &BTreeMap<String, String>) -> String {
    let watch = |watch: &String| match failing.get(watch) {
        Some(error) => format!("{watch} ({error})"),
        None => watch.clone(),
    };
    let watches: Vec<String> = missing.iter().map(watch).collect();
    format!("first list of {}", watches.join(", "))
}

#[cfg(test)]
mod tests {
    use remote_istio::process::Readiness;

    use super::*;
    use crate::engine::NamespaceLabels;

    fn namespace(name: &str) -> Resource {
        Resource::Namespace(NamespaceLabels {
            name: name.to_owned(),
            ..NamespaceLabels::default()
        })
    }

    #[tokio::test]
    async fn engine_waits_for_the_first_list_of_every_watch() {
        let readiness = Readiness::default();
        let condition = readiness.condition("watches");
        let (seen, mut observed) = mpsc::channel(16);
        let watches = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let mut listing = std::pin::pin!(first_lists(&mut observed, watches, &condition));
        for event in [
            Observed::Seen(Seen::Present(namespace("stays"))),
            Observed::Seen(Seen::Present(namespace("goes"))),
            Observed::Listed("a".to_owned()),
            Observed::Failing("b".to_owned(), "forbidden".to_owned()),
            Observed::Seen(Seen::Gone(name_of_resource(&namespace("goes")))),
        ] {
            seen.send(event).await.expect("room");
        }
        assert!(futures::poll!(&mut listing).is_pending());
        let waits_for = "first list of b (forbidden)".to_owned();
        assert_eq!(readiness.unmet(), [("watches", waits_for)]);
        seen.send(Observed::Listed("b".to_owned())).await.expect("room");
        assert_eq!(listing.await, Some(vec![namespace("stays")]));
    }

    #[tokio::test]
    async fn engine_does_not_start_when_the_watches_end_early() {
        let condition = Readiness::default().condition("watches");
        let (seen, mut observed) = mpsc::channel(16);
        seen.send(Observed::Seen(Seen::Present(namespace("a"))))
            .await
            .expect("room");
        drop(seen);
        let watches = BTreeSet::from(["a".to_owned()]);
        assert_eq!(first_lists(&mut observed, watches, &condition).await, None);
    }
}
