//! Takes what was seen on central: a new CA counts once its root stands in the `ConfigMap`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, PostParams};
use remote_istio::model::{Body, Lane};
use remote_istio::process::Backoff;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::MeshCa;
use super::choice::{Found, Seen, choose, forbidden};
use super::follow::Sight;
use super::roots::{Fingerprint, MESH_TRUST_CONFIG_MAP, MeshRoots};
use super::signer::MeshSigner;
use crate::api_error;
use crate::events::{Kind, Reason, Subject};
use crate::index::MeshCaState;

/// Field manager of everything the hub writes.
const FIELD_MANAGER: &str = "remote-istio-hub";

/// One call to the API server.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Between two attempts to write.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Between two looks at the clock: a CA begins and ends without any event.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Why the roots were not written.
#[derive(Debug)]
enum WriteError {
    /// Another replica was first: its roots come by the watch.
    Conflict,
    Other(String),
}

/// What was seen, and what is held.
pub(super) struct Keeper<'a> {
    ca: &'a MeshCa,
    maps: Api<ConfigMap>,
    /// In the order in which they count.
    secrets: Vec<(String, Seen)>,
    /// The Secret whose CA signs now.
    signs_from: Option<String>,
    /// Whether the `ConfigMap` was looked at.
    is_map_known: bool,
    /// Whether it may not be looked at.
    is_map_forbidden: bool,
    /// As seen last; nothing where there is none.
    map: Option<Box<ConfigMap>>,
    /// The roots that were known last, for a `ConfigMap` that is gone.
    roots: MeshRoots,
    /// A Secret was seen since the roots were last in order.
    is_fresh: bool,
    /// Of the last failure that was logged.
    reason: String,
    backoff: Backoff,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(ca: &'a MeshCa, maps: Api<ConfigMap>, names: &[String]) -> Self {
        Self {
            ca,
            maps,
            secrets: names.iter().map(|name| (name.clone(), Seen::Unknown)).collect(),
            signs_from: None,
            is_map_known: false,
            is_map_forbidden: false,
            map: None,
            roots: MeshRoots::default(),
            is_fresh: false,
            reason: String::new(),
            backoff: Backoff::new(PAUSES, rand::random()),
        }
    }

    /// Returns only when nothing can be seen any more.
    pub(super) async fn run(mut self, mut sights: mpsc::Receiver<Sight>) {
        let mut link = self.ca.deps.link_trust.clone();
        let mut next = Instant::now() + LOOK_INTERVAL;
        loop {
            tokio::select! {
                sight = sights.recv() => match sight {
                    Some(sight) => self.take(sight),
                    None => return,
                },
                () = sleep_until(next) => {}
                () = changed(&mut link) => {}
            }
            // What else waits is taken too: half of an update is not worth a look.
            while let Ok(sight) = sights.try_recv() {
                self.take(sight);
            }
            let pause = match self.settle(SystemTime::now()).await {
                Ok(()) => {
                    self.backoff.reset();
                    LOOK_INTERVAL
                }
                Err(error) => self.failed(error),
            };
            next = Instant::now() + pause;
        }
    }

    fn take(&mut self, sight: Sight) {
        match sight {
            Sight::Secret(name, secret) => {
                self.is_fresh = true;
                if let Some((_, seen)) = self.secrets.iter_mut().find(|(known, _)| *known == name) {
                    *seen = secret.map_or(Seen::Missing, |secret| Seen::Data(data_of(*secret)));
                }
            }
            Sight::Roots(map) => {
                self.is_map_known = true;
                self.map = map;
            }
            Sight::Forbidden(name) if name == MESH_TRUST_CONFIG_MAP => self.is_map_forbidden = true,
            // What was seen once stays as it was seen.
            Sight::Forbidden(name) => {
                let unseen = self
                    .secrets
                    .iter_mut()
                    .find(|(known, seen)| *known == name && matches!(seen, Seen::Unknown));
                if let Some((_, seen)) = unseen {
                    *seen = Seen::Forbidden;
                }
            }
        }
    }

    /// Makes everybody know what is there.
    async fn settle(&mut self, now: SystemTime) -> Result<(), WriteError> {
        let secrets = self.secrets.iter().map(|(name, seen)| (name.as_str(), seen));
        let namespace = &self.ca.settings.namespace;
        let found = choose(
            secrets,
            self.signs_from.as_deref(),
            &self.ca.link_keys(),
            namespace,
            now,
        );
        if !self.is_map_known {
            if self.is_map_forbidden {
                let reason = forbidden("ConfigMap", MESH_TRUST_CONFIG_MAP, namespace);
                self.ca.tell(MeshCaState::Unreadable(reason), None);
            }
            return Ok(());
        }
        let read = roots_of(self.map.as_deref());
        if read.signer.is_some() {
            self.roots.clone_from(&read);
        }
        let state = match found {
            Found::Unknown => return Ok(()),
            Found::Usable(signer, name) => {
                let held = self.ca.signer.load_full();
                let is_new = held.is_none_or(|held| !held.is_same(&signer));
                let wanted = wanted(&self.roots, &signer, is_new || self.is_fresh, now);
                if wanted != read {
                    self.write(&wanted).await?;
                }
                self.is_fresh = false;
                self.sign_by(*signer, &name);
                MeshCaState::Ready
            }
            Found::Nothing(reason) | Found::Unusable(reason) if self.is_held(now) => MeshCaState::Held(reason),
            Found::Nothing(reason) => MeshCaState::Missing(reason),
            Found::Unusable(reason) => MeshCaState::CannotSign(reason),
        };
        self.ca.tell(state, self.roots.trust());
        Ok(())
    }

    /// Over what was read, so that no replica undoes what another has written.
    async fn write(&mut self, wanted: &MeshRoots) -> Result<(), WriteError> {
        let found = self.map.as_deref();
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let body = body(found, &self.ca.settings.namespace, wanted);
        let call = async {
            match found {
                Some(_) => self.maps.replace(MESH_TRUST_CONFIG_MAP, &parameters, &body).await,
                None => self.maps.create(&parameters, &body).await,
            }
        };
        let written = match timeout(CALL_DEADLINE, call).await {
            Ok(Ok(written)) => written,
            Ok(Err(error)) if api_error::code(&error) == 409 => return Err(WriteError::Conflict),
            Ok(Err(error)) => return Err(WriteError::Other(api_error::message(&error))),
            Err(_) => return Err(WriteError::Other("no answer in time".to_owned())),
        };
        info!(
            config_map = MESH_TRUST_CONFIG_MAP,
            roots = wanted.roots.len(),
            "roots of the mesh were written"
        );
        self.roots.clone_from(wanted);
        self.map = Some(Box::new(written));
        Ok(())
    }

    fn failed(&mut self, error: WriteError) -> Duration {
        let pause = self.backoff.next_pause();
        match error {
            WriteError::Conflict => debug!(
                config_map = MESH_TRUST_CONFIG_MAP,
                "another replica writes the roots of the mesh"
            ),
            WriteError::Other(error) if error != self.reason => {
                warn!(config_map = MESH_TRUST_CONFIG_MAP, %error, "roots of the mesh cannot be written, trying again; apply \
                      deploy/roles/hub-mesh-ca.yaml where it is forbidden");
                let told = self.ca.told.lock().trust.clone();
                if told.is_some() {
                    let text = format!("ConfigMap {MESH_TRUST_CONFIG_MAP} cannot be written: {error}");
                    self.ca.tell(MeshCaState::Held(text), told);
                }
                self.reason = error;
            }
            WriteError::Other(_) => {}
        }
        pause
    }

    /// From now on by this CA.
    fn sign_by(&mut self, signer: MeshSigner, name: &str) {
        self.reason.clear();
        self.signs_from = Some(name.to_owned());
        let held = self.ca.signer.load_full();
        let is_new = held.as_ref().is_none_or(|held| !held.is_same(&signer));
        if is_new {
            let (namespace, pin) = (&self.ca.settings.namespace, signer.pin);
            let ends = crate::authority::certificate::shown(signer.not_after);
            self.ca.deps.metrics.holds(signer.not_after);
            info!(%namespace, secret = %name, signer = %pin, %ends, "mesh CA found, intermediates are signed by it");
            self.ca.signer.store(Some(Arc::new(signer)));
            if held.is_some() {
                self.tell_of_change(
                    &format!("central's mesh CA changed, it signs by {pin} until {ends}"),
                    &pin.to_string(),
                );
            }
        }
    }

    /// Each remote with a Citadel is concerned; all replicas tell it under one name.
    fn tell_of_change(&self, note: &str, pin: &str) {
        let state = &self.ca.deps.state;
        for remote in state.remote_names() {
            let desired = state.desired(&remote);
            let lane = desired.as_ref().and_then(|desired| desired.lanes.get(&Lane::Config));
            let has_trust = lane.is_some_and(|lane| {
                let mut objects = lane.objects().values();
                objects.any(|object| matches!(object.body, Body::Trust(_)))
            });
            if has_trust {
                let short: String = pin.chars().filter(char::is_ascii_alphanumeric).take(18).collect();
                let name = format!("{remote}.mesh-ca.{short}");
                let subject = Subject::Remote(remote);
                let events = &self.ca.deps.events;
                events.publish_once(subject, Kind::Normal, Reason::MeshCaChanged, note, &name);
            }
        }
    }

    /// What is held goes on while it is valid.
    fn is_held(&self, now: SystemTime) -> bool {
        let held = self.ca.signer.load();
        held.as_ref().is_some_and(|signer| signer.not_after > now)
    }
}

