//! `remote-istio-agent leave`: an agent's end without its hub.

use serde_json::{Value, json};
use support::deploy;
use support::mesh_ca::MeshCa;

use crate::mesh::{
    CITADEL, Clusters, IDENTITY_SECRET, INJECTOR, Mesh, Setup, changes, run, run_agent, seed_spec, whole,
};

const PILOT: &[(&str, &str)] = &[("istio-pilot", "istio=pilot")];

/// Runs the command in the place of a remote's agent, under its account.
async fn leave(mesh: &mut Mesh<'_>, more: &[&str]) -> (i32, String) {
    let namespace = format!("--namespace={}", mesh.namespace());
    let command = mesh.remote_mut(0).agent_mut().command();
    let arguments = command
        .arguments
        .iter()
        .map(|argument| argument.to_string_lossy().into_owned());
    let kubeconfig = arguments.clone().find(|argument| argument.starts_with("--kubeconfig="));
    let kubeconfig = kubeconfig.expect("agents are told where to go");
    let words = ["leave", &kubeconfig, &namespace];
    run_agent(&[&words, more].concat()).await
}

// Turns red when: anything of ours is left, foreign objects go, or a second run fails.
#[test]
fn remote_is_after_leaving_without_a_hub_as_it_was_before() {
    run(async {
        let name = "leave-alone";
        let clusters = Clusters::private(name).await;
        let admin = clusters.remote(0).admin();
        deploy::namespace(&admin, name).await.expect("a namespace");
        deploy::namespace(&admin, "leave-app").await.expect("a namespace");
        let mut mesh = Box::pin(Mesh::prepare(&clusters, name, 1, Setup::components())).await;
        mesh.remote(0)
            .create(
                "Service",
                "zipkin",
                json!({"spec": {"clusterIP": "None", "ports": [{"port": 9411}]}}),
            )
            .await;
        let before = whole(&admin).await;
        mesh.start_hub().await;
        mesh.put_mesh_ca("istio-ca-secret", &MeshCa::self_signed("central").expect("a CA"))
            .await;
        mesh.launch_agent(0).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.create_remote_istio(0, seed_spec("leave-app")).await;
        let remote = mesh.remote(0);
        remote.until_addresses("istio-pilot", &["10.1.0.1"]).await;
        for deployment in [CITADEL, INJECTOR] {
            remote.until_object("Deployment", deployment, |_| true).await;
        }
        remote
            .until_label("leave-app", "istio-injection", Some("enabled"))
            .await;
        remote.until_quiet().await;
        mesh.remote_mut(0).terminate_agent().await;
        mesh.kill_hub().await;

        let (code, said) = leave(&mut mesh, &[]).await;
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("nothing is left"), "{said}");
        mesh.remote(0).delete("Lease", "remote-istio-agent").await;
        let after = mesh.remote(0).whole_cluster().await;
        assert_eq!(changes(&before, &after), Vec::<String>::new(), "{said}");

        let (code, said) = leave(&mut mesh, &[]).await;
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("no agent has anything here"), "{said}");
    });
}

// Turns red when: a key of an identity stays after its agent, or goes although it was to stay.
#[test]
fn identity_goes_last_unless_it_is_to_be_kept() {
    run(async {
        let mut mesh = Mesh::joinable("leave-joined", 1, Setup::made()).await;
        mesh.enable(PILOT).await;
        mesh.join(0).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).terminate_agent().await;
        let (code, said) = leave(&mut mesh, &["--keep-identity"]).await;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("letting go of everything of remote leave-joined-0"),
            "{said}"
        );
        mesh.remote(0).until_nothing_is_owned().await;
        assert!(mesh.remote(0).kept().await.contains_key("tls.key"));
        // It comes back without a token, and is sent everything anew.
        mesh.start_agent(0).await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).terminate_agent().await;
        let (code, said) = leave(&mut mesh, &[]).await;
        assert_eq!(code, 0, "{said}");
        mesh.remote(0).until_nothing_is_owned().await;
        assert_eq!(
            mesh.remote(0).secret(IDENTITY_SECRET).await.unwrap_or_default().len(),
            0
        );
    });
}

