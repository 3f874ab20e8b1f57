//! `RemoteIstio`s. One that cannot be read is a problem of its own, never of the others.

use std::sync::Arc;

use kube::core::DeserializeGuard;
use remote_istio::identity::RemoteName;
use tracing::warn;

use super::follow::Sink;
use crate::crd::RemoteIstio;
use crate::index::RemoteView;
use crate::state::State;

/// Feeds the index with the `RemoteIstio`s.
pub(super) struct RemoteSink {
    state: Arc<State>,
}

impl RemoteSink {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }
}

/// Nothing where the name cannot be a remote's: an object from before the rule that says so.
fn view(guard: DeserializeGuard<RemoteIstio>) -> Option<RemoteView> {
    let (mut object, broken) = match guard.0 {
        Ok(object) => (object, None),
        Err(invalid) => {
            let object = RemoteIstio {
                metadata: invalid.metadata,
                ..RemoteIstio::default()
            };
            (object, Some(invalid.error))
        }
    };
    object.metadata.managed_fields = None;
    let name = object.metadata.name.clone().unwrap_or_default();
    let view = RemoteView::new(object);
    if view.is_none() {
        warn!(%name, "RemoteIstio ignored, its name is no DNS label: create it anew under another name");
    }
    Some(RemoteView { broken, ..view? })
}

impl Sink<DeserializeGuard<RemoteIstio>> for RemoteSink {
    fn listed(&self, objects: Vec<DeserializeGuard<RemoteIstio>>, _: u64, at: u64) {
        let remotes = objects.into_iter().filter_map(view).collect();
        self.state.update(|index| index.remotes_listed(remotes, at));
    }

    fn applied(&self, object: DeserializeGuard<RemoteIstio>, at: u64) {
        if let Some(remote) = view(object) {
            self.state.update(|index| index.remote_applied(remote, at));
        }
    }

    fn deleted(&self, object: &DeserializeGuard<RemoteIstio>, _: u64) {
        let metadata = match &object.0 {
            Ok(object) => &object.metadata,
            Err(invalid) => &invalid.metadata,
        };
        if let Some(remote) = RemoteName::new(metadata.name.as_deref().unwrap_or_default()) {
            self.state.update(|index| index.remote_deleted(&remote));
        }
    }

    /// Positions are those of endpoints.
    fn reached(&self, _: u64) {}
}
