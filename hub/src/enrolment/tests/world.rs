//! Hub replicas over one store that loses writes and answers when it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::registry::Registry;
use remote_istio::enrolment::Token;
use remote_istio::identity::RemoteName;
use remote_istio::wire::v1::join_response::Outcome;
use tonic::Code;

use super::super::*;
use crate::authority::LinkCa;
use crate::crd::{Approval, JoinToken, JoinTokenSpec, JoinTokenStatus, RemoteIdentity, TokenState};
use crate::events;
use crate::identities;
use crate::test_authority::{authority, link_ca, remote};

/// What goes wrong with one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not written.
    TokenLost,
    /// It is written, and the answer is lost.
    TokenUnanswered,
    /// As above, of a name.
    IdentityLost,
    /// As above, of a name.
    IdentityUnanswered,
    /// It is not read.
    IdentityUnread,
}

/// Tokens and names with the guard of resource versions.
#[derive(Default)]
pub(super) struct Memory {
    store: Mutex<Store>,
    /// Runs before the next write of a token.
    before_token: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[derive(Default)]
struct Store {
    tokens: BTreeMap<String, JoinToken>,
    identities: BTreeMap<String, RemoteIdentity>,
    version: u64,
    reads: usize,
    writes: usize,
    faults: VecDeque<Fault>,
}

impl Store {
    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// Takes the fault that is next, if it is one of these.
    fn fault(&mut self, kinds: [Fault; 2]) -> Option<Fault> {
        self.faults.pop_front_if(|fault| kinds.contains(fault))
    }
}

impl Memory {
    pub(super) fn breaks(&self, fault: Fault) {
        self.store.lock().faults.push_back(fault);
    }

    pub(super) fn before_token(&self, work: BoxFuture<'static, ()>) {
        *self.before_token.lock() = Some(work);
    }

    pub(super) fn reads_and_writes(&self) -> (usize, usize) {
        let store = self.store.lock();
        (store.reads, store.writes)
    }

    pub(super) fn status(&self, id: &str) -> JoinTokenStatus {
        self.store.lock().tokens[id].status.clone().unwrap_or_default()
    }

    pub(super) fn names(&self) -> Vec<RemoteIdentity> {
        self.store.lock().identities.values().cloned().collect()
    }

    /// What a command on central does.
    pub(super) fn edit_token(&self, id: &str, edit: impl FnOnce(&mut JoinToken)) {
        let mut store = self.store.lock();
        let version = store.next();
        let token = store.tokens.get_mut(id).expect("a token");
        edit(token);
        token.metadata.resource_version = Some(version);
    }

    /// What a command on central does.
    pub(super) fn edit_name(&self, name: &str, edit: impl FnOnce(&mut RemoteIdentity)) -> RemoteIdentity {
        let mut store = self.store.lock();
        let version = store.next();
        let record = store.identities.get_mut(name).expect("a name");
        edit(record);
        record.metadata.resource_version = Some(version);
        record.clone()
    }

    /// What a person may do.
    pub(super) fn remove_name(&self, name: &str) {
        self.store.lock().identities.remove(name);
    }
}

#[tonic::async_trait]
impl Records for Memory {
    async fn token(&self, id: &str) -> Result<Option<JoinToken>, RecordError> {
        let mut store = self.store.lock();
        store.reads += 1;
        Ok(store.tokens.get(id).cloned())
    }

    async fn identity(&self, remote: &RemoteName) -> Result<Option<RemoteIdentity>, RecordError> {
        let mut store = self.store.lock();
        store.reads += 1;
        if store.fault([Fault::IdentityUnread; 2]).is_some() {
            return Err(RecordError::Late);
        }
        Ok(store.identities.get(remote.as_str()).cloned())
    }

    async fn write_token(&self, read: &JoinToken, status: JoinTokenStatus) -> Result<JoinToken, RecordError> {
        let before = self.before_token.lock().take();
        if let Some(before) = before {
            before.await;
        }
        let mut store = self.store.lock();
        store.writes += 1;
        let fault = store.fault([Fault::TokenLost, Fault::TokenUnanswered]);
        if fault == Some(Fault::TokenLost) {
            return Err(RecordError::Late);
        }
        let version = store.next();
        let id = read.metadata.name.clone().unwrap_or_default();
        let kept = store.tokens.get_mut(&id).ok_or(RecordError::Gone)?;
        if kept.metadata.resource_version != read.metadata.resource_version {
            return Err(RecordError::Conflict);
        }
        kept.status = Some(status);
        kept.metadata.resource_version = Some(version);
        match fault {
            Some(_) => Err(RecordError::Late),
            None => Ok(kept.clone()),
        }
    }

    async fn write_identity(&self, record: RemoteIdentity) -> Result<RemoteIdentity, RecordError> {
        let mut store = self.store.lock();
        store.writes += 1;
        let fault = store.fault([Fault::IdentityLost, Fault::IdentityUnanswered]);
        if fault == Some(Fault::IdentityLost) {
            return Err(RecordError::Late);
        }
        let name = record.metadata.name.clone().unwrap_or_default();
        let kept = store.identities.get(&name);
        if kept.is_none() && record.metadata.resource_version.is_some() {
            return Err(RecordError::Gone);
        }
        if kept.and_then(|kept| kept.metadata.resource_version.clone()) != record.metadata.resource_version {
            return Err(RecordError::Conflict);
        }
        let mut written = record;
        written.metadata.resource_version = Some(store.next());
        store.identities.insert(name, written.clone());
        match fault {
            Some(_) => Err(RecordError::Late),
            None => Ok(written),
        }
    }

