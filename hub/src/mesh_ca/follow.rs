//! Follows the Secrets that may hold central's mesh CA and the `ConfigMap` of its roots: each by its name, which is all
//! that the hub's role lets it see.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use remote_istio::process::Backoff;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::keep::Keeper;
use super::roots::MESH_TRUST_CONFIG_MAP;
use super::{MeshCa, choice};
use crate::api_error;

/// A watch on which nothing came for so long is begun anew, for it may be dead. Secrets of CAs rarely change.
const SILENCE_DEADLINE: Duration = Duration::from_mins(5);

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Sights that wait to be looked at: more make the watches wait.
const QUEUED: usize = 16;

/// What a watch saw; nothing where the object is not there.
pub(super) enum Sight {
    Secret(String, Option<Box<Secret>>),
    Roots(Option<Box<ConfigMap>>),
    /// The object of this name may not be read.
    Forbidden(String),
}

/// Never returns.
pub(super) async fn follow(ca: &MeshCa, watches: &Client, calls: &Client) {
    let (seen, sights) = mpsc::channel(QUEUED);
    let namespace = &ca.settings.namespace;
    let names = choice::names(ca.settings.secret.as_deref());
    let secrets = names.iter().map(|name| {
        let sight = |secret: Option<Secret>| Sight::Secret(name.clone(), secret.map(Box::new));
        let objects = Api::namespaced(watches.clone(), namespace);
        Follower::new(objects, name, &seen, sight).run()
    });
    let sight = |map: Option<ConfigMap>| Sight::Roots(map.map(Box::new));
    let maps = Api::namespaced(watches.clone(), namespace);
    let roots = Follower::new(maps, MESH_TRUST_CONFIG_MAP, &seen, sight).run();
    let maps = Api::namespaced(calls.clone(), namespace);
    let keeper = Keeper::new(ca, maps, &names);
    tokio::select! {
        _ = join_all(secrets) => {}
        () = roots => {}
        () = keeper.run(sights) => {}
    }
}

/// Follows one object.
struct Follower<'a, K, F> {
    objects: Api<K>,
    name: &'a str,
    seen: &'a mpsc::Sender<Sight>,
    sight: F,
    /// The object stood in the list that is being read.
    is_listed: bool,
    /// Of the last failure that was logged; empty while all is well.
    reason: String,
    backoff: Backoff,
}

impl<'a, K, F> Follower<'a, K, F>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    F: Fn(Option<K>) -> Sight,
{
    fn new(objects: Api<K>, name: &'a str, seen: &'a mpsc::Sender<Sight>, sight: F) -> Self {
        Self {
            objects,
            name,
            seen,
            sight,
            is_listed: false,
            reason: String::new(),
            backoff: Backoff::new(PAUSES, rand::random()),
        }
    }

    /// Never returns.
    async fn run(mut self) {
        let one = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        loop {
            let mut events = pin!(watcher(self.objects.clone(), one.clone()));
            while let Ok(Some(event)) = timeout(SILENCE_DEADLINE, events.next()).await {
                match event {
                    Ok(event) => self.saw(event).await,
                    Err(error) => self.failed(&error).await,
                }
            }
            // A stream that ends at once must not become a busy loop.
            sleep(self.backoff.next_pause()).await;
        }
    }

    async fn saw(&mut self, event: Event<K>) {
        match event {
            Event::Init => self.is_listed = false,
            Event::InitApply(object) => {
                self.is_listed = true;
                self.tell(Some(object)).await;
            }
            Event::Apply(object) => {
                self.worked();
                self.tell(Some(object)).await;
            }
            Event::InitDone => {
                self.worked();
                if !self.is_listed {
                    self.tell(None).await;
                }
            }
            Event::Delete(_) => self.tell(None).await,
        }
    }

    async fn tell(&mut self, object: Option<K>) {
        // Nobody hears it only where all of this ends.
        drop(self.seen.send((self.sight)(object)).await);
    }

    fn worked(&mut self) {
        self.backoff.reset();
        if !std::mem::take(&mut self.reason).is_empty() {
            info!(name = %self.name, "watch for the mesh CA works again");
        }
    }

    async fn failed(&mut self, error: &watcher::Error) {
        let reason = error.to_string();
        if reason != self.reason {
            warn!(name = %self.name, %error, "watch for the mesh CA failed, trying again; apply deploy/roles/hub-mesh-ca.yaml \
                  where it is forbidden");
            self.reason = reason;
            if is_forbidden(error) {
                // Nobody hears it only where all of this ends.
                drop(self.seen.send(Sight::Forbidden(self.name.to_owned())).await);
            }
        }
        sleep(self.backoff.next_pause()).await;
    }
}

/// Whether the role that lets the hub read is missing.
fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(error) if api_error::code(error) == 403)
}
