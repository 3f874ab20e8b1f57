//! The agent: keeps one remote cluster as the hub says it should be, with or without the hub.

pub mod app;
pub mod apply;
pub mod args;
pub mod driver;
pub mod engine;
pub mod identity;
pub mod injector_probe;
pub mod link;
pub mod mesh_trust;
pub mod metrics;
pub mod observe;
pub mod policy;
pub mod roles;
pub mod session;
#[cfg(test)]
mod test_ca;
