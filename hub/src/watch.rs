//! Central's API server to the index: `RemoteIstio`s, and the pods and Services of each served namespace.
//!
//! Each watch is a list that is swapped in whole, then events, then a list again only where the API server has
//! forgotten the way from there. It does not use kube's watcher, which hides the resourceVersion of lists and
//! bookmarks: the position of an endpoint set must be exact also after a deletion and a restart.

mod follow;
mod mirror;
mod pods;
mod remotes;
mod services;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use remote_istio::process::Condition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::pods::{PodSink, SlimPod};
use self::remotes::RemoteSink;
use self::services::{ServiceSink, SlimService};
use crate::crd::RemoteIstio;
use crate::state::State;

pub(crate) use self::follow::{Sink, follow};
pub(crate) use self::mirror::{Change, Mirror};
pub use statistics::{Statistics, WatchStatistics};

/// All watches of the hub.
#[derive(Debug)]
pub struct Watches {
    namespace: String,
    state: Arc<State>,
    statistics: Arc<Statistics>,
}

impl Watches {
    /// Nothing is asked before [`Watches::run`]. `namespace` is that of the `RemoteIstio`s.
    #[must_use]
    pub fn new(namespace: String, service_namespaces: BTreeSet<String>, state: Arc<State>) -> Self {
        let mut watches = vec![WatchStatistics::new("remoteistios", &namespace)];
        for namespace in service_namespaces {
            watches.push(WatchStatistics::new("services", &namespace));
            watches.push(WatchStatistics::new("pods", &namespace));
        }
        Self {
            namespace,
            state,
            statistics: Arc::new(Statistics::new(watches)),
        }
    }

    /// What the watches have seen so far.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        Arc::clone(&self.statistics)
    }

    /// Whether every watch has finished its first list.
    #[must_use]
    pub fn listed(&self) -> watch::Receiver<bool> {
        self.statistics.all_listed()
    }

    /// Watches until `stop`. `condition` is met once everything has been listed. `client` must let a watch be silent
    /// for longer than two minutes and must not retry by itself.
    pub async fn run(self, client: Client, condition: Condition, stop: CancellationToken) {
        let all = join_all(self.follow_all(&client));
        let mut listed = self.listed();
        let tell = async {
            while !*listed.borrow_and_update() {
                condition.waits_for(self.statistics.waiting_for());
                tokio::select! {
                    changed = listed.changed() => if changed.is_err() { break },
                    () = self.statistics.changed() => {}
                }
            }
            condition.met();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = all => {}
            () = tell => {}
        }
    }

    fn follow_all(&self, client: &Client) -> Vec<BoxFuture<'_, ()>> {
        let state = || Arc::clone(&self.state);
        let statistics = &*self.statistics;
        let remotes: Api<DeserializeGuard<RemoteIstio>> = Api::namespaced(client.clone(), &self.namespace);
        let mut all: Vec<BoxFuture<'_, ()>> = Vec::new();
        for watch in statistics.watches() {
            let namespace = watch.namespace();
            all.push(match watch.kind() {
                "pods" => {
                    let api: Api<SlimPod> = Api::namespaced(client.clone(), namespace);
                    Box::pin(follow(api, PodSink::new(namespace, state()), watch, statistics))
                }
                "services" => {
                    let api: Api<SlimService> = Api::namespaced(client.clone(), namespace);
                    Box::pin(follow(api, ServiceSink::new(namespace, state()), watch, statistics))
                }
                _ => Box::pin(follow(remotes.clone(), RemoteSink::new(state()), watch, statistics)),
            });
        }
        all
    }
}
