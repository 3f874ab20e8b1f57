//! Citadel and the injector of the 1.0 line run nowhere here, so that nobody sees what they use: their roles are held to what
//! they need by their own words, verb by verb, and to no more than they had in 2019.

use std::collections::BTreeSet;

use support::release::Chart;

use super::chart;

/// Account, verb, resource with its group, and name; an empty name is all.
type Row = (&'static str, &'static str, &'static str, &'static str);

const CITADEL: &str = "istio-citadel-service-account";
const INJECTOR: &str = "istio-sidecar-injector-service-account";
const HOOKS: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";

/// Citadel mints Secrets for the accounts of all namespaces and looks at annotations of services; the injector looks at its
/// two files and its webhook. In 2019 the injector had the right to patch every webhook, too.
const EXPECTED: &[Row] = &[
    (CITADEL, "create", "secrets", ""),
    (CITADEL, "get", "secrets", ""),
    (CITADEL, "watch", "secrets", ""),
    (CITADEL, "list", "secrets", ""),
    (CITADEL, "update", "secrets", ""),
    (CITADEL, "delete", "secrets", ""),
    (CITADEL, "get", "serviceaccounts", ""),
    (CITADEL, "watch", "serviceaccounts", ""),
    (CITADEL, "list", "serviceaccounts", ""),
    (CITADEL, "get", "services", ""),
    (CITADEL, "watch", "services", ""),
    (CITADEL, "list", "services", ""),
    (INJECTOR, "get", "configmaps", "istio"),
    (INJECTOR, "watch", "configmaps", "istio"),
    (INJECTOR, "list", "configmaps", "istio"),
    (INJECTOR, "get", "configmaps", "istio-sidecar-injector"),
    (INJECTOR, "watch", "configmaps", "istio-sidecar-injector"),
    (INJECTOR, "list", "configmaps", "istio-sidecar-injector"),
    (INJECTOR, "get", HOOKS, "istio-sidecar-injector"),
    (INJECTOR, "list", HOOKS, "istio-sidecar-injector"),
    (INJECTOR, "watch", HOOKS, "istio-sidecar-injector"),
];

// Turns red when: a verb is added to, or taken from, a role of a component.
#[tokio::test]
async fn roles_of_components_are_those_that_are_written_down() {
    for (enabled, account) in [("citadel", CITADEL), ("sidecarInjector", INJECTOR)] {
        let value = format!("components.{enabled}.enabled=true");
        let values = [
            r#"identity.filesSecretName="files""#,
            r#"hub.addresses=["hub.test:8444"]"#,
            &value,
        ];
        let rendered = chart::render(Chart::Agent, "istio-system", &values).await;
        let grants = chart::grants(&rendered.expect("rendered")).expect("roles");
        let mut granted = BTreeSet::new();
        for grant in grants.iter().filter(|grant| grant.account.contains("/istio-")) {
            let of = grant.account.rsplit('/').next().unwrap_or_default();
            granted.extend(grant.atoms().map(|atom| {
                let resource = match atom.group {
                    "" => atom.resource.to_owned(),
                    group => format!("{}.{group}", atom.resource),
                };
                let name = atom.name.unwrap_or_default().to_owned();
                (of.to_owned(), atom.verb.to_owned(), resource, name)
            }));
        }
        let expected = EXPECTED.iter().filter(|row| row.0 == account);
        let expected = expected.map(|row| (row.0.to_owned(), row.1.to_owned(), row.2.to_owned(), row.3.to_owned()));
        assert_eq!(granted, expected.collect(), "{enabled}");
    }
}