// Turns red when: leaving says that it is done although an agent puts back what it took away.
#[test]
fn agent_that_still_runs_is_noticed() {
    run(async {
        let mut mesh = Mesh::start("leave-alive").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.until_ready(0).await;
        let (code, said) = leave(&mut mesh, &["--timeout=20s"]).await;
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("an agent of this remote still runs") || said.contains("not everything is gone"),
            "{said}"
        );
        // What it wants stands again.
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.remote_mut(0).terminate_agent().await;
        let (code, said) = leave(&mut mesh, &[]).await;
        assert_eq!(code, 0, "{said}");
        mesh.remote(0).until_nothing_is_owned().await;
    });
}

#[test]
fn pod_of_an_agent_is_waited_for_before_anything_is_touched() {
    run(async {
        let mut mesh = Mesh::start("leave-pod").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).terminate_agent().await;
        let pod = |name: &str| {
            json!({
                "metadata": {"labels": {"app.kubernetes.io/name": "remote-istio-agent", "app.kubernetes.io/component": name}},
                "spec": {"containers": [{"name": "agent", "image": "none"}]},
            })
        };
        mesh.remote(0).create("Pod", "remote-istio-agent-a", pod("agent")).await;
        mesh.remote(0)
            .create("Pod", "remote-istio-agent-leave", pod("leave"))
            .await;
        mesh.remote(0).until_quiet().await;
        let audit = mesh.remote(0).audit().await;
        let admin = format!(
            "--kubeconfig={}",
            mesh.remote_cluster(0).await.admin_kubeconfig().display()
        );
        let namespace = format!("--namespace={}", mesh.namespace());
        let words = ["leave", &admin, &namespace];
        let (code, said) = run_agent(&[&words[..], &["--timeout=3s"]].concat()).await;
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("pod remote-istio-agent-a") && !said.contains("agent-leave"),
            "{said}"
        );
        assert_eq!(format!("{:?}", audit.since(|event| event.is_ours).await), "[]");
        let ended = json!({"status": {"phase": "Succeeded"}});
        mesh.remote(0).merge_status("Pod", "remote-istio-agent-a", &ended).await;
        let (code, said) = run_agent(&words).await;
        assert_eq!(code, 0, "{said}");
        mesh.remote(0).until_nothing_is_owned().await;
        mesh.remote(0).until_absent("Lease", "remote-istio-agent").await;
    });
}

#[test]
fn two_agents_of_a_namespace_are_told_apart() {
    run(async {
        let mut mesh = Mesh::start("leave-two").await;
        mesh.enable(PILOT).await;
        mesh.pod("pilot-a", "istio=pilot", "10.1.0.1").ready().await;
        mesh.remote(0).until_addresses("istio-pilot", &["10.1.0.1"]).await;
        mesh.until_ready(0).await;
        mesh.remote_mut(0).terminate_agent().await;
        let labels = json!({
            "app.kubernetes.io/managed-by": "remote-istio-agent", "istio.banzaicloud.io/owner": "another.0123456789abcdef",
        });
        let theirs = json!({"metadata": {"labels": labels}});
        mesh.remote(0)
            .create("ConfigMap", "remote-istio-service-another", theirs)
            .await;
        let (code, said) = leave(&mut mesh, &[]).await;
        assert_eq!(code, 64, "{said}");
        assert!(said.contains("--remote") && said.contains("another."), "{said}");
        let trust_domain = format!("--trust-domain={}", support::ca::TRUST_DOMAIN);
        let (code, said) = leave(&mut mesh, &["--remote=leave-two-0", &trust_domain]).await;
        assert_eq!(code, 0, "{said}");
        let left: Vec<(String, String)> = mesh.remote(0).everything().await.into_keys().collect();
        let expected = ("ConfigMap".to_owned(), "remote-istio-service-another".to_owned());
        assert_eq!(left, [expected]);
        let service = mesh
            .remote(0)
            .object("Service", "istio-pilot")
            .await
            .unwrap_or(Value::Null);
        assert_eq!(service, Value::Null);
    });
}
