//! One node: containerd, kubelet and kube-proxy in namespaces of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::ground::{Ground, Place, file_name, outside};
use super::outside::command;
use super::runtime::{self, SOCKET};
use super::space::Space;
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::guardian::{CommandLine, Guarded};
use crate::tools::Tool;

/// For containerd to answer, on a busy machine.
const RUNTIME_DEADLINE: Duration = Duration::from_mins(1);

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is mounted over the machine's own folders inside a node, and the kernel settings that a kubelet would make: it
/// finds them made, and those of the machine stay as they are.
const PREPARE: &str = "mount -t tmpfs run /run
mkdir -p /run/lock /run/settings /var/lib/cni
mount -t tmpfs cni /var/lib/cni
mount -t tmpfs log /var/log
setting() {
    [ -e \"/proc/sys/$1\" ] || return 0
    file=/run/settings/$(echo \"$1\" | tr / .)
    echo \"$2\" > \"$file\"
    mount --bind \"$file\" \"/proc/sys/$1\"
}
setting vm/overcommit_memory 1
setting vm/panic_on_oom 0
setting kernel/panic 10
setting kernel/panic_on_oops 1
setting kernel/keys/root_maxkeys 1000000
setting kernel/keys/root_maxbytes 25000000
ip link set lo up";

/// A running node; it ends with the handle.
#[derive(Debug)]
pub struct Machine {
    name: String,
    place: Place,
    processes: Vec<(CommandLine, Guarded)>,
    space: Space,
    _folder: Arc<Folder>,
}

/// What a node is told.
pub(super) struct Plan<'a> {
    pub(super) name: String,
    pub(super) cluster: &'a Cluster,
    /// Of the whole cluster.
    pub(super) pods: String,
    /// The numbers of cluster and node, which give the pods' range on this node.
    pub(super) pods_of_node: (u8, u8),
    pub(super) name_server: String,
    pub(super) images: &'a [PathBuf],
}

impl Machine {
    pub(super) async fn start(ground: &Ground, plan: Plan<'_>) -> Result<Self> {
        let name = plan.name.clone();
        Self::start_as(ground, plan)
            .await
            .with_context(|| format!("starting the node {name}"))
    }

    async fn start_as(ground: &Ground, plan: Plan<'_>) -> Result<Self> {
        let Plan { name, cluster, .. } = &plan;
        let (number, node) = plan.pods_of_node;
        let pods = ground.pods_of_node(number, node)?;
        let folder = Arc::clone(cluster.folder());
        let data = folder.data(name);
        std::fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let waiter = ground.tools().path(Tool::Pod);
        let space = Space::create(name, &ground.debian, waiter, &folder, PREPARE, &[]).await?;
        let place = ground.place()?;
        connect(ground, &space, &place, &pods).await?;
        let mut machine = Self {
            name: name.clone(),
            place,
            processes: Vec::new(),
            space,
            _folder: Arc::clone(&folder),
        };
        let configuration = runtime::configure(ground, &data, &pods)?;
        let containerd = machine
            .space
            .process("containerd", ground.debian.program("containerd")?, &folder)
            .flag("config", configuration);
        machine.run(containerd)?;
        machine.import(ground, plan.images).await?;
        let group = ground.groups.node(name)?;
        let kubelet = kubelet(ground, &machine, &plan, &group, &data)?;
        machine.run(kubelet)?;
        let proxy = proxy(ground, &machine, &plan, &data)?;
        machine.run(proxy)?;
        Ok(machine)
    }

    /// The name of its Node object.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, which all other nodes and their pods reach.
    #[must_use]
    pub fn address(&self) -> String {
        self.place.address.to_string()
    }

    /// The router's end of its link.
    pub(super) fn link(&self) -> &str {
        &self.place.link
    }

    /// What has ended that should not have, with the end of its log.
    pub(super) fn ended(&self) -> Option<String> {
        self.processes.iter().find_map(|(line, process)| {
            let code = process.exited()?;
            Some(format!("{} ended with code {code}:\n{}", line.name, line.log_tail()))
        })
    }

    /// The ends of the logs of all processes.
    pub(super) fn tails(&self) -> String {
        let tails = self
            .processes
            .iter()
            .map(|(line, _)| format!("{}:\n{}", line.name, line.log_tail()));
        tails.collect::<Vec<_>>().join("\n")
    }

    fn run(&mut self, line: CommandLine) -> Result<()> {
        let process = line.start()?;
        self.processes.push((line, process));
        Ok(())
    }

    /// Gives the runtime its images, when it answers.
    async fn import(&self, ground: &Ground, more: &[PathBuf]) -> Result<()> {
        let ctr = ground.debian.program("ctr")?;
        let ctr = ctr.to_string_lossy();
        let answers = async {
            loop {
                let mut version = self.space.inside(&ctr);
                if command(version.args(["--address", SOCKET, "version"])).await.is_ok() {
                    return anyhow::Ok(());
                }
                if let Some(ended) = self.ended() {
                    bail!(ended);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(RUNTIME_DEADLINE, answers).await {
            Ok(answers) => answers?,
            Err(_) => bail!(
                "containerd does not answer after {RUNTIME_DEADLINE:?}:\n{}",
                self.tails()
            ),
        }
        let own = ground.images.iter().map(|image| &image.path);
        for image in own.chain(more) {
            let mut import = self.space.inside(&ctr);
            import.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import"]);
            command(import.arg(image))
                .await
                .with_context(|| format!("importing the image {} on {}", file_name(image), self.name))?;
        }
        Ok(())
    }
}

/// A link to the router, and the way to the pods on the node.
async fn connect(ground: &Ground, space: &Space, place: &Place, pods: &str) -> Result<()> {
    let Place { address, router, link } = place;
    let pid = space.pid();
    // The router's shell sees only its own processes: the link is made from outside of both.
    let made = format!(
        "ip link add {link} netns {} type veth peer name eth0 netns {pid}",
        ground.router.pid()
    );
    outside(&ground.debian, &made).await?;
    let outer = format!(
        "ip address add {router}/30 dev {link}\nip link set {link} up\nip route add {pods} via {address} dev {link}"
    );
    ground.router.script(&outer).await?;
    let inner = format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward\n\
         ip address add {address}/30 dev eth0\nip link set eth0 up\nip route add default via {router}"
    );
    space.script(&inner).await.map(|_| ())
}

fn kubelet(ground: &Ground, machine: &Machine, plan: &Plan<'_>, group: &str, data: &Path) -> Result<CommandLine> {
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "clusterDNS": [plan.name_server],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "oomScoreAdj": 0,
        "podLogsDir": data.join("pods"),
        "volumePluginDir": data.join("plugins"),
        "serializeImagePulls": false,
        "nodeStatusUpdateFrequency": "5s",
        "nodeStatusReportFrequency": "10s",
    });
    let path = data.join("kubelet.json");
    std::fs::write(&path, configuration.to_string()).with_context(|| format!("writing {}", path.display()))?;
    let program = ground.tools().path(Tool::Kubelet);
    let line = machine.space.process("kubelet", program, plan.cluster.folder());
    Ok(line
        .flag("config", path)
        .flag("kubeconfig", plan.cluster.admin_kubeconfig())
        .flag("hostname-override", &machine.name)
        .flag("node-ip", machine.address())
        .flag("root-dir", data.join("kubelet"))
        .flag("cert-dir", data.join("certificates"))
        .flag("v", "1"))
}

fn proxy(ground: &Ground, machine: &Machine, plan: &Plan<'_>, data: &Path) -> Result<CommandLine> {
    let configuration = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": plan.cluster.admin_kubeconfig()},
        "clusterCIDR": plan.pods,
        // Client and server of a Service may be on one bridge, and not every kernel shows what crosses it to the rules that
        // translate an answer back.
        "iptables": {"masqueradeAll": true},
        "hostnameOverride": machine.name,
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    });
    let path = data.join("kube-proxy.json");
    std::fs::write(&path, configuration.to_string()).with_context(|| format!("writing {}", path.display()))?;
    let program = ground.tools().path(Tool::KubeProxy);
    let line = machine.space.process("kube-proxy", program, plan.cluster.folder());
    Ok(line.flag("config", path).flag("v", "1"))
}
