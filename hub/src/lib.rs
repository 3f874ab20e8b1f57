//! The hub: watches the central cluster and streams to every remote what it should hold.

pub mod api_error;
pub mod app;
pub mod args;
pub mod authority;
pub mod clock;
pub mod commands;
pub mod crd;
pub mod enrolment;
pub mod events;
pub mod identities;
pub mod index;
pub mod lease;
pub mod lifecycle;
pub mod link;
pub mod mesh_ca;
pub mod metrics;
pub mod registry;
pub mod report;
pub mod session;
pub mod state;
pub mod status;
#[cfg(test)]
mod test_authority;
#[cfg(test)]
mod test_certificates;
pub mod watch;
