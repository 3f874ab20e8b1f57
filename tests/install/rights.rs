//! Least privilege, proven: hub and agent live through everything they do, under the accounts and roles of their charts, on
//! API servers that note every question of theirs; then what was used is held against what is granted, both ways.
//!
//! The roles of the components are not for us: no image of the 1.0 line runs here. They are held to a list.

mod case;
mod chart;
mod components_roles;
mod log;
mod rule;
mod scenarios;
mod static_checks;

use case::{ANY, Case, Refused};
use serde_json::json;
use support::pair::{HubTrust, Operator};

use crate::cluster::mesh::{CITADEL, INJECTOR, Mesh, Setup, run};
use scenarios::{apart, commands, components, everyday, leaving, mesh_trust};

/// What an agent asks for only to see whether it may run components: Deployments and webhooks, and the mesh's CA.
const DEPLOYMENTS: Refused = ("list", "deployments.apps", "");
const WEBHOOKS: Refused = ("list", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "");
const CACERTS: Refused = ("get", "secrets", "cacerts");
const COMPONENTS: &[Refused] = &[DEPLOYMENTS, WEBHOOKS, CACERTS];

/// Services, and what is behind them.
const SERVED: &[&str] = &["pods", "services", "endpoints", "endpointslices"];

// Turns red when: a verb is added to a role, is taken away from one, or is used by new code without being granted.
#[test]
fn roles_of_hub_and_agent_are_what_they_use_where_remotes_join() {
    run(async {
        let case = Case::new("istio-system").refused(COMPONENTS);
        let mut mesh = case.joinable(HubTrust::Made).await;
        let operator = joins_and_is_taken_back(&mut mesh).await;
        commands::change_ca(&mesh, &operator).await;
        leaves_and_compares(&case, &mut mesh).await;
    });
}

