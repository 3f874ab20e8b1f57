//! A hub whose address is that of its load balancer: it comes late, and it changes.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use support::eventually::{eventually, seen};

use crate::mesh::{Mesh, Setup, run};

const SERVICE: &str = "remote-istio-hub";

/// The Service of the hub, whose ports are those of the process, so that its load balancer can be loopback.
async fn service(mesh: &Mesh<'_>) -> Api<Service> {
    let services: Api<Service> = Api::namespaced(mesh.central().admin(), mesh.namespace());
    let ports = json!([
        {"name": "sync", "port": mesh.hub_address().port()},
        {"name": "enrolment", "port": mesh.enrolment_address().port()},
    ]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE},
        "spec": {"type": "LoadBalancer", "selector": {"app": "remote-istio-hub"}, "ports": ports},
    });
    let service = serde_json::from_value(service).expect("a Service");
    services
        .create(&PostParams::default(), &service)
        .await
        .expect("created");
    services
}

/// As a provider's controller does.
async fn give_addresses(services: &Api<Service>, ingress: Value) {
    let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    let patched = services
        .patch_status(SERVICE, &PatchParams::default(), &Patch::Merge(status))
        .await;
    patched.expect("patched");
}

async fn until_published(mesh: &Mesh<'_>, hubs: &str) {
    eventually(&format!("{hubs} is published"), || async {
        let map = mesh
            .central_object("ConfigMap", "remote-istio-link")
            .await
            .unwrap_or_default();
        seen(map["data"]["hubs"] == hubs, map["data"]["hubs"].clone())
            .map_err(|seen| format!("{seen} with the hub's log\n{}", mesh.hub_log()))
    })
    .await;
}

// Turns red when: a hub without an address does not run, or lets a token be made; or when certificate, published addresses,
// join command or agents do not follow the load balancer.
#[test]
fn everything_follows_the_load_balancer_of_the_public_service() {
    run(async {
        let mut mesh = Mesh::joinable_without_hub("exposed", 1, Setup::made()).await;
        let (sync, enrolment) = (mesh.hub_address().port(), mesh.enrolment_address().port());
        let services = service(&mesh).await;
        let line = mesh.hub_mut().command_mut();
        line.set_flag("public-sync", [""; 0]);
        line.set_flag("public-enrolment", [""; 0]);
        line.set_flag("public-service", [SERVICE]);
        mesh.start_hub().await;
        for command in [&["check"][..], &["token", "create", "exposed-0"]] {
            eventually("it is said that there is no address yet", || async {
                let said = mesh.operator().run(command).await.map_err(|error| error.to_string())?;
                let is_said = said.code == 1 && said.err.contains("Service remote-istio-hub has none");
                seen(is_said, said.text())
            })
            .await;
        }

        give_addresses(&services, json!([{"ip": "127.0.0.1"}])).await;
        until_published(&mesh, &format!("127.0.0.1:{sync}")).await;
        let said = mesh.command(&["check"]).await;
        assert!(
            said.starts_with(&format!(
                "sync 127.0.0.1:{sync}: ok\nenrolment 127.0.0.1:{enrolment}: ok\n"
            )),
            "{said}"
        );
        let invitation = mesh.join(0).await;
        assert_eq!(invitation.enrolments, [format!("127.0.0.1:{enrolment}")]);

        give_addresses(&services, json!([{"ip": "127.0.0.1"}, {"hostname": "localhost"}])).await;
        until_published(&mesh, &format!("127.0.0.1:{sync},localhost:{sync}")).await;
        let said = mesh.command(&["check"]).await;
        assert!(said.contains(&format!("sync localhost:{sync}: ok\n")), "{said}");
        eventually("the agent keeps the new addresses", || async {
            let kept = mesh.remote(0).kept().await;
            let trust: Value = serde_json::from_slice(&kept["link.json"]).expect("JSON");
            let expected = json!([format!("127.0.0.1:{sync}"), format!("localhost:{sync}")]);
            seen(trust["hubs"] == expected, trust)
        })
        .await;

        // An address that is lost is held on to, also by a hub that starts then.
        give_addresses(&services, json!(null)).await;
        mesh.until_hub_logs("the public Service has no address, going on with the last that were known")
            .await;
        mesh.kill_hub().await;
        mesh.start_hub().await;
        mesh.until_sessions(1).await;
        until_published(&mesh, &format!("127.0.0.1:{sync},localhost:{sync}")).await;

        // One that leads nowhere is named.
        give_addresses(
            &services,
            json!([{"ip": "127.0.0.1"}, {"hostname": "no.such.name.invalid"}]),
        )
        .await;
        until_published(&mesh, &format!("127.0.0.1:{sync},no.such.name.invalid:{sync}")).await;
        let said = mesh
            .operator()
            .run(&["check", "--timeout", "5s"])
            .await
            .expect("it runs");
        assert_eq!(said.code, 1, "{}", said.text());
        assert!(
            said.out.contains(&format!("sync 127.0.0.1:{sync}: ok")),
            "{}",
            said.text()
        );
        assert!(
            said.out
                .contains(&format!("sync no.such.name.invalid:{sync}: cannot resolve")),
            "{}",
            said.text()
        );
        assert!(said.err.contains("2 of 4 addresses"), "{}", said.text());
    });
}
