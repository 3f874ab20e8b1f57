//! `deploy/roles`: what the charts grant, for those who run hub and agent without helm.

use anyhow::{Result, ensure};

use super::Page;
use crate::deploy::NAMESPACE;
use crate::release::Chart;
use crate::render::{Document, Renderer};
use crate::tools::Tool;

/// Who may do what, and the Secrets that must be there because hub and agent cannot make any.
const KINDS: [&str; 6] = [
    "ServiceAccount",
    "Secret",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
];

/// Lines that are of helm, not of the object.
const OF_HELM: [&str; 5] = [
    "app.kubernetes.io/instance:",
    "app.kubernetes.io/managed-by:",
    "app.kubernetes.io/version:",
    "helm.sh/",
    "meta.helm.sh/",
];

/// What an agent needs so that its chart can be rendered; none of it stands in a role.
const JOINED: &str = "hub: {enrolment: ['hub.example.com:8443'], pins: ['sha256:0000000000000000000000000000000000000000000000000000000000000000']}";

const GENERATED: &str = "#\n# Generated from the chart by `make docs`; a test holds it to it.\n";

const HUB: &str = "\
# What the hub may do on central: all of it in its own namespace, but for one CRD that it may look at, and nothing in a
# remote. It is what the chart remote-istio-hub installs, for those who run the hub without helm.
#
# A hub that serves services of further namespaces (--service-namespaces) needs the rule on pods and services there too.
# The hub's commands (token, join, revoke, release, identity, ca) run inside its pod, with kubectl exec: what they need
# stands at each rule. A person who runs them from elsewhere needs the same of it.
#
# With --link-ca-secret, name that Secret instead of remote-istio-link-ca; with --link-ca secret it is yours, and update is
# not needed on it. Under --link-ca files the hub needs neither the Secret nor the rules on Secrets, on the ConfigMap
# remote-istio-link and on join tokens. In another namespace than istio-system the names of ClusterRole and
# ClusterRoleBinding end in -NAMESPACE.
";

const MESH_CA: &str = "\
# What a hub needs beside deploy/roles/hub.yaml to sign for the mesh (--sign-mesh-ca), and nothing else. Apply it only where
# central's operator grants that: with the key of central's mesh CA, whoever controls the hub can make any identity of the
# mesh, and each remote that is given an intermediate can too. See docs/security.md, \"Signing for the mesh\".
#
# With --mesh-ca-secret, name that Secret here instead. Taken away while the flag is set, the hub goes on with what it read
# until it restarts; remotes keep what they have. Take the flag away first: then the remotes are told to let go of their
# intermediates.
";

const AGENT: &str = "\
# What an agent may do in its remote cluster: what it uses, and nothing beside. It is what the chart remote-istio-agent
# installs, for those who run the agent without helm.
#
# Of all Secrets it can read two by name: that of its own identity, and that of its join token. It can create no workload,
# role, Secret or namespace, and touch nothing outside its own namespace but the labels of namespaces. Where
# --service-namespaces names further namespaces, bind the rules on services, endpoints and endpointslices there too. In
# another namespace than istio-system the names of ClusterRoles and ClusterRoleBindings end in -NAMESPACE.
";

const COMPONENTS: &str = "\
# What a remote needs so that components can run in it: the accounts and roles of Citadel and of the sidecar injector, and
# what the agent may do beside deploy/roles/agent.yaml to look after them. Apply it only where components are wanted; a
# remote without it answers every wish for a component by naming what is missing.
#
# None of this ever comes over the stream and the agent cannot make any of it: roles, bindings and accounts are made here,
# by who installs the remote. Cluster-wide objects have the names of the 2019 operator; in another namespace than
# istio-system they, and the webhook where a rule names it, get -NAMESPACE after their names.
";

pub(super) fn pages() -> Result<Vec<Page>> {
    let helm = Renderer::new(Tool::Helm)?;
    let granting = |chart: Chart, values: &str| -> Result<Vec<Document>> {
        let all = helm.documents(chart, NAMESPACE, values)?;
        Ok(all.into_iter().filter(is_granted).collect())
    };
    let hub = granting(Chart::Hub, "{}")?;
    let signing = granting(Chart::Hub, "meshCA: {sign: true}")?;
    let agent = granting(Chart::Agent, JOINED)?;
    let enabled = "components: {citadel: {enabled: true}, sidecarInjector: {enabled: true}}";
    let components = granting(Chart::Agent, &format!("{JOINED}\n{enabled}"))?;
    Ok(vec![
        page("deploy/roles/hub-mesh-ca.yaml", MESH_CA, &beside(signing, &hub)?),
        page("deploy/roles/hub.yaml", HUB, &hub),
        page("deploy/roles/components.yaml", COMPONENTS, &beside(components, &agent)?),
        page("deploy/roles/agent.yaml", AGENT, &agent),
    ])
}

/// What stands as long as the release does: no hook but that which makes an empty Secret or an account, once.
fn is_granted(document: &Document) -> bool {
    KINDS.contains(&document.kind()) && document.hook().is_none_or(|hook| hook.contains("pre-install"))
}

/// What is in `all` and not in `base`; what is in both is the same.
fn beside(all: Vec<Document>, base: &[Document]) -> Result<Vec<Document>> {
    let mut more = Vec::new();
    for document in all {
        let id = |other: &Document| (other.kind().to_owned(), other.name().to_owned());
        match base.iter().find(|other| id(other) == id(&document)) {
            None => more.push(document),
            Some(same) => ensure!(
                *same == document,
                "{} {} changes with what is granted beside it",
                document.kind(),
                document.name()
            ),
        }
    }
    Ok(more)
}

fn page(path: &'static str, opening: &str, documents: &[Document]) -> Page {
    let texts: Vec<String> = documents.iter().map(|document| without_helm(&document.text)).collect();
    Page {
        path,
        text: format!("{opening}{GENERATED}{}", texts.join("---\n")),
    }
}

/// The text without what only helm needs.
fn without_helm(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        // A field whose lines were all of helm.
        let is_left_empty = kept
            .last()
            .is_some_and(|last| last.trim_start() == "annotations:" && last.len() - last.trim_start().len() >= indent);
        if OF_HELM.iter().any(|of_helm| line.trim_start().starts_with(of_helm)) {
            continue;
        }
        if is_left_empty {
            kept.pop();
        }
        kept.push(line);
    }
    if kept.last().is_some_and(|last| last.trim_start() == "annotations:") {
        kept.pop();
    }
    kept.into_iter().fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_annotations_of_helm_are_left_out_and_others_stay() {
        let text = "metadata:\n  name: a\n  labels:\n    app.kubernetes.io/instance: r\n    app.kubernetes.io/name: n\n  annotations:\n    helm.sh/hook: pre-install\nrules:\n  # Why.\n  - a\n";
        assert_eq!(
            without_helm(text),
            "metadata:\n  name: a\n  labels:\n    app.kubernetes.io/name: n\nrules:\n  # Why.\n  - a\n"
        );
        assert_eq!(
            without_helm("metadata:\n  annotations:\n    helm.sh/hook: x\n"),
            "metadata:\n"
        );
        assert_eq!(
            without_helm("metadata:\n  annotations:\n    mine: x\n    helm.sh/hook: x\n"),
            "metadata:\n  annotations:\n    mine: x\n"
        );
    }
}
