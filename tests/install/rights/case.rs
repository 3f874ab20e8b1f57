//! One pair of charts with their values, in one namespace of both clusters.

use std::collections::BTreeSet;

use support::pair::HubTrust;
use support::release::Chart;
use support::render::Document;
use support::{AuditLog, Cluster};
use tokio::sync::OnceCell;

use super::chart;
use super::log::Asked;
use super::rule::{Difference, Grant, Use, differences};
use crate::cluster::mesh::{Clusters, Mesh, Setup};

/// What an agent's chart asks for beside: it is told at the start of the agent, which no chart does here.
const JOINS: [&str; 2] = [
    r#"hub.enrolment=["127.0.0.1:8443"]"#,
    r#"hub.pins=["sha256:0000000000000000000000000000000000000000000000000000000000000000"]"#,
];

/// Where certificates lie in files.
const FILES: [&str; 2] = [
    r#"identity.filesSecretName="files""#,
    r#"hub.addresses=["127.0.0.1:8444"]"#,
];

/// The clusters of all cases, with everything in their audit logs.
pub async fn clusters() -> &'static Clusters {
    static SHARED: OnceCell<Clusters> = OnceCell::const_new();
    SHARED
        .get_or_init(|| Box::pin(Clusters::audited("rights", AuditLog::All)))
        .await
}

/// In the place of a name: whatever it is.
pub const ANY: &str = "*";

/// Verb, resource with its group, and name, if it is named: what is asked for on purpose without the right.
pub type Refused = (&'static str, &'static str, &'static str);

/// What is granted where, and what is asked for without being granted.
#[derive(Clone, Debug)]
pub struct Case {
    namespace: &'static str,
    hub: Vec<String>,
    agent: Vec<String>,
    refused: Vec<Refused>,
    only: Option<&'static str>,
    resources: Option<&'static [&'static str]>,
    service_namespace: Option<&'static str>,
}

impl Case {
    /// Both charts without a value that needs none.
    pub fn new(namespace: &'static str) -> Self {
        Self {
            namespace,
            hub: Vec::new(),
            agent: JOINS.map(str::to_owned).to_vec(),
            refused: Vec::new(),
            only: None,
            resources: None,
            service_namespace: None,
        }
    }

    /// Values of the hub's chart.
    pub fn hub(mut self, values: &[&str]) -> Self {
        self.hub.extend(values.iter().map(ToString::to_string));
        self
    }

    /// Values of the agent's chart.
    pub fn agent(mut self, values: &[&str]) -> Self {
        self.agent.extend(values.iter().map(ToString::to_string));
        self
    }

    /// What is asked for on purpose without the right.
    pub fn refused(mut self, refused: &[Refused]) -> Self {
        self.refused.extend(refused);
        self
    }

    /// Certificates lie in files on both sides.
    pub fn files(mut self) -> Self {
        self.hub
            .extend([r#"linkCA.mode="files""#, r#"linkCA.filesSecretName="files""#].map(str::to_owned));
        self.agent = FILES.map(str::to_owned).to_vec();
        self
    }

    /// The rights of other accounts are another case's matter.
    pub fn only(mut self, account: &'static str) -> Self {
        self.only = Some(account);
        self
    }

    /// The rights on other resources are another case's matter.
    pub fn resources(mut self, resources: &'static [&'static str]) -> Self {
        self.resources = Some(resources);
        self
    }

    /// A further namespace, on both sides.
    pub fn in_service_namespace(mut self, namespace: &'static str) -> Self {
        self.service_namespace = Some(namespace);
        self
    }

    /// A hub that runs, and an agent that has to join, under the roles of the charts.
    pub async fn joinable(&self, trust: HubTrust) -> Mesh<'static> {
        let setup = Setup {
            joinable: Some(trust),
            ..Setup::default()
        };
        let mut mesh = self.prepare(setup).await;
        mesh.start_hub().await;
        mesh
    }

