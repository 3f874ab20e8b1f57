//! Clusters with real nodes on this machine: each node in namespaces of its own (network, processes, mounts) with
//! containerd, kubelet and kube-proxy, all nodes behind one router, pods on a flat network as in the 2019 walk.
//!
//! Nothing outlives this process, whatever ends it: the first process of each node dies with it, and the kernel ends the
//! rest of the node with the first process. The machine's own routes and settings stay as they are, but for one route
//! to the nodes that goes with the router.

mod cluster;
mod control_group;
mod ground;
mod machine;
mod name_server;
mod outside;
mod process;
mod runtime;
mod space;

pub use cluster::RealCluster;
pub use ground::Ground;
pub use machine::Machine;
pub use outside::{command, missing};
pub use process::Process;
