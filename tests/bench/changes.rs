//! Changes of one system's pods, one after another, and how long each takes to be seen.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use rand::Rng as _;
use tokio::time::{Instant, sleep};

use crate::prepare::{first_address, pod_name, pod_status};
use crate::rival::{Rival, position};
use crate::samples::{LIMIT, Sample};
use crate::sights::Sights;
use crate::system::{PODS, SERVICES, System};

/// Quiet before each counted change and after it, and as much for every remote, milliseconds: what a system still
/// does for the change before is not to be charged to the next one. The same for all systems.
const QUIET_MILLISECONDS: (u64, u64) = (20, 4);

/// On top of it at random, so that nothing beats in time with the bench, milliseconds.
const JITTER_MILLISECONDS: u64 = 20;

/// From the start of a remote to all of its services.
const CONVERGE_DEADLINE: Duration = Duration::from_mins(1);

/// The pods of one system, and what is seen of them.
pub struct Changes {
    system: System,
    pods: Api<Pod>,
    /// The watches that see changes arrive.
    pub sights: Sights,
    current: [[String; PODS]; SERVICES.len()],
    made: usize,
    last: Instant,
}

/// A change that was made.
struct Made {
    service: usize,
    pod: usize,
    before: String,
    after: String,
}

impl Changes {
    /// None made yet.
    pub fn of(system: System, central: Client) -> Self {
        Self {
            system,
            pods: Api::namespaced(central, system.namespace()),
            sights: Sights::of(system),
            current: std::array::from_fn(|service| std::array::from_fn(|pod| first_address(system, service, pod))),
            made: 0,
            last: Instant::now(),
        }
    }

    /// When the last one was made.
    pub fn last(&self) -> Instant {
        self.last
    }

    /// Waits until all of `remotes` show what central has now.
    ///
    /// # Errors
    /// One of them does not in time.
    pub async fn converge(&mut self, remotes: &[usize]) -> Result<()> {
        let limit = Instant::now() + CONVERGE_DEADLINE;
        for (service, addresses) in SERVICES.iter().zip(&self.current) {
            let wanted: BTreeSet<String> = addresses.iter().cloned().collect();
            let arrived = self
                .sights
                .until(service, remotes, limit, |shown| *shown == wanted)
                .await;
            if let Some(missing) = remotes.iter().find(|remote| !arrived.contains_key(remote)) {
                let system = self.system.name();
                bail!(
                    "{system}: remote-{} does not show {service} after {CONVERGE_DEADLINE:?}",
                    missing + 1
                );
            }
        }
        Ok(())
    }

    /// Takes a pod away and lets it come back ready with another address, as a restart does. The sample is from the
    /// PATCH that makes it ready to the moment when the last of `remotes` shows the new address.
    ///
    /// # Errors
    /// Central or the rival cannot go on. That a change does not arrive is no error but a failed sample.
    pub async fn one(&mut self, remotes: &[usize], rival: Option<&mut Rival>) -> Result<Sample> {
        self.one_within(remotes, rival, LIMIT).await
    }

    /// As [`Self::one`] with another limit.
    ///
    /// # Errors
    /// As [`Self::one`].
    pub async fn one_within(
        &mut self,
        remotes: &[usize],
        mut rival: Option<&mut Rival>,
        limit: Duration,
    ) -> Result<Sample> {
        let made = self.next();
        let away = self.take_away(&made, remotes, rival.as_deref_mut(), limit).await?;
        quiet(remotes.len()).await;
        let start = Instant::now();
        self.last = start;
        let patch = patch(&self.pods, &made, &made.after, true);
        let seen = self
            .sights
            .until(SERVICES[made.service], remotes, start + limit, |shown| {
                shown.contains(&made.after)
            });
        let (patched, arrived) = tokio::join!(patch, seen);
        let patched = patched?;
        let missing: Vec<String> = remotes
            .iter()
            .filter(|remote| !arrived.contains_key(remote))
            .map(|remote| format!("remote-{}", remote + 1))
            .collect();
        if !missing.is_empty() {
            let (system, service) = (self.system.name(), SERVICES[made.service]);
            eprintln!(
                "bench: {system}: {service} has not arrived after {limit:?} in {}",
                missing.join(", ")
            );
        }
        if missing.is_empty()
            && let Some(rival) = rival
        {
            rival.until_handled(patched, limit).await?;
        }
        quiet(remotes.len()).await;
        let last = arrived.into_values().max().map(|at| at - start);
        Ok(last.filter(|_| away && missing.is_empty()))
    }

    fn next(&mut self) -> Made {
        let number = self.made;
        self.made += 1;
        let (service, pod) = (number % SERVICES.len(), number / SERVICES.len() % PODS);
        // Never used before, so that it is seen only by what this change led to.
        let after = format!("10.{}.{}.{}", self.system.range(), number / 250 + 1, number % 250 + 1);
        let before = std::mem::replace(&mut self.current[service][pod], after.clone());
        Made {
            service,
            pod,
            before,
            after,
        }
    }

    /// False when the remotes do not show that the pod is away, where they should.
    async fn take_away(
        &mut self,
        made: &Made,
        remotes: &[usize],
        rival: Option<&mut Rival>,
        limit: Duration,
    ) -> Result<bool> {
        let until = Instant::now() + limit;
        let patched = patch(&self.pods, made, &made.before, false).await?;
        let mut away = true;
        if self.system.shows_unready() {
            let service = SERVICES[made.service];
            let gone = self
                .sights
                .until(service, remotes, until, |shown| !shown.contains(&made.before))
                .await;
            away = gone.len() == remotes.len();
            if !away {
                eprintln!(
                    "bench: {}: a pod of {service} is still shown after {limit:?}",
                    self.system.name()
                );
            }
        }
        if let Some(rival) = rival {
            away &= rival.until_handled(patched, limit).await?;
        }
        Ok(away)
    }
}

/// The resourceVersion that came of it.
async fn patch(pods: &Api<Pod>, made: &Made, address: &str, ready: bool) -> Result<u64> {
    let name = pod_name(SERVICES[made.service], made.pod);
    let patched = pods
        .patch_status(
            &name,
            &PatchParams::default(),
            &Patch::Merge(pod_status(address, ready)),
        )
        .await
        .with_context(|| format!("writing the status of pod {name}"))?;
    position(&patched.resource_version().unwrap_or_default())
}

async fn quiet(remotes: usize) {
    let (fixed, each) = QUIET_MILLISECONDS;
    let jitter = rand::rng().random_range(0..JITTER_MILLISECONDS);
    let milliseconds = fixed + each * u64::try_from(remotes).unwrap_or_default() + jitter;
    sleep(Duration::from_millis(milliseconds)).await;
}