/// The roots as they should stand. `is_seen`: the Secret itself was just seen to hold this signer. Who only hears of another
/// signer in the `ConfigMap` lets it be, for its own watch of the Secret may be behind.
fn wanted(roots: &MeshRoots, signer: &MeshSigner, is_seen: bool, now: SystemTime) -> MeshRoots {
    let now = Timestamp::try_from(now).unwrap_or_default();
    let above = signer.roots.first().map(|root| Fingerprint::of(root));
    let differs = roots.signer != Some(signer.pin) || roots.signer_root != above;
    if differs && (is_seen || roots.signer.is_none()) {
        return roots.with(signer.pin, &signer.roots, now);
    }
    let mut wanted = roots.clone();
    wanted.add(&signer.roots, now);
    wanted
}

/// Waits for ever where there is nothing to wait for.
async fn changed<T>(link: &mut Option<tokio::sync::watch::Receiver<T>>) {
    if let Some(receiver) = link {
        if receiver.changed().await.is_ok() {
            return;
        }
        *link = None;
    }
    std::future::pending::<()>().await;
}

fn roots_of(map: Option<&ConfigMap>) -> MeshRoots {
    let data = map.and_then(|map| map.data.as_ref());
    data.map(MeshRoots::read).unwrap_or_default()
}

fn data_of(secret: Secret) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
    let entries = secret.data.unwrap_or_default().into_iter();
    entries.map(|(entry, value)| (entry, Zeroizing::new(value.0))).collect()
}

fn body(found: Option<&ConfigMap>, namespace: &str, wanted: &MeshRoots) -> ConfigMap {
    let mut body = found.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(MESH_TRUST_CONFIG_MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    let labels = body.metadata.labels.get_or_insert_default();
    labels.insert("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
    body.data = Some(wanted.write());
    body
}

#[cfg(test)]
mod tests;
