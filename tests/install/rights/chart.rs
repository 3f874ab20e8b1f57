//! What the charts grant: rendered by the real helm, read as rules, applied as they are.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use support::Cluster;
use support::manifest::apply;
use support::release::Chart;
use support::render::{Document, Renderer};
use support::tools::Tool;

use super::rule::{Grant, Reach};

/// Kinds that grant something, and what they are granted to; the Secrets that hub and agent find empty.
const INSTALLED: [&str; 6] = [
    "ServiceAccount",
    "Secret",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
];

/// The chart with these `--set-json` values in this namespace.
pub async fn render(chart: Chart, namespace: &str, values: &[&str]) -> Result<Vec<Document>> {
    let flags = values.iter().flat_map(|value| ["--set-json", value]);
    let flags: Vec<String> = flags.map(str::to_owned).collect();
    let (namespace, what) = (namespace.to_owned(), format!("{chart:?} with {values:?}"));
    let rendered = tokio::task::spawn_blocking(move || {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Renderer::new(Tool::Helm)?.documents_with(chart, &namespace, "", &flags)
    });
    rendered.await.context("the renderer panicked")?.context(what)
}

/// Applies what is granted and to whom, in the place of what stands there.
pub async fn install(cluster: &Cluster, rendered: &[Document]) -> Result<()> {
    let admin = cluster.admin();
    for one in rendered {
        let kind = one.object["kind"].as_str().unwrap_or_default();
        if INSTALLED.contains(&kind) {
            apply(&admin, one.object.clone()).await?;
        }
    }
    Ok(())
}

/// The rules that each account has by these objects.
pub fn grants(rendered: &[Document]) -> Result<Vec<Grant>> {
    let mut grants = Vec::new();
    for binding in rendered {
        let kind = binding.object["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
            continue;
        }
        let (role, reach) = bound(rendered, &binding.object)?;
        for subject in list(&binding.object["subjects"]) {
            ensure!(
                subject["kind"] == "ServiceAccount",
                "{} is bound to {subject}",
                binding.template
            );
            let account = format!("{}/{}", word(&subject["namespace"])?, word(&subject["name"])?);
            for rule in list(&role.object["rules"]) {
                grants.push(grant(role, rule, &account, reach.clone())?);
            }
        }
    }
    Ok(grants)
}

/// The role of a binding, and where it counts.
fn bound<'a>(rendered: &'a [Document], binding: &Value) -> Result<(&'a Document, Reach)> {
    let wanted = &binding["roleRef"];
    let namespace = binding["metadata"]["namespace"].as_str();
    let is_it = |one: &&Document| {
        one.object["kind"] == wanted["kind"]
            && one.object["metadata"]["name"] == wanted["name"]
            && (wanted["kind"] == "ClusterRole" || one.object["metadata"]["namespace"].as_str() == namespace)
    };
    let Some(role) = rendered.iter().find(is_it) else {
        bail!("{binding} is bound to a role that the chart does not have");
    };
    let reach = match namespace {
        Some(namespace) if binding["kind"] == "RoleBinding" => Reach::Namespace(namespace.to_owned()),
        _ => Reach::Cluster,
    };
    Ok((role, reach))
}

fn grant(role: &Document, granted: &Value, account: &str, reach: Reach) -> Result<Grant> {
    let known = ["apiGroups", "resources", "resourceNames", "verbs"];
    let fields = granted.as_object().context("a rule")?;
    if let Some(other) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        bail!("{other} in a rule of {}", role.template);
    }
    let texts = |name: &str| list(&granted[name]).iter().map(word).collect::<Result<Vec<_>>>();
    Ok(Grant {
        account: account.to_owned(),
        role: format!(
            "{} {}",
            word(&role.object["kind"])?,
            word(&role.object["metadata"]["name"])?
        ),
        source: role.template.clone(),
        reach,
        groups: texts("apiGroups")?,
        resources: texts("resources")?,
        names: texts("resourceNames")?,
        verbs: texts("verbs")?,
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("{value} is no text"))
}

