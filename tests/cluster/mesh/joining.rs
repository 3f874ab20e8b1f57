//! Remotes that join by tokens: the way to the hub, its commands, its records, and what an agent keeps.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use support::Cluster;
use support::eventually::{eventually, seen};
use support::pair::{Hub, HubOptions, HubTrust, Invitation, Operator, Said};
use support::proxy::Proxy;
use tokio::task::JoinSet;

use super::objects::{api, json as as_json, object};
use super::{LOG_LEVEL, Mesh, Remote};

/// The hub's Secret.
pub const CA_SECRET: &str = "remote-istio-link-ca";

/// The agent's Secret.
pub const IDENTITY_SECRET: &str = "remote-istio-agent-identity";

/// The ways to the ports that the hub tells agents of.
#[derive(Debug)]
pub struct Ways {
    /// To the sync port.
    pub sync: Proxy,
    /// To the enrolment port.
    pub enrolment: Proxy,
}

impl Mesh<'_> {
    pub(super) async fn prepare_joining(&mut self, trust: &HubTrust) {
        let ways = Ways {
            sync: Proxy::start(self.hub.sync_address()).await.expect("a proxy"),
            enrolment: Proxy::start(self.hub.enrolment_address()).await.expect("a proxy"),
        };
        self.hub.publish(&[ways.sync.address()], &[ways.enrolment.address()]);
        self.ways = Some(ways);
        if matches!(trust, HubTrust::Brought) {
            self.bring(
                &self.authority().bundle(),
                &self.authority().key(),
                &self.authority().bundle(),
            )
            .await;
        }
    }

    /// Writes a signing CA into the hub's Secret as cert-manager would.
    pub async fn bring(&self, chain: &str, key: &str, roots: &str) {
        let data = [("tls.crt", chain), ("tls.key", key), ("ca.crt", roots)];
        let data = data.map(|(name, text)| (name.to_owned(), Some(text.as_bytes().to_vec())));
        self.write_ca_secret(BTreeMap::from(data)).await;
    }

    /// Changes keys of the hub's Secret; `None` takes one away.
    pub async fn write_ca_secret(&self, data: BTreeMap<String, Option<Vec<u8>>>) {
        let data: BTreeMap<_, _> = data
            .into_iter()
            .map(|(key, value)| (key, value.map(ByteString)))
            .collect();
        let patch = Patch::Merge(json!({"data": data}));
        let written = api(&self.central_client, "Secret", &self.namespace)
            .patch(CA_SECRET, &PatchParams::default(), &patch)
            .await;
        written.expect("the role file brings the Secret");
    }

    /// What the hub's Secret holds, if it is there.
    pub async fn ca_secret(&self) -> Option<BTreeMap<String, Vec<u8>>> {
        let secrets: Api<Secret> = Api::namespaced(self.central_client.clone(), &self.namespace);
        let secret = secrets.get_opt(CA_SECRET).await.expect("central answers")?;
        Some(bytes(secret))
    }

    /// Deletes the hub's Secret as a person would by mistake.
    pub async fn delete_ca_secret(&self) {
        let deleted = api(&self.central_client, "Secret", &self.namespace)
            .delete(CA_SECRET, &DeleteParams::default())
            .await;
        deleted.expect("deleted");
    }

    /// Makes the hub's Secret again as a person would from a backup.
    pub async fn restore_ca_secret(&self, data: &BTreeMap<String, Vec<u8>>) {
        let data: BTreeMap<_, _> = data
            .iter()
            .map(|(key, value)| (key, ByteString(value.clone())))
            .collect();
        let secret = object("Secret", CA_SECRET, json!({"data": data}));
        let secrets = api(&self.central_client, "Secret", &self.namespace);
        if secrets.get_opt(CA_SECRET).await.expect("central answers").is_some() {
            self.delete_ca_secret().await;
        }
        secrets.create(&PostParams::default(), &secret).await.expect("created");
    }

    /// The ways to the hub's ports.
    pub fn ways(&self) -> &Ways {
        self.ways.as_ref().expect("a mesh that remotes join")
    }

    /// Where remotes join, without a proxy.
    pub fn enrolment_address(&self) -> SocketAddr {
        self.hub.enrolment_address()
    }

    /// The hub, to change how it is started.
    pub fn hub_mut(&mut self) -> &mut Hub {
        &mut self.hub
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// One more replica of the hub, which does not run yet, with a way of its own to central and the same public
    /// addresses as the first.
    pub async fn prepare_replica(&mut self, trust: HubTrust, lifetime: Option<String>) -> (usize, Proxy) {
        let number = self.replicas.len() + 1;
        let central_api = Proxy::start(self.central.address()).await.expect("a proxy");
        let options = HubOptions {
            server: Some(central_api.address()),
            log_level: LOG_LEVEL.to_owned(),
            replica: format!("hub-{number}"),
            certificate_lifetime: lifetime,
            ..HubOptions::new(&self.namespace, trust, self.link.folder())
        };
        let mut hub = Hub::prepare(self.central, options).await.expect("a hub");
        let ways = self.ways();
        hub.publish(&[ways.sync.address()], &[ways.enrolment.address()]);
        self.replicas.push(hub);
        (number - 1, central_api)
    }

    /// One replica besides the first.
    pub fn replica(&mut self, index: usize) -> &mut Hub {
        &mut self.replicas[index]
    }

    /// Who runs the hub's commands.
    pub fn operator(&self) -> &Operator {
        self.hub.operator()
    }

    /// Runs one of the hub's commands, which must succeed, and gives what it printed.
    pub async fn command(&self, arguments: &[&str]) -> String {
        let printed = self.operator().succeed(arguments).await;
        printed.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs one of the hub's commands, which must fail with 1, and gives its words.
    pub async fn refused_command(&self, arguments: &[&str]) -> String {
        let Said { code, out, err } = self.operator().run(arguments).await.expect("it runs");
        assert_eq!(code, 1, "{arguments:?}: {out}{err}");
        err
    }

    /// A token for one remote.
    pub async fn invite(&self, index: usize) -> Invitation {
        self.invite_as(&self.remote_name(index), &[]).await
    }

    /// A token for any name, with more arguments of `token create`.
    pub async fn invite_as(&self, name: &str, more: &[&str]) -> Invitation {
        let invitation = self.operator().invite(name, more).await;
        invitation.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Where an agent looks for its token.
    pub fn token_file(&self, index: usize) -> PathBuf {
        self.link
            .folder()
            .access(&format!("{}.token", self.remotes[index].name))
    }

    /// Gives an invitation to an agent that does not run.
    pub fn give(&mut self, index: usize, invitation: &Invitation) {
        write_token(&self.token_file(index), &invitation.token);
        self.give_without_token(index, invitation);
    }

    /// All of an invitation but the token.
    pub fn give_without_token(&mut self, index: usize, invitation: &Invitation) {
        let line = self.remotes[index].agent.command_mut();
        line.set_flag("pin", &invitation.pins);
        line.set_flag("enrolment", &invitation.enrolments);
    }

    /// Lets a remote join, and waits for the hub's welcome.
    pub async fn join(&mut self, index: usize) -> Invitation {
        let invitation = self.invite(index).await;
        self.give(index, &invitation);
        self.start_agent(index).await;
        invitation
    }

    /// What the name of a remote is bound to.
    pub async fn identity(&self, name: &str) -> Option<Value> {
        self.central_object("RemoteIdentity", name).await
    }

    /// The record of a token.
    pub async fn token(&self, invitation: &Invitation) -> Value {
        let token = self.central_object("JoinToken", invitation.id()).await;
        token.expect("tokens stay for a while")
    }

    /// Waits until a token's record says that it stands so.
    pub async fn until_token(&self, invitation: &Invitation, state: &str) -> Value {
        eventually(&format!("token {} is {state}", invitation.id()), || async {
            let token = self.token(invitation).await;
            if token["status"]["state"] == state {
                Ok(token)
            } else {
                Err(format!("{token} with the hub's log\n{}", self.hub_log()))
            }
        })
        .await
    }

    /// One object of the hub's namespace.
    pub async fn central_object(&self, kind: &str, name: &str) -> Option<Value> {
        let found = api(&self.central_client, kind, &self.namespace).get_opt(name).await;
        found.expect("central answers").as_ref().map(as_json)
    }

    /// Changes an object of the hub's namespace as somebody else.
    pub async fn central_merge(&self, kind: &str, name: &str, fields: &Value) {
        let merged = api(&self.central_client, kind, &self.namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(fields))
            .await;
        merged.expect("changed");
    }

    /// All objects of a kind in the hub's namespace.
    pub async fn central_objects(&self, kind: &str) -> Vec<Value> {
        let listed = api(&self.central_client, kind, &self.namespace)
            .list(&ListParams::default())
            .await;
        listed.expect("central answers").iter().map(as_json).collect()
    }

    /// The events with this reason.
    pub async fn events(&self, reason: &str) -> Vec<Value> {
        let mut events = self.central_objects("Event").await;
        events.retain(|event| event["reason"] == reason);
        events
    }

    /// Waits for an event with this reason whose note has these words, on an object of this kind.
    pub async fn until_event(&self, reason: &str, kind: &str, words: &str) -> Value {
        eventually(&format!("an event {reason} on a {kind} has {words:?}"), || async {
            let events = self.events(reason).await;
            let found = events.iter().find(|event| {
                event["regarding"]["kind"] == kind && event["note"].as_str().is_some_and(|note| note.contains(words))
            });
            found
                .cloned()
                .ok_or_else(|| format!("{events:?} with the hub's log\n{}", self.hub_log()))
        })
        .await
    }

    /// Sessions that ended for another reason than being superseded, from one scrape: two would race with a renewal.
    pub async fn sessions_ended_otherwise(&self) -> f64 {
        let metrics = self.hub.metrics().await.expect("metrics");
        let name = "remote_istio_hub_sessions_ended_total";
        metrics.sum(name, &[]) - metrics.sum(name, &["superseded"])
    }

    /// One more agent in the name of a remote, in a cluster and namespace of the test's choice, as a rolling update or
    /// somebody who copied what it keeps would run it. Not running.
    pub async fn prepare_twin(&mut self, index: usize, cluster: usize, namespace: &str) -> usize {
        let clusters = Mesh::clusters().await;
        let name = format!("{}-twin", self.remote_name(index));
        let mut twin = self.prepare_remote(clusters.remote(cluster), &name, namespace).await;
        let line = twin.agent.command_mut();
        for flag in ["pin", "enrolment"] {
            let start = format!("--{flag}=");
            let arguments = &self.remotes[index].agent.command().arguments;
            let values = arguments
                .iter()
                .filter_map(|argument| argument.to_string_lossy().strip_prefix(&start).map(str::to_owned));
            line.set_flag(flag, values.collect::<Vec<_>>());
        }
        self.remotes.push(twin);
        self.remotes.len() - 1
    }

    /// One more remote, in a cluster of the test's own. Its agent does not run yet.
    pub async fn add_remote(&mut self, cluster: &Cluster, name: &str) -> usize {
        let remote = self.prepare_remote(cluster, name, &self.namespace).await;
        self.remotes.push(remote);
        self.remotes.len() - 1
    }

    /// Lets the agent of a remote go on at another replica: it keeps that one as its only hub, and is started again.
    pub async fn move_remote(&mut self, index: usize, hub: SocketAddr) {
        self.remotes[index].kill_agent().await;
        let mut kept = self.remotes[index].kept().await;
        let mut link: Value = serde_json::from_slice(&kept["link.json"]).expect("JSON");
        link["hubs"] = json!([hub.to_string()]);
        kept.insert("link.json".to_owned(), link.to_string().into_bytes());
        self.remotes[index].keep(kept).await;
        self.start_agent(index).await;
    }

    /// Lets an agent that does not run ask at this address alone when it next has to recover.
    pub async fn enrol_at(&mut self, index: usize, enrolment: SocketAddr) {
        let mut kept = self.remotes[index].kept().await;
        let mut link: Value = serde_json::from_slice(&kept["link.json"]).expect("JSON");
        link["enrolments"] = json!([enrolment.to_string()]);
        kept.insert("link.json".to_owned(), link.to_string().into_bytes());
        self.remotes[index].keep(kept).await;
        let command = self.remotes[index].agent.command_mut();
        command.set_flag("enrolment", [enrolment.to_string()]);
    }

    /// The cluster of one of the shared remotes.
    pub async fn remote_cluster(&self, index: usize) -> &'static Cluster {
        Mesh::clusters().await.remote(index)
    }

    /// Waits until one of the further replicas has so many sessions.
    pub async fn until_replica_sessions(&self, index: usize, count: f64) {
        eventually(&format!("replica {index} has {count} sessions"), || async {
            let metrics = self.replicas[index].metrics().await.expect("metrics");
            let now = metrics.sum("remote_istio_hub_sessions", &[]);
            seen((now - count).abs() < 0.5, now)
        })
        .await;
    }

    /// Waits until a metric of the hub is as wanted.
    pub async fn until_hub_metric(&self, name: &str, labels: &[&str], wanted: impl Fn(f64) -> bool) {
        eventually(&format!("{name} {labels:?} of the hub is as wanted"), || async {
            let now = self.hub_metric(name, labels).await;
            seen(wanted(now), now)
        })
        .await;
    }

    /// Takes the old CA away as soon as nobody stands in the way any more.
    pub async fn drop_ca(&self, more: &[&str]) {
        let arguments = [&["ca", "drop"], more].concat();
        eventually("the old CA is dropped", || async {
            let Said { code, out, err } = self.operator().run(&arguments).await.expect("it runs");
            if code == 0 { Ok(()) } else { Err(format!("{out}{err}")) }
        })
        .await;
    }

    /// Every line that the hub has logged.
    pub fn whole_hub_log(&self) -> String {
        self.hub.log()
    }
}

impl Remote {
    /// What the agent keeps of its identity.
    pub async fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        bytes(
            secrets
                .get(IDENTITY_SECRET)
                .await
                .expect("the role file brings the Secret"),
        )
    }

    /// Writes what an agent keeps, in the place of everything that is there.
    pub async fn keep(&self, data: BTreeMap<String, Vec<u8>>) {
        let present = self.kept().await;
        let gone = present.keys().filter(|key| !data.contains_key(*key));
        let mut changed: BTreeMap<String, Option<ByteString>> = gone.map(|key| (key.clone(), None)).collect();
        changed.extend(data.into_iter().map(|(key, value)| (key, Some(ByteString(value)))));
        self.merge("Secret", IDENTITY_SECRET, &json!({"data": changed})).await;
    }

    /// Hands over every value of every entry that the agent keeps from now on. Ends with its value.
    pub fn watch_kept(&self, mut take: impl FnMut(&str, String) + Send + 'static) -> JoinSet<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let named = watcher::Config::default().fields(&format!("metadata.name={IDENTITY_SECRET}"));
        let mut watching = JoinSet::new();
        watching.spawn(async move {
            let mut events = watcher::watcher(secrets, named).applied_objects().boxed();
            while let Some(event) = events.next().await {
                let secret = event.expect("a watch as administrator goes on");
                for (entry, value) in bytes(secret) {
                    take(&entry, String::from_utf8_lossy(&value).into_owned());
                }
            }
        });
        watching
    }

    /// Waits until the agent keeps a certificate, and gives it as PEM.
    pub async fn until_certificate(&self) -> String {
        eventually(&format!("{} keeps a certificate", self.name), || async {
            let kept = self.kept().await;
            match kept.get("tls.crt") {
                Some(certificate) if !certificate.is_empty() => Ok(String::from_utf8_lossy(certificate).into_owned()),
                _ => Err(format!("{:?}:\n{}", kept.keys(), self.agent.command().log_tail())),
            }
        })
        .await
    }

    /// Waits until the agent keeps another certificate than this one, and gives it.
    pub async fn until_another_certificate(&self, certificate: &str) -> String {
        eventually(&format!("{} keeps another certificate", self.name), || async {
            let now = self.until_certificate().await;
            if now == certificate {
                Err(self.agent.command().log_tail())
            } else {
                Ok(now)
            }
        })
        .await
    }

    /// Everything the agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.agent.log_path()).unwrap_or_default()
    }

    /// The agent, to change how it is started.
    pub fn agent_mut(&mut self) -> &mut support::pair::Agent {
        &mut self.agent
    }

    /// Waits until the agent says that it is ready.
    pub async fn until_agent_is_ready(&self) {
        self.agent.ready().await.expect("ready");
    }

    /// UID of the cluster, as the agent reads it.
    pub async fn cluster_uid(&self) -> String {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let namespace = namespaces.get("kube-system").await.expect("every cluster has one");
        namespace.uid().expect("made by the API server")
    }

    /// Waits until a metric of the agent is as wanted.
    pub async fn until_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        eventually(&format!("{name} of {} is as wanted", self.name), || async {
            let now = self.metric(name).await;
            seen(wanted(now), now)
        })
        .await;
    }
}

/// Writes a token where only the owner of the file reads it.
pub fn write_token(path: &Path, token: &str) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.expect("the test's folder can be written");
    std::io::Write::write_all(&mut file, token.as_bytes()).expect("written");
}

fn bytes(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    let data = secret.data.unwrap_or_default();
    data.into_iter().map(|(key, value)| (key, value.0)).collect()
}
