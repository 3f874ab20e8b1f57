//! The tokens as the watch shows them: a wrong token is told from a good one without a question to central.

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::{Api, Client};
use parking_lot::RwLock;

use crate::crd::JoinToken;
use crate::watch::{Mirror, Sink, Statistics, WatchStatistics, follow};

/// All tokens, as far as is known.
#[derive(Debug)]
pub(super) struct Tokens {
    known: Arc<RwLock<Mirror<JoinToken>>>,
    statistics: Statistics,
}

impl Tokens {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            known: Arc::default(),
            statistics: Statistics::new(vec![WatchStatistics::new("jointokens", namespace)]),
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<JoinToken>> {
        self.known.read().get(id)
    }

    pub(super) fn all(&self) -> Vec<Arc<JoinToken>> {
        self.known.read().objects().cloned().collect()
    }

    /// Takes what was read or written otherwise, for the watch comes later.
    pub(super) fn seen(&self, token: JoinToken) {
        self.known.write().applied(token);
    }

    /// Never returns.
    pub(super) async fn follow(&self, client: Client, namespace: &str) {
        let api: Api<DeserializeGuard<JoinToken>> = Api::namespaced(client, namespace);
        let sink = || TokenSink(Arc::clone(&self.known));
        let watches = self.statistics.watches().iter();
        let following = watches.map(|watch| follow(api.clone(), sink(), watch, &self.statistics));
        futures::future::join_all(following).await;
    }
}

struct TokenSink(Arc<RwLock<Mirror<JoinToken>>>);

impl Sink<DeserializeGuard<JoinToken>> for TokenSink {
    fn listed(&self, objects: Vec<DeserializeGuard<JoinToken>>, position: u64, _: u64) {
        let readable = objects.into_iter().filter_map(|object| object.0.ok()).collect();
        self.0.write().listed(readable, position);
    }

    fn applied(&self, object: DeserializeGuard<JoinToken>, _: u64) {
        if let Ok(token) = object.0 {
            self.0.write().applied(token);
        }
    }

    fn deleted(&self, object: &DeserializeGuard<JoinToken>, _: u64) {
        if let Ok(token) = &object.0 {
            self.0.write().deleted(token);
        }
    }
}
