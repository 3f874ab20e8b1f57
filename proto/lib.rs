//! What hub and agent must agree on, and what both must run.
//!
//! Owns the wire format, the domain model with its versions, the lane state machine, the limits, transport
//! security and the process frame (logs, signals, admin endpoint). Never uses kube; hub and agent use this crate
//! and never each other.

pub mod convert;
pub mod enrolment;
pub mod identity;
pub mod lane;
pub mod limits;
pub mod liveness;
pub mod model;
pub mod policy;
pub mod process;
pub mod tls;
pub mod transport;
pub mod wire;