    async fn remove_token(&self, token: &JoinToken) -> Result<(), RecordError> {
        let id = token.metadata.name.clone().unwrap_or_default();
        let removed = self.store.lock().tokens.remove(&id);
        removed.map(drop).ok_or(RecordError::Gone)
    }
}

/// Central with its link CA and one hub replica, or more.
pub(super) struct World {
    pub(super) ca: LinkCa,
    pub(super) authority: Arc<Authority>,
    pub(super) memory: Arc<Memory>,
    pub(super) hub: Replica,
}

/// One hub.
pub(super) struct Replica {
    pub(super) enrolment: Arc<Enrolment>,
    pub(super) identities: Arc<Identities>,
    pub(super) events: Arc<Events>,
    pub(super) metrics: EnrolmentMetrics,
}

/// One agent: its key's request and its cluster.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) address: &'static str,
    pub(super) request: Vec<u8>,
    pub(super) cluster_uid: &'static str,
}

pub(super) fn agent(address: &'static str, cluster_uid: &'static str) -> Agent {
    Agent {
        address,
        request: crate::test_authority::request().1,
        cluster_uid,
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::at("hub.test:8443")
    }

    pub(super) fn at(enrolment: &str) -> Self {
        let ca = link_ca();
        let authority = authority(&ca, enrolment);
        let memory = Arc::<Memory>::default();
        let hub = Replica::new(&authority, &memory);
        Self {
            ca,
            authority,
            memory,
            hub,
        }
    }

    pub(super) fn another_replica(&self) -> Replica {
        Replica::new(&self.authority, &self.memory)
    }

    /// What `token create` does.
    pub(super) fn token(&self, name: &str) -> Token {
        self.token_with(name, |_| {})
    }

    pub(super) fn token_with(&self, name: &str, change: impl FnOnce(&mut JoinTokenSpec)) -> Token {
        let token = Token::new(rand::random(), rand::random());
        let now = Timestamp::now();
        let mut spec = JoinTokenSpec {
            remote: name.to_owned(),
            secret_hash: token.secret_hash(),
            expires_at: Time(now + SignedDuration::from_hours(1)),
            approval: Approval::Automatic,
            cluster_uid: None,
            created_by: "a test".to_owned(),
        };
        change(&mut spec);
        let mut kept = JoinToken::new(token.id(), spec);
        kept.metadata.creation_timestamp = Some(Time(now));
        let mut store = self.memory.store.lock();
        kept.metadata.resource_version = Some(store.next());
        store.tokens.insert(token.id().to_owned(), kept);
        token
    }

    /// Joins a remote once and for all.
    pub(super) async fn joined(&self, name: &str, agent: &Agent) -> v1::Issued {
        let token = self.token(name);
        issued(self.hub.join(agent, &token).await)
    }
}

impl Replica {
    fn new(authority: &Arc<Authority>, memory: &Arc<Memory>) -> Self {
        let events = events::tests::kept();
        let settings = identities::Settings {
            namespace: "istio-system".to_owned(),
            unknown_allowed: false,
        };
        let identities = Identities::new(settings, Arc::clone(&events), &mut Registry::default());
        let metrics = EnrolmentMetrics::default();
        let enrolment = Enrolment::new(Deps {
            records: Arc::clone(memory) as Arc<dyn Records>,
            namespace: "istio-system".to_owned(),
            authority: Arc::clone(authority),
            identities: Arc::clone(&identities),
            events: Arc::clone(&events),
            metrics: metrics.clone(),
        });
        Self {
            enrolment,
            identities,
            events,
            metrics,
        }
    }

    pub(super) async fn join(&self, agent: &Agent, token: &Token) -> Result<Outcome, Status> {
        self.join_with(agent, &token.reveal()).await
    }

    pub(super) async fn join_with(&self, agent: &Agent, token: &str) -> Result<Outcome, Status> {
        let caller = Caller::new(agent.address.to_owned(), [0; 32]);
        let request = v1::JoinRequest {
            token: token.to_owned(),
            request: agent.request.clone(),
            cluster_uid: agent.cluster_uid.to_owned(),
            release: "0.1.0".to_owned(),
        };
        let answer = self.enrolment.answer_join(&caller, request).await?;
        Ok(answer.outcome.expect("an outcome"))
    }

    pub(super) fn told(&self) -> Vec<(events::Subject, events::Reason)> {
        let told = events::tests::published(&self.events);
        told.into_iter().map(|event| (event.subject, event.reason)).collect()
    }

    /// Whether the sync port would take a certificate.
    pub(super) fn admits(&self, issued: &v1::Issued, name: &str) -> bool {
        let leaf = remote_istio::tls::LeafFacts {
            identity: remote_istio::identity::Identity::Remote(remote(name)),
            serial: String::new(),
            not_before: not_before(&issued.chain[0]),
            not_after: SystemTime::now(),
        };
        self.identities.admit(&leaf).is_ok()
    }
}

pub(super) fn not_before(der: &[u8]) -> SystemTime {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
    let second = certificate.validity().not_before.timestamp();
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(second).expect("after 1970"))
}

pub(super) fn issued(answer: Result<Outcome, Status>) -> v1::Issued {
    match answer.expect("an answer") {
        Outcome::Issued(issued) => issued,
        Outcome::Pending(pending) => panic!("{pending:?}"),
    }
}

pub(super) fn refused(answer: Result<Outcome, Status>) -> (Code, String) {
    let status = answer.expect_err("a refusal");
    (status.code(), status.message().to_owned())
}

pub(super) fn state(world: &World, token: &Token) -> TokenState {
    world.memory.status(token.id()).state
}
