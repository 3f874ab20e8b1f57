//! What everything here that needs both ends or an API server stands on: real etcd, Kubernetes, kwok and grpcurl,
//! clusters on free ports, made-up certificates, hub and agents as processes, pods that are what a test says.

pub mod ca;
pub mod cluster;
pub mod deploy;
pub mod etcd;
pub mod eventually;
pub mod folder;
pub mod foreign_crds;
pub mod guardian;
pub mod http;
pub mod image;
pub mod lock;
pub mod manifest;
pub mod mesh_ca;
pub mod node;
pub mod pages;
pub mod pair;
pub mod peer;
pub mod playground;
pub mod ports;
pub mod proxy;
pub mod relay;
pub mod release;
pub mod render;
pub mod secrets;
pub mod seed;
pub mod tools;
pub mod tunnel;
pub mod workload;

pub use cluster::{AuditLog, Cluster, ClusterOptions, Clusters};
pub use manifest::apply_yaml;