/// What no role of ours may have, in the words of who looks for it.
pub fn faults(rendered: &[Document]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for grant in grants(rendered)? {
        let Grant {
            role, source, account, ..
        } = &grant;
        let mut fault = |words: &str| faults.push(format!("{role} of {account} ({source}): {words}"));
        let all = [&grant.groups, &grant.resources, &grant.verbs, &grant.names];
        if all.iter().any(|texts| texts.iter().any(|text| text.contains('*'))) {
            fault("a wildcard");
        }
        if grant.groups.is_empty() || grant.resources.is_empty() || grant.verbs.is_empty() {
            fault("a rule that grants nothing");
        }
        for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
            if grant.verbs.iter().any(|granted| granted == verb) {
                fault(verb);
            }
        }
        for resource in [
            "pods/exec",
            "pods/attach",
            "pods/portforward",
            "pods/ephemeralcontainers",
            "nodes/proxy",
        ] {
            if grant.resources.iter().any(|granted| granted == resource) {
                fault(resource);
            }
        }
        if grant.resources.iter().any(|granted| granted == "serviceaccounts/token") {
            fault("tokens of accounts");
        }
        let writes = grant
            .verbs
            .iter()
            .any(|verb| !matches!(verb.as_str(), "get" | "list" | "watch"));
        if writes && grant.groups.iter().any(|group| group == "rbac.authorization.k8s.io") {
            fault("writes roles");
        }
        if opens_secrets(&grant) && !role.starts_with("ClusterRole istio-citadel-cluster-role") {
            fault("Secrets that are not named");
        }
    }
    Ok(faults)
}

/// To create one reads nothing.
fn opens_secrets(grant: &Grant) -> bool {
    let is_secrets = grant.resources.iter().any(|resource| resource == "secrets");
    is_secrets && grant.names.is_empty() && grant.verbs.iter().any(|verb| verb != "create")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(rules: &Value) -> Vec<Document> {
        let of = |object: Value| Document {
            template: "templates/role.yaml".to_owned(),
            text: String::new(),
            object,
        };
        vec![
            of(json!({"kind": "Role", "metadata": {"name": "a", "namespace": "mesh"}, "rules": rules})),
            of(json!({
                "kind": "RoleBinding", "metadata": {"name": "a", "namespace": "mesh"},
                "roleRef": {"kind": "Role", "name": "a"},
                "subjects": [{"kind": "ServiceAccount", "name": "hub", "namespace": "mesh"}],
            })),
        ]
    }

    fn found(rule: &Value) -> Vec<String> {
        let faults = faults(&role(&json!([rule]))).expect("roles");
        let words = |fault: &String| fault.rsplit(": ").next().unwrap_or_default().to_owned();
        faults.iter().map(words).collect()
    }

    #[test]
    fn each_fault_is_found_and_a_good_rule_has_none() {
        let rule = |group: &str, resource: &str, verb: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        assert_eq!(found(&rule("", "services", "list")), Vec::<String>::new());
        assert_eq!(found(&rule("", "secrets", "create")), Vec::<String>::new());
        assert_eq!(found(&rule("", "*", "list")), ["a wildcard"]);
        assert_eq!(found(&rule("", "secrets", "get")), ["Secrets that are not named"]);
        assert_eq!(found(&rule("", "users", "impersonate")), ["impersonate"]);
        assert_eq!(
            found(&rule("", "serviceaccounts/token", "create")),
            ["tokens of accounts"]
        );
        assert_eq!(
            found(&rule("rbac.authorization.k8s.io", "roles", "patch")),
            ["writes roles"]
        );
        assert_eq!(
            found(&json!({"apiGroups": [""], "resources": ["secrets"], "verbs": []})),
            ["a rule that grants nothing"]
        );
    }

    #[test]
    fn role_that_is_bound_to_another_than_an_account_is_an_error() {
        let mut rendered = role(&json!([]));
        rendered[1].object["subjects"][0]["kind"] = json!("Group");
        assert!(grants(&rendered).is_err());
    }
}
