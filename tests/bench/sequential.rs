//! The way of the original operator, as counted from its code: one worker; for each event of a ready pod every remote
//! after another in no order of its own; there a live GET and a full PUT of the Endpoints of each enabled service,
//! whether or not the pod belongs to it. No request has a time-out.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Endpoints, Pod};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use rand::seq::SliceRandom as _;
use support::workload;

use crate::prepare::{first_address, subsets};
use crate::system::{APP, PODS, SERVICES, System};

/// All remotes as this worker knows them.
pub struct Sequential {
    remotes: Vec<Remote>,
}

struct Remote {
    endpoints: Api<Endpoints>,
    /// What each service was last known to have.
    addresses: BTreeMap<&'static str, Vec<String>>,
}

impl Sequential {
    /// One that knows the first addresses.
    pub fn new(remotes: Vec<Client>) -> Self {
        let system = System::SequentialPush;
        let first = |index: usize| (0..PODS).map(|pod| first_address(system, index, pod)).collect();
        let addresses: BTreeMap<_, Vec<String>> = SERVICES
            .into_iter()
            .enumerate()
            .map(|(index, service)| (service, first(index)))
            .collect();
        let remote = |client| Remote {
            endpoints: Api::namespaced(client, system.namespace()),
            addresses: addresses.clone(),
        };
        Self {
            remotes: remotes.into_iter().map(remote).collect(),
        }
    }

    /// One event.
    pub async fn changed(&mut self, pod: &Pod) -> Result<()> {
        let Some(address) = workload::address(pod).filter(|_| workload::is_ready(pod)) else {
            return Ok(());
        };
        self.remotes.shuffle(&mut rand::rng());
        let service = pod.labels().get(APP).cloned().unwrap_or_default();
        for remote in &mut self.remotes {
            if let Some(addresses) = remote.addresses.get_mut(service.as_str()) {
                *addresses = vec![address.clone()];
            }
            for service in SERVICES {
                remote.rewrite(service).await?;
            }
        }
        Ok(())
    }
}

impl Remote {
    async fn rewrite(&self, service: &str) -> Result<()> {
        let mut object = self
            .endpoints
            .get(service)
            .await
            .with_context(|| format!("reading Endpoints {service}"))?;
        let addresses = self.addresses.get(service).map(Vec::as_slice).unwrap_or_default();
        object.subsets = serde_json::from_value(subsets(addresses)).context("subsets")?;
        self.endpoints
            .replace(service, &PostParams::default(), &object)
            .await
            .with_context(|| format!("writing Endpoints {service}"))?;
        Ok(())
    }
}