// Turns red when: a hub that reads a CA of somebody else may write it, or may not read it.
#[test]
fn roles_of_a_hub_whose_ca_is_brought_are_what_it_uses() {
    run(async {
        let case = Case::new("rights-brought")
            .hub(&[r#"linkCA.mode="secret""#])
            .refused(COMPONENTS);
        let mut mesh = case.joinable(HubTrust::Brought).await;
        joins_and_is_taken_back(&mut mesh).await;
        leaves_and_compares(&case, &mut mesh).await;
    });
}

/// Everything that comes of tokens, up to what takes them back.
async fn joins_and_is_taken_back(mesh: &mut Mesh<'_>) -> Operator {
    commands::leave_ended_tokens(mesh).await;
    let operator = commands::operator(mesh).await;
    commands::join(mesh, &operator).await;
    everyday::lives(mesh).await;
    everyday::restarts(mesh).await;
    commands::others_join(mesh, &operator).await;
    commands::take_back(mesh, &operator).await;
    operator
}

/// The end of a remote, and what the hub does later by itself; then the comparison.
async fn leaves_and_compares(case: &Case, mesh: &mut Mesh<'_>) {
    everyday::leaves(mesh).await;
    everyday::is_left_behind(mesh).await;
    commands::until_events_are_counted(mesh, "Joined").await;
    commands::until_ended_tokens_are_gone(mesh).await;
    case.compare(mesh).await;
}

// Turns red when: the roles that components, files or the mesh's CA take differ from what is used.
#[test]
fn roles_with_both_components_and_the_mesh_ca_are_what_is_used() {
    run(async {
        let case = Case::new("rights-whole")
            .files()
            .hub(&["meshCA.sign=true"])
            .agent(&[
                "components.citadel.enabled=true",
                "components.sidecarInjector.enabled=true",
            ])
            // Whether remotes join by tokens: revoke says how the remote comes back.
            .refused(&[("get", "configmaps", "remote-istio-link")]);
        let mut mesh = case.with_files(Setup::components()).await;
        let operator = commands::operator(&mesh).await;
        mesh_trust::begins(&mesh).await;
        everyday::lives(&mesh).await;
        everyday::restarts(&mut mesh).await;
        mesh.merge_spec(0, json!({"citadel": {}, "sidecarInjector": {}})).await;
        let serving = components::stand(&mesh, &[CITADEL, INJECTOR]).await;
        mesh_trust::changes(&mesh, &operator).await;
        everyday::leaves(&mut mesh).await;
        drop(serving);
        everyday::is_left_behind(&mut mesh).await;
        commands::cut_off_without_tokens(&mesh, &operator).await;
        commands::until_events_are_counted(&mesh, "MeshCaSigned").await;
        case.compare(&mesh).await;
    });
}

// Turns red when: Citadel alone brings rights of the injector.
#[test]
fn roles_with_citadel_alone_are_what_is_used() {
    run(one_component("rights-citadel", "citadel", CITADEL, &[WEBHOOKS]));
}

// Turns red when: the injector alone brings rights of Citadel.
#[test]
fn roles_with_the_injector_alone_are_what_is_used() {
    run(one_component(
        "rights-injector",
        "sidecarInjector",
        INJECTOR,
        &[CACERTS],
    ));
}

async fn one_component(namespace: &'static str, block: &str, component: &'static str, refused: &[Refused]) {
    let value = format!("components.{block}.enabled=true");
    let case = Case::new(namespace)
        .files()
        .hub(&["meshCA.sign=true"])
        .agent(&[&value])
        .only("remote-istio-agent")
        .refused(refused);
    let setup = Setup::components().with_policy(json!({"components": [block]}));
    let mut mesh = case.with_files(setup).await;
    mesh_trust::begins(&mesh).await;
    everyday::lives(&mesh).await;
    everyday::restarts(&mut mesh).await;
    mesh.merge_spec(0, json!({block: {}})).await;
    let serving = components::stand(&mesh, &[component]).await;
    everyday::leaves(&mut mesh).await;
    drop(serving);
    case.compare(&mesh).await;
}

// Turns red when: namespaces of services are served without their Roles, or the own one is served though it is not named.
#[test]
fn roles_of_service_namespaces_are_what_is_used() {
    run(async {
        let elsewhere = "rights-elsewhere";
        let values = format!(r#"serviceNamespaces=["{elsewhere}"]"#);
        let case = Case::new("rights-apart")
            .files()
            .hub(&[&values])
            .agent(&[&values])
            .in_service_namespace(elsewhere)
            .resources(SERVED)
            .refused(COMPONENTS)
            // It looks whether it may run components, whose Services are in its own namespace.
            .refused(&[("list", "services", "")]);
        let mut mesh = case.prepare(Setup::default()).await;
        apart::look_elsewhere(&mut mesh, elsewhere);
        mesh.start_hub().await;
        mesh.start_agent(0).await;
        apart::lives(&mesh, elsewhere).await;
        case.compare(&mesh).await;
    });
}

// Turns red when: the account of the uninstallation may do more than let go, or may not let go of everything.
#[test]
fn roles_of_the_uninstallation_are_what_it_uses() {
    run(async {
        let case = Case::new("rights-leaving")
            .agent(&[r#"onUninstall="Remove""#])
            .only("remote-istio-agent-leave")
            .refused(COMPONENTS)
            .refused(&[
                ("patch", "services", ANY),
                ("patch", "endpoints", ANY),
                ("patch", "endpointslices.discovery.k8s.io", ANY),
            ]);
        let mut mesh = case.joinable(HubTrust::Made).await;
        let operator = commands::operator(&mesh).await;
        commands::join(&mut mesh, &operator).await;
        everyday::lives(&mesh).await;
        everyday::leaves(&mut mesh).await;
        leaving::is_uninstalled(&mut mesh).await;
        leaving::is_uninstalled_half_way(&mut mesh).await;
        case.compare(&mesh).await;
    });
}
