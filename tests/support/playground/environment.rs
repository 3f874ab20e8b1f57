//! What a person, or a script, needs to look around: as exports and as a page to read.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Playground;
use crate::guardian::quote;
use crate::pair::Daemon;
use crate::tools::Tool;

/// What to type in another terminal.
const TOUR: &str = r#"
In another terminal:

  . {environment}
  $KUBECTL --kubeconfig $CENTRAL_KUBECONFIG apply -f {resources}
  $KUBECTL --kubeconfig $CENTRAL_KUBECONFIG get remoteistios,pods -n istio-system
  $KUBECTL --kubeconfig $REMOTE_1_KUBECONFIG get services,endpoints,endpointslices -n istio-system

The hub's commands, as the administrator of central:

  $HUB identity list --kubeconfig $CENTRAL_KUBECONFIG
  $HUB token create remote-9 --kubeconfig $CENTRAL_KUBECONFIG
  $HUB ca show --kubeconfig $CENTRAL_KUBECONFIG

Speak as remote-1 in the place of its agent, then start the agent again:

  kill $AGENT_1_PID
  (echo '{"hello":{"protocol_min":1,"protocol_max":1,"boot_id":"by-hand","session_epoch":1000,"connection":1,"cluster_uid":"'$REMOTE_1_CLUSTER_UID'"}}'; sleep 3) |
    $GRPCURL -cacert $LINK_CA -cert $REMOTE_1_CERTIFICATE -key $REMOTE_1_KEY -import-path $PROTO \
      -proto remoteistio/v1/sync.proto -d @ $HUB_SYNC_ADDRESS remoteistio.v1.Sync/Session
  sh -c "$AGENT_1_COMMAND"
"#;

impl Playground {
    /// Names and values in the order of the page.
    fn values(&self) -> Vec<(String, String)> {
        let mut values = Values::default();
        values.path("KUBECTL", self.kubectl());
        values.path("GRPCURL", self.tools.path(Tool::Grpcurl));
        values.path("CENTRAL_KUBECONFIG", self.central.admin_kubeconfig());
        for (number, remote) in (1..).zip(&self.remotes) {
            values.path(
                &format!("REMOTE_{number}_KUBECONFIG"),
                remote.cluster.admin_kubeconfig(),
            );
        }
        values.path("HUB", &self.hub.command().program);
        values.text("HUB_ENROLMENT_ADDRESS", self.hub.enrolment_address().to_string());
        values.text("HUB_SYNC_ADDRESS", self.hub.sync_address().to_string());
        values.daemon("HUB", &self.hub);
        for (number, remote) in (1..).zip(&self.remotes) {
            values.daemon(&format!("AGENT_{number}"), &remote.agent);
        }
        values.path("PROTO", &proto());
        for (number, remote) in (1..).zip(&self.remotes) {
            let files = self.exported(remote);
            if number == 1 {
                values.path("LINK_CA", &files.trust_bundle);
            }
            values.text(&format!("REMOTE_{number}_CLUSTER_UID"), remote.cluster_uid.clone());
            values.path(&format!("REMOTE_{number}_CERTIFICATE"), &files.certificate);
            values.path(&format!("REMOTE_{number}_KEY"), &files.key);
        }
        values.0
    }

    /// The file to source: one export a line.
    #[must_use]
    pub fn exports(&self) -> String {
        self.values().iter().fold(String::new(), |mut text, (name, value)| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "export {name}={}", quote(value));
            text
        })
    }

    /// The page for a person; `environment` is the file with the exports, `resources` one with a `RemoteIstio` for
    /// each remote.
    #[must_use]
    pub fn page(&self, environment: &Path, resources: &Path) -> String {
        let mut page = format!(
            "\ncentral       {}\nhub           enrolment {}, sync {}, metrics http://{}/metrics, pid {}\n",
            self.central.url(),
            self.hub.enrolment_address(),
            self.hub.sync_address(),
            self.hub.metrics_address(),
            self.hub.pid().unwrap_or_default(),
        );
        for remote in &self.remotes {
            let agent = &remote.agent;
            // Writing to a String cannot fail.
            let _ = writeln!(
                page,
                "{:<13} {}, agent metrics http://{}/metrics, pid {}",
                remote.name,
                remote.cluster.url(),
                agent.metrics_address(),
                agent.pid().unwrap_or_default()
            );
        }
        let logs = self.folder.path().join("logs");
        let tour = TOUR
            .replace("{environment}", &environment.display().to_string())
            .replace("{resources}", &resources.display().to_string());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "logs          {}\n{tour}", logs.display());
        page
    }
}

#[derive(Default)]
struct Values(Vec<(String, String)>);

impl Values {
    fn text(&mut self, name: &str, value: String) {
        self.0.push((name.to_owned(), value));
    }

    fn path(&mut self, name: &str, path: &Path) {
        self.text(name, path.display().to_string());
    }

    fn daemon(&mut self, prefix: &str, daemon: &Daemon) {
        self.text(
            &format!("{prefix}_METRICS_ADDRESS"),
            daemon.metrics_address().to_string(),
        );
        self.path(&format!("{prefix}_LOG"), daemon.log_path());
        self.text(&format!("{prefix}_PID"), daemon.pid().unwrap_or_default().to_string());
        self.text(&format!("{prefix}_COMMAND"), daemon.command().shell());
    }
}

/// The folder with the proto files.
fn proto() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    path.canonicalize().unwrap_or(path)
}
