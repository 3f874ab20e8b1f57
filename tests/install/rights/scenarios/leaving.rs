//! What the Job of an uninstallation runs: the agent lets go of everything, under the account that is there for it alone.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use support::pair::program;
use tokio::process::Command;

use super::everyday;
use crate::cluster::mesh::Mesh;
use crate::rights::case::clusters;

/// Longer than the command gives itself.
const DEADLINE: Duration = Duration::from_mins(3);

/// Uninstalled with objects that are to go; then, after another beginning, with ones that are to stay.
pub async fn is_uninstalled(mesh: &mut Mesh<'_>, arguments: &[&str]) {
    for policy in ["Delete", "Orphan"] {
        let mut spec = everyday::spec(mesh);
        spec["deletionPolicy"] = json!(policy);
        everyday::stands(mesh, spec).await;
        mesh.remote_mut(0).terminate_agent().await;
        mesh.until_sessions(0).await;
        leave(mesh, arguments).await;
        mesh.remote(0).until_nothing_is_owned().await;
        everyday::is_given_up(mesh).await;
        mesh.start_agent(0).await;
    }
}

async fn leave(mesh: &Mesh<'_>, arguments: &[&str]) {
    let remote = clusters().await.remote(0);
    let account = remote
        .service_account_kubeconfig(mesh.namespace(), "remote-istio-agent-leave", None)
        .await;
    let running = Command::new(program("remote-istio-agent").expect("built"))
        .args(["leave", "--namespace", mesh.namespace()])
        .args(arguments)
        .arg("--kubeconfig")
        .arg(account.expect("the chart brings the account"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, running)
        .await
        .expect("it ends")
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
