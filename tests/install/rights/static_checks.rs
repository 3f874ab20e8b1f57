//! What no role may have, whatever the values: every combination of them that changes roles is rendered and looked through.

use support::release::Chart;
use support::render::Document;

use super::chart;

/// Each line is one choice; one value of each is taken at a time.
type Choices = &'static [&'static [&'static [&'static str]]];

const HUB: Choices = &[
    &[
        &[],
        &[r#"linkCA.mode="secret""#, r#"linkCA.secretName="of-the-owner""#],
        &[r#"linkCA.mode="files""#, r#"linkCA.filesSecretName="files""#],
    ],
    &[
        &[],
        &["meshCA.sign=true"],
        &["meshCA.sign=true", r#"meshCA.secretName="of-the-mesh""#],
    ],
    &[&[], &[r#"serviceNamespaces=["shop","stock"]"#]],
    &[
        &[],
        &[r#"exposure.type="NodePort""#, r#"exposure.hosts=["hub.test"]"#],
        &[r#"exposure.type="ClusterIP""#],
    ],
];

const AGENT: Choices = &[
    &[
        &[
            r#"hub.enrolment=["hub.test:8443"]"#,
            r#"hub.pins=["sha256:0000000000000000000000000000000000000000000000000000000000000000"]"#,
        ],
        &[
            r#"identity.filesSecretName="files""#,
            r#"hub.addresses=["hub.test:8444"]"#,
        ],
    ],
    &[&[], &["components.citadel.enabled=true"]],
    &[&[], &["components.sidecarInjector.enabled=true"]],
    &[&[], &[r#"serviceNamespaces=["shop","stock"]"#]],
    &[&[], &[r#"onUninstall="Remove""#]],
    &[&[], &["endpointsObjects=false"]],
];

/// Every combination.
fn combinations(choices: Choices) -> Vec<Vec<&'static str>> {
    let mut all = vec![Vec::new()];
    for choice in choices {
        let longer = |one: &Vec<&'static str>| choice.iter().map(|more| [one, *more].concat()).collect::<Vec<_>>();
        all = all.iter().flat_map(longer).collect();
    }
    all
}

async fn rendered(chart: Chart, choices: Choices) -> Vec<(String, Vec<Document>)> {
    let mut all = Vec::new();
    for values in combinations(choices) {
        for namespace in ["istio-system", "elsewhere"] {
            let rendered = chart::render(chart, namespace, &values).await;
            let what = format!("{chart:?} in {namespace} with {values:?}");
            all.push((what, rendered.unwrap_or_else(|error| panic!("{error:#}"))));
        }
    }
    all
}

// Turns red when: any role has a wildcard, Secrets without a name, or a way to more rights.
#[tokio::test]
async fn no_combination_of_values_grants_what_no_role_may_have() {
    for (chart, choices) in [(Chart::Hub, HUB), (Chart::Agent, AGENT)] {
        for (what, rendered) in rendered(chart, choices).await {
            let faults = chart::faults(&rendered).expect("roles");
            assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
            let grants = chart::grants(&rendered).expect("roles");
            assert!(!grants.is_empty(), "{what} grants nothing");
            assert_eq!(unbound(&rendered), Vec::<String>::new(), "{what}");
        }
    }
}

/// Roles that nothing binds: they would be granted by whoever finds them.
fn unbound(rendered: &[Document]) -> Vec<String> {
    let is = |one: &&Document, kinds: &[&str]| kinds.contains(&one.object["kind"].as_str().unwrap_or_default());
    let bindings: Vec<_> = rendered
        .iter()
        .filter(|one| is(one, &["RoleBinding", "ClusterRoleBinding"]))
        .collect();
    let is_bound = |role: &Document| {
        bindings.iter().any(|binding| {
            let of = &binding.object["roleRef"];
            of["kind"] == role.object["kind"] && of["name"] == role.object["metadata"]["name"]
        })
    };
    let roles = rendered
        .iter()
        .filter(|one| is(one, &["Role", "ClusterRole"]) && !is_bound(one));
    roles
        .map(|role| format!("{}: {}", role.template, role.object["metadata"]["name"]))
        .collect()
}
