//! What of the driver's work is worth a line in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::{Failure, Kind, ObjectName, Outcome, Resource, Statistics, Verb};
use crate::metrics::{kind_word, result_word};

/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Remembers what was said, so that each thing is said once.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The last failure of each object that now fails.
    failing: BTreeMap<ObjectName, &'static str>,
    drift_repaired: u64,
    stale: bool,
    contended: usize,
    unreadable: BTreeMap<ObjectName, String>,
}

impl Journal {
    /// A write has ended.
    pub(super) fn written(&mut self, verb: Verb, object: &ObjectName, outcome: &Outcome, took: Duration) {
        match outcome {
            Outcome::Done(written) => {
                let failed = self.failing.remove(object).is_some();
                done(verb, object, written.as_ref(), took, failed);
            }
            // An object that went is an everyday answer, which the engine acts on.
            Outcome::Failed(Failure::NotFound) => {
                self.failing.remove(object);
            }
            Outcome::Failed(failure) => {
                let reason = result_word(outcome);
                let known = self.failing.insert(object.clone(), reason) == Some(reason);
                failed(verb, object, failure, reason, known);
            }
        }
    }

    /// The engine's counters may have changed.
    pub(super) fn statistics(&mut self, statistics: &Statistics) {
        if statistics.drift_repaired > self.drift_repaired {
            let repaired = statistics.drift_repaired - self.drift_repaired;
            self.drift_repaired = statistics.drift_repaired;
            tracing::info!(repaired, total = self.drift_repaired, "drift repaired");
        }
        if statistics.stale != self.stale {
            self.stale = statistics.stale;
            if self.stale {
                tracing::warn!("hub away for longer than the rules allow, endpoints are aged");
            } else {
                tracing::info!("endpoints are vouched for again");
            }
        }
        if statistics.contended != self.contended {
            self.contended = statistics.contended;
            tracing::warn!(keys = self.contended, "keys that somebody else keeps changing");
        }
        if statistics.unreadable_records != self.unreadable {
            for (record, error) in &statistics.unreadable_records {
                if self.unreadable.get(record) != Some(error) {
                    tracing::error!(
                        namespace = %record.namespace, record = %record.name, %error,
                        "record cannot be read and is left alone; delete it to have it made anew"
                    );
                }
            }
            self.unreadable.clone_from(&statistics.unreadable_records);
        }
    }
}

fn done(verb: Verb, object: &ObjectName, written: Option<&Resource>, took: Duration, recovered: bool) {
    let (kind, verb_word) = (kind_word(object.kind), verb.as_str());
    let ObjectName { namespace, name, .. } = object;
    if recovered {
        tracing::info!(kind, %namespace, %name, verb = verb_word, "write that failed before is done");
    }
    match (object.kind, written) {
        (Kind::EndpointSlice, Some(Resource::EndpointSlice(slice))) => {
            let service = slice
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(SERVICE_NAME));
            let key = format!("endpoints/{namespace}/{}", service.map_or("", String::as_str));
            let addresses = slice.endpoints.as_ref().map_or(0, Vec::len);
            tracing::info!(%key, slice = %name, addresses, ?took, "endpoints updated");
        }
        (Kind::Namespace, _) => tracing::info!(namespace = %name, "namespace labels reconciled"),
        (Kind::Service, _) => tracing::info!(%namespace, %name, verb = verb_word, "service written"),
        _ => tracing::debug!(kind, %namespace, %name, verb = verb_word, ?took, "object written"),
    }
}

fn failed(verb: Verb, object: &ObjectName, failure: &Failure, reason: &'static str, known: bool) {
    let (kind, verb) = (kind_word(object.kind), verb.as_str());
    let ObjectName { namespace, name, .. } = object;
    let error = words(failure);
    if known {
        tracing::debug!(kind, %namespace, %name, verb, reason, %error, "write failed again");
    } else {
        tracing::warn!(kind, %namespace, %name, verb, reason, %error, "write failed");
    }
}

fn words(failure: &Failure) -> &str {
    match failure {
        Failure::AlreadyExists => "an object of this name is there already",
        Failure::NotFound => "the object is gone",
        Failure::Conflict(message)
        | Failure::NamespaceMissing(message)
        | Failure::Forbidden(message)
        | Failure::Rejected(message)
        | Failure::Unavailable { message, .. } => message,
    }
}
