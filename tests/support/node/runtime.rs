//! The container runtime of a node.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::ground::{Ground, POD_IMAGE};

/// Where it listens, inside the node.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// Writes containerd's configuration and that of the pods' network into `folder`; gives the former.
pub(super) fn configure(ground: &Ground, folder: &Path, pods: &str) -> Result<PathBuf> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("writing {}", path.display()))
            .map(|()| path)
    };
    let networks = folder.join("networks");
    std::fs::create_dir_all(&networks).with_context(|| format!("making {}", networks.display()))?;
    write("networks/pods.conflist", &network(pods).to_string())?;
    let folder = folder.display();
    let plugins = ground.debian.network_plugins();
    let runc = ground.debian.program("runc")?;
    write(
        "containerd.toml",
        &format!(
            r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{POD_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
disable_tcp_service = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{}"
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{}"
conf_dir = "{folder}/networks"
"#,
            runc.display(),
            plugins.display()
        ),
    )
}

/// A bridge with the node's part of the pods' range; pods are reached under their own addresses from everywhere.
fn network(pods: &str) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods",
            "isGateway": true,
            "ipMasq": false,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/pod-addresses",
                "ranges": [[{"subnet": pods}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}
