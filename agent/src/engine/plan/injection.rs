//! Labels of namespaces: applied without force, so that a user's own word stands.

use std::collections::BTreeMap;

use remote_istio::model::ApplyState;

use super::super::progress::Fault;
use super::super::state::State;
use super::super::{NamespaceLabels, Resource, Write, names};
use super::{Planner, Step};

const ENABLED: &str = "enabled";

/// The labels of an injected namespace.
fn labels() -> BTreeMap<String, String> {
    [names::INJECTION, names::MANAGED_INJECTION]
        .map(|label| (label.to_owned(), ENABLED.to_owned()))
        .into()
}

fn owns_any(namespace: &NamespaceLabels) -> bool {
    labels().keys().any(|label| namespace.owned_labels.contains(label))
}

impl Planner<'_> {
    /// Labels a namespace, or says why not.
    pub(super) fn inject(&mut self, state: &mut State, namespace: &str, step: &mut Step) -> Option<Fault> {
        let name = names::namespace(namespace);
        let observed = self.observed;
        let Some(found) = observed.namespace(namespace).filter(|found| !found.terminating) else {
            state.progress(&name).settled = false;
            let detail = format!("namespace {namespace} does not exist: it is labelled once it does");
            return Some(Fault::new(ApplyState::NamespaceMissing, detail));
        };
        if let Some(word) = found.labels.get(names::INJECTION).filter(|word| *word != ENABLED) {
            let detail = format!(
                "somebody set {}={word} on namespace {namespace}: that stands",
                names::INJECTION
            );
            state.progress(&name).settled = false;
            if owns_any(found) {
                self.write_labels(state, found, BTreeMap::new(), step);
            }
            return Some(Fault::new(ApplyState::UserDecided, detail));
        }
        let ours = |(label, word): (&String, &String)| {
            found.owned_labels.contains(label) && found.labels.get(label) == Some(word)
        };
        if labels().iter().all(ours) {
            let progress = state.progress(&name);
            progress.settle(self.now);
            if let Some(quiet) = progress.quiet_at() {
                step.wake_at(quiet);
            }
        } else if self.may_write(state, &name, step) {
            self.write_labels(state, found, labels(), step);
        }
        let settled = state.progress(&name).settled && step.write.is_none();
        let open = || {
            Fault::new(
                ApplyState::Unavailable,
                format!("namespace {namespace} is not labelled yet"),
            )
        };
        self.fault(state)
            .or_else(|| (!settled && step.write.is_none()).then(open))
    }

    /// Gives up our labels. What a user set himself is his and stays.
    pub(super) fn give_up_labels(&mut self, state: &mut State, namespace: &str, step: &mut Step) {
        let observed = self.observed;
        if let Some(found) = observed.namespace(namespace).filter(|found| owns_any(found)) {
            self.write_labels(state, found, BTreeMap::new(), step);
        }
    }

    fn write_labels(
        &mut self,
        state: &mut State,
        found: &NamespaceLabels,
        labels: BTreeMap<String, String>,
        step: &mut Step,
    ) {
        let name = names::namespace(&found.name);
        if let Some(at) = state.progress(&name).blocked(self.now) {
            step.wake_at(at);
            return;
        }
        let resource = NamespaceLabels {
            labels,
            owned_labels: [].into(),
            ..found.clone()
        };
        step.write = Some((name, Write::Apply(Resource::Namespace(resource))));
    }
}
