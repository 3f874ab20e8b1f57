//! What all nodes of one run stand on: programs, one router with a way to this machine, addresses that nobody else has.
//!
//! Of `10.N.0.0/16`: pods of cluster C have `10.N.16C.0/20`, its Services `10.N.(128+16C).0/20`, nodes `10.N.254.0/24`
//! in pairs with the router, and this machine, where the API servers listen, `10.N.255.1`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result, bail};
use rand::Rng as _;
use tokio::process::Command;

use super::control_group::Groups;
use super::outside::command;
use super::process::Process;
use super::space::Space;
use crate::folder::Folder;
use crate::image::{Image, Recipe};
use crate::tools::debian::Debian;
use crate::tools::{Tool, Tools};

/// The second number of the range, if nobody has it.
const RANGES: std::ops::Range<u8> = 64..250;

/// Ranges that are tried before this gives up.
const TRIES: usize = 20;

/// Clusters that the range has room for.
const CLUSTERS_MAX: u8 = 8;

/// Nodes that the range has room for.
const NODES_MAX: u8 = 60;

/// The image that every pod's sandbox is of; the same program listens and asks.
pub(super) const POD_IMAGE: &str = "remote-istio-pod:test";

/// The image of the clusters' name servers.
pub(super) const NAME_SERVER_IMAGE: &str = "remote-istio-coredns:test";

/// It ends with the handle, after the clusters on it.
#[derive(Debug)]
pub struct Ground {
    /// `10.N`.
    range: u8,
    nodes: AtomicU8,
    pub(super) router: Space,
    pub(super) debian: Debian,
    pub(super) images: [Image; 2],
    pub(super) groups: Groups,
    tools: Tools,
    folder: Arc<Folder>,
}

/// Where one node stands.
#[derive(Debug)]
pub(super) struct Place {
    /// The node's address.
    pub(super) address: Ipv4Addr,
    /// The router's end.
    pub(super) router: Ipv4Addr,
    /// The router's end, by name.
    pub(super) link: String,
}

impl Ground {
    /// Fetches and builds what is missing, and starts the router.
    ///
    /// # Errors
    /// Something cannot be fetched, built or made: the text says what.
    pub async fn prepare() -> Result<Arc<Self>> {
        let tools = Tools::ready_for(&Tool::NODES).await?;
        let debian = tokio::task::spawn_blocking(Debian::ensure).await;
        let debian = debian.context("the fetcher of packages panicked")??;
        let groups = Groups::find()?;
        groups.sweep();
        let folder = Folder::create("ground")?;
        let images = [(Tool::Pod, POD_IMAGE), (Tool::CoreDns, NAME_SERVER_IMAGE)].map(|(tool, reference)| {
            let archive = folder.data(&format!("{}.tar", tool.name()));
            Recipe::new(reference, tools.path(tool)).write(&archive)
        });
        let [pod, name_server] = images;
        let router = Space::create("router", &debian, tools.path(Tool::Pod), &folder, ROUTER, &[]).await?;
        let range = connect(&router, &debian).await?;
        Ok(Arc::new(Self {
            range,
            nodes: AtomicU8::new(0),
            router,
            debian,
            images: [pod?, name_server?],
            groups,
            tools,
            folder,
        }))
    }

    /// Where API servers listen: nodes and pods reach it, and it is this machine.
    #[must_use]
    pub fn machine(&self) -> IpAddr {
        machine(self.range).into()
    }

    /// Addresses of a cluster's pods.
    #[must_use]
    pub fn pods(&self, cluster: u8) -> String {
        format!("10.{}.{}.0/20", self.range, 16 * cluster)
    }

    /// Addresses of a cluster's Services.
    #[must_use]
    pub fn services(&self, cluster: u8) -> String {
        format!("10.{}.{}.0/20", self.range, 128 + 16 * cluster)
    }

    /// The address of a cluster's name server.
    #[must_use]
    pub fn name_server(&self, cluster: u8) -> String {
        format!("10.{}.{}.10", self.range, 128 + 16 * cluster)
    }

    /// Addresses of the pods on one node of a cluster.
    pub(super) fn pods_of_node(&self, cluster: u8, node: u8) -> Result<String> {
        if cluster >= CLUSTERS_MAX || node > 15 {
            bail!("cluster {cluster}, node {node}: there is room for {CLUSTERS_MAX} clusters with 16 nodes each");
        }
        Ok(format!("10.{}.{}.0/24", self.range, 16 * cluster + node))
    }

    /// A place for one more node.
    pub(super) fn place(&self) -> Result<Place> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        if number >= NODES_MAX {
            bail!("there is room for {NODES_MAX} nodes");
        }
        let address = |last: u8| Ipv4Addr::new(10, self.range, 254, 4 * number + last);
        Ok(Place {
            address: address(2),
            router: address(1),
            link: format!("node{number}"),
        })
    }

    /// All processes of this program in pods on all nodes.
    #[must_use]
    pub fn processes(&self, program: &str) -> Vec<Process> {
        Process::all(program, self.groups.name())
    }

    /// The programs.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// What the router and the nodes say.
    #[must_use]
    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Lets nothing through between these links of nodes, in either direction, without a word to either end.
    pub(super) async fn cut(&self, some: &[&str], others: &[&str]) -> Result<()> {
        self.filter("-I", some, others).await
    }

    /// Undoes a cut.
    pub(super) async fn mend(&self, some: &[&str], others: &[&str]) -> Result<()> {
        self.filter("-D", some, others).await
    }

    async fn filter(&self, order: &str, some: &[&str], others: &[&str]) -> Result<()> {
        let pairs = some
            .iter()
            .flat_map(|one| others.iter().flat_map(move |other| [(one, other), (other, one)]));
        let rules: Vec<String> = pairs
            .map(|(from, to)| format!("iptables {order} FORWARD -i {from} -o {to} -j DROP"))
            .collect();
        self.router.script(&rules.join("\n")).await.map(|_| ())
    }
}

/// The router's settings are those of its own network.
const ROUTER: &str = "mount -t tmpfs run /run
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter
echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter";

fn machine(range: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, range, 255, 1)
}

/// The way from this machine to the router, under a range that this machine knows no other way to.
async fn connect(router: &Space, debian: &Debian) -> Result<u8> {
    let link = format!("ri{}", std::process::id());
    let pid = router.pid();
    outside(
        debian,
        &format!("ip link add {link} type veth peer name machine netns {pid}\nip link set {link} up"),
    )
    .await?;
    let known = outside(debian, "ip -4 route show table all").await?;
    for _ in 0..TRIES {
        let range = rand::rng().random_range(RANGES);
        if known.contains(&format!("10.{range}.")) {
            continue;
        }
        let (own, all, peer) = (
            machine(range),
            format!("10.{range}.0.0/16"),
            format!("10.{range}.255.2"),
        );
        // Who was faster has the route.
        let claimed = outside(debian, &format!("ip route add {all} dev {link} scope link")).await;
        if claimed.is_err() {
            continue;
        }
        let way = format!("ip address add {own}/30 dev {link}\nip route replace {all} via {peer} dev {link}");
        outside(debian, &way).await?;
        let back = format!("ip address add {peer}/30 dev machine\nip link set machine up");
        router.script(&back).await?;
        return Ok(range);
    }
    bail!("no free range 10.N.0.0/16 after {TRIES} tries: look at `ip route`")
}

/// Runs a shell script on this machine.
pub(super) async fn outside(debian: &Debian, script: &str) -> Result<String> {
    command(Command::new("sh").args(["-ec", script]).envs(debian.environment())).await
}

/// The file name of a path, for messages and containers' entry points.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
