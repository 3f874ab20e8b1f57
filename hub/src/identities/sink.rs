//! Feeds the records from their watch.

use std::sync::Arc;

use kube::core::DeserializeGuard;

use super::Identities;
use crate::crd::RemoteIdentity;
use crate::watch::Sink;

/// Feeds the records from the watch.
pub(super) struct RecordSink(pub(super) Arc<Identities>);

impl Sink<DeserializeGuard<RemoteIdentity>> for RecordSink {
    fn listed(&self, objects: Vec<DeserializeGuard<RemoteIdentity>>, position: u64, _: u64) {
        let identities = &self.0;
        let records = objects.into_iter().filter_map(readable).collect();
        let changes = identities.records.write().listed(records, position);
        identities.changed(changes);
        identities.listed.send_replace(true);
    }

    fn applied(&self, object: DeserializeGuard<RemoteIdentity>, _: u64) {
        if let Some(record) = readable(object) {
            self.0.wrote(record);
        }
    }

    fn deleted(&self, object: &DeserializeGuard<RemoteIdentity>, _: u64) {
        if let Ok(record) = &object.0 {
            let identities = &self.0;
            let change = identities.records.write().deleted(record);
            identities.changed(change);
        }
    }

    fn unknown(&self) {
        let identities = &self.0;
        if identities.settings.unknown_allowed && !identities.listed.send_replace(true) {
            tracing::warn!("RemoteIdentity is not installed: no certificate can be revoked");
        }
    }
}

/// Nothing where it was written by a release that knows more: who cannot be judged is unknown.
fn readable(guard: DeserializeGuard<RemoteIdentity>) -> Option<RemoteIdentity> {
    match guard.0 {
        Ok(mut record) => {
            record.metadata.managed_fields = None;
            Some(record)
        }
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(%name, error = %invalid.error, "RemoteIdentity cannot be read and counts as absent");
            None
        }
    }
}