    /// Hub and agent, both running.
    pub async fn with_files(&self, setup: Setup) -> Mesh<'static> {
        let mut mesh = self.prepare(setup).await;
        mesh.start_hub().await;
        mesh.start_agent(0).await;
        mesh
    }

    /// Hub and agent under the roles of the charts, nothing running.
    pub async fn prepare(&self, setup: Setup) -> Mesh<'static> {
        let clusters = clusters().await;
        for cluster in [clusters.central(), clusters.remote(0)] {
            if let Some(namespace) = self.service_namespace {
                let made = support::deploy::namespace(&cluster.admin(), namespace).await;
                made.expect("a namespace");
            }
        }
        let mesh = Box::pin(Mesh::prepare(clusters, self.namespace, 1, setup)).await;
        self.install(clusters.central(), &self.hub_chart().await).await;
        self.install(clusters.remote(0), &self.agent_chart().await).await;
        mesh
    }

    async fn install(&self, cluster: &Cluster, rendered: &[Document]) {
        let installed = chart::install(cluster, rendered).await;
        installed.unwrap_or_else(|error| panic!("{}: {error:#}", self.namespace));
    }

    async fn hub_chart(&self) -> Vec<Document> {
        self.render(Chart::Hub, &self.hub).await
    }

    async fn agent_chart(&self) -> Vec<Document> {
        self.render(Chart::Agent, &self.agent).await
    }

    async fn render(&self, chart: Chart, values: &[String]) -> Vec<Document> {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let rendered = chart::render(chart, self.namespace, &values).await;
        rendered.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What the charts grant the accounts that run here; those of the components run nothing.
    async fn grants(&self) -> Vec<Grant> {
        let mut grants = chart::grants(&self.hub_chart().await).expect("roles");
        grants.extend(chart::grants(&self.agent_chart().await).expect("roles"));
        grants.retain(|grant| !grant.account.contains("/istio-") && self.is_meant(&grant.account));
        if let Some(meant) = self.resources {
            for grant in &mut grants {
                grant.resources.retain(|resource| meant.contains(&resource.as_str()));
            }
            grants.retain(|grant| !grant.resources.is_empty());
        }
        grants
    }

    /// Everything that the accounts of this namespace have asked until now.
    async fn asked(&self) -> Asked {
        let clusters = clusters().await;
        let mut asked = Asked::default();
        for cluster in [clusters.central(), clusters.remote(0)] {
            let log = tokio::fs::read_to_string(cluster.audit_log())
                .await
                .expect("the audit log");
            let of_one = Asked::read(&log, &[self.namespace]);
            asked.uses.extend(of_one.uses);
            asked.refused.extend(of_one.refused);
        }
        asked.uses.retain(|used| self.is_meant(&used.account));
        if let Some(meant) = self.resources {
            asked.uses.retain(|used| meant.contains(&used.resource.as_str()));
        }
        asked
    }

    fn is_meant(&self, account: &str) -> bool {
        let name = account.rsplit('/').next().unwrap_or_default();
        self.only.is_none_or(|only| only == name)
    }

    /// Holds what was used against what is granted.
    pub async fn compare(&self, mesh: &Mesh<'_>) {
        assert_eq!(mesh.namespace(), self.namespace);
        let (grants, asked) = (self.grants().await, self.asked().await);
        let mut wrong: Vec<String> = asked
            .refused
            .iter()
            .filter(|used| !self.is_expected(used))
            .map(refusal)
            .collect();
        wrong.extend(self.never_refused(&asked.refused));
        let found = differences(&grants, &asked.uses);
        wrong.extend(
            found
                .iter()
                .filter(|difference| !is_made_up(difference))
                .map(ToString::to_string),
        );
        assert!(wrong.is_empty(), "in {}:\n{}", self.namespace, wrong.join("\n"));
        shows_every_change(&grants, &asked.uses);
        println!("{}: {} rules, {} uses", self.namespace, grants.len(), asked.uses.len());
    }

    fn is_expected(&self, used: &Use) -> bool {
        self.refused.iter().any(|refused| is_refusal_of(*refused, used))
    }

    /// What is expected to be refused and was not even asked.
    fn never_refused(&self, refused: &BTreeSet<Use>) -> Vec<String> {
        let mut never = Vec::new();
        for expected in &self.refused {
            if !refused.iter().any(|used| is_refusal_of(*expected, used)) {
                never.push(format!("expected to be refused and never asked: {expected:?}"));
            }
        }
        never
    }
}

fn is_refusal_of((verb, wanted, name): Refused, used: &Use) -> bool {
    let is_named = name == ANY || used.name.as_deref().unwrap_or_default() == name;
    used.verb == verb && resource(used) == wanted && is_named
}

/// Events are named as they come, the others after remotes: no role can have their names.
const MADE_UP: [&str; 4] = ["events", "remoteistios", "remoteidentities", "jointokens"];

fn is_made_up(difference: &Difference<'_>) -> bool {
    let Difference::OneNameWouldDo(atom, _) = difference else {
        return false;
    };
    let resource = atom.resource.split('/').next().unwrap_or_default();
    MADE_UP.contains(&resource)
}

fn refusal(used: &Use) -> String {
    format!("refused: {used}")
}

fn resource(used: &Use) -> String {
    if used.group.is_empty() {
        used.resource.clone()
    } else {
        format!("{}.{}", used.resource, used.group)
    }
}

/// The comparison itself: a verb more is seen and a verb less is seen, in each rule.
fn shows_every_change(grants: &[Grant], uses: &BTreeSet<Use>) {
    for index in 0..grants.len() {
        let mut more = grants.to_vec();
        more[index].verbs.push("deletecollection".to_owned());
        let seen = differences(&more, uses);
        let is_seen = |difference: &Difference<'_>| matches!(difference, Difference::NeverUsed(atom) if atom.verb == "deletecollection");
        assert!(
            seen.iter().any(is_seen),
            "one verb more in {:?} is not seen",
            grants[index]
        );
        for verb in 0..grants[index].verbs.len() {
            let mut less = grants.to_vec();
            let gone = less[index].verbs.remove(verb);
            let seen = differences(&less, uses);
            let is_seen = |difference: &Difference<'_>| matches!(difference, Difference::NotGranted(missing) if missing.verb == gone);
            assert!(
                seen.iter().any(is_seen),
                "{gone} less in {:?} is not seen",
                grants[index]
            );
        }
    }
}
